/** `micro workflow ...` on the real server: what it prints, as JSON too, and how it fails. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { workflow, workflows } from '../../src/workflow/index.ts';
import { until } from '../helpers/until.ts';
import { type BrokerFixture, brokerFixture } from './broker-fixture.ts';
import { micro } from './micro.ts';

let fixture: BrokerFixture;
before(async () => {
  fixture = await brokerFixture();
});
after(() => fixture[Symbol.asyncDispose]());

function run(...args: string[]) {
  return micro(['workflow', ...args], { env: { MICRO_BROKER: fixture.url } });
}

async function json(...args: string[]) {
  const { code, stdout, stderr } = await run(...args, '--json');
  assert.equal(code, 0, `${args}: ${stderr}`);
  return JSON.parse(stdout);
}

test('an instance is started once, seen, cancelled and listed with why it ended', async () => {
  const started = await json('start', 'order', 'order-20', '{"sku":"cd"}');
  assert.deepEqual(started, { workflow: 'order', id: 'order-20', done: 'started' });
  await json('start', 'order', 'order-20', '{"sku":""}');
  const later = await json('start', 'order', 'order-21', '{"sku":"cd"}', '--delay', '1h');
  assert.equal(later.done, 'started');
  const due = await json('show', 'order', 'order-21');
  assert.deepEqual([due.position, due.records], ['due', 1]);
  let shown: Awaited<ReturnType<typeof json>>;
  await until(async () => {
    shown = await json('show', 'order', 'order-20');
    return shown.state !== undefined;
  });
  assert.deepEqual(shown.state, { stage: 'paid' });
  const [first, step] = await json('history', 'order', 'order-20');
  assert.deepEqual([first.kind, first.detail.input, step.name], ['start', { sku: 'cd' }, 'charge']);
  await json('cancel', 'order', 'order-20', '--reason', 'sold out');
  for (;;) {
    const listed = await json('list', 'order', '--status', 'cancelled');
    const found = listed.find(({ id }: { id: string }) => id === 'order-20');
    if (found === undefined) continue;
    assert.deepEqual([found.status, found.reason], ['cancelled', 'sold out']);
    break;
  }
  const [counts] = await json('list');
  assert.deepEqual([counts.name, counts.parked], ['order', 0]);
  assert.deepEqual(await json('parked', 'order'), []);
  const table = await run('list', 'order');
  assert.match(table.stdout, /^ID +WORKFLOW +STATUS +STARTED +STOPPED +RESULT OR REASON$/m);
  assert.match(table.stdout, /order-18 +order@1 +failed .* no such article$/m);
});

test('what cannot be done ends with its exit code and a sentence', async () => {
  const fails = async (args: string[], code: number, text: RegExp) => {
    const ended = await run(...args);
    assert.deepEqual([ended.code, ended.stdout], [code, ''], `${args}: ${ended.stderr}`);
    assert.match(ended.stderr, text, `${args}`);
  };
  await fails(['show', 'order', 'nope'], 3, /no instance order\/nope/);
  await fails(['history', 'order', 'nope'], 3, /no instance order\/nope/);
  await fails(['start', 'nope', 'x'], 3, /no worker has ever taken the workflow nope/);
  await fails(['start', 'order', 'x', '{sku}'], 2, /the input is no JSON: .*quote it/);
  await fails(['signal', 'order', 'order-17', 'note', 'hi'], 2, /the value is no JSON/);
  await fails(['signal', 'order', 'order-18', 'note', '"hi"'], 1, /order-18 has failed/);
  await fails(['retry', 'order', 'order-17'], 1, /is running: only what is parked, failed/);
  await fails(['retry', 'order', 'order-18', '--from', 'pack'], 3, /no operation is called "pack"/);
  await fails(['list', 'a b'], 2, /the name of a workflow/);
  await fails(['list', 'order', '--status', 'lost'], 2, /write one of running, parked/);
  const move = ['move', 'order', '--from', '1', '--to', '2'];
  await fails(
    [...move, '--module', 'nowhere.mjs'],
    3,
    /--module nowhere.mjs: there is no such file/,
  );
  await fails(
    [...move, '--module', 'nowhere.mjs', '--from', 'one'],
    3,
    /no such file|whole number/,
  );
});

test('a schedule that is parked is among the parked ones, with the reason', async () => {
  await using broker = await openBroker(fixture.url);
  let fits = true;
  const input: StandardSchema<number, number> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        fits ? { value: value as number } : { issues: [{ message: 'the form has changed' }] },
    },
  };
  const report = workflow({ name: 'report', input }, async (_wf, n) => n);
  await using flows = await workflows(broker, { definitions: [report] });
  await flows.schedule('often', report, { cron: '* * * * * *', input: 1 });
  fits = false;
  let parked: Awaited<ReturnType<typeof json>>;
  await until(async () => {
    parked = await json('parked', 'report');
    return parked.length > 0;
  });
  assert.deepEqual([parked[0].id, parked[0].schedule], ['often', true]);
  assert.match(parked[0].reason, /^schedule often starts nothing: .*the form has changed/);
  const table = await run('parked', 'report');
  assert.match(table.stdout, /^schedule often +report@1 +parked .*schedule often starts nothing/m);
  const counts = await json('list');
  const row = counts.find(({ name }: { name: string }) => name === 'report');
  assert.equal(row.parked, 1);
  assert.equal(await flows.unschedule('often', report), true);
  assert.deepEqual(await json('parked', 'report'), []);
});

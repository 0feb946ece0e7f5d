/**
 * Actions on instances of workflows: from a step, up to a step, to another version; and the options of all
 * actions, which the pages' forms have to name as the server does.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { transform } from 'esbuild';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { ACTION_OPTIONS } from '../../../src/console/actions/action-options.ts';
import type { Verb, WorkflowDetail } from '../../../src/console/api-types.ts';
import { signal, Terminal, workflow, workflows } from '../../../src/workflow/index.ts';
import { repositoryRoot } from '../../house/source-file.ts';
import { type OpenConsole, openConsole } from '../fixture.ts';
import { act, plan, post } from './action-steps.ts';

const target = { workflow: 'order', instance: 'o-1' };
const go = signal<string>('go');

const open = (console: OpenConsole) => openBroker(`rivulet://127.0.0.1:${console.running.port}`);
const detail = (console: OpenConsole, id = 'o-1') =>
  console.get<WorkflowDetail>(`workflows/order/${id}`);

/** The instance, once it is as wanted. */
async function once(console: OpenConsole, isIt: (detail: WorkflowDetail) => boolean, id = 'o-1') {
  for (;;) {
    const now = await detail(console, id);
    if (isIt(now)) return now;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a failed instance runs again from a step, and a fork has its history up to one', async () => {
  await using console = await openConsole();
  await using broker = await open(console);
  let isBroken = true;
  let charges = 0;
  const order = workflow({ name: 'order', version: 1 }, async (wf) => {
    await wf.step('charge', () => {
      charges++;
    });
    await wf.step('ship', () => {
      if (isBroken) throw new Terminal('no box', { code: 'NO_BOX' });
    });
    return 'shipped';
  });
  await using worker = await workflows(broker, { definitions: [order] });
  const handle = await worker.start(order, undefined, { id: 'o-1' });
  await assert.rejects(handle.result({ timeoutMs: 20_000 }), /no box/);
  isBroken = false;
  const refused = await post(console, 'workflow.retry', {
    dryRun: true,
    target,
    options: { step: 'ship' },
  });
  assert.equal(refused.status, 400);
  assert.match(refused.json().message, /no option "step"; its options: from/);
  await act(console, 'workflow.retry', { target, options: { from: 'ship' } });
  assert.equal(await handle.result({ timeoutMs: 20_000 }), 'shipped');
  assert.equal(charges, 1, 'what is before the step is not done again');
  const fork = { target, options: { from: 'ship', id: 'o-2' } };
  const { made } = await act(console, 'workflow.fork', fork);
  assert.deepEqual(made, ['o-2']);
  assert.equal(await worker.get('order', 'o-2').result({ timeoutMs: 20_000 }), 'shipped');
  assert.equal(charges, 1);
  const none = await post(console, 'workflow.fork', { dryRun: true, target });
  const token = none.json().token;
  const without = await post(console, 'workflow.fork', { token, reason: 'r' });
  assert.match(without.text, /from names a step/);
});

test('an instance that waits goes on with another version of the code', async () => {
  await using console = await openConsole();
  await using broker = await open(console);
  const definition = (version: number, last: string) =>
    workflow({ name: 'order', version }, async (wf) => {
      await wf.step('charge', () => version);
      await wf.wait(go);
      return last;
    });
  {
    await using worker = await workflows(broker, { definitions: [definition(1, 'one')] });
    await worker.start(definition(1, 'one'), undefined, { id: 'o-1' });
    await once(console, ({ waitsFor }) => waitsFor !== null);
  }
  for (const version of [0, 1.5, '2', null]) {
    const answer = await post(console, 'workflow.move', {
      dryRun: true,
      target,
      options: { version },
    });
    assert.equal(answer.status, 400, String(version));
  }
  const same = await post(console, 'workflow.move', {
    dryRun: true,
    target,
    options: { version: 1 },
  });
  assert.equal(same.status, 412, 'it has that version');
  const seen = await plan(console, 'workflow.move', { target, options: { version: 2 } });
  assert.match(seen.summary, /from version 1 to 2/);
  await act(console, 'workflow.move', { target, options: { version: 2 } });
  assert.equal((await detail(console)).version, 2);
  await using worker = await workflows(broker, { definitions: [definition(2, 'two')] });
  await act(console, 'workflow.signal', { target, options: { name: 'go', value: 'on' } });
  assert.equal(await worker.get('order', 'o-1').result({ timeoutMs: 20_000 }), 'two');
});

test('an instance whose history another version does not follow is parked with the difference', async () => {
  await using console = await openConsole();
  await using broker = await open(console);
  const first = workflow({ name: 'order', version: 1 }, async (wf) => {
    await wf.step('charge', () => 1);
    await wf.wait(go);
  });
  const second = workflow({ name: 'order', version: 2 }, async (wf) => {
    await wf.step('reserve', () => 1);
    await wf.wait(go);
  });
  {
    await using worker = await workflows(broker, { definitions: [first] });
    await worker.start(first, undefined, { id: 'o-1' });
    await once(console, ({ waitsFor }) => waitsFor !== null);
  }
  await act(console, 'workflow.move', { target, options: { version: 2 } });
  await using _ = await workflows(broker, { definitions: [second] });
  const { parked, verbs } = await once(console, ({ status }) => status === 'parked');
  assert.match(
    `${parked?.reason} ${parked?.difference}`,
    /charge[\s\S]*reserve|reserve[\s\S]*charge/,
  );
  assert.ok(verbs.includes('workflow.move'), 'and can be moved back');
  await act(console, 'workflow.move', { target, options: { version: 1 } });
  assert.equal((await detail(console)).version, 1);
});

test("the forms of the pages name each action's options as the server does", async () => {
  const source = readFileSync(join(repositoryRoot, 'web', 'state', 'verbs.ts'), 'utf8');
  const { code } = await transform(source, { loader: 'ts', format: 'esm' });
  const { VERBS } = (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as {
    VERBS: Record<Verb, { fields: { name: string; isTarget?: boolean }[] }>;
  };
  assert.deepEqual(Object.keys(VERBS).sort(), Object.keys(ACTION_OPTIONS).sort());
  for (const [verb, { fields }] of Object.entries(VERBS) as [Verb, (typeof VERBS)[Verb]][]) {
    for (const { name, isTarget } of fields) {
      if (isTarget) continue;
      assert.ok(ACTION_OPTIONS[verb].includes(name), `${verb} has no option ${name}`);
    }
  }
});

test('an option that no action has is refused before anything is planned', async () => {
  await using console = await openConsole();
  for (const verb of Object.keys(ACTION_OPTIONS) as Verb[]) {
    if (verb === 'service.call') continue;
    const answer = await post(console, verb, {
      dryRun: true,
      target: {},
      options: { nonsense: 1 },
    });
    assert.equal(answer.status, 400, `${verb}: ${answer.text}`);
    assert.match(answer.json().message, /has no option "nonsense"/, verb);
  }
});

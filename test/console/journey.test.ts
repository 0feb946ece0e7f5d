/**
 * One message followed through its groups, dead letters, copies and workflows; workflows; OpenAPI.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { Journey, WorkflowDetail } from '../../src/console/api-types.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';
import { until } from '../helpers/until.ts';
import { openConsole } from './fixture.ts';

test('a journey says of each group whether the message waits, is pending, settled or dead', async () => {
  await using console = await openConsole();
  const { client } = console;
  for (let i = 1; i <= 4; i++) await client.call('XADD', 'orders', `${i}-0`, 'body', `{"n":${i}}`);
  for (const group of ['settled', 'pending', 'dead', 'waiting']) {
    await client.call('XGROUP', 'CREATE', 'orders', group, '0');
  }
  const policy = ['ACKWAIT', 60_000, 'MAXDELIVERIES', 3, 'DEADLETTER', 'orders.dead'];
  await client.call('XGROUP', 'SETPOLICY', 'orders', 'dead', ...policy);
  for (const group of ['settled', 'pending', 'dead']) {
    await client.call('XREADGROUP', 'GROUP', group, 'ann', 'STREAMS', 'orders', '>');
  }
  await client.call('XACK', 'orders', 'settled', '3-0');
  await client.call('XNACK', 'orders', 'dead', 'DEADLETTER', 'IDS', 1, '3-0', 'REASON', 'no use');
  const journey = await console.get<Journey>('journey/orders/3-0');
  assert.deepEqual(Object.fromEntries(journey.groups.map(({ group, state }) => [group, state])), {
    settled: 'settled',
    pending: 'pending',
    dead: 'dead',
    waiting: 'waiting',
  });
  const of = (name: string) => journey.groups.find(({ group }) => group === name)!;
  assert.equal(of('waiting').before, 2);
  assert.equal(of('pending').pending?.consumer, 'ann');
  assert.equal(of('dead').dead?.origin.reason, 'no use');
  const ids = [of('dead').dead!.id];
  const target = { topic: 'orders.dead', ids };
  const act = (body: object) => console.ask('actions/dead.redrive', { method: 'POST', body });
  const { token } = (await act({ dryRun: true, target })).json();
  const [made] = (await act({ token, reason: 'again' })).json().made;
  const copy = await console.get<Journey>(`journey/orders/${made}`);
  assert.deepEqual(copy.copies, [{ kind: 'origin', topic: 'orders.dead', id: ids[0] }]);
  assert.equal((await console.ask('journey/none/1-0')).status, 404);
  assert.equal((await console.ask('journey/orders/x')).status, 400);
});

test('workflows are listed, shown as a timeline, and signalled, paused, resumed and cancelled', async () => {
  await using console = await openConsole();
  await using broker = await openBroker(`rivulet://127.0.0.1:${console.running.port}`);
  const approved = signal<{ by: string }>('approved');
  const order = workflow({ name: 'order', version: 1 }, async (flow, input: { card: string }) => {
    await flow.step('charge', () => `charged ${input.card}`);
    const { by } = await flow.wait(approved);
    return by;
  });
  await using worker = await workflows(broker, { definitions: [order] });
  const handle = await worker.start(order, { card: '4111' }, { id: 'order-17' });
  const detail = () => console.get<WorkflowDetail>('workflows/order/order-17');
  let now = await detail();
  await until(async () => {
    now = await detail();
    return now.waitsFor !== null;
  });
  assert.deepEqual([now.waitsFor, now.signals], ['the signal approved', ['approved']]);
  assert.deepEqual(now.events.map(({ kind }) => kind).slice(0, 1), ['start']);
  assert.ok(now.events.some(({ kind, name }) => kind === 'step' && name === 'charge'));
  assert.ok(now.verbs.includes('workflow.signal'));
  const page = await console.get('workflows?name=order');
  assert.deepEqual([page.counts[0].running, page.instances[0].id], [1, 'order-17']);
  const act = async (verb: string, options: object = {}) => {
    const target = { workflow: 'order', instance: 'order-17' };
    const post = (body: object) =>
      console.ask(`actions/workflow.${verb}`, { method: 'POST', body });
    const plan = await post({ dryRun: true, target, options });
    if (plan.status !== 200) return plan.status;
    const done = await post({ token: plan.json().token, reason: 'r' });
    assert.equal(done.json().done, 1, done.text);
    return done.status;
  };
  assert.equal(await act('resume'), 412, 'it is not paused');
  assert.equal(await act('pause'), 200);
  assert.equal((await detail()).status, 'paused');
  assert.equal(await act('resume'), 200);
  assert.equal(await act('signal', { name: 'approved', value: { by: 'ann' } }), 200);
  assert.equal(await handle.result({ timeoutMs: 20_000 }), 'ann');
  assert.equal((await console.ask('workflows/order/none')).status, 404);
  assert.equal((await console.ask('workflows/..%2fx/none')).status, 400);
});

test('masked values are in no record of a workflow, at whatever depth', async () => {
  const ann = ['ann', 'on', '>ann', '~*', '&*', '+@read'];
  await using console = await openConsole({ 'console-mask': 'json.card' }, [ann]);
  await using broker = await openBroker(`rivulet://127.0.0.1:${console.running.port}`);
  const order = workflow({ name: 'order', version: 1 }, async (flow, _: { card: string }) => {
    await flow.step('charge', () => ({ list: [{ card: '4222' }], card: '4333' }));
    return { card: '4444' };
  });
  await using worker = await workflows(broker, { definitions: [order] });
  const handle = await worker.start(order, { card: '4111' }, { id: 'o1' });
  await handle.result({ timeoutMs: 20_000 });
  const headers = { authorization: 'Bearer ann:ann' };
  const { text } = await console.ask('workflows/order/o1', { headers });
  assert.doesNotMatch(text, /4111|4222|4333|4444/);
  assert.match((await console.ask('workflows/order/o1')).text, /4222/);
});

test('the description of the API is valid OpenAPI 3.1 and names every route', async () => {
  await using console = await openConsole();
  const description = await console.get('openapi.json');
  const { valid, errors } = await new Validator().validate(description);
  assert.equal(valid, true, JSON.stringify(errors));
  assert.equal(description.openapi, '3.1.0');
  assert.ok(Object.keys(description.paths).length > 25);
});

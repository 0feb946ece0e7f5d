/** One flow on every broker with journals: steps, signals, timers, children, and what they come to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';

test('a workflow of one step has one result', async () => {
  await using broker = await openBroker('memory:');
  const hello = workflow({ name: 'hello', version: 1 }, async (wf, input: { name: string }) => {
    const text = await wf.step('greet', () => `hello ${input.name}`);
    return { text };
  });
  await using flows = await workflows(broker, { definitions: [hello] });
  const handle = await flows.start(hello, { name: 'ann' }, { id: 'one' });
  assert.deepEqual(await handle.result(), { text: 'hello ann' });
  assert.deepEqual(
    (await handle.history()).map(({ kind, name }) => [kind, name]),
    [
      ['start', undefined],
      ['step', 'greet'],
      ['end', undefined],
    ],
  );
  assert.equal(await handle.status(), 'completed');
});

test('signals, sleeps and races', async () => {
  await using broker = await openBroker('memory:');
  const approved = signal<{ ok: boolean }>('approved');
  const flow = workflow({ name: 'order' }, async (wf, n: number) => {
    const [a, b] = await Promise.all([wf.step('a', () => n), wf.step('b', async () => n + 1)]);
    const decision = await wf.wait(approved, { timeoutMs: 60_000 });
    await wf.sleep(5);
    const late = await wf.wait(approved, { timeoutMs: 20 });
    return { sum: a + b, decision, late };
  });
  await using flows = await workflows(broker, { definitions: [flow], verify: 'always' });
  const handle = await flows.start(flow, 1, { id: 'x' });
  await handle.signal(approved, { ok: true });
  assert.deepEqual(await handle.result({ timeoutMs: 5000 }), { sum: 3, decision: { ok: true } });
});

test('children give results to their parent', async () => {
  await using broker = await openBroker('memory:');
  const child = workflow({ name: 'child' }, async (wf, n: number) =>
    wf.step('double', () => 2 * n),
  );
  const parent = workflow({ name: 'parent' }, async (wf, n: number) => {
    const all = await Promise.all(Array.from({ length: n }, (_, i) => wf.child(child, i)));
    return all.reduce((sum, each) => sum + each, 0);
  });
  await using flows = await workflows(broker, { definitions: [parent, child], verify: 'always' });
  const handle = await flows.start(parent, 10);
  assert.equal(await handle.result({ timeoutMs: 10000 }), 90);
});

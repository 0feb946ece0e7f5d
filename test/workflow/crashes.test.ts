/** Workers that die at every position of the journal, on the virtual clock: the outcome is the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signal, Terminal, workflow } from '../../src/workflow/index.ts';
import { createTestWorkflows } from '../../src/workflow/testing.ts';

const DAY = 86_400_000;
const approved = signal<{ by: string; ok: boolean }>('approved');

test('steps, a signal and sleeps survive a worker that dies at any commit', async () => {
  const order = workflow({ name: 'order' }, async (wf, input: { sku: string }) => {
    const paid = await wf.step('charge', ({ key }) => ({ key, amount: 7 }));
    const [stock, tax] = await Promise.all([
      wf.step('stock', () => input.sku.length),
      wf.step('tax', () => 3),
    ]);
    const decision = await wf.wait(approved, { timeoutMs: DAY });
    await wf.sleep(2 * DAY);
    wf.state({ stage: 'shipped' });
    await wf.publish('shipped', { headers: {}, body: input.sku });
    return { paid, stock, tax, decision, uuid: wf.uuid(), random: wf.random() };
  });
  await using t = await createTestWorkflows({ definitions: [order] });
  const report = await t.crashAtEvery(async (world) => {
    const published: string[] = [];
    await world.broker.subscribe('shipped', (delivery) => published.push(delivery.text()), {
      group: 'g',
      from: 'earliest',
    });
    const handle = await world.start(order, { sku: 'ab' }, { id: 'one' });
    await world.advance(60_000);
    await handle.signal(approved, { by: 'ann', ok: true }, { id: 'click' });
    await handle.signal(approved, { by: 'ann', ok: true }, { id: 'click' });
    await world.advance(3 * DAY);
    const { uuid, ...result } = await handle.result();
    assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
    const left = [];
    for await (const run of world.list({ status: 'running' })) left.push(run.id);
    return { result, state: await handle.state(), published, left };
  });
  assert.deepEqual(report.outcome.state, { stage: 'shipped' });
  assert.deepEqual(report.outcome.published, ['ab']);
  assert.deepEqual(report.outcome.left, []);
  assert.ok(report.positions >= 8, `${report.positions}`);
});

test('compensations run once each, newest first, whatever commit a worker dies at', async () => {
  const trip = workflow({ name: 'trip' }, async (wf) => {
    for (const name of ['flight', 'hotel', 'car']) {
      await wf.step(name, () => name, { compensate: () => {} });
    }
    await wf.step('pay', () => {
      throw new Terminal('no money', { code: 'CARD', data: { left: 3 } });
    });
  });
  await using t = await createTestWorkflows({ definitions: [trip] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(trip, undefined, { id: 'one' });
    await world.advance(5 * 60_000);
    const error = await handle.result().catch((error) => error);
    const undone = (await handle.history()).filter(({ kind }) => kind === 'undo');
    return {
      error: [error.name, error.message, error.code, error.data],
      undone: undone.map(({ name }) => name),
      status: await handle.status(),
    };
  });
  assert.deepEqual(report.outcome, {
    error: ['Terminal', 'no money', 'CARD', { left: 3 }],
    undone: ['car', 'hotel', 'flight'],
    status: 'failed',
  });
});

test('children, and the parent that waits for them, survive any death', async () => {
  const child = workflow({ name: 'child' }, async (wf, n: number) => {
    await wf.sleep(n * 10_000);
    return wf.step('double', () => 2 * n);
  });
  const parent = workflow({ name: 'parent' }, async (wf, n: number) => {
    const all = await Promise.all(Array.from({ length: n }, (_, i) => wf.child(child, i)));
    const started = await wf.start(child, 1, { id: 'loose' });
    return { all, started };
  });
  await using t = await createTestWorkflows({ definitions: [parent, child] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(parent, 3, { id: 'p' });
    await world.advance(10 * 60_000);
    const result = await handle.result();
    const done = [];
    for await (const { id, status } of world.list({ status: 'completed' })) done.push([id, status]);
    return { result, done: done.sort() };
  });
  assert.deepEqual(report.outcome.result, {
    all: [0, 2, 4],
    started: { name: 'child', id: 'loose' },
  });
  assert.equal(report.outcome.done.length, 5);
});

test('a cancel reaches what waits, runs compensations, and ends as cancelled', async () => {
  const child = workflow({ name: 'inner' }, async (wf) => {
    await wf.sleep(30 * DAY);
  });
  const outer = workflow({ name: 'outer' }, async (wf) => {
    await wf.step('hold', () => 1, { compensate: () => {} });
    await wf.child(child, undefined, { id: 'c' });
  });
  await using t = await createTestWorkflows({ definitions: [outer, child] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(outer, undefined, { id: 'o' });
    await world.advance(5 * 60_000);
    await handle.cancel('changed my mind');
    await world.advance(10 * 60_000);
    const error = await handle.result().catch((error) => error);
    const inner = await world.get(child, 'c').status();
    return { name: error.name, message: error.message, status: await handle.status(), inner };
  });
  assert.deepEqual(report.outcome, {
    name: 'Cancelled',
    message: 'changed my mind',
    status: 'cancelled',
    inner: 'cancelled',
  });
});

test('retries with long backoff, continueAsNew and races are the same on replay', async () => {
  const attempts = new Map<string, number>();
  const loop = workflow({ name: 'loop' }, async (wf, n: number) => {
    if (n === 0) {
      await wf.step(
        'flaky',
        ({ attempt }) => {
          attempts.set(wf.id, attempt);
          if (attempt < 4) throw new Error(`attempt ${attempt}`);
          return attempt;
        },
        { retry: { attempts: 5, backoff: { minMs: 20_000, maxMs: 60_000, jitter: false } } },
      );
      return wf.continueAsNew(1);
    }
    const first = await Promise.race([
      wf.sleep(1000 * n).then(() => 'slept'),
      wf.wait(approved).then(() => 'signal'),
    ]);
    if (n < 3) return wf.continueAsNew(n + 1);
    return { n, first };
  });
  await using t = await createTestWorkflows({ definitions: [loop] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(loop, 0, { id: 'l' });
    await world.advance(60 * 60_000);
    return handle.result();
  });
  assert.deepEqual(report.outcome, { n: 3, first: 'slept' });
});

test('without definitions a test world learns what it is asked to start', async () => {
  const flow = workflow({ name: 'learned' }, async (wf, n: number) => {
    await wf.sleep(DAY);
    return wf.step('s', () => n + 1);
  });
  await using t = await createTestWorkflows({ seed: 7 });
  const handle = await t.start(flow, 1);
  await t.advance(3 * DAY);
  assert.equal(await handle.result(), 2);
  const report = await t.crashAtEvery(async (world) => {
    const each = await world.start(flow, 1, { id: 'x' });
    await world.advance(3 * DAY);
    return each.result();
  });
  assert.equal(report.outcome, 2);
});

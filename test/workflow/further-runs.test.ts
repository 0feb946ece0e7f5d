/** What happens between the end of one run and the beginning of the next one, where an instance continues as new. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { signal, workflow } from '../../src/workflow/index.ts';
import { createTestWorkflows, type TestWorkflows } from '../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const go = signal<number>('go');

/** Of a further run the input takes some time to be checked. */
function slowly(world: () => TestWorkflows, ms: number): StandardSchema<number, number> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        value === 0
          ? { value: 0 }
          : world()
              .pause(ms)
              .then(() => ({ value: value as number })),
    },
  };
}

async function firstKinds(t: TestWorkflows, key: string): Promise<(string | undefined)[]> {
  const entries = (await t.broker.journal?.read(key)) ?? [];
  return entries.slice(0, 1).map(({ fields }) => fields.t);
}

test('a further run begins its journal with its start, also after a lazy step', async () => {
  const loop = workflow({ name: 'loop' }, async (wf, n: number) => {
    const got = await wf.step('lazy', () => n, { lazy: true });
    if (n < 3) return wf.continueAsNew(n + 1);
    await wf.wait(go);
    return got;
  });
  await using t = await createTestWorkflows({ definitions: [loop] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(loop, 0, { id: 'x' });
    await world.advance(HOUR);
    await handle.signal(go, 1);
    await world.advance(HOUR);
    return [await handle.result(), (await handle.history())[0]?.kind];
  });
  assert.deepEqual(report.outcome, [3, 'start']);
});

test('a step that ends while the next run is being made is no part of its journal', async () => {
  let ended = 0;
  let world = {} as TestWorkflows;
  const loop = workflow(
    { name: 'loop', input: slowly(() => world, 100) },
    async (wf, n): Promise<number> => {
      if (n === 2) {
        await wf.sleep(HOUR);
        return n;
      }
      void wf.step('slow', () => t.pause(50).then(() => ended++));
      await wf.step('quick', () => n);
      return wf.continueAsNew(n + 1);
    },
  );
  await using t = await createTestWorkflows({ definitions: [loop] });
  world = t;
  const handle = await t.start(loop, 0, { id: 'x' });
  await t.advance(MINUTE);
  assert.ok(ended >= 1);
  assert.deepEqual(await firstKinds(t, 'wf:{loop}:j:x'), ['start']);
  await t.advance(2 * HOUR);
  assert.equal(await handle.result(), 2);
});

test('a cancel that comes while the next run is being made ends the instance and undoes what this run did', async () => {
  const undone: number[] = [];
  let world = {} as TestWorkflows;
  const loop = workflow({ name: 'loop', input: slowly(() => world, MINUTE) }, async (wf, n) => {
    await wf.step('hold', () => n, { compensate: (held) => void undone.push(held) });
    await wf.continueAsNew(n + 1);
  });
  await using t = await createTestWorkflows({ definitions: [loop] });
  world = t;
  const handle = await t.start(loop, 0, { id: 'x' });
  await t.advance(1000);
  await handle.cancel('enough');
  await t.advance(10 * MINUTE);
  assert.deepEqual([await handle.status(), undone], ['cancelled', [0]]);
});

test('what was cancelled does not continue as new', async () => {
  const loop = workflow({ name: 'loop' }, async (wf, n: number) => {
    await wf.wait(go).catch(() => {});
    await wf.continueAsNew(n + 1);
  });
  await using t = await createTestWorkflows({ definitions: [loop] });
  const handle = await t.start(loop, 0, { id: 'x' });
  await t.advance(1000);
  await handle.cancel('enough');
  await t.advance(1000);
  assert.equal(await handle.status(), 'cancelled');
});

test('a pause that comes while the next run is being made holds it back until it is resumed', async () => {
  const runs: number[] = [];
  let world = {} as TestWorkflows;
  const loop = workflow(
    { name: 'loop', input: slowly(() => world, MINUTE) },
    async (wf, n): Promise<number> => {
      await wf.step('run', () => runs.push(n));
      return n === 1 ? n : wf.continueAsNew(n + 1);
    },
  );
  await using t = await createTestWorkflows({ definitions: [loop] });
  world = t;
  const handle = await t.start(loop, 0, { id: 'x' });
  await t.advance(1000);
  await handle.pause();
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), runs], ['paused', [0]]);
  assert.equal(t.flows.awake, 0, 'it rests');
  await handle.resume();
  await t.advance(HOUR);
  assert.deepEqual([await handle.result(), runs], [1, [0, 1]]);
});

test('a further run keeps what led to the first one', async () => {
  const loop = workflow({ name: 'loop' }, async (wf, n: number) => {
    if (n === 0) await wf.continueAsNew(1);
    await wf.wait(go);
  });
  await using t = await createTestWorkflows({ definitions: [loop] });
  const cause = { topic: 'orders', id: '1-0' };
  const handle = await t.flows.start(loop, 0, { id: 'x', cause });
  await t.advance(1000);
  const [start] = await handle.history();
  assert.deepEqual([start?.detail.run, start?.detail.cause], [1, cause]);
});

test('operations that fail and are not awaited end no process', async () => {
  const rejected: unknown[] = [];
  const onRejection = (error: unknown) => rejected.push(error);
  process.on('unhandledRejection', onRejection);
  try {
    const child = workflow({ name: 'child' }, async (wf) => wf.wait(go));
    const flow = workflow({ name: 'flow' }, async (wf) => {
      void wf.sleep(HOUR);
      void wf.sleepUntil(new Date(Date.now() + HOUR));
      void wf.publish('topic', { body: 'x'.repeat(2000) });
      void wf.wait(go);
      void wf.child(child);
      void wf.step('failing', () => assert.fail('no'), { retry: { attempts: 1 } });
      await wf.wait(signal<number>('other'));
    });
    await using t = await createTestWorkflows({ definitions: [flow, child], maxValueBytes: 1000 });
    const handle = await t.start(flow);
    await t.advance(1000);
    await handle.cancel('enough');
    await t.advance(MINUTE);
    assert.equal(await handle.status(), 'cancelled');
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(rejected, []);
  } finally {
    process.off('unhandledRejection', onRejection);
  }
});

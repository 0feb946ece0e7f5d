/** Which of two workers has an instance, whatever its broker says of the task. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import type { JournalStore, JournalTask } from '../../src/broker/journal.ts';
import { createTestBroker } from '../../src/broker/testing.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';

const HOUR = 3_600_000;
const go = signal<number>('go');

/** Lets `change` look at each task before the worker gets it. */
function withTasks(broker: Broker, change: (task: JournalTask) => void): JournalStore {
  const journal = broker.journal as JournalStore;
  const consume = journal.consume.bind(journal);
  Object.assign(journal, {
    consume: (key: string, handler: (task: JournalTask) => unknown, options: object) =>
      consume(
        key,
        (task) => {
          change(task);
          return handler(task);
        },
        options as never,
      ),
  });
  return journal;
}

for (const isFirst of [false, true]) {
  const as = isFirst ? ', which had fetched it before' : '';
  test(`a task that another worker has done meanwhile takes no instance up${as}`, () =>
    doneMeanwhile(isFirst));
}

/** A task that was fetched ahead and lay still comes to the handler as a first attempt. */
async function doneMeanwhile(isFirst: boolean): Promise<void> {
  await using t = await createTestBroker();
  let release = () => {};
  const flow = workflow({ name: 'flow' }, async (wf) => {
    await wf.step('slow', () => {
      if (release !== nothing) return;
      return new Promise<void>((resolve) => {
        release = resolve;
      });
    });
    return wf.wait(go, { timeoutMs: 48 * HOUR });
  });
  const nothing = () => {};
  release = nothing;
  // The first worker does not extend: its task is delivered to the second one while it works.
  withTasks(t.broker, (task) => {
    Object.assign(task, { extend: async () => {} });
  });
  const options = { definitions: [flow], ackWaitMs: 1000 };
  await using first = await workflows(t.broker, options);
  const handle = await first.start(flow, undefined, { id: 'x' });
  await t.advance(100);
  assert.notEqual(release, nothing, 'the first worker runs the step');
  const broker = await t.open();
  let delivered = 0;
  let openGate = () => {};
  const gate = new Promise<void>((resolve) => {
    openGate = resolve;
  });
  const journal = withTasks(broker, (task) => {
    delivered++;
    if (isFirst) Object.defineProperty(task, 'attempt', { value: 1 });
  });
  const read = journal.read.bind(journal);
  // The second worker looks at the instance only after the first one has put it to rest.
  journal.read = async (key, range) => {
    if (key.includes(':j:')) await gate;
    return read(key, range);
  };
  // It would die at its first commit after it has taken the instance up.
  const second = await workflows(broker, options, { onCommit: () => void second.kill() });
  // Not longer: of a task that it has held for a while the worker asks the broker whose it is.
  for (let waited = 0; delivered === 0; waited += 100) {
    assert.ok(waited < 10_000, 'the task is delivered again');
    await t.advance(100);
  }
  assert.equal(delivered, 1);
  release();
  await t.settle();
  assert.equal((await handle.info()).position, 'due');
  openGate();
  await t.advance(60_000);
  await second.kill();
  await handle.signal(go, 7);
  await t.advance(60_000);
  assert.equal(await handle.result(), 7);
}

test('the task of a worker that died takes its instance over, although it comes as a first attempt', async () => {
  await using t = await createTestBroker();
  let runs = 0;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    const n = await wf.wait(go);
    return wf.step('work', () => (++runs === 1 ? new Promise<number>(() => {}) : n));
  });
  const options = { definitions: [flow], ackWaitMs: 1000 };
  const first = await workflows(t.broker, options);
  const handle = await first.start(flow, undefined, { id: 'x' });
  await t.advance(100);
  await handle.signal(go, 7);
  await t.advance(100);
  assert.equal(runs, 1);
  void first.kill();
  const broker = await t.open();
  const attempts: number[] = [];
  // A broker counts hand-overs, and what was fetched ahead counts for nothing.
  withTasks(broker, (task) => {
    attempts.push(task.attempt);
    Object.defineProperty(task, 'attempt', { value: 1 });
  });
  await using _second = await workflows(broker, options);
  await t.advance(60_000);
  assert.deepEqual(attempts, [2]);
  assert.deepEqual([await handle.result(), runs], [7, 2]);
});

test('an instance that is paused after its worker died is put to rest, and goes on when it is resumed', async () => {
  await using t = await createTestBroker();
  let runs = 0;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    await wf.wait(go);
    return wf.step('work', () => (++runs === 1 ? new Promise<string>(() => {}) : 'done'));
  });
  const options = { definitions: [flow], ackWaitMs: 1000 };
  const first = await workflows(t.broker, options);
  const handle = await first.start(flow, undefined, { id: 'x' });
  await t.advance(100);
  await handle.signal(go, 7);
  await t.advance(100);
  void first.kill();
  await handle.pause();
  await using _second = await workflows(await t.open(), options);
  await t.advance(60_000);
  assert.deepEqual([await handle.status(), runs], ['paused', 1]);
  await handle.resume();
  await t.advance(60_000);
  assert.deepEqual([await handle.status(), runs], ['completed', 2]);
});

test('the task of a dead worker that only workers of another version see does not strand its instance', async () => {
  await using t = await createTestBroker();
  let runs = 0;
  const make = (version: number) =>
    workflow({ name: 'flow', version }, async (wf) => {
      await wf.wait(go);
      return wf.step('work', () => (++runs === 1 ? new Promise<string>(() => {}) : 'done'));
    });
  const [old, next] = [make(1), make(2)];
  const both = { definitions: [old, next], ackWaitMs: 1000 };
  const first = await workflows(t.broker, both);
  const handle = await first.start(old, undefined, { id: 'x' });
  await t.advance(100);
  // The task of the signal is in the queue of version 1 when the instance moves.
  void first.kill();
  await handle.signal(go, 7);
  const mover = await workflows(await t.open());
  assert.deepEqual((await mover.move(next, { from: 1, to: 2 })).moved, ['x']);
  // It takes the instance up because of the task in the old queue.
  const busy = await t.open();
  const journal = busy.journal as JournalStore;
  const consume = journal.consume.bind(journal);
  journal.consume = (key, handler, given) =>
    consume(key, key.endsWith(':v2') ? () => {} : handler, given);
  const third = await workflows(busy, both);
  await t.advance(100);
  assert.equal(runs, 1);
  void third.kill();
  await using _old = await workflows(await t.open(), { definitions: [old], ackWaitMs: 1000 });
  await t.advance(60_000);
  await using _next = await workflows(await t.open(), { definitions: [next], ackWaitMs: 1000 });
  await t.advance(60_000);
  assert.deepEqual([await handle.status(), runs], ['completed', 2]);
});

test('a task of another version that has the id of one that is done is another task', async () => {
  await using t = await createTestBroker();
  const make = (version: number) =>
    workflow({ name: 'flow', version }, async (wf) => {
      await wf.wait(go, { timeoutMs: HOUR });
      return version;
    });
  const old = await workflows(t.broker, { definitions: [make(1)] });
  const handle = await old.start(make(1), undefined, { id: 'x' });
  await t.settle();
  // All in one millisecond: the first task of each queue has the same id.
  await old.move(make(2), { from: 1, to: 2 });
  await using _next = await workflows(await t.open(), { definitions: [make(2)] });
  await t.advance(1000);
  assert.equal((await handle.info()).position, 'due');
  await t.advance(2 * HOUR);
  assert.equal(await handle.result(), 2);
});

for (const how of ['a signal', 'a timer', 'a further run'] as const) {
  test(`a worker that was held up does not take ${how} for its own after another one had the instance`, async () => {
    await using t = await createTestBroker();
    let runs = 0;
    const flow = workflow({ name: 'flow' }, async (wf, n: number): Promise<unknown> => {
      if (n === 1) return 'further';
      await wf.step('slow', () => (++runs === 1 ? new Promise<void>(() => {}) : undefined));
      if (how === 'a further run') return wf.continueAsNew(1);
      return wf.wait(go, how === 'a timer' ? { timeoutMs: 20_000 } : {});
    });
    const options = { definitions: [flow], ackWaitMs: 1000, drainTimeoutMs: 100 };
    // The first worker receives no notification of what others do, and extends no deadline.
    const journal = withTasks(t.broker, (task) => {
      Object.assign(task, { extend: async () => {} });
    });
    journal.watch = async () => () => {};
    await using first = await workflows(t.broker, options);
    const handle = await first.start(flow, 0, { id: 'x' });
    await t.advance(50);
    const second = await workflows(await t.open(), options, {
      // A further run is left to the other one.
      onCommit: (moment, kinds) => {
        if (moment === 'after' && kinds.includes('start')) void second.kill();
      },
    });
    for (let waited = 0; runs < 2; waited += 100) {
      assert.ok(waited < 60_000, 'the second one takes the instance over');
      await t.advance(100);
    }
    await t.advance(100);
    if (how !== 'a further run') assert.equal(first.awake, 1);
    void second.kill();
    if (how === 'a signal') await handle.signal(go, 7);
    await t.advance(120_000);
    const results = { 'a signal': 7, 'a timer': undefined, 'a further run': 'further' };
    assert.deepEqual([await handle.status(), first.awake], ['completed', 0]);
    assert.equal(await handle.result(), results[how]);
  });
}

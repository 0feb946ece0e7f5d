/** What an instance has from its life before: timers, children, pauses, versions, after it was stopped and taken up again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JournalStore } from '../../src/broker/journal.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { signal, Terminal, workflow, workflows } from '../../src/workflow/index.ts';
import { createTestWorkflows } from '../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const go = signal<number>('go');

async function failureOf(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => assert.fail('it did not fail'),
    (error) => error,
  );
}

// ---- Timers

test('a wait has its limit of time after the instance was parked and retried', async () => {
  const make = (second: string) =>
    workflow({ name: 'flow' }, async (wf) => {
      await wf.wait(go, { timeoutMs: DAY });
      await wf.step(second, () => 1);
      return (await wf.wait(go, { timeoutMs: 2 * DAY })) ?? 'time is up';
    });
  await using t = await createTestWorkflows({ definitions: [make('reserve')] });
  const handle = await t.start(make('reserve'));
  await t.advance(HOUR);
  await handle.signal(go, 1);
  await t.advance(HOUR);
  await t.restart({ definitions: [make('charge')] });
  await handle.signal(signal<number>('other'), 1);
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'parked');
  await t.restart({ definitions: [make('reserve')] });
  await handle.retry();
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), (await handle.info()).position], ['running', 'due']);
  await t.advance(3 * DAY);
  assert.equal(await handle.result(), 'time is up');
});

test('an instance that failed and was retried still ends when its time is up', async () => {
  let isUp = false;
  const flow = workflow({ name: 'flow', timeoutMs: 3 * DAY }, async (wf) => {
    await wf.wait(go);
    await wf.step('ship', () => {
      if (!isUp) throw new Terminal('down');
    });
    await wf.wait(go);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(HOUR);
  await handle.signal(go, 1);
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'failed');
  isUp = true;
  await handle.retry();
  await t.advance(HOUR);
  assert.equal((await handle.info()).position, 'due');
  await t.advance(4 * DAY);
  assert.equal(await handle.status(), 'cancelled');
});

test('an instance that was moved wakes without a worker of the version that it had', async () => {
  const make = (version: number) =>
    workflow({ name: 'flow', version }, async (wf) => {
      await wf.sleep(DAY);
      return version;
    });
  await using t = await createTestWorkflows({ definitions: [make(1)] });
  const handle = await t.start(make(1), undefined, { id: 'x' });
  await t.advance(HOUR);
  await t.restart({ definitions: [make(2)] });
  assert.deepEqual((await t.move(make(2), { from: 1, to: 2 })).moved, ['x']);
  await t.advance(MINUTE);
  const listed = [];
  for await (const { version, startedAt } of t.list({ name: 'flow' })) {
    listed.push([version, startedAt.getTime()]);
  }
  assert.deepEqual(listed, [[2, 1_700_000_000_000]]);
  await t.advance(2 * DAY);
  assert.equal(await handle.result(), 2);
  assert.deepEqual((await t.counts('flow'))[0]?.waiting, []);
  const done = [];
  for await (const { id, status } of t.list()) done.push(`${id} ${status}`);
  assert.deepEqual(done, ['x completed']);
});

test('compensations that wait for their next attempt after the time was up take no turns meanwhile', async () => {
  let tries = 0;
  const retry = { backoff: { minMs: 50_000, maxMs: 50_000, jitter: false } };
  const flow = workflow({ name: 'flow', timeoutMs: 2000, retry }, async (wf) => {
    await wf.step('hold', () => 1, {
      compensate: () => {
        if (++tries < 8) throw new Error('closed');
      },
    });
    throw new Terminal('no');
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), tries], ['failed', 8]);
  const { length } = await handle.history();
  assert.ok(length < 60, `${length} records`);
});

test('an instance that is to start later does not start when it is paused and resumed', async () => {
  const flow = workflow({ name: 'flow' }, async (wf) => {
    const from = wf.now();
    await wf.sleep(HOUR);
    return { from, ms: wf.now() - from };
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const at = t.now().getTime() + DAY;
  const handle = await t.start(flow, undefined, { startAt: at });
  await t.advance(HOUR);
  await handle.pause();
  await handle.resume();
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), (await handle.history()).length], ['running', 3]);
  await t.advance(2 * DAY);
  const { from, ms } = await handle.result();
  assert.ok(from >= at && ms >= HOUR, `${from - at} ${ms}`);
  const late = await t.start(flow, undefined, { startAt: t.now().getTime() + HOUR });
  await late.pause();
  await t.advance(DAY);
  assert.equal(await late.status(), 'paused');
  await late.resume();
  await t.advance(2 * HOUR);
  assert.equal(await late.status(), 'completed');
});

// ---- Children

test('each run of an instance that continues as new has children of its own', async () => {
  const child = workflow({ name: 'child' }, async (wf, n: number) => {
    await wf.sleep(n * 2000);
    return n;
  });
  const parent = workflow({ name: 'parent' }, async (wf, run: number) => {
    const slow = wf.child(child, 100 + run).catch(() => {});
    const n = await wf.child(child, run);
    if (run < 3) return wf.continueAsNew(run + 1);
    await slow;
    return n;
  });
  await using t = await createTestWorkflows({ definitions: [parent, child] });
  const handle = await t.start(parent, 0, { id: 'p' });
  await t.advance(HOUR);
  assert.equal(await handle.result(), 3);
  const ended = [];
  for await (const { id } of t.list({ name: 'child', status: 'completed' })) ended.push(id);
  assert.equal(ended.length, 8);
  const named = workflow({ name: 'named' }, async (wf, run: number) => {
    await wf.child(child, 0, { id: 'one' });
    if (run < 1) await wf.continueAsNew(run + 1);
  });
  await t.flows.register(named);
  const second = await t.start(named, 0);
  await t.advance(HOUR);
  assert.match((await failureOf(second.result())).message, /child\/one already/);
});

test('two children of one id that are asked for at once: the second one is refused', async () => {
  const child = workflow({ name: 'child' }, async (_wf, n: number) => n);
  const parent = workflow({ name: 'parent' }, async (wf) => {
    const one = [1, 2].map((n) => wf.child(child, n, { id: 'same' }));
    return (await Promise.allSettled(one)).map(({ status }) => status);
  });
  await using t = await createTestWorkflows({ definitions: [parent, child] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(parent, undefined, { id: 'p' });
    await world.advance(HOUR);
    return handle.result();
  });
  assert.deepEqual(report.outcome, ['fulfilled', 'rejected']);
});

test('a second child of an id that its parent has used is refused, and nothing waits for it', async () => {
  const child = workflow({ name: 'child' }, async (_wf, n: number) => n);
  const parent = workflow({ name: 'parent' }, async (wf) => {
    const first = await wf.child(child, 1, { id: 'same' });
    const second = await wf.child(child, 2, { id: 'same' }).catch(({ code }) => code);
    return [first, second];
  });
  await using t = await createTestWorkflows({ definitions: [parent, child] });
  const handle = await t.start(parent, undefined, { id: 'p' });
  await t.advance(HOUR);
  assert.deepEqual(await handle.result(), [1, 'ALREADY_EXISTS']);
});

// ---- What an operator does to what has stopped

test('a parked instance that is cancelled runs its compensations and ends as cancelled', async () => {
  const undone: string[] = [];
  const make = (second: string) =>
    workflow({ name: 'flow' }, async (wf) => {
      await wf.step('hold', () => 1, { compensate: () => void undone.push('hold') });
      await wf.step(second, () => 1);
      await wf.wait(go);
    });
  await using t = await createTestWorkflows({ definitions: [make('a')] });
  const handle = await t.start(make('a'), undefined, { id: 'x' });
  await t.advance(HOUR);
  await t.restart({ definitions: [make('b')] });
  await handle.signal(signal<number>('other'), 1);
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'parked');
  assert.match(
    (await failureOf(handle.pause())).message,
    /is parked, so there is nothing to pause/,
  );
  await t.restart({ definitions: [make('a')] });
  await handle.cancel('not worth it');
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), undone], ['cancelled', ['hold']]);
  assert.equal((await failureOf(handle.result())).message, 'not worth it');
  const [counts] = await t.counts('flow');
  assert.deepEqual([counts?.running, counts?.parked, counts?.done], [0, 0, 1]);
});

test('an instance that was paused before it was parked is not paused after a retry', async () => {
  let isOpen = false;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    await wf.step('hold', () => 1, {
      compensate: () => {
        if (!isOpen) throw new Error('closed');
      },
    });
    await wf.wait(go);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(1000);
  await handle.pause();
  await handle.cancel('no');
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'parked');
  isOpen = true;
  await handle.retry();
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'cancelled');
  await handle.retry({ from: 'hold' });
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), (await handle.info()).position], ['running', 'waiting']);
  await handle.signal(go, 1);
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'completed');
});

test('a journal whose newest record was removed by another program ends in a sentence, not in a loop', async () => {
  const flow = workflow({ name: 'flow' }, async (wf) => wf.wait(go, { timeoutMs: HOUR }));
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  const journal = t.broker.journal as JournalStore;
  const key = 'wf:{flow}:j:x';
  await journal.apply([{ kind: 'add', key, fields: ['t', 'note', 'd', '{}'] }]);
  const newest = (await journal.read(key, { newestFirst: true, limit: 1 }))[0]?.id as string;
  await journal.apply([{ kind: 'delete', key, ids: [newest] }]);
  const error = await failureOf(handle.signal(go, 1));
  assert.equal(error.code, 'STORAGE_DAMAGED');
  assert.match(error.message, /another program has removed records/);
  await t.advance(2 * HOUR);
  const parked = [];
  for await (const { id, code } of t.list({ status: 'parked' })) parked.push([id, code]);
  assert.deepEqual(parked, [['x', 'JOURNAL_LOST']]);
});

// ---- Costs and options

test('a schedule of each second that was missed for ten days goes on without a pause of the loop', async () => {
  const flow = workflow({ name: 'report' }, async () => {});
  await using t = await createTestWorkflows({ definitions: [flow] });
  await t.schedule('often', flow, { cron: '* * * * * *', overlap: 'allow', catchUp: 3 });
  await t.kill();
  (t.scheduler as VirtualScheduler).setDate(t.now().getTime() + 10 * DAY);
  await t.advance(10 * MINUTE);
  const from = process.cpuUsage();
  await t.restart();
  await t.advance(100);
  const { user, system } = process.cpuUsage(from);
  const ids: string[] = [];
  for await (const { id } of t.list({ status: 'completed' })) ids.push(id);
  assert.ok(ids.length >= 3 && ids.length <= 5, ids.join(' '));
  assert.equal(new Set(ids).size, ids.length);
  // All that were missed, one after the other, took more than a minute.
  assert.ok(user + system < 20_000_000, `${(user + system) / 1e6} s`);
});

test('options of wf.publish that are wrong fail the operation, and the instance ends', async () => {
  await using t = await createTestWorkflows({ definitions: [] });
  const wrong = [
    { delayMs: Number.NaN },
    { delayMs: -1 },
    { deliverAt: new Date('never') },
    { deliverAt: 5 },
    { delay: 5 },
    { key: 7 },
  ];
  for (const [i, options] of wrong.entries()) {
    const made = workflow({ name: `flow-${i}` }, async (wf) => {
      await wf.publish('t', { body: 'x' }, options as object);
    });
    await t.flows.register(made);
    const handle = await t.start(made);
    await t.advance(1000);
    assert.match((await failureOf(handle.result())).message, /delayMs|deliverAt|delay|key/, `${i}`);
  }
});

test('a start by name looks for the newest version now and then, not each time', async () => {
  const flow = workflow({ name: 'flow', version: 2 }, async () => 2);
  await using t = await createTestWorkflows({ definitions: [flow] });
  await using other = await workflows(t.broker);
  const journal = t.broker.journal as JournalStore;
  let looks = 0;
  const { read } = journal;
  journal.read = (key, range) => {
    if (key === 'wf:{flow}:versions') looks++;
    return read.call(journal, key, range);
  };
  await other.start('flow');
  const first = looks;
  for (let i = 1; i < 50; i++) await other.start('flow');
  assert.deepEqual([first > 0, looks], [true, first]);
  await t.advance(1000);
  assert.deepEqual(
    (await other.counts()).map(({ name, done }) => [name, done]),
    [['flow', 50]],
  );
  journal.read = read;
});

test('a step costs no replay: a long instance that is never away is replayed once', async () => {
  const flow = workflow({ name: 'flow' }, async (wf) => {
    for (let i = 0; i < 500; i++) await wf.step('s', () => i);
    await wf.sleep(100);
    return wf.step('end', () => 'end');
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(5000);
  assert.equal(await handle.result(), 'end');
  const { replays, replayedRecords } = t.flows.metrics();
  assert.deepEqual([replays.count, replayedRecords], [1, 1]);
});

test('a loop that catches its cancel each time ends, and does not hold the process', async () => {
  let caught = 0;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    for (;;) {
      try {
        await wf.wait(go);
      } catch {
        caught++;
      }
    }
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(flow, undefined, { id: 'x' });
    await world.advance(MINUTE);
    await handle.signal(go, 1);
    await handle.cancel('enough');
    await world.advance(10 * MINUTE);
    return [await handle.status(), (await failureOf(handle.result())).message];
  });
  assert.deepEqual(report.outcome, ['cancelled', 'enough']);
  assert.ok(caught >= 100);
});

test('a loop that waits for nothing parks its instance, and does not hold the process', async () => {
  const flow = workflow({ name: 'flow' }, async (wf) => {
    for (;;) await wf.sleep(0);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(MINUTE);
  const { status, reason = '' } = await handle.info();
  assert.equal(status, 'parked');
  assert.match(reason, /200000 operations and waits for none of them.*second-life\.test/);
});

test('a state that is too large is refused at its line, and a replay that verifies does the same', async () => {
  const flow = workflow({ name: 'flow' }, async (wf) => {
    let why = '';
    try {
      wf.state('x'.repeat(2000));
    } catch (error) {
      why = await wf.step('why', () => (error as Error).message);
    }
    await wf.wait(go);
    return why;
  });
  await using t = await createTestWorkflows({ definitions: [flow], maxValueBytes: 1000 });
  const handle = await t.start(flow);
  await t.advance(1000);
  assert.deepEqual([await handle.status(), await handle.state()], ['running', undefined]);
  await handle.signal(go, 1);
  await t.advance(1000);
  assert.match(await handle.result(), /the value given to wf.state has 2002 bytes/);
});

test('a retry or fork from one of several operations that were asked for at once goes on', async () => {
  let isUp = false;
  const runs: string[] = [];
  const flow = workflow({ name: 'flow', retry: { attempts: 1 } }, async (wf) => {
    wf.state({ stage: 'begun' });
    const all = await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        wf.step(name, () => {
          runs.push(name);
          if (name === 'b' && !isUp) throw new Error('down');
          return name;
        }),
      ),
    );
    wf.state({ stage: 'done' });
    const n = await wf.wait(go);
    return [...all, n];
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  assert.equal(await handle.status(), 'failed');
  isUp = true;
  await handle.retry();
  await t.advance(1000);
  assert.deepEqual([await handle.status(), runs], ['running', ['a', 'b', 'c', 'b', 'c']]);
  // A worker that replays it again sees the same.
  await t.restart();
  await handle.signal(go, 5);
  await t.advance(60_000);
  assert.deepEqual(await handle.result(), ['a', 'b', 'c', 5]);
  const fork = await handle.fork({ from: 'go', id: 'y' });
  await t.advance(1000);
  assert.deepEqual(
    [await fork.result(), await fork.state()],
    [['a', 'b', 'c', 5], { stage: 'done' }],
  );
  const early = await handle.fork({ from: 'c', id: 'z' });
  assert.deepEqual(await early.state(), { stage: 'begun' });
  await t.advance(1000);
  assert.deepEqual(await early.result(), ['a', 'b', 'c', 5]);
});

test('a retry goes on at the first operation whose failure ended the instance, not at one that was caught', async () => {
  let isUp = false;
  const runs: string[] = [];
  await using t = await createTestWorkflows({
    definitions: [
      workflow({ name: 'flow', retry: { attempts: 1 } }, async (wf) => {
        const run = (name: string, ms: number) =>
          wf.step(name, async () => {
            runs.push(name);
            await t.pause(ms);
            if (!isUp) throw new Error(`${name} is down`);
          });
        await run('optional', 1).catch(() => {});
        await wf.step('sure', () => 1);
        // The second one fails first.
        await Promise.all([run('a', 50), run('b', 10)]);
        return 'done';
      }),
    ],
  });
  const handle = await t.start('flow', undefined, { id: 'x' });
  await t.advance(1000);
  assert.equal((await failureOf(handle.result())).message, 'b is down');
  isUp = true;
  await handle.retry();
  await t.advance(1000);
  assert.deepEqual([await handle.result(), runs], ['done', ['optional', 'a', 'b', 'a', 'b']]);
});

test('what was cancelled stays so when it is retried after its compensation had failed', async () => {
  const did: string[] = [];
  let isUp = false;
  await using t = await createTestWorkflows({
    definitions: [
      workflow({ name: 'flow' }, async (wf) => {
        const step = (name: string) =>
          wf.step(name, () => did.push(name), {
            compensate: () => {
              if (name === 'charge' && !isUp) throw new Error('the bank is down');
              did.push(`-${name}`);
            },
          });
        await step('charge');
        await step('reserve');
        await wf.sleep(DAY);
        await step('ship');
      }),
    ],
  });
  const handle = await t.start('flow', undefined, { id: 'x' });
  await t.advance(1000);
  await handle.cancel('enough');
  await t.advance(12 * HOUR);
  assert.equal((await handle.info()).code, 'COMPENSATION_FAILED');
  isUp = true;
  await handle.retry();
  assert.match((await failureOf(t.finish(handle.result()))).message, /enough/);
  assert.equal(await handle.status(), 'cancelled');
  assert.deepEqual(did, ['charge', 'reserve', '-reserve', '-charge']);
  // From an operation that is named it begins again from there, and is cancelled no more.
  await handle.retry({ from: 'reserve' });
  await t.finish(handle.result());
  assert.deepEqual(did.slice(4), ['reserve', 'ship']);
});

test('a step that must not happen twice is not taken for interrupted where it was not begun yet', async () => {
  for (const how of ['pause', 'close'] as const) {
    await using broker = await openBroker('memory:');
    const ran: string[] = [];
    const flow = workflow({ name: 'flow' }, async (wf) => {
      await wf.step('first', () => ran.push('first'));
      await wf.step('once', () => ran.push('once'), { interrupted: 'throw' });
      return 'done';
    });
    let closed: Promise<void> | null = null;
    const first = await workflows(
      broker,
      { definitions: [flow] },
      {
        // Between the code's question and the record of the beginning.
        onCommit: async (moment, kinds) => {
          if (moment !== 'before' || !kinds.includes('begin') || closed !== null) return;
          closed = how === 'close' ? first.close() : Promise.resolve();
          if (how === 'pause') await handle.pause();
        },
      },
    );
    const handle = first.get(flow, 'x');
    await first.start(flow, undefined, { id: 'x' });
    const until = performance.now() + 60_000;
    while ((await broker.journal?.read('wf:{flow}:j:x'))?.at(-1)?.fields.t !== 'suspend') {
      assert.ok(performance.now() < until, 'it is not suspended');
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closed;
    await using _ = how === 'close' ? await workflows(broker, { definitions: [flow] }) : first;
    if (how === 'pause') await handle.resume();
    assert.equal(await handle.result({ timeoutMs: 60_000 }), 'done');
    assert.deepEqual(ran, ['first', 'once']);
  }
});

test('no step begins, or is tried again, once the function has failed and is being undone', async () => {
  const did: string[] = [];
  const wait = { backoff: { minMs: MINUTE, maxMs: MINUTE } };
  await using t = await createTestWorkflows({
    definitions: [
      workflow({ name: 'flow' }, async (wf) => {
        const compensate = (_: unknown, { attempt }: { attempt: number }) => {
          did.push(`undo ${attempt}`);
          if (attempt < 4) throw new Error('the bank is down');
        };
        await wf.step('charge', () => did.push('charge'), { compensate, retry: wait });
        const run = ({ signal: end }: { signal: AbortSignal }) =>
          new Promise((_, reject) => {
            did.push('slow');
            end.addEventListener('abort', () => reject(new Error('aborted')));
          });
        const soon = { attempts: 5, backoff: { minMs: 1000, maxMs: 1000 } };
        const slow = wf.step('slow', run, { retry: soon });
        const later = wf.sleep(90_000).then(() => wf.step('later', () => did.push('later')));
        const failing = wf.step('failing', () => {
          throw new Terminal('no');
        });
        await Promise.all([slow, later, failing]);
      }),
    ],
  });
  const handle = await t.start('flow', undefined, { id: 'x' });
  assert.equal((await failureOf(t.finish(handle.result()))).message, 'no');
  assert.deepEqual(did, ['charge', 'slow', 'undo 1', 'undo 2', 'undo 3', 'undo 4']);
});

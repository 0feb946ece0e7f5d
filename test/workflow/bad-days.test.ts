/** Bad input and bad days: each ends in a right result, or in a sentence that says what is wrong. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { JournalStore } from '../../src/broker/journal.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { signal, Terminal, workflow, workflows } from '../../src/workflow/index.ts';
import { createTestWorkflows, type TestWorld } from '../../src/workflow/testing.ts';

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

async function idsOf(world: TestWorld, status: 'running' | 'parked' | 'completed') {
  const ids: string[] = [];
  for await (const { id } of world.list({ status })) ids.push(id);
  return ids.sort();
}

// ---- Input

test('results that cannot be stored fail their step with a sentence, and undefined is a result', async () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const results: Record<string, () => unknown> = {
    large: () => 'x'.repeat(9 * 2 ** 20),
    bigint: () => 7n,
    cycle: () => cycle,
    function: () => () => {},
    nothing: () => undefined,
    null: () => null,
  };
  const flow = workflow({ name: 'results' }, async (wf, name: string) => {
    return wf.step('give', () => results[name]?.());
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const outcome = async (name: string) => {
    const handle = await t.start(flow, name, { id: name });
    await t.advance(1000);
    return handle.result().catch((error) => `${error.code}: ${error.message}`);
  };
  assert.match(String(await outcome('large')), /^BODY_TOO_LARGE: .*9437186 bytes.*at most 8388608/);
  assert.match(String(await outcome('bigint')), /^VALIDATION_FAILED: the result of step "give"/);
  assert.match(String(await outcome('cycle')), /^VALIDATION_FAILED: .*circular/i);
  assert.match(String(await outcome('function')), /^VALIDATION_FAILED: .*a function is no JSON/);
  assert.equal(await outcome('nothing'), undefined);
  assert.equal(await outcome('null'), null);
});

test('names, ids, versions and options that are wrong are refused with what is right', async () => {
  for (const name of ['', 'a b', 'a{b}', 'x'.repeat(101), '__proto__ ', 'ä', 7 as never]) {
    assert.throws(() => workflow({ name }, async () => {}), /the name of a workflow|name must be/);
  }
  for (const version of [0, -1, 1.5, Number.NaN, 2 ** 31, '1' as never]) {
    assert.throws(
      () => workflow({ name: 'a', version }, async () => {}),
      /version is a whole number/,
    );
  }
  const bad = { retries: 3 } as never;
  assert.throws(() => workflow({ name: 'a', ...(bad as object) }, async () => {}), /retry/);
  const flow = workflow({ name: 'a' }, async (wf) => {
    wf.step('s', () => 1, { timeoutMs: Number.NaN });
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  for (const id of ['', 'a\nb', 'x'.repeat(513), '\ud800']) {
    assert.match(
      (await failureOf(t.start(flow, undefined, { id }))).message,
      /the id of an instance/,
    );
  }
  assert.match((await failureOf(t.start(flow, 7n as never))).message, /cannot be stored/);
  assert.match((await failureOf(t.start({} as never))).message, /start takes a workflow/);
  const handle = await t.start(flow, undefined, { id: '__proto__' });
  await t.advance(100);
  assert.match((await failureOf(handle.result())).message, /timeoutMs/);
  const missing = t.get(flow, 'nobody');
  assert.equal((await failureOf(missing.signal(go, 1))).code, 'NOT_FOUND');
  assert.equal((await failureOf(missing.result())).code, 'NOT_FOUND');
  assert.equal((await failureOf(handle.signal(go, 1))).code, 'ENDED');
  assert.equal((await failureOf(handle.cancel())).code, 'ENDED');
});

test('a broker without journals is refused with the hint where to keep them', async () => {
  await using t = await createTestWorkflows();
  const without = {
    name: 'rabbitmq',
    options: t.broker.options,
    capabilities: { ...t.broker.capabilities, journal: undefined },
  } as never;
  const error = await failureOf(workflows(without));
  assert.equal(error.code, 'UNSUPPORTED');
  assert.match(error.message, /journal: 'file:\.\/workflows'/);
});

test('an input that does not fit its schema starts nothing', async () => {
  const schema = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value: unknown) =>
        typeof value === 'number' ? { value: value * 2 } : { issues: [{ message: 'no number' }] },
    },
  } as const;
  const flow = workflow({ name: 'a', input: schema as never }, async (_wf, n: unknown) => n);
  await using t = await createTestWorkflows({ definitions: [flow] });
  assert.equal((await failureOf(t.start(flow, 'x' as never))).code, 'VALIDATION_FAILED');
  const handle = await t.start(flow, 4 as never);
  await t.advance(1);
  assert.equal(await handle.result(), 8);
});

// ---- Many

test('50 starts with one id start one instance', async () => {
  let runs = 0;
  const flow = workflow({ name: 'a' }, async (wf, n: number) =>
    wf.step('s', () => {
      runs++;
      return n;
    }),
  );
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handles = await Promise.all(
    Array.from({ length: 50 }, (_, i) => t.start(flow, i, { id: 'x' })),
  );
  await t.advance(10);
  const results = await Promise.all(handles.map((handle) => handle.result()));
  assert.deepEqual(new Set(results), new Set([0]));
  assert.equal(runs, 1);
  const again = t.start(flow, 1, { id: 'x', onExisting: 'reject' });
  assert.equal((await failureOf(again)).code, 'ALREADY_EXISTS');
});

test('10 000 signals to one instance arrive, each once and in order', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    let sum = 0;
    for (let i = 0; i < 10_000; i++) {
      const n = await wf.wait(go);
      assert.equal(n, i);
      sum += n;
    }
    return sum;
  });
  await using t = await createTestWorkflows({ definitions: [flow], verify: 0 });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await Promise.all(Array.from({ length: 10_000 }, (_, i) => handle.signal(go, i)));
  await t.advance(1000);
  assert.equal(await handle.result(), 49_995_000);
});

test('1 000 children give their results to one parent', async () => {
  const child = workflow({ name: 'child' }, async (wf, n: number) => wf.step('n', () => n));
  const parent = workflow({ name: 'parent' }, async (wf) => {
    const all = await Promise.all(Array.from({ length: 1000 }, (_, i) => wf.child(child, i)));
    return all.reduce((sum, n) => sum + n, 0);
  });
  await using t = await createTestWorkflows({ definitions: [parent, child], verify: 0 });
  const handle = await t.start(parent);
  assert.equal(await t.finish(handle.result()), 499_500);
});

// ---- Cancel

test('cancel during a step, a sleep, a wait and a retry ends as cancelled with compensations', async () => {
  const undone: string[] = [];
  let aborted = 0;
  const flow = workflow({ name: 'a' }, async (wf, where: string) => {
    await wf.step('first', () => where, { compensate: (result) => void undone.push(result) });
    if (where === 'step') {
      await wf.step('long', ({ signal }) => {
        signal.addEventListener('abort', () => aborted++);
        return new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason)),
        );
      });
    }
    if (where === 'deaf') await wf.step('never', () => new Promise(() => {}));
    if (where === 'sleep') await wf.sleep(DAY);
    if (where === 'wait') await wf.wait(go);
    if (where === 'retry') {
      await wf.step('failing', () => assert.fail('again'), {
        retry: { attempts: 100, backoff: { minMs: HOUR, maxMs: HOUR } },
      });
    }
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const places = ['step', 'deaf', 'sleep', 'wait', 'retry'];
  const handles = await Promise.all(places.map((where) => t.start(flow, where, { id: where })));
  await t.advance(MINUTE);
  await Promise.all(handles.map((handle) => handle.cancel(`not now`)));
  await t.advance(MINUTE);
  for (const handle of handles) {
    const error = await failureOf(handle.result());
    assert.deepEqual([error.name, error.message], ['Cancelled', 'not now'], handle.id);
    assert.equal(await handle.status(), 'cancelled');
  }
  assert.deepEqual(undone.sort(), [...places].sort());
  assert.equal(aborted, 1);
});

test('cancel during a compensation does not stop it; one that fails ten times parks', async () => {
  let tries = 0;
  const flow = workflow({ name: 'a' }, async (wf, fails: boolean) => {
    await wf.step('hold', () => 1, {
      compensate: () => {
        tries++;
        if (fails) throw new Error('the bank is closed');
      },
    });
    throw new Terminal('no');
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, true, { id: 'x' });
  await t.advance(2000);
  await handle.cancel('in between');
  await t.advance(HOUR);
  assert.equal(tries, 10);
  const info = await handle.info();
  assert.equal(info.status, 'parked');
  assert.match(
    info.reason ?? '',
    /compensation of step "hold" \(1\) failed 10 times: the bank is closed/,
  );
  assert.deepEqual(await idsOf(t, 'parked'), ['x']);
  assert.deepEqual(await idsOf(t, 'running'), []);
});

test('an instance whose time is up is cancelled', async () => {
  const flow = workflow({ name: 'a', timeoutMs: HOUR }, async (wf) => wf.wait(go));
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(2 * HOUR);
  const error = await failureOf(handle.result());
  assert.deepEqual([error.name, await handle.status()], ['Cancelled', 'cancelled']);
  assert.match(error.message, /3600000 ms/);
  const [event] = (await handle.history()).slice(-1);
  assert.ok(Math.abs((event?.at.getTime() ?? 0) - HOUR - 1_700_000_000_000) < 1000, 'at its time');
});

test('a step that never ends is given up at its deadline, retried, and fails at last', async () => {
  let attempts = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('never', () => new Promise(() => void attempts++), {
      timeoutMs: 1000,
      retry: { attempts: 3 },
    });
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(HOUR);
  const error = await failureOf(handle.result());
  assert.deepEqual([error.code, attempts], ['TIMEOUT', 3]);
});

test('pause holds the next step back and resume lets it run', async () => {
  let ran = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.sleep(MINUTE);
    await wf.step('s', () => ran++);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(1000);
  await handle.pause();
  await t.advance(HOUR);
  assert.deepEqual([ran, await handle.status()], [0, 'paused']);
  await handle.resume();
  await t.advance(1000);
  assert.deepEqual([ran, await handle.status()], [1, 'completed']);
});

// ---- Code

test('code that changed parks the instance with the difference, and a retry with the right code ends it', async () => {
  const make = (second: string) =>
    workflow({ name: 'order' }, async (wf) => {
      await wf.step('first', () => 1);
      await wf.step(second, () => 2);
      await wf.sleep(DAY);
      return wf.step('last', () => 3);
    });
  await using t = await createTestWorkflows({ definitions: [make('reserve')] });
  const handles = await Promise.all(
    Array.from({ length: 1000 }, (_, i) => t.start(make('reserve'), undefined, { id: `o-${i}` })),
  );
  await t.advance(HOUR);
  await t.restart({ definitions: [make('charge')] });
  await t.advance(2 * DAY);
  assert.equal((await idsOf(t, 'parked')).length, 1000);
  const info = await handles[0]?.info();
  assert.match(
    info?.reason ?? '',
    /^at 2: journal has step "reserve", code asks for step "charge" \(bad-days\.test\.(js|ts):\d+\)$/,
  );
  assert.equal(info?.code, 'NONDETERMINISTIC');
  await t.restart({ definitions: [make('reserve')] });
  await Promise.all(handles.map((handle) => handle.retry()));
  await t.advance(2 * DAY);
  for (const handle of handles) assert.equal(await handle.result(), 3);
  assert.deepEqual(await idsOf(t, 'parked'), []);
});

test('wf.changed lets old instances go the old way and new ones the new way', async () => {
  const make = (isNew: boolean) =>
    workflow({ name: 'order' }, async (wf) => {
      await wf.step('a', () => 1);
      await wf.sleep(DAY);
      if (isNew && wf.changed('tax')) return wf.step('new tax', () => 'new');
      return wf.step('tax', () => 'old');
    });
  const makeBefore = (isNew: boolean) =>
    workflow({ name: 'early' }, async (wf) => {
      const way = isNew && wf.changed('x') ? 'new' : 'old';
      await wf.step(way, () => way);
      await wf.sleep(DAY);
      return way;
    });
  await using t = await createTestWorkflows({ definitions: [make(false), makeBefore(false)] });
  const old = await t.start(make(false), undefined, { id: 'old' });
  const oldEarly = await t.start(makeBefore(false), undefined, { id: 'old' });
  await t.advance(HOUR);
  await t.restart({ definitions: [make(true), makeBefore(true)] });
  const fresh = await t.start(make(true), undefined, { id: 'new' });
  const freshEarly = await t.start(makeBefore(true), undefined, { id: 'new' });
  await t.advance(2 * DAY);
  assert.equal(await oldEarly.result(), 'old');
  assert.equal(await freshEarly.result(), 'new');
  assert.equal(await fresh.result(), 'new');
  // It had not come there before the change.
  assert.equal(await old.result(), 'new');
});

test('a function that awaits what is no operation is found at its first suspension', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('one', () => 1);
    await new Promise((resolve) => setImmediate(resolve));
    await wf.sleep(DAY);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(1000);
  const { status, reason } = await handle.info();
  assert.equal(status, 'parked');
  assert.match(
    reason ?? '',
    /^at 2: journal has sleep, code awaits something that is no operation of wf/,
  );
});

test('a function that waits for ever for what is no operation parks and is not held for ever', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('one', () => 1);
    await new Promise(() => {});
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(2 * MINUTE);
  assert.match((await handle.info()).reason ?? '', /after 1 operations the code awaits something/);
});

test('instances of a version that no worker has wait, and are seen to wait', async () => {
  const make = (version: number) => workflow({ name: 'order', version }, async () => version);
  await using t = await createTestWorkflows({ definitions: [make(2)] });
  const handle = await t.start(make(3), undefined, { id: 'x' });
  await t.advance(DAY);
  assert.equal(await handle.status(), 'running');
  const [counts] = await t.counts('order');
  assert.deepEqual(counts?.waiting, [{ version: 3, tasks: 1 }]);
  await t.restart({
    definitions: [workflow({ name: 'order', version: 4, older: [make(3)] }, async () => 4)],
  });
  await t.advance(MINUTE);
  assert.equal(await handle.result(), 3);
});

test('instances move to another version where its code follows their journals', async () => {
  const make = (version: number, second: string, older: never[] = []) =>
    workflow({ name: 'order', version, older }, async (wf, n: number) => {
      await wf.step('first', () => n);
      if (n === 1) await wf.step(second, () => 0);
      await wf.sleep(DAY);
      return version;
    });
  const old = make(1, 'reserve');
  const next = make(2, 'charge');
  await using t = await createTestWorkflows({ definitions: [old, next] });
  const handles = await Promise.all([0, 1].map((n) => t.start(old, n, { id: `o-${n}` })));
  await t.advance(HOUR);
  const checked = await t.move(next, { from: 1, to: 2, check: true });
  assert.deepEqual(checked.moved, ['o-0']);
  assert.match(checked.differs[0]?.why ?? '', /at 2: journal has step "reserve"/);
  const moved = await t.move(next, { from: 1, to: 2 });
  assert.deepEqual(moved, checked);
  await t.advance(2 * DAY);
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), [2, 1]);
});

test('what ends its worker again and again is parked after five lives', async () => {
  let lives = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('poison', () => {
      lives++;
      void t.restart();
      return new Promise(() => {});
    });
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(HOUR);
  assert.equal(lives, 5);
  assert.match((await handle.info()).reason ?? '', /5 workers ended without progress/);
});

test('interrupted: throw raises STEP_INTERRUPTED after a crash and does not run the step again', async () => {
  let runs = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    try {
      return await wf.step(
        'pay',
        () => {
          runs++;
          void t.restart();
          return new Promise<string>(() => {});
        },
        { interrupted: 'throw' },
      );
    } catch (error) {
      return (error as { code: string }).code;
    }
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(HOUR);
  assert.deepEqual([await handle.result(), runs], ['STEP_INTERRUPTED', 1]);
});

// ---- Clocks

test('a clock that is set during a sleep moves its end by as much, and never loses it', async () => {
  for (const step of [HOUR, -HOUR, DAY]) {
    const flow = workflow({ name: 'a' }, async (wf) => {
      await wf.step('before', () => 1);
      await wf.sleep(6 * HOUR);
      await wf.sleep(500);
      return wf.step('after', () => 2);
    });
    await using t = await createTestWorkflows({ definitions: [flow] });
    const handle = await t.start(flow);
    await t.advance(HOUR);
    (t.scheduler as VirtualScheduler).setDate(t.now().getTime() + step);
    const left = 5 * HOUR - step;
    if (left > 0) {
      await t.advance(left - 2 * MINUTE);
      assert.equal(await handle.status(), 'running', `${step}`);
    }
    await t.advance(4 * MINUTE);
    assert.equal(await handle.result(), 2, `${step}`);
  }
});

// ---- Schedules

test('three workers start one run for each tick, and none while the run before goes on', async () => {
  const flow = workflow({ name: 'report' }, async (wf, ms: number) => wf.sleep(ms));
  await using t = await createTestWorkflows({ definitions: [flow] });
  await Promise.all([t.open(), t.open()]);
  await t.schedule('hourly', flow, { cron: '0 * * * *', input: 10 * MINUTE });
  const same = await t.schedule('hourly', flow, { cron: '0 * * * *', input: 10 * MINUTE });
  assert.equal(same.next.toISOString(), '2023-11-14T23:00:00.000Z');
  await t.advance(5 * HOUR);
  assert.deepEqual(await idsOf(t, 'completed'), [
    'hourly-2023-11-14T23:00:00.000Z',
    'hourly-2023-11-15T00:00:00.000Z',
    'hourly-2023-11-15T01:00:00.000Z',
    'hourly-2023-11-15T02:00:00.000Z',
    'hourly-2023-11-15T03:00:00.000Z',
  ]);
  await t.schedule('hourly', flow, { cron: '0 * * * *', input: 90 * MINUTE });
  await t.advance(6 * HOUR);
  assert.equal((await idsOf(t, 'completed')).length, 5 + 2, 'every second one is left out');
  assert.equal(await t.unschedule('hourly', flow), true);
  await t.advance(5 * HOUR);
  assert.equal((await idsOf(t, 'completed')).length, 5 + 3);
  assert.equal(
    (await failureOf(t.schedule('bad', flow, { cron: '61 * * * *', input: 1 }))).code,
    'INVALID_ARGUMENT',
  );
});

test('what was missed while no worker was there is made up for as far as the schedule says', async () => {
  for (const catchUp of [0, 1, 3]) {
    const flow = workflow({ name: 'report' }, async () => {});
    await using t = await createTestWorkflows({ definitions: [flow] });
    await t.schedule('hourly', flow, { cron: '0 * * * *', overlap: 'allow', catchUp });
    await t.kill();
    await t.advance(10 * HOUR + 30 * MINUTE);
    await t.restart();
    await t.advance(MINUTE);
    assert.equal((await idsOf(t, 'completed')).length, catchUp, `${catchUp}`);
  }
});

test('a nightly schedule keeps its hour over daylight saving', async () => {
  const flow = workflow({ name: 'report' }, async () => {});
  // On 31 March 2024 at 02:00 Berlin goes to 03:00.
  await using t = await createTestWorkflows({
    definitions: [flow],
    now: new Date('2024-03-29T12:00:00Z'),
  });
  await t.schedule('nightly', flow, { cron: '30 2 * * *', timeZone: 'Europe/Berlin' });
  await t.advance(4 * DAY);
  assert.deepEqual(await idsOf(t, 'completed'), [
    'nightly-2024-03-30T01:30:00.000Z',
    'nightly-2024-03-31T01:30:00.000Z',
    'nightly-2024-04-01T00:30:00.000Z',
    'nightly-2024-04-02T00:30:00.000Z',
  ]);
});

// ---- Journals

test('an instance whose journal was deleted is parked as lost and not started again', async () => {
  let runs = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('s', () => runs++);
    await wf.sleep(HOUR);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  await (t.broker.journal as JournalStore).remove(['wf:{a}:j:x']);
  await t.advance(2 * HOUR);
  assert.equal(runs, 1);
  assert.deepEqual(await idsOf(t, 'running'), []);
  const parked = [];
  for await (const run of t.list({ status: 'parked' })) parked.push(run);
  assert.equal(parked[0]?.code, 'JOURNAL_LOST');
});

test('a journal goes when its retention is over, also while it is read', async () => {
  const flow = workflow({ name: 'a', retentionMs: HOUR }, async (wf) => wf.step('s', () => 1));
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(1000);
  assert.equal((await handle.history()).length, 3);
  const reading = handle.history();
  await t.advance(2 * HOUR);
  assert.equal((await reading).length, 3);
  assert.equal((await failureOf(handle.history())).code, 'NOT_FOUND');
});

test('what another program writes into queue and journal ends nothing', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    const n = await wf.wait(go);
    return wf.step('s', () => n);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  const journal = t.broker.journal as JournalStore;
  await journal.apply([
    { kind: 'add', key: 'wf:{a}:v1', fields: ['body', 'no json'] },
    { kind: 'add', key: 'wf:{a}:v1', fields: ['other', '{}'] },
    { kind: 'add', key: 'wf:{a}:v1', fields: ['body', '{"id":"nobody","k":"wake"}'] },
    { kind: 'add', key: 'wf:{a}:v1', fields: ['body', '{"id":"x","k":"what"}'] },
    { kind: 'add', key: 'wf:{a}:j:x', fields: ['t', 'signal', 'd', 'no json'] },
    { kind: 'add', key: 'wf:{a}:j:x', fields: ['t', 'unknown', 'd', '{}'] },
    { kind: 'add', key: 'wf:{a}:running', fields: ['d', 'no json'] },
  ]);
  await handle.signal(go, 5);
  await t.advance(MINUTE);
  assert.equal(await handle.result(), 5);
  assert.deepEqual(await idsOf(t, 'running'), []);
});

test('retry goes on at the failed step, or at the step that is named, and fork leaves the original alone', async () => {
  let isUp = false;
  let charged = 0;
  const flow = workflow({ name: 'a' }, async (wf) => {
    const n = await wf.step('charge', () => ++charged);
    await wf.step('ship', () => {
      if (!isUp) throw new Terminal('the carrier is down');
    });
    return n;
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  assert.equal(await handle.status(), 'failed');
  assert.equal((await failureOf(handle.retry({ from: 'pack' }))).code, 'NOT_FOUND');
  isUp = true;
  await handle.retry();
  await t.advance(1000);
  assert.deepEqual([await handle.result(), charged], [1, 1]);
  const fork = await handle.fork({ from: 'charge', id: 'y' });
  await t.advance(1000);
  assert.deepEqual([await fork.result(), await handle.result()], [2, 1]);
  const late = await handle.fork({ from: 'ship', id: 'z' });
  await t.advance(1000);
  assert.deepEqual([await late.result(), charged], [1, 2]);
  await handle.retry({ from: 'charge' });
  await t.advance(1000);
  assert.equal(await handle.result(), 3);
  assert.deepEqual(await idsOf(t, 'completed'), ['x', 'y', 'z']);
});

test('close gives what is awake to another worker without waiting for its deadline', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    for (let i = 0; i < 5; i++) await wf.step(`s${i}`, () => t.pause(200));
    return 'done';
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const other = await t.open();
  const handle = await t.start(flow);
  await t.advance(300);
  const closing = [t.flows, other].filter(({ awake }) => awake > 0).map((each) => each.close());
  assert.equal(closing.length, 1);
  await t.advance(1500);
  await closing[0];
  assert.equal(await handle.result(), 'done');
});

test('a lazy record rides with the next one, and the step runs again when that is lost', async () => {
  const flow = workflow({ name: 'a' }, async (wf) => {
    const seen = [];
    for (let i = 0; i < 5; i++) seen.push(await wf.step(`s${i}`, () => i, { lazy: true }));
    await wf.step('end', () => 1);
    return seen;
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const report = await t.crashAtEvery(async (world) => {
    const handle = await world.start(flow, undefined, { id: 'x' });
    await world.advance(5 * MINUTE);
    return handle.result();
  });
  assert.deepEqual(report.outcome, [0, 1, 2, 3, 4]);
  assert.ok(report.positions <= 3, `${report.positions} commits`);
});

test('the code has the same time after a lazy step when it is replayed', async () => {
  await using broker = await openBroker('memory:');
  const times = new Set<string>();
  const flow = workflow({ name: 'a' }, async (wf) => {
    await wf.step('first', () => pause(50));
    await wf.step('lazy', () => pause(100), { lazy: true });
    const after = wf.now();
    const later = wf.sleepUntil(after + 60).then(() => 'sleep');
    const step = wf.step('next', () => pause(100)).then(() => 'step');
    const winner = await Promise.race([later, step]);
    times.add(`${after} ${winner}`);
    // Long enough to be away, so that what is above is replayed.
    await wf.sleep(1500);
  });
  await using flows = await workflows(broker, { definitions: [flow] });
  await (await flows.start(flow)).result({ timeoutMs: 20_000 });
  assert.equal(times.size, 1, [...times].join(', '));
});

test('memory: a real clock, many at once', async () => {
  await using broker = await openBroker('memory:');
  const flow = workflow({ name: 'a' }, async (wf, n: number) => {
    await wf.sleep(20);
    return wf.step('s', () => n);
  });
  await using flows = await workflows(broker, { definitions: [flow], verify: 'always' });
  const handles = await Promise.all(Array.from({ length: 300 }, (_, i) => flows.start(flow, i)));
  const results = await Promise.all(handles.map((handle) => handle.result({ timeoutMs: 20_000 })));
  assert.deepEqual(
    results,
    Array.from({ length: 300 }, (_, i) => i),
  );
});

test('what is thrown and has no text fails a step, and an instance, and nothing else', async () => {
  const strange = Object.create(null);
  strange.self = strange;
  const unread = Object.assign(new Error('x'), { message: Object.create(null) });
  const retry = { attempts: 1 };
  const inStep = workflow({ name: 'in-step' }, async (wf, which: number) =>
    wf.step(
      'throw',
      () => {
        throw [strange, unread][which];
      },
      { retry },
    ),
  );
  const outside = workflow({ name: 'outside' }, async () => {
    throw strange;
  });
  await using t = await createTestWorkflows({ definitions: [inStep, outside] });
  const steps = [await t.start(inStep, 0), await t.start(inStep, 1)];
  for (const handle of [...steps, await t.start(outside, undefined)]) {
    const failure = failureOf(handle.result());
    await t.advance(1000);
    assert.match((await failure).message, /no text/);
  }
});

test('a worker that was held up past its deadline keeps its instance, whose step runs once', async () => {
  const broker = await openBroker('memory://held-up');
  let runs = 0;
  const slow = workflow({ name: 'slow' }, async (wf) =>
    wf.step('slow', async () => {
      runs++;
      await new Promise((resolve) => setTimeout(resolve, 50));
      const until = performance.now() + 600;
      while (performance.now() < until);
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }),
  );
  const options = { definitions: [slow], ackWaitMs: 200 };
  const first = await workflows(broker, options);
  const handle = await first.start(slow, undefined, { id: 'one' });
  await new Promise((resolve) => setTimeout(resolve, 800));
  const second = await workflows(broker, options);
  await handle.result();
  assert.equal(runs, 1);
  await first.close();
  await second.close();
  await broker.disconnect();
});

test('a result that is given up while its watch is made ends, and many under one signal share a listener', async () => {
  const sleeper = workflow({ name: 'sleeper' }, async (wf) => wf.sleep(DAY));
  await using t = await createTestWorkflows({ definitions: [sleeper] });
  const handle = await t.start(sleeper, undefined);
  const controller = new AbortController();
  const { signal } = controller;
  const atOnce = failureOf(handle.result({ signal }));
  controller.abort(new Error('enough'));
  assert.equal((await atOnce).message, 'enough');
  const later = new AbortController();
  const results = Array.from({ length: 20 }, () =>
    failureOf(handle.result({ signal: later.signal })),
  );
  await t.advance(1000);
  assert.equal(getEventListeners(later.signal, 'abort').length, 1);
  later.abort();
  await Promise.all(results);
  assert.equal(getEventListeners(later.signal, 'abort').length, 0);
});

/**
 * What is promised of workflows, sentence by sentence, and the test of each: a table that says where to look,
 * and that fails where a test was renamed or removed without it. One promise has its test here.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { JournalStore } from '../../../src/broker/journal.ts';
import { Random } from '../../../src/util/random.ts';
import { signal, workflow } from '../../../src/workflow/index.ts';
import { createTestWorkflows, type TestWorld } from '../../../src/workflow/testing.ts';
import { seedOf } from '../../helpers/seed.ts';
import { repositoryRoot } from '../../house/source-file.ts';

type Row = readonly [promise: string, file: string, title: string];

const TABLE: readonly Row[] = [
  // ---- Promises
  [
    'an unfinished instance is in exactly one of delivered, due, waiting, parked',
    'workflow/execution/promises',
    'an unfinished instance is in exactly one place, and what brings it on is there',
  ],
  [
    'takeover needs no extra product',
    'workflow/kills',
    'rivulet: workers and the server are killed in turn, and every instance ends right',
  ],
  [
    'a step costs O(1), replay happens only after a crash or a long wait',
    'workflow/second-life',
    'a step costs no replay: a long instance that is never away is replayed once',
  ],
  [
    'a signal is on disk before its sender hears ok',
    'simulation/workflow-simulation',
    'workflows survive every loss of power',
  ],
  ['early signals wait', 'workflow/basic', 'signals, sleeps and races'],
  [
    'changed code parks the instance with the exact difference',
    'workflow/bad-days',
    'code that changed parks the instance with the difference, and a retry with the right code ends it',
  ],
  [
    'no build step; Promise.all and Promise.race are right, live and on replay',
    'workflow/crashes',
    'retries with long backoff, continueAsNew and races are the same on replay',
  ],
  [
    'what goes to other topics goes exactly once',
    'workflow/cuts',
    'workers behind connections that are cut, silent, half open or refused end every instance right',
  ],
  // ---- Storage
  [
    'start and signal carry their cause',
    'workflow/causes',
    'an instance and a signal name the message whose handler made them, and a batch none',
  ],
  [
    'every write is one conditional commit, with all of its effects or none',
    'broker/journal',
    'a commit happens where its condition holds, with all of its effects',
  ],
  [
    'a commit whose reply was lost happens once',
    'broker/journal',
    'rivulet: a commit whose reply is lost happens once and is answered as committed',
  ],
  [
    'listing by time out of one entry for each instance',
    'workflow/program',
    'an order over three services, in a service of its own',
  ],
  [
    'ended instances go when their time is over',
    'workflow/bad-days',
    'a journal goes when its retention is over, also while it is read',
  ],
  [
    'of two that take an instance up, one is refused',
    'workflow/takeover',
    'a task that another worker has done meanwhile takes no instance up',
  ],
  [
    'the task of a dead worker takes its instance over',
    'workflow/takeover',
    'the task of a worker that died takes its instance over, although it comes as a first attempt',
  ],
  [
    'another worker has claimed it: stop, acknowledge nothing',
    'workflow/kills',
    'rivulet: a worker that is stopped past its deadline finds its commit refused',
  ],
  [
    'graceful shutdown gives back',
    'workflow/bad-days',
    'close gives what is awake to another worker without waiting for its deadline',
  ],
  [
    'no lost wake-up: a signal refuses a suspension',
    'workflow/bad-days',
    '10 000 signals to one instance arrive, each once and in order',
  ],
  [
    'steps resolve only after their record is safe, in the order of the journal',
    'workflow/crashes',
    'steps, a signal and sleeps survive a worker that dies at any commit',
  ],
  [
    'awaiting what is no operation is found',
    'workflow/bad-days',
    'a function that awaits what is no operation is found at its first suspension',
  ],
  [
    'five lives without progress park',
    'workflow/bad-days',
    'what ends its worker again and again is parked after five lives',
  ],
  [
    'the id is the idempotency key',
    'workflow/bad-days',
    '50 starts with one id start one instance',
  ],
  [
    'a signal answers NOT_FOUND or ENDED',
    'workflow/bad-days',
    'names, ids, versions and options that are wrong are refused with what is right',
  ],
  [
    'where an instance is takes a few reads',
    'workflow/journal/standing',
    'info, state and result take a few reads after 5000 steps and 5000 signals',
  ],
  ['memory, file, rivulet and one Redis have journals', 'workflow/brokers', 'redis'],
  [
    'a broker without journals is refused with the hint',
    'workflow/bad-days',
    'a broker without journals is refused with the hint where to keep them',
  ],
  [
    'a Redis Cluster is refused with the hint',
    'workflow/brokers',
    'redis cluster: refused with the reason and what to use, and it works with a journal beside it',
  ],
  // ---- Semantics and versions
  [
    'steps at least once with a stable key, which is the idempotency key of a call',
    'workflow/program',
    'an order over three services, in a service of its own',
  ],
  [
    'time is the broker’s clock',
    'workflow/bad-days',
    'a clock that is set during a sleep moves its end by as much, and never loses it',
  ],
  [
    'cancel aborts, throws, compensates',
    'workflow/bad-days',
    'cancel during a step, a sleep, a wait and a retry ends as cancelled with compensations',
  ],
  [
    'cancel reaches children',
    'workflow/crashes',
    'a cancel reaches what waits, runs compensations, and ends as cancelled',
  ],
  [
    'a cancel is never lost between two runs',
    'workflow/further-runs',
    'a cancel that comes while the next run is being made ends the instance and undoes what this run did',
  ],
  [
    'compensations once each, newest first',
    'workflow/crashes',
    'compensations run once each, newest first, whatever commit a worker dies at',
  ],
  [
    'a compensation that fails ten times parks',
    'workflow/bad-days',
    'cancel during a compensation does not stop it; one that fails ten times parks',
  ],
  [
    'the time of an instance being up is a cancel with its reason',
    'workflow/bad-days',
    'an instance whose time is up is cancelled',
  ],
  [
    'the deadline of a caller does not touch the instance',
    'workflow/program',
    'a saga over three services ends right although each of them dies in turn',
  ],
  [
    'tasks go to their version; one without a worker is seen to wait',
    'workflow/bad-days',
    'instances of a version that no worker has wait, and are seen to wait',
  ],
  [
    'wf.changed is the patch marker',
    'workflow/bad-days',
    'wf.changed lets old instances go the old way and new ones the new way',
  ],
  [
    'move --check replays dry and says who would park',
    'workflow/bad-days',
    'instances move to another version where its code follows their journals',
  ],
  [
    'interrupted: throw',
    'workflow/bad-days',
    'interrupted: throw raises STEP_INTERRUPTED after a crash and does not run the step again',
  ],
  [
    'lazy records ride with the next commit',
    'workflow/bad-days',
    'a lazy record rides with the next one, and the step runs again when that is lost',
  ],
  [
    'the command line',
    'cli/workflow-commands',
    'an instance is started once, seen, cancelled and listed with why it ended',
  ],
  [
    'the console',
    'console/journey',
    'workflows are listed, shown as a timeline, and signalled, paused, resumed and cancelled',
  ],
  [
    'metrics',
    'workflow/metrics',
    'running, parked and waiting instances, steps, replays and wake-ups are counted',
  ],
  [
    'tests: advance, crashAtEvery, verify',
    'workflow/design',
    'what else wf has: start, sleepUntil, now, random, uuid, changed, continueAsNew, options of steps',
  ],
  // ---- Bad input and bad days
  [
    'kill of the worker at every position',
    'workflow/crashes',
    'children, and the parent that waits for them, survive any death',
  ],
  [
    'kill of the real worker',
    'workflow/kills',
    'file: a process that is killed again and again loses no acknowledged start',
  ],
  [
    'kill of the server at every commit, simulated disk',
    'simulation/workflow-simulation',
    'workflows survive every loss of power',
  ],
  [
    'kill of the server under load',
    'workflow/kills',
    'rivulet: workers and the server are killed in turn, and every instance ends right',
  ],
  [
    'SIGSTOP past the deadline, CONT',
    'workflow/kills',
    'rivulet: a worker that is stopped past its deadline finds its commit refused',
  ],
  [
    'a worker that is held up past its deadline',
    'workflow/bad-days',
    'a worker that was held up past its deadline keeps its instance, whose step runs once',
  ],
  [
    'connections cut in each phase',
    'workflow/cuts',
    'workers behind connections that are cut, silent, half open or refused end every instance right',
  ],
  [
    'a restart of the server in order',
    'workflow/cuts',
    'a server that is restarted in order under load loses nothing, and workers go on by themselves',
  ],
  [
    'the clock set by +1 h, -1 h, +1 day',
    'workflow/bad-days',
    'a clock that is set during a sleep moves its end by as much, and never loses it',
  ],
  [
    '10 000 signals to one instance',
    'workflow/bad-days',
    '10 000 signals to one instance arrive, each once and in order',
  ],
  ['50 starts with one id', 'workflow/bad-days', '50 starts with one id start one instance'],
  [
    'cancel during a child',
    'workflow/crashes',
    'a cancel reaches what waits, runs compensations, and ends as cancelled',
  ],
  [
    'a crash in a compensation',
    'workflow/crashes',
    'compensations run once each, newest first, whatever commit a worker dies at',
  ],
  [
    'results of 9 MiB, of a BigInt, of a cycle, undefined',
    'workflow/bad-days',
    'results that cannot be stored fail their step with a sentence, and undefined is a result',
  ],
  [
    'a step that never ends',
    'workflow/bad-days',
    'a step that never ends is given up at its deadline, retried, and fails at last',
  ],
  [
    'an await of what is no operation',
    'workflow/bad-days',
    'a function that waits for ever for what is no operation parks and is not held for ever',
  ],
  [
    'an unknown version',
    'workflow/bad-days',
    'instances of a version that no worker has wait, and are seen to wait',
  ],
  [
    'a deploy of changed code with 1 000 running',
    'workflow/bad-days',
    'code that changed parks the instance with the difference, and a retry with the right code ends it',
  ],
  [
    'a tick with three workers is one run',
    'workflow/bad-days',
    'three workers start one run for each tick, and none while the run before goes on',
  ],
  [
    'daylight saving',
    'workflow/bad-days',
    'a nightly schedule keeps its hour over daylight saving',
  ],
  [
    'a schedule whose input no longer fits',
    'workflow/parked-schedules',
    'a schedule whose input fits its schema no longer is parked, seen, and goes on when it is set again',
  ],
  [
    'retention while somebody reads',
    'workflow/bad-days',
    'a journal goes when its retention is over, also while it is read',
  ],
  [
    'a journal that was deleted by hand',
    'workflow/bad-days',
    'an instance whose journal was deleted is parked as lost and not started again',
  ],
  [
    'a fan-out of 1 000 children',
    'workflow/bad-days',
    '1 000 children give their results to one parent',
  ],
];

test('each promise names a test that there is', () => {
  const sources = new Map<string, string>();
  for (const [promise, file, title] of TABLE) {
    const path = join(repositoryRoot, 'test', `${file}.test.ts`);
    const source = sources.get(path) ?? readFileSync(path, 'utf8');
    sources.set(path, source);
    const isThere = ["'", '"', '`'].some((quote) => source.includes(`${quote}${title}`));
    // Of those that are made for each broker the name comes first.
    assert.ok(
      isThere || source.includes(`: ${title}`),
      `${promise}: no test "${title}" in ${file}`,
    );
  }
});

const HOUR = 3_600_000;
const go = signal<number>('go');

test('an unfinished instance is in exactly one place, and what brings it on is there', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  let work = (_ms: number): Promise<void> => Promise.resolve();
  const make = (second: string) =>
    workflow({ name: 'flow' }, async (wf) => {
      for (;;) {
        const n = (await wf.wait(go, { timeoutMs: 2 * HOUR })) ?? 0;
        if (n % 4 === 0) await wf.sleep(n * 1000);
        await wf.step(n % 5 === 0 ? second : 'work', () => work(n * 10), { compensate: () => {} });
        if (n % 7 === 0) await wf.wait(go);
      }
    });
  const codes = [make('a'), make('b')];
  const seen = new Map<string, number>();
  for (let round = 0; round < 10; round++) {
    await using world: TestWorld & AsyncDisposable = await createTestWorkflows({
      definitions: [codes[0] as (typeof codes)[0]],
      seed: random.uint32(),
    });
    work = world.pause;
    const handle = await world.start(codes[0] as (typeof codes)[0], undefined, { id: 'x' });
    const journal = world.broker.journal as JournalStore;
    const ignored = () => {};
    const deeds: (() => Promise<unknown>)[] = [
      () => handle.signal(go, random.below(40)).catch(ignored),
      () => handle.signal(go, random.below(40)).catch(ignored),
      () => world.advance(random.below(3 * HOUR)),
      () => world.advance(random.below(500)),
      () => handle.pause().catch(ignored),
      () => handle.resume().catch(ignored),
      () => handle.retry().catch(ignored),
      () => world.restart({ definitions: [random.pick(codes)] }),
      async () => {
        if (random.chance(0.1)) await handle.cancel().catch(ignored);
      },
    ];
    for (let i = 0; i < 40; i++) {
      await random.pick(deeds)();
      await world.settle();
      const lists: string[] = [];
      for (const list of ['running', 'parked', 'done']) {
        const entries = await journal.read(`wf:{flow}:${list}`);
        for (const _ of entries) lists.push(list);
      }
      assert.equal(lists.length, 1, `in ${lists.join(' and ')}`);
      const { status, position, dueAt } = await handle.info();
      const listed = { running: 'running', paused: 'running', parked: 'parked' }[status as string];
      assert.deepEqual(lists, [listed ?? 'done'], status);
      const queue = await journal.queue('wf:{flow}:v1', 'workers');
      const tasks = (queue?.pending ?? 0) + (queue?.waiting ?? 0);
      const place = status === 'running' ? (position as string) : status;
      seen.set(place, (seen.get(place) ?? 0) + 1);
      if (place === 'delivered') assert.ok(tasks > 0, 'its task is there');
      if (place === 'due')
        assert.ok((dueAt?.getTime() ?? 0) > world.now().getTime(), 'it is to come');
      if (place === 'due' || place === 'waiting') assert.equal(tasks, 0, place);
    }
  }
  for (const place of ['delivered', 'due', 'waiting', 'parked']) {
    assert.ok((seen.get(place) ?? 0) > 0, `none was ${place}: ${[...seen].join(' ')}`);
  }
});

/**
 * Workflows on a virtual clock, for tests: days pass in milliseconds, and workers die where a test wants.
 *
 *   await using t = await createTestWorkflows({ definitions: [order] });
 *   const handle = await t.start(order, { id: 'a' });
 *   await t.advance(3 * DAY);
 *   await t.crashAtEvery(async (world) => {
 *     const handle = await world.start(order, { id: 'a' });
 *     await world.advance(3 * DAY);
 *     return handle.result();
 *   });
 *
 * After each suspension the function is replayed and compared (`verify: 'always'`), so code that does not
 * follow its own journal parks at its first run. Equal seeds give equal runs.
 * Limit: what steps await must need no real time, as of createTestBroker.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Broker } from '../broker/broker.ts';
import { createTestBroker } from '../broker/testing.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import type { VirtualScheduler } from '../util/time/virtual-scheduler.ts';
import { messageOf } from './errors.ts';
import type { AnyWorkflow } from './workflow.ts';
import { Workflows, workflows } from './workflows.ts';
import type { WorkflowsHooks, WorkflowsOptions } from './workflows-options.ts';

export interface TestWorkflowsOptions extends Omit<WorkflowsOptions, 'journal'> {
  /** @default 1 */
  readonly seed?: number;
  /** The time at which the clock begins. @default 14 November 2023, 22:13:20 UTC */
  readonly now?: Date;
}

export interface TestWorld
  extends Pick<
    Workflows,
    'start' | 'get' | 'list' | 'schedule' | 'unschedule' | 'counts' | 'move'
  > {
  /** The worker that there is now. */
  readonly flows: Workflows;
  readonly broker: Broker;
  readonly scheduler: Scheduler;
  /** Where no `definitions` were given, `start` and `schedule` register what they are given. */
  register(definition: AnyWorkflow): Promise<void>;
  /** Another worker of this world. */
  open(options?: Omit<WorkflowsOptions, 'journal'>): Promise<Workflows>;
  /** Ends a worker as SIGKILL does (default: `flows`). What it had is missed after `ackWaitMs`. */
  kill(flows?: Workflows): Promise<void>;
  /** Another process in place of `flows`, with other definitions where given: a deploy. */
  restart(options?: Omit<WorkflowsOptions, 'journal'>): Promise<Workflows>;
  now(): Date;
  /** Lets `ms` milliseconds pass and runs what falls due. */
  advance(ms: number): Promise<void>;
  /** Waits until no work is left that needs no time. */
  settle(): Promise<void>;
  /** Resolves after `ms` virtual milliseconds: for steps that take time. */
  pause(ms: number): Promise<void>;
  /** The outcome of a promise that needs time: lets timers fall due until it has settled. */
  finish<T>(promise: Promise<T>): Promise<T>;
}

export interface TestWorkflows extends TestWorld, AsyncDisposable {
  /**
   * Runs the scenario once as it is, then once for each commit of a worker with the worker killed right
   * before it, and once right after it. Throws where an outcome differs, or a step ran more than twice.
   */
  crashAtEvery<T>(scenario: (world: TestWorld) => Promise<T>): Promise<CrashReport<T>>;
}

export interface CrashReport<T> {
  /** The scenario's own outcome, without a crash. */
  readonly outcome: T;
  /** Commits of the worker in the run without a crash. */
  readonly positions: number;
  readonly runs: number;
  /** Attempts of steps that ran again because of a crash, in all runs together. */
  readonly repeats: number;
}

/** Virtual time after which a promise is given up, ms. */
const LONGEST_MS = 10 * 366 * 86_400_000;

export async function createTestWorkflows(
  options: TestWorkflowsOptions = {},
): Promise<TestWorkflows> {
  const world = await openWorld(options);
  return Object.assign(world, {
    crashAtEvery: <T>(scenario: (world: TestWorld) => Promise<T>) =>
      crashAtEvery(options, scenario),
  });
}

async function openWorld(
  options: TestWorkflowsOptions,
  hooks: WorkflowsHooks = {},
): Promise<TestWorld & AsyncDisposable> {
  const { seed = 1, now, ...rest } = options;
  const t = await createTestBroker({ seed, ...(now === undefined ? {} : { now }) });
  const scheduler = t.scheduler as VirtualScheduler;
  const opened: Workflows[] = [];
  let advancing = 0;
  /** Definitions that a test started without naming them before. */
  const learned = new Map<string, AnyWorkflow>();
  const labelOf = ({ name, version }: AnyWorkflow) => `${name}@${version}`;
  const open = async (more: Omit<WorkflowsOptions, 'journal'> = {}, with_: WorkflowsHooks = {}) => {
    const broker = await t.open();
    const given = more.definitions ?? rest.definitions ?? [];
    const known = new Set(given.flatMap((each) => [each, ...each.options.older]).map(labelOf));
    const others = [...learned.values()].filter((each) => !known.has(labelOf(each)));
    const definitions = [...given, ...others];
    const made = await workflows(
      broker,
      { verify: 'always', ...rest, ...more, definitions },
      with_,
    );
    opened.push(made);
    return made;
  };
  let flows = await open({}, hooks);
  const learn = async (definition: AnyWorkflow) => {
    if (learned.has(labelOf(definition))) return;
    if (rest.definitions !== undefined) return;
    await flows.register(definition);
    learned.set(labelOf(definition), definition);
  };
  const advance = async (ms: number) => {
    advancing++;
    try {
      await t.advance(ms);
    } finally {
      advancing--;
    }
  };
  const finish = async <T>(promise: Promise<T>): Promise<T> => {
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    promise.then(over, over);
    const end = scheduler.monotonic() + LONGEST_MS;
    for (await t.settle(); !isOver; await t.settle()) {
      // The promise's own code may be letting time pass.
      if (advancing > 0) continue;
      if (!(await scheduler.step()) || scheduler.monotonic() > end) {
        if (isOver) break;
        throw new Error('the promise waits for something that no time brings');
      }
    }
    return promise;
  };
  const world: TestWorld & AsyncDisposable = {
    get flows() {
      return flows;
    },
    broker: t.broker,
    scheduler,
    async start(definition: AnyWorkflow | string, ...args: unknown[]) {
      if (typeof definition !== 'string') await learn(definition);
      return flows.start(definition as never, ...(args as []));
    },
    get: (definition, id) => flows.get(definition, id),
    list: (query) => flows.list(query),
    async schedule(name, definition, given) {
      await learn(definition);
      return flows.schedule(name, definition, given);
    },
    async register(definition) {
      await flows.register(definition);
      learned.set(labelOf(definition), definition);
    },
    unschedule: (name, definition) => flows.unschedule(name, definition),
    counts: (name) => flows.counts(name),
    move: (definition, given) => flows.move(definition, given),
    open,
    kill: (which = flows) => which.kill(),
    async restart(more) {
      void flows.kill();
      flows = await open(more);
      return flows;
    },
    now: t.now,
    advance,
    settle: t.settle,
    pause: t.pause,
    finish,
    async [Symbol.asyncDispose]() {
      let isOver = false;
      const closing = Promise.all(opened.map((each) => each.close())).finally(() => {
        isOver = true;
      });
      await t.settle();
      while (!isOver && (await scheduler.step()));
      await closing;
      await t[Symbol.asyncDispose]();
    },
  };
  return world;
}

interface Run<T> {
  readonly outcome: { readonly value: T } | { readonly error: string };
  readonly commits: number;
  readonly kinds: readonly string[];
  /** Runs of each attempt of each step. */
  readonly steps: ReadonlyMap<string, number>;
}

async function crashAtEvery<T>(
  options: TestWorkflowsOptions,
  scenario: (world: TestWorld) => Promise<T>,
): Promise<CrashReport<T>> {
  const clean = await run(options, scenario, null);
  if ('error' in clean.outcome) {
    throw new Error(`without any crash the scenario fails: ${clean.outcome.error}`);
  }
  let repeats = 0;
  let runs = 1;
  for (let position = 0; position < clean.commits; position++) {
    for (const moment of ['before', 'after'] as const) {
      const crashed = await run(options, scenario, { position, moment });
      runs++;
      const where = `killed ${moment} commit ${position + 1} of ${clean.commits} (${crashed.kinds[position] ?? clean.kinds[position]})`;
      if (!isDeepStrictEqual(crashed.outcome, clean.outcome)) {
        const [is, was] = [shownOutcome(crashed.outcome), shownOutcome(clean.outcome)];
        throw new Error(`${where}, the outcome is ${is} and without a crash ${was}`);
      }
      for (const [key, count] of crashed.steps) {
        const before = clean.steps.get(key) ?? 0;
        repeats += Math.max(0, count - before);
        if (count > Math.max(1, before) + 1)
          throw new Error(`${where}, step ${key} ran ${count} times`);
      }
    }
  }
  return { outcome: clean.outcome.value, positions: clean.commits, runs, repeats };
}

async function run<T>(
  options: TestWorkflowsOptions,
  scenario: (world: TestWorld) => Promise<T>,
  crash: { readonly position: number; readonly moment: 'before' | 'after' } | null,
): Promise<Run<T>> {
  const steps = new Map<string, number>();
  const kinds: string[] = [];
  let commits = 0;
  let world: (TestWorld & AsyncDisposable) | null = null;
  let second: Promise<unknown> | null = null;
  const onStep = (key: string, attempt: number) => {
    const label = `${key} attempt ${attempt}`;
    steps.set(label, (steps.get(label) ?? 0) + 1);
  };
  const hooks: WorkflowsHooks = {
    onStep,
    onCommit: (moment, what) => {
      if (second !== null) return;
      if (moment === 'before') kinds[commits] = what.join('+');
      const isHere = crash?.position === commits && crash.moment === moment;
      if (moment === 'after') commits++;
      if (!isHere || world === null) return;
      const { flows } = world;
      void flows.kill();
      second = openSecond(world, onStep);
    },
  };
  const made = await openWorld(options, hooks);
  world = made;
  try {
    let outcome: Run<T>['outcome'];
    try {
      outcome = { value: await made.finish(scenario(made)) };
    } catch (error) {
      outcome = { error: messageOf(error) };
    }
    await (second ?? null);
    return { outcome, commits, kinds, steps };
  } finally {
    await made[Symbol.asyncDispose]();
  }
}

function openSecond(
  world: TestWorld,
  onStep: NonNullable<WorkflowsHooks['onStep']>,
): Promise<unknown> {
  const open = world.open as (options: object, hooks: WorkflowsHooks) => Promise<unknown>;
  return open({}, { onStep });
}

function shownOutcome(outcome: object): string {
  try {
    return JSON.stringify(outcome).slice(0, 500);
  } catch {
    return String(outcome);
  }
}

export type { AnyWorkflow };
export { Workflows };

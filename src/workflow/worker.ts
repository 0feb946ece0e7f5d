/**
 * One worker: takes tasks from the queues of the versions it knows, decides what each means, and has
 * instances run.
 *
 * A task says "look at this instance"; the journal says what is to be done. Invariants: an instance is
 * taken up by a `claim` that only one of two workers can commit, except for its very first task; a
 * task is acknowledged only by the commit that puts the instance to rest, or where another task of it is
 * certain to have a worker; while an instance is awake here its task's deadline is extended.
 * Five lives without progress park the instance: what ends its worker does not go on ending workers.
 */
import type { Broker, Subscriber } from '../broker/broker.ts';
import { isLost } from '../broker/dispatch/delivery.ts';
import type { JournalEntry, JournalStore, JournalTask } from '../broker/journal.ts';
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { damaged, Refusals } from './errors.ts';
import { dryRun } from './execution/dry-run.ts';
import { Execution } from './execution/execution.ts';
import type { ExecutionHost, Stopped } from './execution/host.ts';
import { parkLost } from './execution/lost-instance.ts';
import { journalKey, listKey, queueKey, WORKERS } from './journal/keys.ts';
import { findListed, listedAt } from './journal/listing.ts';
import { noteVersion } from './journal/names.ts';
import { effective, NOT_NAMED, phaseOf } from './journal/phase.ts';
import {
  fieldsOf,
  hasDone,
  isTask,
  type JournalRecord,
  millisecondsOf,
  type Records,
  readRecord,
  readRecords,
  readTask,
  type TaskBody,
  taskFields,
  taskName,
  timerOf,
} from './journal/records.ts';
import { marksAfter, sinceOf } from './journal/standing.ts';
import { listFields } from './journal/starting.ts';
import type { AnyWorkflow } from './workflow.ts';

export interface WorkerSetup {
  readonly broker: Broker;
  readonly store: JournalStore;
  readonly scheduler: Scheduler;
  readonly host: ExecutionHost;
  /** Every version that this worker knows. */
  readonly definitions: readonly AnyWorkflow[];
  readonly name: string;
  readonly ackWaitMs: number;
  readonly drainTimeoutMs: number;
  /** Lives without progress after which an instance is parked. */
  readonly lives: number;
  /** The share of suspended instances that are replayed and compared. */
  readonly verify: number;
  readonly onTick: (definition: AnyWorkflow, task: JournalTask, schedule: string) => Promise<void>;
  readonly warn: (error: unknown) => void;
}

export class Worker {
  readonly #setup: WorkerSetup;
  readonly #subscribers: Subscriber[] = [];
  readonly #executions = new Map<string, Execution>();
  /** Their ends. */
  readonly #stops = new WeakMap<Execution, Promise<void>>();
  /** What ends the extension of the deadline of its task, for each instance that is awake. */
  readonly #keeping = new Map<string, () => void>();
  /** One decision at a time for each instance. */
  readonly #deciding = new Map<string, Promise<void>>();
  readonly #byVersion = new Map<string, AnyWorkflow>();
  /** Monotonic ms. */
  readonly #received = new WeakMap<JournalTask, number>();
  #lives = 0;
  #closing = false;
  #dead = false;
  #whenIdle: (() => void) | null = null;

  constructor(setup: WorkerSetup) {
    this.#setup = setup;
    for (const each of setup.definitions) this.#byVersion.set(`${each.name}@${each.version}`, each);
  }

  /** Instances that are awake here. */
  get awake(): number {
    return this.#executions.size;
  }

  /** Every version that this worker knows. */
  get definitions(): AnyWorkflow[] {
    return [...this.#byVersion.values()];
  }

  /** Nothing is being decided or run. */
  get isIdle(): boolean {
    return this.#executions.size === 0 && this.#deciding.size === 0;
  }

  /** Works on another definition from now on. */
  async add(definition: AnyWorkflow): Promise<void> {
    const label = `${definition.name}@${definition.version}`;
    if (this.#byVersion.has(label)) return;
    this.#byVersion.set(label, definition);
    await this.#consume([definition]);
  }

  start(): Promise<void> {
    return this.#consume(this.#setup.definitions);
  }

  async #consume(definitions: readonly AnyWorkflow[]): Promise<void> {
    const { store, scheduler, ackWaitMs } = this.#setup;
    for (const definition of definitions) {
      const { concurrency } = definition.options;
      const key = queueKey(definition.name, definition.version);
      const token = () => `d-${this.#setup.name}.${this.#lives++}`;
      const setup = { store, scheduler, token };
      await noteVersion(setup, definition.name, definition.version).catch(() => {});
      const subscriber = await store.consume(key, (task) => this.#onTask(definition, task), {
        group: WORKERS,
        ack: 'manual',
        from: 'earliest',
        concurrency,
        maxInFlight: concurrency,
        ackWaitMs,
        // Lives without progress are counted in the journal.
        retry: { attempts: 2 ** 31 - 1, backoff: { minMs: 0, maxMs: 0 } },
        deadLetter: false,
      });
      this.#subscribers.push(subscriber);
    }
  }

  /** Stores where each instance is and gives it to another worker. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const each of this.#executions.values()) each.leave();
    const { scheduler, drainTimeoutMs } = this.#setup;
    if (!this.isIdle) {
      await new Promise<void>((resolve) => {
        const cancel = scheduler.after(drainTimeoutMs, resolve);
        this.#whenIdle = () => {
          cancel();
          resolve();
        };
      });
    }
    await this.#stop();
  }

  /** For tests: as if the process had ended; what it holds goes to others when it is missed. */
  async kill(): Promise<void> {
    this.#dead = true;
    for (const each of this.#executions.values()) each.kill();
    await this.#stop();
  }

  async #stop(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#subscribers.splice(0).map((each) => each.unsubscribe()));
    for (const each of this.#executions.values()) each.kill();
  }

  /** Returns at once: a handler that takes its time would keep others waiting. */
  #onTask(definition: AnyWorkflow, task: JournalTask): unknown {
    if (this.#closing) return undefined;
    const body = readTask(task.message.body);
    if (body === null) {
      const text = `entry ${task.id} of ${task.topic} is no task of a workflow: another program wrote it; it is removed`;
      this.#setup.warn(new RivuletError('INVALID_ARGUMENT', text));
      return this.#quietly(this.#done(task));
    }
    const stop = this.#keep(task);
    this.#received.set(task, this.#setup.scheduler.monotonic());
    if (body.k === 'tick') {
      void this.#quietly(this.#setup.onTick(definition, task, body.id)).finally(stop);
      return undefined;
    }
    const key = journalKey(definition.name, body.id);
    const before = this.#deciding.get(key);
    const decided = (before ?? Promise.resolve()).then(() =>
      this.#quietly(this.#decide(definition, task, body, key, stop)),
    );
    this.#deciding.set(key, decided);
    void decided.finally(() => {
      if (this.#deciding.get(key) === decided) this.#deciding.delete(key);
      this.#checkIdle();
    });
    return undefined;
  }

  /** Extends the task's deadline until the returned function is called. */
  #keep(task: JournalTask): () => void {
    const { scheduler, ackWaitMs } = this.#setup;
    let cancel = () => {};
    const next = () => {
      cancel = scheduler.after(
        ackWaitMs / 3,
        () => {
          if (this.#dead || task.signal.aborted) return;
          task.extend(ackWaitMs).catch(() => {});
          next();
        },
        false,
      );
    };
    next();
    return () => cancel();
  }

  async #decide(
    definition: AnyWorkflow,
    task: JournalTask,
    body: TaskBody,
    key: string,
    stop: () => void,
  ): Promise<void> {
    let isKept = false;
    try {
      for (const refusals = new Refusals(); ; ) {
        if (this.#dead) return;
        const decision = await this.#look(definition, task, body, key, refusals);
        if (decision === 'again') continue;
        if (decision === 'own') {
          // It has ended meanwhile where nothing is extended.
          isKept = this.#keeping.has(key);
          this.#keeping.get(key)?.();
          if (isKept) this.#keeping.set(key, stop);
          return;
        }
        if (decision === null) return;
        isKept = true;
        this.#run(decision, key, stop);
        return;
      }
    } finally {
      if (!isKept) stop();
    }
  }

  /**
   * The instance to run; null when the task is done with; 'own' when it is the task of an instance that
   * is awake here; 'again' when something came in between.
   */
  async #look(
    definition: AnyWorkflow,
    task: JournalTask,
    body: TaskBody,
    key: string,
    refusals: Refusals,
  ): Promise<Execution | null | 'own' | 'again'> {
    const { store, name: workerName, host, lives } = this.#setup;
    const { name } = definition;
    const { id } = body;
    const here = this.#executions.get(key);
    if (here !== undefined && taskName(here.task) === taskName(task)) {
      // Its own task, taken for lost while this process was held up.
      here.task = task;
      here.poke();
      return 'own';
    }
    if (here?.isStopping === true) {
      // What it commits now may be what this task is about.
      await this.#stops.get(here);
      return 'again';
    }
    if (here !== undefined && (body.k === 'wake' || body.k === 'again')) {
      const isPast = await this.#isPast(here, await store.read(key, { after: here.last }));
      if (isPast) return 'again';
      // It reads what came before it rests: no commit of it can pass what is in the journal already.
      await this.#done(task);
      here.poke();
      return null;
    }
    const entries = await store.read(key);
    // After the read: what its other worker commits from here on makes a commit of this one fail.
    if (!(await this.#isOurs(task))) return null;
    const records = readRecords(entries);
    const [first] = records;
    if (first?.kind !== 'start') {
      if (entries.length === 0 && here === undefined) {
        const near = Math.max(0, task.publishedAt.getTime() - 60_000);
        await parkLost(store, { name, id, task }, definition.version, near);
        task.settledByCommit();
        return null;
      }
      return this.#done(task);
    }
    if (hasDone(records, task)) {
      task.settledByCommit();
      return null;
    }
    const phase = phaseOf(records);
    if (phase.end !== null || phase.status === 'parked') return this.#done(task);
    const last = (entries.at(-1) as { id: string }).id;
    const refused = async (): Promise<'again' | null> => {
      if (!refusals.isHopeless(last)) return 'again';
      const { message } = damaged(key, last);
      await parkLost(store, { name, id, task }, phase.version, listedAt(records), message);
      task.settledByCommit();
      return null;
    };
    const isAwake = phase.started && !phase.asleep;
    const isRepeated = task.attempt > 1;
    // The task of the worker that has it, which has died or is late. Attempts do not say so: a task that
    // was fetched ahead may come to the next worker as its first one.
    const isOwn =
      phase.ownTask === null || phase.ownTask === NOT_NAMED
        ? body.k === 'start' || (phase.ownTask === NOT_NAMED && isRepeated)
        : isTask(task, phase.ownTask);
    const meant = this.#byVersion.get(`${name}@${phase.version}`);
    if (meant === undefined) {
      if (!isAwake || !isOwn) return this.#forward(task, name, phase.version, body);
      const left = await this.#giveOn(name, key, last, records, phase.version, body.id, task);
      return left ? null : refused();
    }
    if (here !== undefined && (await this.#isPast(here, entries))) return 'again';
    if (here !== undefined || (isAwake && !isOwn)) {
      if (body.k === 'timer') {
        const data = { task: taskName(task), ...sinceOf(records) };
        const due = await this.#commit(key, last, 'due', data, task);
        if (due === null) return refused();
      } else await this.#done(task);
      here?.poke();
      return null;
    }
    // One whose worker has died while it was awake is taken up, and put to rest with a record.
    const isHeld = phase.status === 'paused' && !phase.cancelled;
    if (isHeld && !isAwake) return this.#done(task);
    const isNew = !phase.started;
    if (isNew && body.k === 'wake' && !phase.cancelled) {
      // Resumed: the task of its start is gone, unless it is still to come.
      const isEarly = task.publishedAt.getTime() < (first.data.startAt ?? 0);
      if (!phase.resumed || isEarly) return this.#done(task);
    }
    const isStale = phase.asleep && !phase.news && body.k === 'wake';
    if (isStale) return this.#done(task);
    const prefix = `w-${workerName}.${this.#lives++}:`;
    if (isNew && body.k === 'start' && !isRepeated) {
      return new Execution(host, meant, id, task, records, prefix, last);
    }
    if (phase.claims >= lives - 1) {
      const text = `${lives} workers ended without progress after record ${last}: what it does next ends its process (the last one was ${phase.lastWorker})`;
      await this.#park(
        definition,
        id,
        key,
        last,
        records,
        { why: text, code: 'NO_PROGRESS' },
        task,
      );
      return null;
    }
    const marks = marksAfter(records);
    const data: Records['claim'] = { w: workerName, k: body.k, task: taskName(task), ...marks };
    const claimed = await this.#setup.store.commit({
      key,
      last,
      records: [fieldsOf('claim', data)],
      token: `${prefix}claim`,
    });
    if (claimed === null) return refused();
    const at = claimed.ids[0] as string;
    // Both times are the broker's; a timer's task may have been added late, after an outage.
    const due = body.k === 'timer' ? timerOf(records)?.at : undefined;
    const lagMs = millisecondsOf(at) - (due ?? task.publishedAt.getTime());
    host.observe({ kind: 'woken', lagMs: Math.max(0, lagMs) });
    const claim = readRecord({
      id: at,
      fields: { ...fieldsOf('claim', data), c: `${prefix}claim` },
    });
    const all = [...records, claim as JournalRecord];
    return new Execution(host, meant, id, task, all, prefix, at);
  }

  /**
   * Whether another worker has taken the instance over, by records that were read after the task was added: this
   * process was held up and has not seen it. Its execution has stopped then, and the task is not its own.
   */
  async #isPast(here: Execution, entries: readonly JournalEntry[]): Promise<boolean> {
    if (!here.isPast(readRecords(entries))) return false;
    here.poke();
    await this.#stops.get(here);
    return true;
  }

  #run(execution: Execution, key: string, stop: () => void): void {
    if (this.#dead) {
      stop();
      return;
    }
    this.#executions.set(key, execution);
    this.#keeping.set(key, stop);
    if (this.#closing) execution.leave();
    const stopped = execution.run().then(async (as) => {
      this.#keeping.get(key)?.();
      this.#keeping.delete(key);
      this.#executions.delete(key);
      if (!this.#dead) void this.#quietly(this.#after(execution, key, as));
      this.#checkIdle();
    });
    this.#stops.set(execution, stopped);
  }

  async #after(execution: Execution, key: string, as: Stopped): Promise<void> {
    const { verify, scheduler, store } = this.#setup;
    if (as !== 'suspended' || verify === 0) return;
    if (verify < 1 && scheduler.fraction() >= verify) return;
    const entries = await store.read(key);
    const records = readRecords(entries);
    const phase = phaseOf(records);
    const definition = this.#byVersion.get(`${execution.name}@${phase.version}`);
    if (!phase.asleep || phase.status === 'parked' || definition === undefined) return;
    const { mostBytes } = this.#setup.host;
    const usable = effective(records);
    const { mismatch } = await dryRun(definition, execution.id, usable, mostBytes);
    if (mismatch === null) return;
    const last = (entries.at(-1) as { id: string }).id;
    const why = { why: mismatch.message, code: 'NONDETERMINISTIC', n: mismatch.n };
    await this.#park(definition, execution.id, key, last, records, why, null);
  }

  async #park(
    { name, version }: AnyWorkflow,
    id: string,
    key: string,
    last: string,
    records: readonly JournalRecord[],
    data: Records['parked'],
    task: JournalTask | null,
  ): Promise<void> {
    const { store, name: workerName } = this.#setup;
    const [first] = records as [JournalRecord & { kind: 'start' }];
    const from = first.data.first ?? first.at;
    const running = listKey(name, 'running');
    const listed = await findListed(store, running, id, listedAt(records));
    const timer = timerOf(records)?.name ?? null;
    const queue = queueKey(name, version);
    const fields = listFields({ id, v: version, from, why: data.why, code: data.code });
    const parked = await store.commit({
      key,
      last,
      records: [fieldsOf('parked', { ...data, ...marksAfter(records) })],
      token: `w-${workerName}.${this.#lives++}:park`,
      effects: [
        ...(listed === null ? [] : [{ kind: 'delete', key: running, ids: [listed] } as const]),
        { kind: 'add', key: listKey(name, 'parked'), fields },
        ...(timer === null ? [] : [{ kind: 'unschedule', key: queue, name: timer } as const]),
        ...(task === null ? [] : [this.#ack(task)]),
      ],
    });
    if (parked !== null) {
      task?.settledByCommit();
      this.#setup.host.observe({ kind: 'stopped', as: 'parked' });
    }
  }

  #commit(key: string, last: string, kind: 'due', data: Records['due'], task: JournalTask) {
    const { store, name } = this.#setup;
    const token = `d-${name}.${this.#lives++}`;
    const effects = [this.#ack(task)];
    return store
      .commit({ key, last, records: [fieldsOf(kind, data)], token, effects })
      .then((reply) => {
        if (reply !== null) task.settledByCommit();
        return reply;
      });
  }

  /**
   * The instance of a worker that has died is put to rest with a task for workers of its version: a task
   * that is only forwarded would not be the one that its claim names. False where the commit was refused.
   */
  async #giveOn(
    name: string,
    key: string,
    last: string,
    records: readonly JournalRecord[],
    version: number,
    id: string,
    task: JournalTask,
  ): Promise<boolean> {
    const { store, name: workerName } = this.#setup;
    const timer = timerOf(records);
    const data: Records['suspend'] = {
      v: version,
      task: taskName(task),
      why: 'leaving',
      ...(timer === null ? {} : { at: timer.at }),
      ...(timer?.name == null ? {} : { timer: timer.name }),
      ...marksAfter(records),
    };
    const fields = taskFields({ id, k: 'again' });
    const reply = await store.commit({
      key,
      last,
      records: [fieldsOf('suspend', data)],
      token: `w-${workerName}.${this.#lives++}:give`,
      effects: [{ kind: 'add', key: queueKey(name, version), fields }, this.#ack(task)],
    });
    if (reply === null) return false;
    task.settledByCommit();
    return true;
  }

  async #forward(task: JournalTask, name: string, version: number, body: TaskBody): Promise<null> {
    const fields = taskFields(body);
    await this.#setup.store.apply([
      { kind: 'add', key: queueKey(name, version), fields },
      this.#ack(task),
    ]);
    task.settledByCommit();
    return null;
  }

  /**
   * False where another worker has the task, or has done it: then nothing would bring the instance back
   * if this process ended. Only a task that was delivered again, or was held for long, is asked about.
   */
  async #isOurs(task: JournalTask): Promise<boolean> {
    const { scheduler, ackWaitMs } = this.#setup;
    if (task.signal.aborted) return false;
    const heldMs = scheduler.monotonic() - (this.#received.get(task) ?? Number.NEGATIVE_INFINITY);
    if (task.attempt === 1 && heldMs < ackWaitMs / 2) return true;
    try {
      await task.extend(ackWaitMs);
      return true;
    } catch (error) {
      if (isLost(error)) return false;
      throw error;
    }
  }

  /** Acknowledges and removes the task, unless another worker has it. */
  async #done(task: JournalTask): Promise<null> {
    try {
      await task.ack();
    } catch (error) {
      if (isLost(error)) return null;
      throw error;
    }
    await this.#setup.store.apply([{ kind: 'delete', key: task.topic, ids: [task.id] }]);
    return null;
  }

  #ack(task: JournalTask) {
    return { kind: 'ack', key: task.topic, group: WORKERS, id: task.id } as const;
  }

  #checkIdle(): void {
    if (this.isIdle) this.#whenIdle?.();
  }

  /** What fails here leaves the task unsettled: it comes again. */
  async #quietly(work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      const isEnd = error instanceof RivuletError && error.code === 'CLOSED';
      if (!this.#dead && !isEnd) this.#setup.warn(error);
    }
  }
}

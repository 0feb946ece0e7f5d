/**
 * `workflows(broker, ...)`: starts, finds and lists instances, and is a worker for its definitions.
 *
 * Invariants: it holds no state that is not in the broker; any number of processes may run it. `close`
 * stores where each instance is and gives it to another worker; a process that is killed instead is missed after
 * `ackWaitMs`.
 */
import type { Broker } from '../broker/broker.ts';
import type { JournalStore } from '../broker/journal.ts';
import { openBroker } from '../broker/open-broker.ts';
import { checkOptions, invalid, shown } from '../client/option-table.ts';
import { RivuletError } from '../errors.ts';
import { causeOf } from './cause.ts';
import { Calls } from './execution/calls.ts';
import { type HandleSetup, WorkflowHandle } from './handle.ts';
import { checkId, checkName } from './journal/keys.ts';
import {
  allCounts,
  type ListedRun,
  type ListQuery,
  listRuns,
  newestVersion,
  quickCountsOf,
  type WorkflowCounts,
} from './journal/listing.ts';
import { noteVersion } from './journal/names.ts';
import { firstRecord, startCommit } from './journal/starting.ts';
import { Metrics, type WorkflowMetrics } from './metrics.ts';
import { workflowMetricsText } from './metrics-text.ts';
import { type MoveOptions, type MoveReport, moveInstances, targetOf } from './moving.ts';
import {
  listSchedules,
  onTick,
  removeSchedule,
  type ScheduleInfo,
  type ScheduleOptions,
  setSchedule,
} from './schedules/schedules.ts';
import { Worker } from './worker.ts';
import {
  type AnyWorkflow,
  allVersions,
  isWorkflow,
  type StartArguments,
  type Workflow,
  workflow,
} from './workflow.ts';
import {
  type StartOptions,
  startTable,
  type WorkflowsHooks,
  type WorkflowsOptions,
  workflowsTable,
} from './workflows-options.ts';

/** How long the newest version of a workflow is remembered. */
const NAMED_FRESH_MS = 5000;
const MOST_NAMED = 1000;
/** How long counts of the broker's lists are shown after they were read. */
const COUNTS_FRESH_MS = 60_000;

const WHY_NONE: Readonly<Record<string, string>> = {
  redis:
    ' (a commit is one script, and the keys of a Redis Cluster are on several servers; a micro server has them as rivulet://)',
};

/** Rejects with UNSUPPORTED where the broker has no journals. */
export async function workflows(
  broker: Broker,
  options: WorkflowsOptions = {},
  hooks: WorkflowsHooks = {},
): Promise<Workflows> {
  checkOptions(workflowsTable, options);
  const { journal } = options;
  const own = typeof journal === 'string' ? await openBroker(journal) : null;
  const place = own ?? (journal as Broker | undefined) ?? broker;
  const store = place.capabilities.journal === 'atomic' ? place.journal : undefined;
  if (store === undefined) {
    await own?.disconnect();
    throw new RivuletError(
      'UNSUPPORTED',
      `the ${place.name} broker has no journals for workflows${WHY_NONE[place.name] ?? ''}; keep them elsewhere: workflows(broker, { journal: 'file:./workflows' }), or use memory:, file:, rivulet:// or one Redis server`,
    );
  }
  const made = new Workflows(broker, place, store, own, options, hooks);
  try {
    await made.open();
  } catch (error) {
    await made.close();
    throw error;
  }
  return made;
}

export class Workflows implements AsyncDisposable {
  readonly #broker: Broker;
  readonly #store: JournalStore;
  readonly #own: Broker | null;
  readonly #definitions: readonly AnyWorkflow[];
  readonly #worker: Worker;
  readonly #calls: Calls;
  readonly #metrics = new Metrics();
  readonly #prefix: string;
  readonly #mostBytes: number;
  readonly #place: Broker;
  /** Workflows that were started by name, with their newest version as of `at`, monotonic ms. */
  readonly #named = new Map<string, { definition: AnyWorkflow; at: number }>();
  #tokens = 0;
  #counts: readonly WorkflowCounts[] | null = null;
  /** Monotonic ms. */
  #countedAt = Number.NEGATIVE_INFINITY;
  #counting: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  readonly #warnings = new Set<(error: unknown) => void>();

  /** Use `workflows(...)`. */
  constructor(
    broker: Broker,
    place: Broker,
    store: JournalStore,
    own: Broker | null,
    options: WorkflowsOptions,
    hooks: WorkflowsHooks,
  ) {
    const { scheduler } = broker.options;
    this.#broker = broker;
    this.#place = place;
    this.#store = store;
    this.#own = own;
    this.#mostBytes = options.maxValueBytes ?? 8 * 1024 * 1024;
    const unique = scheduler.uniqueName();
    this.#prefix = `c-${unique}:`;
    this.#definitions = allVersions(options.definitions ?? []);
    this.#calls = new Calls(broker, scheduler, options.service ?? null);
    const { verify = 0 } = options;
    this.#worker = new Worker({
      broker: place,
      store,
      scheduler,
      definitions: this.#definitions,
      name: options.worker === undefined ? unique : `${options.worker}-${unique}`,
      ackWaitMs: options.ackWaitMs ?? 30_000,
      drainTimeoutMs: options.drainTimeoutMs ?? 10_000,
      lives: options.lives ?? 5,
      verify: verify === 'always' ? 1 : verify,
      host: {
        store,
        scheduler,
        mostBytes: this.#mostBytes,
        call: (request, key, signal) => this.#calls.call(request, key, signal),
        observe: (event) => this.#metrics.observe(event),
        aroundStep: hooks.aroundStep,
        onCommit: hooks.onCommit,
        onStep: hooks.onStep,
        warn: (error) => this.#warn(error),
      },
      onTick: (definition, task, name) =>
        onTick(store, definition, task, name, scheduler, () => this.#token(), this.#mostBytes),
      warn: (error) => this.#warn(error),
    });
  }

  /** @internal */
  async open(): Promise<void> {
    await this.#worker.start();
  }

  /** Works on another definition from now on, and on its `older`; one that is known changes nothing. */
  async register(definition: AnyWorkflow): Promise<void> {
    this.#mustBeOpen();
    if (!isWorkflow(definition))
      throw invalid(`register takes a workflow, not ${shown(definition)}`);
    for (const each of allVersions([definition])) await this.#worker.add(each);
  }

  /** @internal For tests: as if the process had ended. */
  async kill(): Promise<void> {
    await this.#worker.kill();
  }

  /** @internal Nothing is being run or decided here. */
  get isIdle(): boolean {
    return this.#worker.isIdle;
  }

  /** Instances that are awake in this process. */
  get awake(): number {
    return this.#worker.awake;
  }

  /**
   * Starts an instance; resolves once it is stored, whether a worker is there or not. Rejects with
   * VALIDATION_FAILED, BODY_TOO_LARGE or, with `onExisting: 'reject'`, ALREADY_EXISTS.
   */
  start<Input, Output>(
    definition: Workflow<Input, Output>,
    ...[input, options]: StartArguments<Input, StartOptions>
  ): Promise<WorkflowHandle<Output>>;
  /**
   * By name, for programs that have no definition: the newest version that a worker has taken. The
   * input is not validated here, and the definition's `timeoutMs` does not hold. Rejects with NOT_FOUND
   * where no worker has ever taken the workflow.
   */
  start(name: string, input?: unknown, options?: StartOptions): Promise<WorkflowHandle<unknown>>;
  async start(
    given: AnyWorkflow | string,
    input?: unknown,
    options?: StartOptions,
  ): Promise<WorkflowHandle<never>> {
    this.#mustBeOpen();
    const definition = typeof given === 'string' ? await this.#known(given) : given;
    if (!isWorkflow(definition)) {
      throw invalid(`start takes a workflow or its name, not ${shown(definition)}`);
    }
    checkOptions(startTable, options);
    const { id = this.#broker.options.scheduler.uniqueName(), startAt } = options ?? {};
    const cause = causeOf(options?.cause);
    const { name } = definition;
    const record = await firstRecord(
      {
        definition,
        id,
        input,
        startAt: startAt === undefined ? undefined : Number(startAt),
        ...(cause === undefined ? {} : { more: { cause } }),
      },
      this.#mostBytes,
    );
    await noteVersion(this.#setup(), name, definition.version);
    const started = await this.#store.commit(startCommit(name, id, record, this.#token()));
    if (started === null && options?.onExisting === 'reject') {
      throw new RivuletError('ALREADY_EXISTS', `there is an instance ${name}/${id} already`);
    }
    return this.#handle(name, id);
  }

  /** What is known of a workflow by its name: the definition given here, else its newest version. */
  async #known(name: string): Promise<AnyWorkflow> {
    checkName(name);
    const own = this.#definitions
      .filter((each) => each.name === name)
      .sort((a, b) => b.version - a.version)[0];
    if (own !== undefined) return own;
    const { scheduler } = this.#place.options;
    const found = this.#named.get(name);
    if (found !== undefined && scheduler.monotonic() - found.at < NAMED_FRESH_MS) {
      return found.definition;
    }
    const version = await newestVersion(this.#store, name);
    if (version === null) {
      const text = `no worker has ever taken the workflow ${name}: start one with its definition`;
      throw new RivuletError('NOT_FOUND', text);
    }
    const definition = workflow({ name, version }, () => undefined);
    this.#named.delete(name);
    this.#named.set(name, { definition, at: scheduler.monotonic() });
    if (this.#named.size > MOST_NAMED)
      this.#named.delete(this.#named.keys().next().value as string);
    return definition;
  }

  /** The handle of an instance, by its workflow or the workflow's name. Nothing is asked of the broker. */
  get<Output>(
    definition: Workflow<never, Output> | Workflow<unknown, Output> | string,
    id: string,
  ): WorkflowHandle<Output> {
    const name = typeof definition === 'string' ? definition : definition?.name;
    checkName(name);
    checkId(id);
    return this.#handle(name, id);
  }

  /** Instances, the oldest first within running, parked and ended ones. */
  list(query?: ListQuery): AsyncIterable<ListedRun> {
    this.#mustBeOpen();
    return listRuns(this.#store, query);
  }

  /** How many instances there are, and which versions no worker takes. */
  async counts(name?: string): Promise<WorkflowCounts[]> {
    this.#mustBeOpen();
    return allCounts(this.#store, name);
  }

  /** Starts instances at times of a cron expression. The same schedule again changes nothing. */
  async schedule<Input, Output>(
    name: string,
    definition: Workflow<Input, Output>,
    options: ScheduleOptions<Input>,
  ): Promise<ScheduleInfo> {
    this.#mustBeOpen();
    if (!isWorkflow(definition))
      throw invalid(`schedule takes a workflow, not ${shown(definition)}`);
    const token = () => this.#token();
    const { scheduler } = this.#place.options;
    return setSchedule(this.#store, name, definition, options, scheduler, token, this.#mostBytes);
  }

  /** False when there was none. */
  async unschedule(name: string, definition: AnyWorkflow | string): Promise<boolean> {
    this.#mustBeOpen();
    const workflow = typeof definition === 'string' ? definition : definition.name;
    return removeSchedule(this.#store, name, workflow);
  }

  schedules(): Promise<ScheduleInfo[]> {
    this.#mustBeOpen();
    return listSchedules(this.#store);
  }

  /**
   * Lets running and parked instances of one version go on with another one's code, where it follows
   * their journals. The definition of `to` is the one given, or one of its `older`.
   */
  async move(definition: AnyWorkflow, options: MoveOptions): Promise<MoveReport> {
    this.#mustBeOpen();
    return moveInstances(targetOf(definition, options), options, this.#setup());
  }

  /** What this worker has done and has; counts of the broker's lists are in `counts`. */
  metrics(): WorkflowMetrics {
    return this.#metrics.snapshot(this.awake);
  }

  /**
   * The same in Prometheus's text format, with running, parked and waiting instances of the workflows
   * that this worker knows, as of the last `refreshMetrics` within a minute.
   */
  metricsText(labels: Readonly<Record<string, string>> = {}): string {
    const { scheduler } = this.#place.options;
    const isFresh = scheduler.monotonic() - this.#countedAt <= COUNTS_FRESH_MS;
    return workflowMetricsText({
      labels,
      metrics: this.metrics(),
      counts: isFresh ? this.#counts : null,
      now: scheduler.now(),
    });
  }

  /** Asks the broker for counts; waits for it at most `timeoutMs`. Never rejects. */
  async refreshMetrics(timeoutMs = 1000): Promise<void> {
    const { scheduler } = this.#place.options;
    this.#counting ??= this.#count().finally(() => {
      this.#counting = null;
    });
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = scheduler.after(timeoutMs, resolve);
    });
    await Promise.race([this.#counting, late]);
    cancel();
  }

  /** Called with what failed and will be tried again. Returns what ends it. */
  onWarning(listener: (error: unknown) => void): () => void {
    this.#warnings.add(listener);
    return () => this.#warnings.delete(listener);
  }

  /** Stores where each instance is, gives it to another worker, and frees everything. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #count(): Promise<void> {
    const versions = new Map<string, number[]>();
    for (const { name, version } of this.#worker.definitions) {
      versions.set(name, [...(versions.get(name) ?? []), version]);
    }
    try {
      this.#counts = await Promise.all(
        [...versions].map(([name, known]) => quickCountsOf(this.#store, name, known)),
      );
      this.#countedAt = this.#place.options.scheduler.monotonic();
    } catch (error) {
      if (this.#closing === null) this.#warn(error);
    }
  }

  async #close(): Promise<void> {
    await this.#worker.close();
    await this.#calls.close();
    await this.#own?.disconnect();
  }

  #handle<Output>(name: string, id: string): WorkflowHandle<Output> {
    return new WorkflowHandle<Output>(this.#setup(), name, id);
  }

  #setup(): HandleSetup {
    return {
      store: this.#store,
      scheduler: this.#place.options.scheduler,
      mostBytes: this.#mostBytes,
      token: () => this.#token(),
    };
  }

  #warn(error: unknown): void {
    for (const listener of this.#warnings) listener(error);
  }

  #token(): string {
    return `${this.#prefix}${this.#tokens++}`;
  }

  #mustBeOpen(): void {
    if (this.#closing !== null) throw new RivuletError('CLOSED', 'these workflows are closed');
  }
}

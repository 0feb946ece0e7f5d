/**
 * The registration of one node: made, renewed, and withdrawn.
 *
 * Invariants: the record is renewed every `intervalMs`; a renewal that fails is tried again sooner,
 * with a backoff, and reported once per outage; while `check` rejects the node is not registered;
 * a check or registry that never answers counts as failed after `intervalMs`, at least `PATIENCE_MS`,
 * and holds a stop for `PATIENCE_MS` at most; after `stop` resolves, nothing registers it again.
 * Cost: one timer, and one while the registry is asked.
 */
import { RivuletError } from '../errors.ts';
import type { Registry, ServiceRecord } from '../registry/registry.ts';
import { errorText } from '../util/error-text.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

export interface RegistrationOptions {
  readonly ttlMs: number;
  readonly intervalMs: number;
  readonly check?: () => Promise<void> | void;
  /** Called at the first failure of an outage, and with null when it is over. */
  readonly onState?: (error: Error | null) => void;
}

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;
const PATIENCE_MS = 5000;
/** A registry that answers needs less, and the node must not stay registered for its TTL. */
const LEAST_PATIENCE_MS = 1000;

export class Registration {
  readonly #registry: Registry;
  readonly #record: ServiceRecord;
  readonly #scheduler: Scheduler;
  readonly #options: RegistrationOptions;
  #cancel: (() => void) | null = null;
  #running: Promise<void> | null = null;
  #isStopped = false;
  #isRegistered = false;
  #wasRegistered = false;
  #failures = 0;
  #stopping: Promise<void> | null = null;
  #patienceMs = PATIENCE_MS;
  /** The stop waits for no registration any more. */
  #isGone = false;
  /** Ends a check that runs. */
  #stopChecking: () => void = () => {};
  /** Ends the wait for a registry. */
  #abandon: () => void = () => {};

  constructor(
    registry: Registry,
    record: ServiceRecord,
    scheduler: Scheduler,
    options: RegistrationOptions,
  ) {
    this.#registry = registry;
    this.#record = record;
    this.#scheduler = scheduler;
    this.#options = options;
  }

  get isRegistered(): boolean {
    return this.#isRegistered;
  }

  /** Whether callers may have learnt of it. */
  get wasRegistered(): boolean {
    return this.#wasRegistered;
  }

  /**
   * Registers. A registry that cannot be reached does not stop the start: callers that know the service
   * reach it, and it registers when it can. A record that is refused does.
   */
  async start(): Promise<void> {
    const first = this.#once();
    this.#running = first.then(() => {});
    const error = await first;
    if (error !== null && 'code' in error && error.code === 'INVALID_ARGUMENT') throw error;
    this.#schedule();
  }

  /** Waits for a registry at most `mostMs`, and no longer than `PATIENCE_MS`. Idempotent. */
  stop(mostMs = PATIENCE_MS): Promise<void> {
    this.#patienceMs = Math.min(PATIENCE_MS, Math.max(LEAST_PATIENCE_MS, mostMs));
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel?.();
    this.#stopChecking();
    await this.#within(this.#patienceMs, this.#running ?? Promise.resolve()).catch(() => {});
    this.#isGone = true;
    this.#abandon();
    await this.#withdraw();
  }

  /** The node disappears with its TTL where this fails. */
  async #withdraw(): Promise<void> {
    if (!this.#isRegistered) return;
    this.#isRegistered = false;
    await this.#within(this.#patienceMs, this.#registry.deregister(this.#record)).catch(() => {});
  }

  #schedule(): void {
    if (this.#isStopped) return;
    const wait =
      this.#failures === 0
        ? this.#options.intervalMs
        : Math.min(
            RETRY_MAX_MS,
            this.#options.intervalMs,
            RETRY_MIN_MS * 2 ** (this.#failures - 1),
          );
    this.#cancel = this.#scheduler.after(wait, () => {
      this.#running = this.#once().then(() => {
        this.#running = null;
        this.#schedule();
      });
    });
  }

  async #once(): Promise<Error | null> {
    try {
      await this.#check();
      if (this.#isStopped) return null;
      await this.#register();
      if (this.#failures > 0) this.#options.onState?.(null);
      this.#failures = 0;
      return null;
    } catch (cause) {
      if (this.#isStopped) return null;
      const error = cause instanceof Error ? cause : new Error(errorText(cause));
      if (this.#failures++ === 0) this.#options.onState?.(error);
      return error;
    }
  }

  /** Rejects, and the node is not registered any more, where the check does not pass. */
  async #check(): Promise<void> {
    const { check, intervalMs } = this.#options;
    if (check === undefined) return;
    const stopped = new Promise<void>((resolve) => {
      this.#stopChecking = resolve;
    });
    try {
      const checked = (async () => check())();
      const most = Math.max(intervalMs, PATIENCE_MS);
      await this.#within(most, Promise.race([checked, stopped]));
    } catch (error) {
      await this.#withdraw();
      throw error;
    }
  }

  async #register(): Promise<void> {
    const { ttlMs, intervalMs } = this.#options;
    const registering = this.#registry.register(this.#record, { ttlMs }).then(async () => {
      this.#isRegistered = true;
      this.#wasRegistered = true;
      // `stop` has given up waiting for this registration.
      if (this.#isGone) await this.#withdraw();
    });
    const abandoned = new Promise<void>((resolve) => {
      this.#abandon = resolve;
    });
    const most = Math.max(intervalMs, PATIENCE_MS);
    await this.#within(most, Promise.race([registering, abandoned]));
  }

  async #within<T>(ms: number, work: Promise<T>): Promise<T> {
    let stop = () => {};
    const late = new Promise<never>((_, reject) => {
      stop = this.#scheduler.after(ms, () => {
        const text = `the registration of ${this.#record.name} got no answer within ${ms} ms`;
        reject(new RivuletError('TIMEOUT', text));
      });
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      stop();
    }
  }
}

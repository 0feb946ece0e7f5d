/**
 * The registration of one node: made, renewed, and withdrawn.
 *
 * Invariants: the record is renewed every `intervalMs`; a renewal that fails is tried again sooner,
 * with a backoff, and reported once per outage; while `check` rejects the node is not registered;
 * after `stop` resolves, nothing registers it again. Cost: one timer.
 */
import type { Registry, ServiceRecord } from '../registry/registry.ts';
import type { Scheduler } from '../util/scheduler.ts';

export interface RegistrationOptions {
  readonly ttlMs: number;
  readonly intervalMs: number;
  readonly check?: () => Promise<void>;
  /** Called at the first failure of an outage, and with null when it is over. */
  readonly onState?: (error: Error | null) => void;
}

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;

export class Registration {
  readonly #registry: Registry;
  readonly #record: ServiceRecord;
  readonly #scheduler: Scheduler;
  readonly #options: RegistrationOptions;
  #cancel: (() => void) | null = null;
  #running: Promise<void> | null = null;
  #isStopped = false;
  #isRegistered = false;
  #failures = 0;

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

  /**
   * Registers. A registry that cannot be reached does not stop the start: the service serves those
   * who know it, and registers when it can. A record that is refused does.
   */
  async start(): Promise<void> {
    const error = await this.#once();
    if (error !== null && 'code' in error && error.code === 'INVALID_ARGUMENT') throw error;
    this.#schedule();
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#cancel?.();
    await this.#running;
    if (!this.#isRegistered) return;
    this.#isRegistered = false;
    // The node disappears with its TTL where this fails.
    await this.#registry.deregister(this.#record).catch(() => {});
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
      await this.#options.check?.();
      if (this.#isStopped) return null;
      await this.#registry.register(this.#record, { ttlMs: this.#options.ttlMs });
      this.#isRegistered = true;
      if (this.#failures > 0) this.#options.onState?.(null);
      this.#failures = 0;
      return null;
    } catch (cause) {
      const error = cause instanceof Error ? cause : new Error(String(cause));
      if (this.#failures++ === 0) this.#options.onState?.(error);
      return error;
    }
  }
}

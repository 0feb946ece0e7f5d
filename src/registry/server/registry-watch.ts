/**
 * The watch of a registry that is kept by a server: read everything, follow its changes, and after a
 * failure begin again.
 *
 * Invariants: nodes that were there before the first watcher are no event, unless the first read
 * failed; after a failure everything is read again and the differences are reported; a watch that has
 * failed `WARN_AFTER` times in a row is reported once, until it works again. Cost: all nodes in memory;
 * after a failure one attempt in 50 ms to 5 s.
 */
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { NodeTable } from '../node-table.ts';
import type { RegistryEvent } from '../registry.ts';
import type { Warnings } from '../warnings.ts';

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5000;
/** Failures in a row, about 5 s, after which the watch is reported. */
const WARN_AFTER = 6;

export interface RegistryWatchOptions {
  readonly scheduler: Scheduler;
  readonly warnings: Warnings;
  readonly onEvent: (event: RegistryEvent) => void;
}

/** What one cycle of a watch has reached. */
export interface WatchProgress {
  /** Everything was read, and the table holds it. */
  onRead(): void;
  /** Changes are followed. */
  onFollowing(): void;
}

export abstract class RegistryWatch {
  protected readonly table: NodeTable;
  protected readonly scheduler: Scheduler;
  readonly #warnings: Warnings;
  readonly #closing = new AbortController();
  #isRunning = false;
  #isQuiet = true;
  #firstRead: Promise<void> = Promise.resolve();

  constructor({ scheduler, warnings, onEvent }: RegistryWatchOptions) {
    this.scheduler = scheduler;
    this.#warnings = warnings;
    this.table = new NodeTable(scheduler);
    this.table.onChange((event) => {
      if (!this.#isQuiet) onEvent(event);
    });
  }

  /**
   * Settles with the first read of a watch that begins: a look-up that follows `watch` waits for it,
   * so that every later change is an event.
   */
  get firstRead(): Promise<void> {
    return this.#firstRead;
  }

  start(): void {
    if (this.#isRunning || this.#closing.signal.aborted) return;
    this.#isRunning = true;
    this.#firstRead = new Promise((resolve) => void this.#run(resolve));
  }

  close(): void {
    this.#closing.abort();
    this.table.close();
  }

  /** Reads everything into the table and follows it. Resolves to be called again at once; rejects to be called again later. */
  protected abstract cycle(signal: AbortSignal, progress: WatchProgress): Promise<void>;

  async #run(onFirstRead: () => void): Promise<void> {
    const { signal } = this.#closing;
    let failures = 0;
    const onRead = () => {
      this.#isQuiet = false;
      onFirstRead();
    };
    const onFollowing = () => {
      failures = 0;
    };
    while (!signal.aborted) {
      try {
        await this.cycle(signal, { onRead, onFollowing });
      } catch (error) {
        // What a later read finds is new to the watchers.
        onRead();
        if (signal.aborted) break;
        failures++;
        if (failures === WARN_AFTER) this.#warnings.watchFails(error);
        const most = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** (failures - 1));
        const wait = most * (0.5 + this.scheduler.fraction() / 2);
        await pause(this.scheduler, wait, signal).catch(() => {});
      }
    }
    onFirstRead();
  }
}

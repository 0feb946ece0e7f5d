/**
 * Watches the journal of an instance while long steps run, so that a cancel aborts them at once.
 *
 * Invariant: at most one watch is open or being opened, and none after `end`.
 */
import type { ExecutionHost } from './host.ts';

/** Steps that run longer than this watch the journal. */
const WATCH_AFTER_MS = 200;

export interface WatchOwner {
  /** A step runs, and the instance is this process's. */
  readonly isNeeded: () => boolean;
  /** The journal may have a new record. */
  readonly onNews: () => void;
}

export class JournalWatch {
  readonly #host: ExecutionHost;
  readonly #key: string;
  readonly #owner: WatchOwner;
  #unwatch: (() => void) | null = null;
  /** A watch is timed, being opened, or open. */
  #isBegun = false;
  #hasEnded = false;

  constructor(host: ExecutionHost, key: string, owner: WatchOwner) {
    this.#host = host;
    this.#key = key;
    this.#owner = owner;
  }

  /** A step has begun. */
  soon(): void {
    if (this.#isBegun) return;
    this.#isBegun = true;
    this.#host.scheduler.after(
      WATCH_AFTER_MS,
      () => {
        if (this.#owner.isNeeded()) void this.#open();
        else this.#isBegun = false;
      },
      false,
    );
  }

  end(): void {
    this.#hasEnded = true;
    this.#unwatch?.();
    this.#unwatch = null;
  }

  async #open(): Promise<void> {
    try {
      const unwatch = await this.#host.store.watch(this.#key, () => this.#owner.onNews());
      if (this.#hasEnded) return unwatch();
      this.#unwatch = unwatch;
      this.#owner.onNews();
    } catch {
      // The next step that takes long tries again.
      this.#isBegun = false;
    }
  }
}

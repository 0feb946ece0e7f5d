/**
 * Failures in an embedded engine that no caller awaits, reported to the brokers that share it:
 * checkpoints that cannot be written, tasks of the tick, entries that were set aside, damaged streams.
 *
 * Invariant: a kind of failure is reported at most once in REPEAT_MS, with the number of repetitions
 * since, so that a listener is not flooded. The first listener receives the failures from before it, such
 * as those while the directory was opened, in the turn after it was added.
 * Cost: none without failures.
 */
import type { Engine } from '../../engine/engine.ts';
import type { DurableEngine } from '../../engine/open-durable-engine.ts';
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

/** A repeated failure is reported again after this time, ms. */
const REPEAT_MS = 60_000;
/** The number of kinds that are counted apart; all others count as one. */
const MOST_KINDS = 100;

interface Kind {
  reportedAt: number;
  suppressed: number;
}

export class EngineWarnings {
  readonly #listeners = new Set<(error: RivuletError) => void>();
  readonly #kinds = new Map<string, Kind>();
  readonly #scheduler: Scheduler;
  #unreported: RivuletError[] = [];

  constructor(scheduler: Scheduler, engine: Engine, durable: DurableEngine | null) {
    this.#scheduler = scheduler;
    engine.onFailure = (what, cause) => {
      this.#report('INTERNAL', what, `${what} failed: ${textOf(cause)}. The broker goes on`, cause);
    };
    engine.damaged.listen(({ key, message }) => {
      const name = JSON.stringify(String(key));
      this.#report('STORAGE_DAMAGED', name, `topic ${name}: ${message}`, undefined);
    });
    if (durable === null) return;
    durable.onCheckpointFailed = (cause) => {
      const text =
        `a checkpoint could not be written: ${cause.message}. Nothing is lost: the log is kept, and ` +
        'grows, until one can be written';
      this.#report('INTERNAL', 'checkpoint', text, cause);
    };
  }

  /** Adds a listener. The returned function removes it. */
  listen(listener: (error: RivuletError) => void): () => void {
    this.#listeners.add(listener);
    const untold = this.#unreported;
    this.#unreported = [];
    if (untold.length > 0) this.#scheduler.after(0, () => untold.forEach(listener));
    return () => {
      this.#listeners.delete(listener);
    };
  }

  #report(code: 'INTERNAL' | 'STORAGE_DAMAGED', what: string, text: string, cause: unknown): void {
    const now = this.#scheduler.monotonic();
    const name = this.#kinds.has(what) || this.#kinds.size < MOST_KINDS ? what : 'others';
    const kind = this.#kinds.get(name);
    if (kind !== undefined && now - kind.reportedAt < REPEAT_MS) {
      kind.suppressed++;
      return;
    }
    const repeated =
      kind === undefined || kind.suppressed === 0 ? '' : ` (and ${kind.suppressed} times since)`;
    this.#kinds.set(name, { reportedAt: now, suppressed: 0 });
    const error = new RivuletError(code, text + repeated, { cause });
    for (const listener of this.#listeners) listener(error);
    if (this.#listeners.size === 0 && this.#unreported.length < MOST_KINDS)
      this.#unreported.push(error);
  }
}

function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/**
 * Failures outside a command: of the tick, of a timer, of HTTP, of a signal, of the log file.
 *
 * None of them ends the process: a machine that runs out of file descriptors, memory or disk space has some
 * again later. (A write-ahead log that cannot be written does end the process; that is not noted here.)
 * Holds: per kind of failure, when it was last logged and how often it has happened since.
 * Invariants: noting a failure never throws; one kind is logged at most once in REPEAT_MS, with a count,
 * so that a failure that repeats ten times a second does not fill the log.
 * Cost: nothing while nothing fails.
 */
import type { Logger } from './observability/logger.ts';

/** A failure that repeats is logged again after this time, ms. */
const REPEAT_MS = 10_000;
/** Kinds that are counted separately; all further kinds are counted as one. */
const MAX_KINDS = 100;

interface Kind {
  loggedAt: number;
  unlogged: number;
}

export class BackgroundFailures {
  /** Failures since the start. */
  count = 0;
  /** Called with each error first: memory may be ahead of the log because of it. */
  onNoted: (error: unknown) => void = () => {};
  readonly #log: Logger;
  readonly #monotonic: () => number;
  readonly #kinds = new Map<string, Kind>();

  constructor(log: Logger, monotonic: () => number) {
    this.#log = log;
    this.#monotonic = monotonic;
  }

  /** `what` failed with this error; the server goes on. */
  note(what: string, error: unknown): void {
    this.count++;
    try {
      this.onNoted(error);
      this.#write(what, error);
    } catch {
      // There is no other place to report it to.
    }
  }

  /** Runs one duty; its failure is noted. False when it failed. */
  attempt(what: string, duty: () => void): boolean {
    try {
      duty();
      return true;
    } catch (error) {
      this.note(what, error);
      return false;
    }
  }

  #write(what: string, error: unknown): void {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    const code = (error as NodeJS.ErrnoException | null)?.code ?? message.slice(0, 100);
    const now = this.#monotonic();
    let name = `${what} ${code}`;
    if (!this.#kinds.has(name) && this.#kinds.size >= MAX_KINDS) name = 'others';
    const kind = this.#kinds.get(name);
    if (kind !== undefined && now - kind.loggedAt < REPEAT_MS) {
      kind.unlogged++;
      return;
    }
    const repeated = kind === undefined || kind.unlogged === 0 ? {} : { repeated: kind.unlogged };
    this.#kinds.set(name, { loggedAt: now, unlogged: 0 });
    this.#log.write('warning', `${what} failed: ${message}; the server goes on`, {
      ...repeated,
      stack,
    });
  }
}

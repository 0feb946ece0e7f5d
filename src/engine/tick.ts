/**
 * The engine's duties that no command asks for: expired keys and ids, entries whose time has come,
 * retention, overdue requests, tables half resized, the memory budget, waits that end.
 *
 * Invariant: a duty that throws is counted and reported, and does not keep the others from being done.
 * Cost: each duty does a bounded amount of work a call; `nextDeadline` says when the next call is due.
 */

import type { EngineContext } from './engine-context.ts';
import type { Database } from './keyspace/database.ts';
import { addDue } from './schedule/scheduled-entries.ts';
import { expireEntries } from './streams/retention.ts';

/** Time that one tick takes for expired keys, and when the next one comes where there are more, ms. */
const EXPIRY_MS = 5;
const EXPIRY_PAUSE_MS = 10;
/** Keys that are removed between two readings of the clock. */
const EXPIRED_AT_ONCE = 64;
/** Streams whose idempotent ids one tick expires. */
const IDEMPOTENT_STREAMS_PER_TICK = 1000;
/** Most buckets that one tick moves: about a millisecond's work. */
const BUCKETS_PER_TICK = 2000;
/** While the log takes no records, `nextDeadline` is at least this far away, ms. */
const REFUSED_MS = 100;

/** What the duties need beside the context. */
export interface TickHost extends EngineContext {
  readonly databases: readonly Database[];
  readonly requests: { expire(now: number): void };
  /** Serves the readers of signalled keys. */
  serveBlocked(): void;
  /** A duty begins: what it changes is its own. */
  beginDuty(): void;
}

export class Tick {
  readonly #engine: TickHost;
  #nextDatabase = 0;
  /** Monotonic ms at which to go on with expired keys that one tick had no time for. */
  #expireAgainAt = Number.POSITIVE_INFINITY;

  constructor(engine: TickHost) {
    this.#engine = engine;
  }

  /** Does what is due; the engine has read the clock. */
  run(): void {
    const engine = this.#engine;
    const { databases } = engine;
    this.#duty('expiring keys', () => this.#expireKeys());
    this.#duty('expiring idempotent ids', () => this.#expireIdempotentIds());
    this.#duty('adding scheduled entries', () => addDue(engine, databases));
    this.#duty('retention', () => expireEntries(engine, databases));
    this.#duty('ending requests', () => engine.requests.expire(engine.clock.monotonic()));
    this.#duty('resizing tables', () => {
      for (const database of databases) database.keyspace.table.step(BUCKETS_PER_TICK);
    });
    this.#duty('keeping to the memory budget', () => engine.memory.tick());
    this.#duty('serving blocked readers', () => engine.serveBlocked());
    this.#duty('ending waits', () => engine.blocked.expire(engine.time.monotonic));
    // A reader that was retried may have written dead letters that other readers wait for.
    this.#duty('serving blocked readers', () => engine.serveBlocked());
  }

  /** Monotonic ms at which `run` has something to do; Infinity when nothing waits. */
  nextDeadline(): number {
    const { blocked, databases, journal, time } = this.#engine;
    let due = Math.min(blocked.nextDeadline(), this.#expireAgainAt);
    for (const { keyspace } of databases) {
      const retention = time.whenDate(keyspace.retentionDeadlines.firstAt);
      due = Math.min(due, retention, keyspace.schedule.firstAt(time));
    }
    // What is due and cannot be recorded now would make the caller call at once, again and again.
    return journal.refusal === null ? due : Math.max(due, time.monotonic + REFUSED_MS);
  }

  #duty(what: string, work: () => void): void {
    this.#engine.beginDuty();
    try {
      work();
    } catch (error) {
      this.#engine.reportFailure(what, error);
    }
  }

  /**
   * Removes expired keys for EXPIRY_MS a call, beginning with another database each time. Where that
   * is not enough the next call comes after EXPIRY_PAUSE_MS, so expiry keeps up with what expires.
   * No client has to wait for it: a look-up removes an expired key itself.
   */
  #expireKeys(): void {
    const { databases, clock, journal } = this.#engine;
    if (journal.refusal !== null) return;
    this.#expireAgainAt = Number.POSITIVE_INFINITY;
    const end = clock.monotonic() + EXPIRY_MS;
    let removed = 0;
    for (let i = 0; i < databases.length; i++) {
      this.#nextDatabase = (this.#nextDatabase + 1) % databases.length;
      const database = databases[this.#nextDatabase];
      for (;;) {
        const entry = database.keyspace.expiring.first();
        if (entry === undefined || !database.expireIfNeeded(entry)) break;
        if (++removed % EXPIRED_AT_ONCE !== 0 || clock.monotonic() < end) continue;
        // There may be more: the next tick removes them, and commands run before it.
        this.#expireAgainAt = clock.monotonic() + EXPIRY_PAUSE_MS;
        return;
      }
    }
  }

  #expireIdempotentIds(): void {
    const { databases, steady } = this.#engine;
    let left = IDEMPOTENT_STREAMS_PER_TICK;
    for (const { keyspace } of databases) {
      left -= keyspace.idempotencyDeadlines.expire(steady, left);
    }
  }
}

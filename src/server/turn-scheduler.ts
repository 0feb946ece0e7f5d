/**
 * What happens at the end of a turn of the event loop, and later: replies are sent, the log is flushed,
 * waiting clients go on, and the engine's tick runs when its next deadline comes.
 *
 * Invariant: code that runs commands (a received chunk, a tick, an unblocked client) calls
 * `afterCommands`; then every client that something was written to is flushed, and the log is flushed
 * once in this turn.
 * Cost: per client and turn one entry in a list; no allocation.
 */
import type { Engine } from '../engine/engine.ts';
import type { BackgroundFailures } from './background-failures.ts';
import type { DurableWaiters } from './durable-waiters.ts';
import type { Persistence } from './persistence.ts';

/** How long a deferrable reply waits for other bytes to be sent with. */
const COALESCE_MS = 1;
/** Log bytes not yet on disk beyond which no client's input is read. */
export const BACKLOG_MAX = 64 * 1024 * 1024;
/** setTimeout takes no more than 2^31 - 1. */
const LONGEST_TIMER_MS = 1_000_000_000;

/** A client, as far as the end of a turn concerns it. */
export interface ScheduledClient {
  /** Runs what waited for an unblocked command, and sends what was written. */
  endTurn(): void;
  /** Sends deferred replies. */
  flushDeferred(): void;
  /** The log is durable further than before: sends what may be sent. True while output still waits. */
  releaseOutput(): boolean;
  /** The log's backlog is below its limit again. */
  backlogCleared(): void;
  destroy(): void;
}

export class TurnScheduler {
  /** Log bytes not yet on disk beyond which clients wait. */
  backlogMax = BACKLOG_MAX;
  readonly #engine: Engine;
  readonly #persistence: Persistence;
  readonly #failures: BackgroundFailures;
  readonly #durableWaiters: DurableWaiters;
  /** Clients that were written to in this turn. */
  readonly #written: ScheduledClient[] = [];
  #endDue = false;
  #ending = false;
  #awaitingDurable: ScheduledClient[] = [];
  #awaitingBacklog: ScheduledClient[] = [];
  #flushDue = false;
  #flushedTo = 0;
  #deferred: ScheduledClient[] = [];
  #deferTimer: NodeJS.Timeout | null = null;
  #tickTimer: NodeJS.Timeout | null = null;
  /** Monotonic ms at which the timer fires; Infinity = there is none. */
  #tickAt = Number.POSITIVE_INFINITY;

  constructor(
    engine: Engine,
    persistence: Persistence,
    failures: BackgroundFailures,
    durableWaiters: DurableWaiters,
  ) {
    this.#engine = engine;
    this.#persistence = persistence;
    this.#failures = failures;
    this.#durableWaiters = durableWaiters;
    engine.onDue = (at) => this.wakeAt(at);
  }

  /** Something was written to this client: it is flushed at the end of the turn. */
  written(client: ScheduledClient): void {
    this.#written.push(client);
    if (this.#endDue) return;
    this.#endDue = true;
    setImmediate(this.#endTurn);
  }

  /** This client has a reply that may wait COALESCE_MS for other bytes. */
  defer(client: ScheduledClient): void {
    this.#deferred.push(client);
    this.#deferTimer ??= setTimeout(this.#flushDeferred, COALESCE_MS);
  }

  /** To be called after commands were run. */
  afterCommands(): void {
    if (this.#ending) return;
    this.#ending = true;
    const written = this.#written;
    // Resuming a client may run commands that write to others: the list grows during the loop.
    for (let i = 0; i < written.length; i++) this.#endTurnOf(written[i]!);
    written.length = 0;
    this.#ending = false;
    if (this.#engine.journal.appended !== this.#flushedTo && !this.#flushDue) {
      this.#flushDue = true;
      setImmediate(this.#flushLog);
    }
  }

  #endTurnOf(client: ScheduledClient): void {
    try {
      client.endTurn();
    } catch (error) {
      this.#failures.note('answering a client', error);
      client.destroy();
    }
  }

  /** This client has output that waits for the disk. */
  awaitDurable(client: ScheduledClient): void {
    this.#awaitingDurable.push(client);
  }

  /** The log is durable further than before, or its backlog has become smaller. */
  durable(): void {
    this.#durableWaiters.release();
    const waiting = this.#awaitingDurable;
    if (waiting.length > 0) {
      this.#awaitingDurable = [];
      for (const client of waiting) {
        if (client.releaseOutput()) this.#awaitingDurable.push(client);
      }
    }
    if (this.#awaitingBacklog.length > 0 && !this.backlogged) {
      const resumed = this.#awaitingBacklog;
      this.#awaitingBacklog = [];
      for (const client of resumed) client.backlogCleared();
    }
  }

  /** The disk does not keep up: more writes would only fill memory. */
  get backlogged(): boolean {
    return this.#persistence.backlog > this.backlogMax;
  }

  /** Calls this client's `backlogCleared` when the backlog is below its limit. */
  awaitBacklog(client: ScheduledClient): void {
    this.#awaitingBacklog.push(client);
  }

  /** The engine's tick must run at this time at the latest, monotonic ms: a client's wait ends then. */
  wakeAt(deadline: number): void {
    if (deadline >= this.#tickAt) return;
    this.#tickAt = deadline;
    if (this.#tickTimer !== null) clearTimeout(this.#tickTimer);
    const left = Math.max(deadline - this.#engine.clock.monotonic(), 0) + 1;
    this.#tickTimer = setTimeout(
      () => {
        this.#tickTimer = null;
        this.#tickAt = Number.POSITIVE_INFINITY;
        this.#failures.attempt('a timer', () => this.tick());
      },
      Math.min(left, LONGEST_TIMER_MS),
    );
    this.#tickTimer.unref();
  }

  /** Runs the engine's due work, and sends what it wrote. */
  tick(): void {
    this.#engine.tick();
    this.afterCommands();
    const next = this.#engine.nextDeadline();
    if (next !== Number.POSITIVE_INFINITY) this.wakeAt(next);
  }

  close(): void {
    if (this.#tickTimer !== null) clearTimeout(this.#tickTimer);
    this.#tickTimer = null;
    if (this.#deferTimer !== null) clearTimeout(this.#deferTimer);
    this.#deferTimer = null;
  }

  readonly #flushDeferred = (): void => {
    this.#deferTimer = null;
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const client of deferred) {
      this.#failures.attempt('sending a deferred reply', () => client.flushDeferred());
    }
  };

  readonly #endTurn = (): void => {
    this.#endDue = false;
    this.afterCommands();
  };

  readonly #flushLog = (): void => {
    this.#flushDue = false;
    this.#flushedTo = this.#engine.journal.appended;
    this.#failures.attempt('flushing the log', () => this.#persistence.flush());
  };
}

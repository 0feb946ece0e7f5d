/**
 * What a suspended client waits for: keys, or something that is done elsewhere (a checkpoint, an answer).
 *
 * Holds: at most one wait, with a copy of the command that began it.
 * Invariants: while there is one the client is suspended and the engine knows the wait; it ends once, by
 * its data, its deadline, CLIENT UNBLOCK, or the connection's end. A wait that ends without its own
 * answer is abandoned: what it started elsewhere can write nothing to the client any more.
 * Cost: a wait is one object and one copy of the arguments; commands that do not wait never come here.
 */
import type { BlockedReader } from '../engine/blocked-readers.ts';
import type { ServerState } from './server-state.ts';
import type { BlockingWait, Session } from './session.ts';

interface Suspension extends BlockedReader {
  readonly wait: BlockingWait;
  /** Bytes of the kept command. */
  readonly bytes: number;
}

/** What `waitFor` waits for. */
export interface WaitOptions {
  /** Unix ms; absent = no deadline. */
  readonly deadline?: number;
  /** The wait ended without its answer: CLIENT UNBLOCK with an error, the connection's end. */
  readonly abandoned?: () => void;
  /** False: CLIENT UNBLOCK does not end it. @default true */
  readonly unblockable?: boolean;
}

/** The connection, as its waits see it. */
export interface Waiter extends Session {
  readonly server: ServerState;
  /** No command runs until `answered`. */
  suspendForWait(): void;
  /** The end of a wait, or a retry, begins to write; returns where. */
  beginAnswer(): number;
  /** A retry threw: the reply from `start` on becomes the error. */
  retryFailed(error: Error, start: number): void;
  /** The retry has written nothing: the wait goes on. */
  stillWaits(start: number): void;
  /** The wait is over; its reply begins at `start`. */
  answered(start: number): void;
}

export class Blocking {
  readonly #client: Waiter;
  #suspension: Suspension | null = null;

  constructor(client: Waiter) {
    this.#client = client;
  }

  get active(): boolean {
    return this.#suspension !== null;
  }

  /** Bytes of the command that waits. */
  get bytes(): number {
    return this.#suspension === null ? 0 : this.#suspension.bytes;
  }

  block(wait: BlockingWait): void {
    const client = this.#client;
    const kept = client.args.clone();
    const suspension: Suspension = {
      wait,
      bytes: kept.buffer.length,
      database: wait.database,
      keys: wait.keys,
      deadline: wait.deadline,
      get wakeAt() {
        return wait.wakeAt;
      },
      ready: () => wait.ready?.() ?? true,
      retry: () => {
        client.args = kept;
        const start = client.beginAnswer();
        try {
          if (!wait.retry(client)) {
            client.stillWaits(start);
            this.#wakeFor(wait);
            return false;
          }
        } catch (error) {
          // It must not be taken for a failure of the command that woke this reader.
          client.retryFailed(error as Error, start);
        }
        this.#end(start);
        return true;
      },
      timedOut: () => {
        client.args = kept;
        const start = client.beginAnswer();
        wait.timedOut(client);
        this.#end(start);
      },
    };
    this.#suspension = suspension;
    client.suspendForWait();
    client.engine.blocked.add(suspension);
    this.#wakeFor(wait);
  }

  /** Sees to it that the engine's tick comes in time for the wait. */
  #wakeFor(wait: BlockingWait): void {
    const at = Math.min(wait.deadline, wait.wakeAt ?? Number.POSITIVE_INFINITY);
    if (at !== Number.POSITIVE_INFINITY) this.#client.server.wakeAt(at);
  }

  /** As Connection.waitFor. */
  waitFor(done: Promise<void>, answer: (error: Error | null) => void, options: WaitOptions): void {
    const client = this.#client;
    const { abandoned, unblockable } = options;
    this.block({
      database: client.database,
      keys: [],
      deadline: options.deadline ?? Number.POSITIVE_INFINITY,
      retry: () => false,
      timedOut: () => answer(null),
      ...(abandoned && { abandoned }),
      ...(unblockable !== undefined && { unblockable }),
    });
    const suspension = this.#suspension;
    const settle = (error: Error | null): void => {
      if (this.#suspension !== suspension || suspension === null) return;
      client.engine.blocked.remove(suspension);
      const start = client.beginAnswer();
      answer(error);
      this.#end(start);
    };
    done.then(
      () => settle(null),
      (error: Error) => settle(error),
    );
  }

  /** CLIENT UNBLOCK. False when there is no wait that it may end. */
  unblock(withError: boolean): boolean {
    const suspension = this.#suspension;
    if (suspension === null || suspension.wait.unblockable === false) return false;
    const { engine, reply } = this.#client;
    engine.blocked.remove(suspension);
    if (withError) {
      const start = this.#client.beginAnswer();
      reply.error('UNBLOCKED client unblocked via CLIENT UNBLOCK');
      this.#suspension = null;
      suspension.wait.abandoned?.();
      this.#client.answered(start);
    } else {
      suspension.timedOut();
    }
    return true;
  }

  /** The connection has ended: there is no client to answer. */
  forget(): void {
    const suspension = this.#suspension;
    if (suspension === null) return;
    this.#suspension = null;
    this.#client.engine.blocked.remove(suspension);
    suspension.wait.abandoned?.();
  }

  #end(start: number): void {
    this.#suspension = null;
    this.#client.answered(start);
  }
}

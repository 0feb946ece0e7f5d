/**
 * What a blocked client waits for: keys, or work outside its own command (a checkpoint, an answer).
 *
 * Holds: at most one wait, with a copy of the command that began it.
 * Invariants: while there is a wait, the client is suspended and the wait is registered with the engine. It
 * ends once: by its data, its deadline, CLIENT UNBLOCK, or the connection's end. After that, nothing that it
 * started can write to the client.
 * Cost: a wait is one object and one copy of the arguments; commands that do not wait never come here.
 */
import type { BlockedReader } from '../../engine/keyspace/blocked-readers.ts';
import type { BlockingWait, Session, WaitOptions } from '../connection/session.ts';
import type { ServerState } from '../server-state.ts';
import type { Recheck } from './command-dispatcher.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** A command that writes and that the log refuses is tried again after this time, ms. */
const REFUSED_MS = 100;

interface Blocked extends BlockedReader {
  readonly wakeAt: number;
  /** Monotonic ms at which it is tried again because it could not be recorded. */
  againAt: number;
  readonly wait: BlockingWait;
  /** Bytes of the kept command. */
  readonly bytes: number;
}

/** The client that waits. */
export interface Waiter extends Session {
  readonly server: ServerState;
  /** No command runs until `answered`. */
  suspendForWait(): void;
  /** The end of a wait, or a retry, begins to write; returns where. */
  beginAnswer(): number;
  /** Whether the command that waits may run again now; `refused`: the error was written. */
  recheckWaiting(): Recheck;
  /** A retry threw: the reply from `start` on becomes the error. */
  retryFailed(error: Error, start: number): void;
  /** The retry has written nothing: the wait goes on. */
  stillWaits(start: number): void;
  /** The wait is over; its reply begins at `start`. */
  answered(start: number): void;
}

export class Blocking {
  readonly #client: Waiter;
  #blocked: Blocked | null = null;

  constructor(client: Waiter) {
    this.#client = client;
  }

  get active(): boolean {
    return this.#blocked !== null;
  }

  /** Bytes of the command that waits. */
  get bytes(): number {
    return this.#blocked === null ? 0 : this.#blocked.bytes;
  }

  block(wait: BlockingWait): void {
    const client = this.#client;
    const kept = client.args.clone();
    const blocked: Blocked = {
      wait,
      bytes: kept.buffer.length,
      database: wait.database,
      keys: wait.keys,
      deadline: wait.deadline,
      againAt: NEVER,
      get wakeAt() {
        const at = wait.wakeAt ?? NEVER;
        return Math.min(at, blocked.againAt);
      },
      ready: () => wait.ready?.() ?? true,
      retry: () => {
        client.args = kept;
        const start = client.beginAnswer();
        try {
          const may = client.recheckWaiting();
          blocked.againAt = may === 'later' ? client.engine.time.monotonic + REFUSED_MS : NEVER;
          if (may === 'later' || (may === 'run' && !wait.retry(client))) {
            client.stillWaits(start);
            this.#wakeFor(blocked);
            return false;
          }
        } catch (error) {
          // Caught here: otherwise the command that signalled the key would fail.
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
    this.#blocked = blocked;
    client.suspendForWait();
    client.engine.blocked.add(blocked);
    this.#wakeFor(blocked);
  }

  /** Makes the engine's tick run when the wait is due. */
  #wakeFor(blocked: Blocked): void {
    const at = Math.min(blocked.deadline, blocked.wakeAt);
    if (at !== NEVER) this.#client.server.turns.wakeAt(at);
  }

  /** As Session.waitFor. */
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
    const blocked = this.#blocked;
    const settle = (error: Error | null): void => {
      if (this.#blocked !== blocked || blocked === null) return;
      client.engine.blocked.remove(blocked);
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
    const blocked = this.#blocked;
    if (blocked === null || blocked.wait.unblockable === false) return false;
    const { engine, reply } = this.#client;
    engine.blocked.remove(blocked);
    if (withError) {
      const start = this.#client.beginAnswer();
      reply.error('UNBLOCKED client unblocked via CLIENT UNBLOCK');
      this.#blocked = null;
      blocked.wait.abandoned?.();
      this.#client.answered(start);
    } else {
      blocked.timedOut();
    }
    return true;
  }

  /** The connection has ended: there is no client to answer. */
  forget(): void {
    const blocked = this.#blocked;
    if (blocked === null) return;
    this.#blocked = null;
    this.#client.engine.blocked.remove(blocked);
    blocked.wait.abandoned?.();
  }

  #end(start: number): void {
    this.#blocked = null;
    this.#client.answered(start);
  }
}

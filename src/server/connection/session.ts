/**
 * What a command sees of the client that sent it.
 *
 * connection.ts implements it over a socket; tests implement it without one. Commands about clients, users
 * and the server itself need more: see client-session.ts.
 */

import type { NeededBlocks } from '../../engine/checkpoint/read-ahead.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { CommandEntry } from '../command/command-table.ts';
import type { RequestSession } from '../command/request-session.ts';
import type { Subscriptions } from '../command/subscriptions.ts';
import type { Transaction } from '../command/transaction.ts';
import type { PushTarget } from '../output/push-target.ts';
import type { Reply } from '../output/reply.ts';

export interface Session extends PushTarget {
  readonly id: number;
  /** The selected database. */
  database: Database;
  /** The command being run; argument 0 is its name. Valid until `run` returns. */
  args: Arguments;
  readonly reply: Reply;
  /** Inside EXEC: blocking commands must answer as if the timeout had passed at once. */
  readonly denyBlocking: boolean;
  /** Null until MULTI or WATCH is used. */
  transaction: Transaction | null;
  /** Null until a channel or pattern is subscribed to. */
  subscriptions: Subscriptions | null;
  /** Null until the client sends a request or responds to a topic. */
  requests: RequestSession | null;
  /**
   * Suspends the client until `retry` returns true (it then has written its reply), the deadline passes
   * (`timedOut` writes the reply) or the wait is ended early (CLIENT UNBLOCK, the connection's end).
   */
  block(wait: BlockingWait): void;
  /** As `block`, until `done` settles; then `answer` writes the reply, with `done`'s error if it failed. */
  waitFor(done: Promise<void>, answer: (error: Error | null) => void, options?: WaitOptions): void;
  /**
   * For a command that is about to look at many blocks of a stream: true when they have to be read
   * first. The command then returns without a reply and without a change, and is run again.
   */
  readFirst(needed: NeededBlocks): boolean;
  /**
   * Runs one queued command now, as EXEC does: sets `args`, checks the ACL again, counts it. While
   * it runs `denyBlocking` is true.
   */
  execute(command: CommandEntry, args: Arguments): void;
  /**
   * The reply from `start` on shows nothing that was recorded at this position of the log or behind it.
   */
  showsUpTo(start: number, position: number): void;
  /**
   * The reply from `start` on shows no stored data: it need not wait for the disk, and may wait a
   * millisecond for other bytes to be sent with.
   */
  deferrable(start: number): void;
}

export interface BlockingWait {
  readonly database: Database;
  readonly keys: readonly Buffer[];
  /** Monotonic ms (`deadlineIn`); Infinity = none. */
  readonly deadline: number;
  /**
   * Monotonic ms at which `retry` is due although no key was signalled (XREADGROUP CLAIM: a pending entry
   * becomes old enough); absent or Infinity = never. Read when the wait begins and after each retry.
   */
  readonly wakeAt?: number;
  /** As BlockedReader.ready. */
  ready?(): boolean;
  /**
   * Runs the command again (session.args is a kept copy). True when it replied (data or error);
   * false to go on waiting, keeping deadline and place in line.
   */
  retry(session: Session): boolean;
  timedOut(session: Session): void;
  /** The wait ended without its answer: CLIENT UNBLOCK with an error, the connection's end. */
  abandoned?(): void;
  /** False: CLIENT UNBLOCK does not end it. @default true */
  readonly unblockable?: boolean;
}

/** How `waitFor` waits. */
export interface WaitOptions {
  /** Monotonic ms; absent = none. */
  readonly deadline?: number;
  /** As BlockingWait.abandoned. */
  readonly abandoned?: () => void;
  /** As BlockingWait.unblockable. */
  readonly unblockable?: boolean;
}

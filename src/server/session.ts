/**
 * What a command sees of the connection that sent it.
 *
 * connection.ts implements it over a socket; tests implement it over nothing.
 */
import type { Database } from '../engine/database.ts';
import type { Engine } from '../engine/engine.ts';
import type { Arguments } from '../util/arguments.ts';
import type { CommandEntry } from './command-table.ts';
import type { Reply } from './reply.ts';

export interface Session {
  readonly id: number;
  readonly engine: Engine;
  /** The selected database. */
  database: Database;
  /** The command being run; argument 0 is its name. Valid until `run` returns. */
  args: Arguments;
  readonly reply: Reply;
  /** Inside EXEC: blocking commands must answer as if the timeout had passed at once. */
  readonly denyBlocking: boolean;
  /** MULTI's queue and WATCH's keys; null until one of them is used (transaction.ts sets it). */
  transaction: TransactionState | null;
  /** Channels and patterns listened to; null until one is (pubsub.ts sets it). */
  subscriptions: SubscriptionState | null;
  /** Its part in requests and replies; null until it has one (exchange.ts sets it). */
  exchange: ExchangeState | null;
  /**
   * Suspends the connection until `retry` returns true (it then has written its reply), the deadline
   * passes (`timedOut` writes the reply) or the wait is broken (`broken` writes the error).
   */
  block(wait: BlockingWait): void;
  /**
   * Runs one queued command now, as EXEC does: sets `args`, checks the ACL again, counts it. While
   * it runs `denyBlocking` is true. The caller is a command, so `settle` follows after the caller.
   */
  execute(command: CommandEntry, args: Arguments): void;
  /**
   * Where a push is written: a message that is no reply (of a channel, a request). It follows the
   * reply of the command that this session runs, if it runs one. To be asked for each push.
   */
  readonly pushes: Reply;
  /**
   * To be called after one push was written to `pushes`: it leaves at the end of the loop's turn.
   * `start` is the length of `pushes` before it, given where it tells of nothing that was stored and
   * need not wait for the disk.
   */
  written(start?: number): void;
  /** Whether the client reads what it is sent: further requests may be sent to it. */
  readonly hasRoom: boolean;
  /**
   * The reply from `start` on says only that the command was taken: it may wait a millisecond for
   * other bytes to leave with, and does not wait for the disk.
   */
  unhurried(start: number): void;
}

export interface BlockingWait {
  readonly database: Database;
  readonly keys: readonly Buffer[];
  /** Monotonic ms (`deadlineIn`); Infinity = forever. */
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

/** What the dispatch loop needs to know of MULTI (transaction.ts implements it). */
export interface TransactionState {
  /** Between MULTI and EXEC or DISCARD. */
  readonly active: boolean;
  /** How many commands are queued. */
  readonly queued: number;
  /** How many bytes that takes. */
  readonly queuedBytes: number;
  /** How many keys are watched. */
  readonly watched: number;
  /** How many bytes that takes. */
  readonly watchedBytes: number;
  /** The flags (command-table.ts) of all queued commands, or-ed. */
  readonly queuedFlags: number;
  /**
   * Keeps a command (and a clone of its arguments) for EXEC; the loop answers +QUEUED. False when
   * the queue is full: EXEC will answer EXECABORT, and the loop answers with `QUEUE_FULL`.
   */
  enqueue(command: CommandEntry, args: Arguments): boolean;
  /** A command was refused while queueing: EXEC will answer EXECABORT. */
  refuse(): void;
  /** Forgets queue and watched keys: RESET, the connection's end, EXEC refused. */
  discard(): void;
}

/** What the dispatch loop needs to know of requests and replies (exchange.ts implements it). */
export interface ExchangeState {
  /** On how many topics it answers. */
  readonly responds: number;
  /** Whether it answers, or waits for an answer: pushes may come at any time. */
  readonly active: boolean;
  /** Bytes that are held for its requests. */
  readonly bytes: number;
  /** The client reads again: requests that wait for it may be sent. */
  roomAgain(): void;
  /** A silence of the connection after which its responders count as dead, ms; Infinity = none. */
  readonly longestSilence: number;
  /** Gives up what it asked, loses what it was given: RESET and the connection's end. */
  clear(): void;
}

/** What the dispatch loop and CLIENT LIST need to know of publish/subscribe (pubsub.ts implements it). */
export interface SubscriptionState {
  readonly channels: number;
  readonly patterns: number;
  readonly shardChannels: number;
  /** All of them together. */
  readonly total: number;
  /** Bytes of their names. */
  readonly bytes: number;
  /** Calls back with each name until one call returns false; false then. */
  every(allowed: (name: Buffer, isPattern: boolean) => boolean): boolean;
  /** Leaves everything without a word: RESET and the connection's end. */
  clear(): void;
}

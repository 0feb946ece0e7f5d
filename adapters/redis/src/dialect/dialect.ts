/**
 * The interface between the broker and the server, for everything beyond plain stream commands.
 *
 * Redis has no commands for delays, deadlines of single messages, dead letters and publish ids: there
 * they are scripts (lua-dialect.ts). Rivulet's own server has commands for them (rivulet-dialect.ts).
 * The dialect is chosen once per connect, and nothing outside this folder depends on it.
 * Invariants of both: a delivery is settled only while it belongs to its consumer; changes that belong
 * together are atomic.
 */
import type {
  Capabilities,
  PublishPlan,
  RawDelivery,
  RawMessage,
  Receipt,
  ResolvedSubscribeOptions,
  RivuletError,
} from 'rivulet/adapter';
import type { Argument, Connection } from '../connection.ts';
import type { GroupTopic } from '../subscription/group-topic.ts';

/** A consumer's claim to a message of a group. */
export interface Claim {
  readonly at: GroupTopic;
  readonly consumer: string;
  readonly raw: Pick<RawDelivery, 'id' | 'attempt'>;
}

/** A message that was claimed from another consumer, or from this one before a reconnect. */
export type Taken = readonly [
  id: Buffer,
  attempts: number | Buffer,
  fields: Buffer[],
  /** 1 if its last consumer neither settled it nor gave it back. */
  suspect?: number,
  /** False when the server's count does not include this delivery. */
  counted?: boolean,
];

/** The result of reading many streams, by stream. */
export interface Sweep {
  readonly found: readonly (readonly [id: Buffer, fields: Buffer[]][])[];
  /** The last id of each stream that was delivered to the group. */
  readonly upTo: readonly string[];
  /** Of the first stream that the server refused to read. What others had is in `found`. */
  readonly refusal: RivuletError | null;
}

export interface DueScan {
  /** The time until the next scan, ms. */
  readonly waitMs: number;
  readonly taken: readonly Taken[];
  /** Ids whose entries were trimmed away while pending. */
  readonly gone: readonly Buffer[];
}

export interface Recovery {
  /** The id to continue after; null = none is left. */
  readonly after: string | null;
  readonly taken: readonly Taken[];
  readonly gone: readonly Buffer[];
}

export interface Dialect {
  readonly capabilities: Pick<Capabilities, 'delayedNack' | 'delayedPublish' | 'dedup'>;
  /** Whether a reader has to scan for due messages; false = reads deliver them. */
  readonly scansForDue: boolean;
  /** Whether COUNT bounds a read of several streams in total; false = it bounds each stream. */
  readonly hasTotalBound: boolean;
  /** The consumer names under which XPENDING shows messages that no consumer owns. */
  readonly unowned: ReadonlySet<string>;

  start(): void;
  stop(): Promise<void>;

  /** Registers topics, so that other clients discover them. */
  registerTopics(topics: readonly string[]): Promise<void>;
  topics(): Promise<string[]>;
  publishOnce(topic: string, message: RawMessage, plan: PublishPlan): Promise<Receipt>;
  publishLater(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]>;
  /** Moves one dead letter back to its topic. Resolves to false if it no longer exists. */
  redrive(dead: string, id: Buffer, topic: string, message: RawMessage): Promise<boolean>;
  /** Resets the group to this id, without pending messages. */
  resetGroup(at: GroupTopic, from: string): Promise<void>;
  deleteTopic(topic: string, groups: readonly string[]): Promise<void>;

  /** Sets the group's policy at the server to this subscription's options. */
  applyPolicy(at: GroupTopic, options: ResolvedSubscribeOptions): Promise<void>;
  /** Options of XREADGROUP beside group, consumer and streams. `perStream` bounds each, `room` all. */
  readOptions(perStream: number, room: number, options: ResolvedSubscribeOptions): Argument[];
  /**
   * Reads new messages of several topics of one group, at most `room` in total; does not block. `counted`:
   * the server counts their delivery.
   */
  sweep(
    topics: readonly GroupTopic[],
    consumer: string,
    room: number,
    connection: Connection,
    counted: boolean,
  ): Promise<Sweep>;
  claimDue(at: GroupTopic, consumer: string, ackWaitMs: number, count: number): Promise<DueScan>;
  /**
   * Claims the group's pending messages that are not in `held`, in order of id after `at.recoverAfter`: of
   * this consumer, or of all. Messages of this consumer keep their count of deliveries.
   */
  recover(
    at: GroupTopic,
    consumer: string,
    ofAll: boolean,
    count: number,
    held: readonly string[],
  ): Promise<Recovery>;
  /** Removes consumers without pending messages that have been idle for `silentMs`. */
  removeIdleConsumers(at: GroupTopic, silentMs: number): Promise<void>;
  /** Acquires or renews the lead of an ordered group. `own` is the reader's connection. */
  lead(at: GroupTopic, consumer: string, ms: number, own: Connection): Promise<boolean>;
  yieldLead(at: GroupTopic, consumer: string): Promise<void>;

  // Each resolves to false if the message no longer belongs to the consumer.
  nack(claim: Claim, delayMs: number, reason: string): Promise<boolean>;
  release(claim: Claim): Promise<boolean>;
  extend(claim: Claim, ms: number, ackWaitMs: number): Promise<boolean>;
  storeAttempt(claim: Claim): Promise<boolean>;
  /** As `storeAttempt`, in one command, which is given to the connection before this returns. */
  storeAttemptNow(claim: Claim): Promise<boolean>;
  deadLetter(
    claim: Claim,
    raw: RawDelivery,
    options: ResolvedSubscribeOptions,
    to: string,
    reason: string,
  ): Promise<boolean>;
}

/** XADD as a publish needs it. */
export function addCommand(
  stream: string,
  fields: readonly Argument[],
  maxLength: number | null,
): [string, ...Argument[]] {
  return maxLength === null
    ? ['XADD', stream, '*', ...fields]
    : ['XADD', stream, 'MAXLEN', '~', maxLength, '*', ...fields];
}

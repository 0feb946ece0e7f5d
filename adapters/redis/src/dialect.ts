/**
 * What the broker asks of a server beyond plain stream commands, and what every server is asked.
 *
 * Redis has no command for delays, deadlines of single messages, dead letters and publish ids: there
 * they are scripts (scripted.ts). Rivulet's own server has commands for them (native.ts). Which one
 * speaks is found out once per connect; nothing above this knows the difference.
 * Invariants of both: what settles a delivery does so only while it is still its consumer's; what must
 * happen together happens as one.
 */
import type {
  Capabilities,
  Message,
  PublishPlan,
  RawDelivery,
  Receipt,
  ResolvedSubscribeOptions,
} from 'rivulet';
import type { Argument, Connection } from './connection.ts';
import type { GroupTopic } from './group-topic.ts';

/** A consumer's claim to a message of a group. */
export interface Hold {
  readonly at: GroupTopic;
  readonly consumer: string;
  readonly raw: Pick<RawDelivery, 'id' | 'attempt'>;
}

/** A message that was taken over from another, or from before. */
export type Taken = readonly [
  id: Buffer,
  attempts: number | Buffer,
  fields: Buffer[],
  /** 1 when its last consumer has vanished with it. */
  suspect?: number,
  /** False when the server's count does not include this delivery. */
  counted?: boolean,
];

/** What a read of many streams has brought, stream by stream. */
export interface Sweep {
  readonly found: readonly (readonly [id: Buffer, fields: Buffer[]][])[];
  /** Up to where the group has been given what each stream holds. */
  readonly upTo: readonly string[];
}

export interface Look {
  /** How long until the next one, in milliseconds. */
  readonly waitMs: number;
  readonly taken: readonly Taken[];
  /** Ids whose entries were trimmed away while pending. */
  readonly gone: readonly Buffer[];
}

export interface Recovery {
  /** The id to go on after; null = that was all. */
  readonly after: string | null;
  readonly taken: readonly Taken[];
  readonly gone: readonly Buffer[];
}

export interface Dialect {
  readonly capabilities: Pick<Capabilities, 'delayedNack' | 'delayedPublish' | 'dedup'>;
  /** Whether a reader has to look for what is due; false = reading brings it. */
  readonly looks: boolean;
  /** Whether one read keeps to one bound for all its streams; false = the bound is each stream's. */
  readonly boundsAll: boolean;
  /** In whose names messages wait for their next consumer, as XPENDING shows them. */
  readonly nobody: ReadonlySet<string>;

  start(): void;
  stop(): Promise<void>;

  /** Makes topics known to the clients that look for topics. */
  announce(topics: readonly string[]): Promise<void>;
  topics(): Promise<string[]>;
  publishOnce(topic: string, message: Message, plan: PublishPlan): Promise<Receipt>;
  publishLater(topic: string, messages: readonly Message[], plan: PublishPlan): Promise<Receipt[]>;
  /** Sends one dead letter back; false when it is gone. */
  redrive(dead: string, id: Buffer, topic: string, message: Message): Promise<boolean>;
  /** The group begins anew after this id, and nothing of it is pending. */
  restart(at: GroupTopic, from: string): Promise<void>;
  deleteTopic(topic: string, groups: readonly string[]): Promise<void>;

  /** Tells the server what this subscription wants for its group. */
  adopt(at: GroupTopic, options: ResolvedSubscribeOptions): Promise<void>;
  /**
   * Options of XREADGROUP beside group, consumer and streams. `perStream` bounds each, `room` all;
   * `idle` of them are handed over at once.
   */
  readOptions(
    perStream: number,
    room: number,
    options: ResolvedSubscribeOptions,
    idle: number,
  ): Argument[];
  /** New messages of topics of one group, not more than `room` of all together; does not wait. */
  sweep(
    topics: readonly GroupTopic[],
    consumer: string,
    room: number,
    connection: Connection,
  ): Promise<Sweep>;
  take(at: GroupTopic, consumer: string, ackWaitMs: number, count: number): Promise<Look>;
  /**
   * Takes again, in order of id and after `at.recoverAfter`, what the group has been given and this
   * process does not hold: of one consumer, or of all. What was this consumer's keeps its count.
   */
  recover(
    at: GroupTopic,
    consumer: string,
    ofAll: boolean,
    count: number,
    held: readonly string[],
  ): Promise<Recovery>;
  /** Removes consumers that own nothing and have been silent. */
  tidy(at: GroupTopic, silentMs: number): Promise<void>;
  /** Takes or keeps the lead of an ordered group. `own` is the asking reader's connection. */
  lead(at: GroupTopic, consumer: string, ms: number, own: Connection): Promise<boolean>;
  yieldLead(at: GroupTopic, consumer: string): Promise<void>;

  // Each answers false when the message is no longer the consumer's.
  nack(hold: Hold, delayMs: number, reason: string): Promise<boolean>;
  release(hold: Hold): Promise<boolean>;
  extend(hold: Hold, ms: number, ackWaitMs: number): Promise<boolean>;
  recount(hold: Hold): Promise<boolean>;
  bury(
    hold: Hold,
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

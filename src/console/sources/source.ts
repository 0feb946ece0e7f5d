/**
 * Where a console's data comes from.
 *
 * Holds: the contract of a source (the engine of this process, a server that speaks RESP, any Broker) and
 * the viewer that each question names. A method that is absent is a thing that the broker cannot show or
 * do; `capabilities` says the same to the pages, with a sentence in `missing`.
 * Invariants: a source never makes a group, a consumer or a topic by being asked; a viewer sees only what
 * its rights allow; no turn of the loop takes longer than a slice (2 ms) however large the broker is.
 */

import type { Message } from '../../broker/message/message.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import type {
  Capabilities,
  ClientRow,
  GroupDetail,
  GroupRow,
  Overview,
  PendingPage,
  ServerFacts,
  SlowRow,
  TopicDetail,
  TopicSort,
  TopicsPage,
} from '../api-types.ts';
import type { Commands, RawEntry } from './commands.ts';

/** The user that a question is asked for. */
export interface Viewer {
  /** Empty on a console without users. */
  readonly user: string;
  readonly address: string;
  /** Runs commands with the viewer's rights; null where the broker speaks no RESP. */
  readonly commands: Commands | null;
  /** Every topic is visible. */
  readonly seesAll: boolean;
  /** Whether this topic may be read. */
  sees(name: Buffer): boolean;
  /** Whether a command may be run, its keys included: `['XDEL', key, '0-1']`. */
  may(...command: readonly (string | Buffer)[]): boolean;
  /** Whether a command may be run on some keys at least. */
  mayAnyKey(...command: readonly string[]): boolean;
}

export interface TopicsQuery {
  readonly q: string;
  readonly sort: TopicSort;
  readonly after: string | null;
  readonly limit: number;
  readonly scan: boolean;
  /** Rivulet's own topics too. */
  readonly internal: boolean;
}

export interface EntryRange {
  /** An id; exclusive when `isAfter`. Null = the beginning (or the end, with `newest`). */
  readonly from: string | null;
  readonly isAfter: boolean;
  /** An id, inclusive; null = no bound. */
  readonly to: string | null;
  readonly newest: boolean;
  readonly limit: number;
  /** Bytes of each value that are wanted; absent = all. More may come. */
  readonly cut?: number;
}

export interface TopicEdges {
  readonly length: number;
  readonly firstId: string | null;
  readonly lastId: string | null;
  /** Times of the two, Unix ms. */
  readonly firstAt: number | null;
  readonly lastAt: number | null;
}

export interface PendingQuery {
  readonly after: string | null;
  readonly consumer: Buffer | null;
  readonly minIdleMs: number;
  readonly limit: number;
}

/** A message that is added later. */
export interface RawScheduled {
  readonly number: string;
  readonly dueAt: number;
  readonly fields: Buffer[];
}

/** A topic of dead letters; an interface, because several topics may share one. */
export interface DeadTopic {
  readonly topic: Buffer;
  /** The topic that its name says. */
  readonly of: Buffer;
  readonly length: number;
  /** Only its newest `length` entries are letters that wait: the others were redriven, and stay stored. */
  readonly isBounded?: boolean;
}

export interface ConsoleSource {
  /** `engine`, `rivulet`, `redis`, `rabbitmq`, `nats`, `memory`, `file`. */
  readonly kind: string;
  /** Without credentials. */
  readonly address: string;
  readonly capabilities: Capabilities;

  overview(viewer: Viewer): Promise<Overview>;
  topics?(viewer: Viewer, query: TopicsQuery): Promise<TopicsPage>;
  /** Null: there is no such topic. */
  topic?(viewer: Viewer, topic: Buffer): Promise<TopicDetail | null>;
  edges?(viewer: Viewer, topic: Buffer): Promise<TopicEdges | null>;
  entries?(viewer: Viewer, topic: Buffer, range: EntryRange): Promise<RawEntry[]>;
  /** The id of the entry whose publisher has this other id; null: it was not found. */
  idOfMessage?(topic: Buffer, messageId: string): Promise<string | null>;
  scheduled?(viewer: Viewer, topic: Buffer): Promise<{ total: number; entries: RawScheduled[] }>;
  groups?(viewer: Viewer, topic: Buffer): Promise<GroupRow[] | null>;
  group?(viewer: Viewer, topic: Buffer, group: Buffer): Promise<GroupDetail | null>;
  pending?(
    viewer: Viewer,
    topic: Buffer,
    group: Buffer,
    query: PendingQuery,
  ): Promise<PendingPage | null>;
  /** Topics that hold dead letters. */
  deadTopics?(viewer: Viewer): Promise<DeadTopic[]>;
  /** Publishes a message; the broker is not one of commands. */
  publish?(topic: Buffer, fields: readonly CommandArgument[]): Promise<string>;
  /** Deletes an entry; false: it is not there. The broker is not one of commands. */
  remove?(topic: Buffer, id: string): Promise<boolean>;
  /** Publishes a copy of an entry, once for each `variant`, then deletes the entry. Returns the new id. */
  move?(
    from: Buffer,
    id: string,
    to: Buffer,
    fields: readonly CommandArgument[],
    variant: string,
  ): Promise<string>;
  /** Redrives the oldest `limit` dead letters of a topic, where single ones cannot be taken. */
  redriveOldest?(dead: Buffer, limit: number): Promise<number>;
  deleteTopic?(topic: Buffer): Promise<void>;
  /** Stores an entry of the audit, whatever the viewer's rights. */
  appendAudit(entry: Message): Promise<void>;
  server?(viewer: Viewer): Promise<ServerFacts>;
  clients?(viewer: Viewer): Promise<ClientRow[]>;
  slowlog?(viewer: Viewer): Promise<SlowRow[]>;
  /** Once a second, whether a page is open or not. */
  sample?(): void;
  /** A page is open: what is gathered only for open pages is gathered for a while. */
  looked?(): void;
  close(): Promise<void>;
}

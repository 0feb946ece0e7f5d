/**
 * Journals: streams of records that one writer at a time extends. A commit appends records and, in the
 * same step, has effects on other streams.
 *
 * Holds: the contract (`broker.journal`) and what its implementations share. It uses conditional
 * commits (`EXEC IFLAST`, docs/extensions.md): a commit names the last id that its writer saw, and is
 * refused where the journal has a later record. Keys are stream keys, not topics: they may contain
 * braces, and subscriptions with wildcards do not match them.
 * Invariant: a commit is stored whole or not at all. Where its reply is lost, it is sent again with the
 * same token, unless the journal contains a record with that token.
 */

import type { SubscribeOptions } from './options/options.ts';
import type { Delivery, Subscriber } from './subscribers/subscriber.ts';

/** The last id of a journal that does not exist. */
export const NO_RECORD = '0-0';
/** The field in which a record carries the token of its commit. */
export const TOKEN = 'c';

export type JournalFields = Readonly<Record<string, string>>;

export interface JournalEntry {
  /** `milliseconds-sequence`: the broker's time at which it was committed, never descending. */
  readonly id: string;
  readonly fields: JournalFields;
}

/** What happens in the same step as the records of a commit. */
export type JournalEffect =
  /** An entry of another stream, now or at a time by the broker's clock. Fields and values alternate. */
  | {
      readonly kind: 'add';
      readonly key: string;
      readonly fields: readonly (string | Uint8Array)[];
      /** Unix ms; a time that has passed is now. */
      readonly at?: number;
      readonly delayMs?: number;
      /** Only where the stream exists. */
      readonly onlyIfThere?: boolean;
      /** Entries of the stream that are older than this id may be removed, cheaply. */
      readonly dropBefore?: string;
      /** Notifies watchers of the key. */
      readonly tell?: boolean;
    }
  | { readonly kind: 'delete'; readonly key: string; readonly ids: readonly string[] }
  /** A task of a queue is done: acknowledged and removed. */
  | { readonly kind: 'ack'; readonly key: string; readonly group: string; readonly id: string }
  /** `name`: from the reply to the commit that added it. */
  | { readonly kind: 'unschedule'; readonly key: string; readonly name: string }
  /** Deletes the stream after this time; null = never. */
  | { readonly kind: 'expire'; readonly key: string; readonly afterMs: number | null };

export interface JournalCommit {
  readonly key: string;
  /** The last record that the writer saw; NO_RECORD for a journal that must not exist yet. */
  readonly last: string;
  readonly records: readonly JournalFields[];
  /** Further streams and their last ids, which must hold as well. */
  readonly also?: readonly { readonly key: string; readonly last: string }[];
  /** All records before these are removed. */
  readonly restart?: boolean;
  readonly effects?: readonly JournalEffect[];
  /** Unique among all commits. */
  readonly token: string;
}

export interface JournalReply {
  /** The ids of the records. */
  readonly ids: readonly string[];
  /**
   * For each effect of kind `add` its id or, for one that is added later, its name; null where that is
   * not known, because the reply was lost, or where nothing was added.
   */
  readonly added: readonly (string | null)[];
}

export interface JournalRange {
  /** Only ids after this one. */
  readonly after?: string;
  /** Only ids from this one on. */
  readonly from?: string;
  readonly limit?: number;
  /** Newest first. */
  readonly newestFirst?: boolean;
}

/** The delivery of one task of a queue. */
export interface JournalTask extends Delivery {
  /** A commit has acknowledged it: frees its place without another command. */
  settledByCommit(): void;
}

export interface QueueState {
  /** Entries that no consumer was given yet; null where the broker does not know. */
  readonly waiting: number | null;
  /** Given to a consumer and not acknowledged. */
  readonly pending: number;
}

export interface JournalStore {
  /** Ids and fields, oldest first by default; [] where the stream does not exist. */
  read(key: string, range?: JournalRange): Promise<JournalEntry[]>;
  length(key: string): Promise<number>;
  /**
   * Null when a condition does not hold; nothing has happened then. Waits through an outage as publish
   * does, and rejects as it does.
   */
  commit(commit: JournalCommit): Promise<JournalReply | null>;
  /** Effects without a record or condition, in one step. */
  apply(effects: readonly JournalEffect[]): Promise<void>;
  /**
   * Calls back after each commit to the key, and whenever one may have been missed. The returned
   * function ends the watch. Resolves when commits are notified.
   */
  watch(key: string, listener: () => void): Promise<() => void>;
  /** Deliveries of a queue, settled by hand or by a commit. */
  consume(
    key: string,
    handler: (task: JournalTask) => unknown,
    options: SubscribeOptions,
  ): Promise<Subscriber>;
  /** Keys of streams that match a pattern of Redis's kind (`*`, `?`, `[a-z]`, `\\` before one of them). */
  keys(pattern: string): Promise<string[]>;
  /** Null where there is no such queue or group. */
  queue(key: string, group: string): Promise<QueueState | null>;
  /** Removes streams and what is scheduled for them. */
  remove(keys: readonly string[]): Promise<void>;
}

/** The reply to a commit whose reply was lost, from the entries after its `last`; null = not committed. */
export function committedBefore(
  commit: JournalCommit,
  tail: readonly JournalEntry[],
): JournalReply | null {
  const ids = tail.filter(({ fields }) => fields[TOKEN] === commit.token).map(({ id }) => id);
  if (ids.length === 0 || ids.length < commit.records.length) return null;
  const adds = (commit.effects ?? []).filter(({ kind }) => kind === 'add');
  return { ids, added: adds.map(() => null) };
}

/** The fields of a record as they are stored, with its commit's token. */
export function storedFields(record: JournalFields, token: string): string[] {
  const fields = [TOKEN, token];
  for (const name in record) fields.push(name, record[name] as string);
  return fields;
}

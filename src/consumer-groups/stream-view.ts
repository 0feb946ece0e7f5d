/**
 * What a consumer group needs to know of its stream, and nothing more.
 *
 * `Stream` of src/stream satisfies it; tests use a small fake. A group never changes its stream.
 */
import type { StreamId } from '../stream/stream-id.ts';
import type { Whole } from '../util/whole.ts';

/** The counters from which `entries-read` and lag follow. Ids are views: read, never kept. */
export interface StreamCounters {
  /** Live entries. */
  readonly length: number;
  /** Entries ever added (XINFO's entries-added). */
  readonly entriesAdded: Whole;
  /** last-generated-id. */
  readonly lastId: StreamId;
  /** Id of the first live entry, 0-0 where there is none. */
  readonly firstId: StreamId;
  /** Greatest id that XDEL removed, 0-0 where it never did. */
  readonly maxDeletedId: StreamId;
}

export interface StreamView extends StreamCounters {
  /** Whether a live entry has this id. */
  has(id: StreamId): boolean;
}

/** The same, asked in ascending order of ids while the stream does not change. */
export type EntryAsker = Pick<StreamView, 'has'>;

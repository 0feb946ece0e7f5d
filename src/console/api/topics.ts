/** Topics, and their messages that are due later. */
import type { Decoded } from './decoded.ts';
import type { GroupRow } from './groups.ts';
import type { Series } from './series.ts';

export type TopicSort = 'name' | 'rate' | 'lag' | 'bytes' | 'length' | 'oldest' | 'pending';

export interface TopicRow {
  readonly name: string;
  readonly length: number;
  /** Messages published each second, of the last 5 s. */
  readonly rate: number | null;
  /** The longest lag of its groups. */
  readonly lag: number | null;
  readonly pending: number | null;
  readonly groups: number;
  /** In memory. */
  readonly bytes: number | null;
  readonly bytesOnDisk: number | null;
  /** Time of the oldest message. */
  readonly oldestAt: number | null;
  readonly newestAt: number | null;
  /** It holds the dead letters of this topic. */
  readonly deadOf: string | null;
}

export interface TopicsPage {
  readonly at: number;
  /** At most 100. */
  readonly topics: readonly TopicRow[];
  /** All that the user may see. */
  readonly total: number;
  /** How many of them have `q` in their name. */
  readonly matched: number;
  /** Rivulet's own topics (spans, audit, journals) that are left out; `internal=1` shows them. */
  readonly hidden: number;
  /** The value of `after` for the next page. */
  readonly next: string | null;
  /** False while names are still gathered: the numbers will rise. */
  readonly complete: boolean;
}

export interface Retention {
  readonly maxAgeMs: number | null;
  readonly maxBytes: number | null;
  readonly maxLength: number | null;
}

export interface TopicDetail extends TopicRow {
  readonly at: number;
  readonly firstId: string | null;
  readonly lastId: string | null;
  /** All that were ever published; text. */
  readonly entriesAdded: string | null;
  readonly retention: Retention | null;
  readonly scheduled: number | null;
  readonly groupRows: readonly GroupRow[];
  /** The topic of its dead letters, where there is one, and how many. */
  readonly dead: { readonly topic: string; readonly length: number } | null;
  /** `rate`, and `lag:<group>`; 10 minutes of seconds. Absent until the topic was looked at. */
  readonly seconds: Series | null;
  /** The same, 24 hours of minutes. */
  readonly minutes: Series | null;
}

export interface ScheduledRow {
  readonly number: string;
  readonly dueAt: number;
  readonly bytes: number | null;
  readonly preview: Decoded | null;
}

export interface ScheduledPage {
  readonly total: number;
  readonly entries: readonly ScheduledRow[];
}

/** The overview: rates, totals, the topics that need a look, the last troubles. */
import type { Series } from './series.ts';
import type { TopicRow } from './topics.ts';

export interface Overview {
  readonly at: number;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly reason: string | null;
  readonly uptimeMs: number | null;
  readonly totals: {
    readonly topics: number | null;
    readonly groups: number | null;
    readonly entries: number | null;
    readonly pending: number | null;
    readonly dead: number | null;
    readonly parked: number | null;
    readonly clients: number | null;
    readonly bytes: number | null;
  };
  /** Each second. */
  readonly rates: {
    readonly published: number | null;
    readonly delivered: number | null;
    readonly settled: number | null;
    readonly bytesIn: number | null;
    readonly bytesOut: number | null;
    readonly commands: number | null;
  };
  readonly oldestPending: {
    readonly topic: string;
    readonly group: string;
    readonly id: string;
    readonly idleMs: number;
  } | null;
  /** The last 10 minutes, one value a second: the names of `rates`, and `loopDelayMs`. */
  readonly series: Series;
  readonly top: {
    readonly lag: readonly TopicRow[];
    readonly rate: readonly TopicRow[];
    readonly bytes: readonly TopicRow[];
  };
  /** Newest first. */
  readonly troubles: readonly { readonly at: number; readonly text: string }[];
}

/** Dead letters, and where each came from. */
import type { Decoded } from './decoded.ts';

export interface DeadOrigin {
  readonly topic: string;
  readonly group: string;
  readonly id: string;
  readonly reason: string;
  readonly attempts: number | null;
  readonly at: number | null;
}

export interface DeadRow {
  /** Topic that holds it, and its id there. */
  readonly topic: string;
  readonly id: string;
  readonly origin: DeadOrigin;
  readonly bytes: number;
  readonly preview: Decoded;
}

export interface DeadPage {
  readonly entries: readonly DeadRow[];
  readonly next: string | null;
  /** Of the entries that were looked at, most frequent first. */
  readonly reasons: readonly {
    readonly reason: string;
    readonly count: number;
    readonly topics: readonly string[];
  }[];
  readonly topics: readonly {
    readonly topic: string;
    readonly of: string;
    readonly length: number;
  }[];
  readonly scanned: number;
}

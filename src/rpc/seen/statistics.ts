/**
 * Counts and durations per endpoint, for Debug.Stats and Prometheus.
 *
 * Holds: one row per name and side. Invariants: names that a stranger chose make no rows (`unknown`
 * stands for them); at most `MAX_ROWS` rows, the rest is counted in one. Cost: two map look-ups
 * and a few additions per call.
 */
import { type ErrorCode, RivuletError } from '../../errors.ts';

export type Side = 'server' | 'client' | 'subscriber';

/** Upper bounds of the histogram's buckets, in seconds. */
export const BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
const MAX_ROWS = 1000;
const OTHER = 'other';

export interface StatisticsRow {
  readonly side: Side;
  /** The service that was called; empty on the other sides. */
  readonly service: string;
  readonly endpoint: string;
  /** By outcome: `success`, or the code of the error. */
  readonly outcomes: ReadonlyMap<'success' | ErrorCode, number>;
  /** One count per bucket, and one beyond the last. */
  readonly buckets: readonly number[];
  readonly seconds: number;
  readonly count: number;
}

interface Row extends StatisticsRow {
  readonly outcomes: Map<'success' | ErrorCode, number>;
  readonly buckets: number[];
  seconds: number;
  count: number;
}

export class Statistics {
  readonly #rows: Row[] = [];
  /** By side, service and endpoint. */
  readonly #bySide: Readonly<Record<Side, Map<string, Map<string, Row>>>> = {
    server: new Map(),
    client: new Map(),
    subscriber: new Map(),
  };
  #requests = 0;
  #errors = 0;

  /** Calls and messages that this process handled, and those of them that failed. */
  get totals(): { readonly requests: number; readonly errors: number } {
    return { requests: this.#requests, errors: this.#errors };
  }

  get rows(): readonly StatisticsRow[] {
    return [...this.#rows];
  }

  /** `error` is null for what succeeded. */
  observe(side: Side, service: string, endpoint: string, ms: number, error: unknown): void {
    const row = this.#row(side, service, endpoint);
    const seconds = ms / 1000;
    row.count++;
    row.seconds += seconds;
    let bucket = 0;
    while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] as number)) bucket++;
    row.buckets[bucket]!++;
    const outcome = error === null ? 'success' : codeOf(error);
    row.outcomes.set(outcome, (row.outcomes.get(outcome) ?? 0) + 1);
    if (side === 'client') return;
    this.#requests++;
    if (error !== null) this.#errors++;
  }

  #row(side: Side, service: string, endpoint: string): Row {
    const services = this.#bySide[side];
    let endpoints = services.get(service);
    let row = endpoints?.get(endpoint);
    if (row !== undefined) return row;
    if (this.#rows.length >= MAX_ROWS && endpoint !== OTHER) return this.#row(side, '', OTHER);
    row = {
      side,
      service,
      endpoint,
      outcomes: new Map(),
      buckets: new Array<number>(BUCKETS.length + 1).fill(0),
      seconds: 0,
      count: 0,
    };
    if (endpoints === undefined) {
      endpoints = new Map();
      services.set(service, endpoints);
    }
    endpoints.set(endpoint, row);
    this.#rows.push(row);
    return row;
  }
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof RivuletError ? error.code : 'HANDLER_FAILED';
}

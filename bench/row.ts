/**
 * One line of a benchmark's result, and how it is measured: in turn, A B A B ..., median of each.
 */
import type { SideName } from './side.ts';

export interface Scale {
  /** The smallest sizes, one run: shows that the benchmark works, measures nothing. */
  readonly smoke: boolean;
  readonly runs: number;
  /** Whether a row with such words in its name was asked for (`--match`); the brokers ask. */
  readonly wants: (name: string) => boolean;
}

export interface Row {
  readonly benchmark: string;
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Medians. */
  readonly rivulet: number;
  readonly redis: number | null;
  /** Rivulet divided by the other side. */
  readonly ratio: number | null;
  /** What the ratio has to reach: at least where higher is better, at most where lower is. */
  readonly budget: number | null;
  readonly durability: string;
  readonly payload: string;
  readonly measured: { readonly rivulet: readonly number[]; readonly redis: readonly number[] };
}

export type RowFacts = Pick<
  Row,
  'benchmark' | 'name' | 'unit' | 'better' | 'budget' | 'durability' | 'payload'
>;

export interface Benchmark {
  readonly name: string;
  readonly about: string;
  run(scale: Scale, emit: (row: Row) => void): Promise<void>;
}

export const ENTRY = '1 field, 32-byte value';
export const VALUE = 'v'.repeat(32);

/** Measures both sides in turn; the first pair warms up and is not counted. */
export async function alternate(
  facts: RowFacts,
  scale: Scale,
  measure: (side: SideName, run: number) => Promise<number>,
): Promise<Row> {
  const measured: Record<SideName, number[]> = { rivulet: [], redis: [] };
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    for (const side of ['rivulet', 'redis'] as const) {
      const value = await measure(side, run);
      if (!(value > 0))
        throw new Error(`${facts.benchmark} ${facts.name}: ${side} measured ${value}`);
      if (run > 0) measured[side].push(value);
    }
  }
  return rowOf(facts, measured);
}

export function rowOf(facts: RowFacts, measured: Record<SideName, number[]>): Row {
  const rivulet = median(measured.rivulet);
  const redis = measured.redis.length > 0 ? median(measured.redis) : null;
  return { ...facts, rivulet, redis, ratio: redis === null ? null : rivulet / redis, measured };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function meetsBudget(row: Row): boolean | null {
  if (row.budget === null || row.ratio === null) return null;
  return row.better === 'higher' ? row.ratio >= row.budget : row.ratio <= row.budget;
}

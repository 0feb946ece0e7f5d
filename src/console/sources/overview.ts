/** An overview of which nothing is known. */
import type { Overview } from '../api-types.ts';

export const NO_RATES: Overview['rates'] = {
  published: null,
  delivered: null,
  settled: null,
  bytesIn: null,
  bytesOut: null,
  commands: null,
};

export function emptyOverview(): Overview {
  return {
    at: Date.now(),
    ready: true,
    reason: null,
    uptimeMs: null,
    totals: {
      topics: null,
      groups: null,
      entries: null,
      pending: null,
      dead: null,
      parked: null,
      clients: null,
      bytes: null,
    },
    rates: NO_RATES,
    oldestPending: null,
    series: { from: 0, stepMs: 1000, values: {} },
    top: { lag: [], rate: [], bytes: [] },
    troubles: [],
  };
}

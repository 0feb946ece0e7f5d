/**
 * The policies of one client, which share one clock and one budget.
 *
 * Holds: one of each. What a method says for itself (retry, hedge, cache, rate limit, timeout) is in
 * its contract; what is for a whole client is here.
 */
import type { OptionTable } from '../../client/option-table.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Breaker, type BreakerOptions, breakerTable } from './breaker.ts';
import { RetryBudget, type RetryBudgetOptions, retryBudgetTable } from './budget.ts';
import { Bulkhead, type BulkheadOptions, bulkheadTable } from './bulkhead.ts';
import { RateLimits } from './rate-limit.ts';
import { ResponseCache } from './response-cache.ts';

export interface PolicyOptions {
  /** How much of the calls may be repetition. Default 10 %, at least 10 a second. */
  readonly retryBudget?: RetryBudgetOptions;
  /** When a node that does not answer is cut off. Default 5 failures in 10 s, half of its calls. */
  readonly breaker?: BreakerOptions | false;
  /** Calls in flight per service. Default 1 000, and 10 000 that wait. */
  readonly bulkhead?: BulkheadOptions | false;
}

export const policyTables = {
  retryBudget: retryBudgetTable,
  breaker: breakerTable,
  bulkhead: bulkheadTable,
} as const satisfies Record<keyof PolicyOptions, OptionTable>;

export class Policies {
  readonly budget: RetryBudget;
  readonly breaker: Breaker | null;
  readonly bulkhead: Bulkhead | null;
  readonly rateLimits: RateLimits;
  readonly cache: ResponseCache;

  constructor(scheduler: Scheduler, { retryBudget, breaker, bulkhead }: PolicyOptions = {}) {
    this.budget = new RetryBudget(scheduler, retryBudget);
    this.breaker = breaker === false ? null : new Breaker(scheduler, breaker);
    this.bulkhead = bulkhead === false ? null : new Bulkhead(scheduler, bulkhead);
    this.rateLimits = new RateLimits(scheduler);
    this.cache = new ResponseCache(scheduler);
  }
}

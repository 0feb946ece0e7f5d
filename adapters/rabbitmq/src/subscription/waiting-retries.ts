/**
 * The retries that one consumer has published and that wait in a queue of RabbitMQ, for `pending`.
 *
 * Holds: at most 10,000 of them, by id; more are not listed. Cost: one map entry per waiting retry.
 */
import type { PendingEntry } from 'rivulet/adapter';

const MAX_LISTED = 10_000;

interface WaitingRetry {
  readonly topic: string;
  readonly id: string;
  readonly attempts: number;
  readonly since: number;
  readonly until: number;
}

export class WaitingRetries {
  readonly #byId = new Map<string, WaitingRetry>();

  add(retry: WaitingRetry): void {
    if (this.#byId.size >= MAX_LISTED) {
      for (const [id, { until }] of this.#byId) if (until <= retry.since) this.#byId.delete(id);
    }
    if (this.#byId.size < MAX_LISTED) this.#byId.set(retry.id, retry);
  }

  delete(id: string): void {
    this.#byId.delete(id);
  }

  clear(): void {
    this.#byId.clear();
  }

  /** Those of one topic that still wait at this monotonic time. */
  pending(topic: string, now: number): PendingEntry[] {
    return [...this.#byId.values()]
      .filter((each) => each.topic === topic && each.until > now)
      .map(({ id, attempts, since }) => {
        return { id, consumer: '', idleMs: Math.round(now - since), attempts };
      });
  }
}

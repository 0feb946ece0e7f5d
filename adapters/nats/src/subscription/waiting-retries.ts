/**
 * The messages that one subscription has given back and that wait at the server for their redelivery.
 *
 * Holds: at most 10,000 of them, by topic and id; more are not listed by `pending`, their attempts are
 * read from the server, and it is not noticed when they are trimmed. Cost: one map entry for each.
 */
import type { PendingEntry } from 'rivulet/adapter';
import type { NatsDelivery } from './in-flight.ts';

const MAX_LISTED = 10_000;

export interface WaitingRetry {
  readonly topic: string;
  readonly id: string;
  readonly attempts: number;
  /** The server's count of deliveries when it was given back. */
  readonly deliveries: number;
  readonly since: number;
  readonly until: number;
}

export class WaitingRetries {
  readonly #byName = new Map<string, WaitingRetry>();

  add({ topic, id, attempt, inFlight }: NatsDelivery, delayMs: number, now: number): void {
    if (this.#byName.size >= MAX_LISTED) {
      for (const [name, { until }] of this.#byName) if (until <= now) this.#byName.delete(name);
    }
    if (this.#byName.size >= MAX_LISTED) return;
    const { deliveries } = inFlight;
    const retry = { topic, id, attempts: attempt, deliveries, since: now, until: now + delayMs };
    this.#byName.set(nameOf(topic, id), retry);
  }

  /** Removes the retry of a message that was delivered again. */
  take(topic: string, id: string): WaitingRetry | undefined {
    const name = nameOf(topic, id);
    const retry = this.#byName.get(name);
    this.#byName.delete(name);
    return retry;
  }

  deleteTopic(topic: string): void {
    for (const [name, retry] of this.#byName) if (retry.topic === topic) this.#byName.delete(name);
  }

  /** Removes it. False where it was delivered or removed. */
  remove(retry: WaitingRetry): boolean {
    const name = nameOf(retry.topic, retry.id);
    return this.#byName.get(name) === retry && this.#byName.delete(name);
  }

  /** The topics of those that still wait at this monotonic time. */
  waitingTopics(now: number): Set<string> {
    const topics = new Set<string>();
    for (const { topic, until } of this.#byName.values()) if (until > now) topics.add(topic);
    return topics;
  }

  /** Those of one topic that still wait at this monotonic time. */
  waiting(topic: string, now: number): WaitingRetry[] {
    return [...this.#byName.values()].filter((each) => each.topic === topic && each.until > now);
  }

  pending(topic: string, now: number): PendingEntry[] {
    return this.waiting(topic, now).map(({ id, attempts, since }) => {
      return { id, consumer: '', idleMs: Math.round(now - since), attempts };
    });
  }
}

function nameOf(topic: string, id: string): string {
  return `${topic} ${id}`;
}

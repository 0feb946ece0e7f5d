/**
 * Observers of a broker's publishes: a service records them as spans.
 *
 * Invariants: a publish has at most one observer, so that services that share a broker record it once:
 * the service whose handler publishes, else the first that observes. An observer changes nothing of a
 * publish except that messages without a trace get one.
 * Cost: one comparison per publish where no broker of the process is observed.
 */
import type { Broker } from '../broker.ts';
import type { Receipt } from '../topics/topic-info.ts';
import { currentScope } from './scope.ts';

/** One publish that is observed. */
export interface PublishWatch {
  /** Headers of each message that has no `traceparent`. */
  readonly trace: Readonly<Record<string, string>>;
  stored(receipts: readonly Receipt[]): void;
  failed(error: unknown): void;
}

export interface PublishObserver {
  /** Whether the observer made this `traceparent`. */
  made(traceparent: string): boolean;
  /** Null where this publish is not recorded. */
  publish(topic: string): PublishWatch | null;
}

const observers = new WeakMap<Broker, PublishObserver[]>();
let count = 0;

/** Until the returned function is called. */
export function observePublishes(broker: Broker, observer: PublishObserver): () => void {
  const list = observers.get(broker) ?? [];
  observers.set(broker, [...list, observer]);
  count++;
  let isOver = false;
  return () => {
    if (isOver) return;
    isOver = true;
    count--;
    const rest = (observers.get(broker) ?? []).filter((each) => each !== observer);
    observers.set(broker, rest);
  };
}

/** Null where the publish is not observed. */
export function watchPublish(broker: Broker, topic: string): PublishWatch | null {
  if (count === 0) return null;
  const list = observers.get(broker);
  const traceparent = currentScope()?.trace?.traceparent;
  const own = traceparent === undefined ? undefined : list?.find((each) => each.made(traceparent));
  return (own ?? list?.[0])?.publish(topic) ?? null;
}

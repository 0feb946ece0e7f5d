/**
 * Whether a topic still has everything behind a position.
 *
 * Invariant: `false` is said only where a message at or before the position is there, because topics lose
 * their oldest messages first; an id that was never given is no loss then. Of a position in time an empty
 * topic says nothing: it may never have had a message. Cost: one subscription, for one message, and only
 * where the position itself says nothing.
 */
import type { Broker, Delivery } from '../../broker/broker.ts';
import { idBefore } from '../handlers/read-one.ts';

/** Resolves within `waitMs`; behind an id, a topic that shows no message until then has lost everything. */
export async function mayHaveLost(
  broker: Broker,
  topic: string,
  after: string | Date,
  waitMs: number,
): Promise<boolean> {
  const oldest = await oldestOf(broker, topic, waitMs);
  if (typeof after === 'string') return oldest === null || isAfter(oldest.id, after);
  return oldest !== null && idBefore(oldest.id) !== null && oldest.publishedAt > after;
}

async function oldestOf(broker: Broker, topic: string, waitMs: number): Promise<Delivery | null> {
  let take: (delivery: Delivery | null) => void = () => {};
  const found = new Promise<Delivery | null>((resolve) => {
    take = resolve;
  });
  const timer = setTimeout(() => take(null), waitMs);
  try {
    const subscriber = await broker.subscribe(topic, (delivery) => take(delivery), {
      from: 'earliest',
      maxInFlight: 1,
      deadLetter: false,
    });
    const oldest = await found;
    await subscriber.unsubscribe();
    return oldest;
  } finally {
    clearTimeout(timer);
  }
}

/** Of ids whose parts are numbers: those of streams, and those of NATS. */
function isAfter(a: string, b: string): boolean {
  const [[msA = 0n, seqA = 0n], [msB = 0n, seqB = 0n]] = [a, b].map((id) =>
    id.split('-').map(BigInt),
  ) as [bigint[], bigint[]];
  return msA > msB || (msA === msB && seqA > seqB);
}

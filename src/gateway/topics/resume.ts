/**
 * Whether a topic still has everything behind an id.
 *
 * Invariant: `false` is said only where a message at or before the id is there, because topics lose their
 * oldest messages first; an id that was never given is no loss then. Cost: one subscription, for one
 * message, and only for a client whose own last message is gone.
 */
import type { Broker } from '../../broker/broker.ts';

/** Resolves within `waitMs`; a topic that shows no message until then has lost everything. */
export async function mayHaveLost(
  broker: Broker,
  topic: string,
  id: string,
  waitMs: number,
): Promise<boolean> {
  const oldest = await oldestId(broker, topic, waitMs);
  return oldest === null || isAfter(oldest, id);
}

async function oldestId(broker: Broker, topic: string, waitMs: number): Promise<string | null> {
  let take: (id: string | null) => void = () => {};
  const found = new Promise<string | null>((resolve) => {
    take = resolve;
  });
  const timer = setTimeout(() => take(null), waitMs);
  try {
    const subscriber = await broker.subscribe(topic, (delivery) => take(delivery.id), {
      from: 'earliest',
      maxInFlight: 1,
      deadLetter: false,
    });
    const id = await found;
    await subscriber.unsubscribe();
    return id;
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

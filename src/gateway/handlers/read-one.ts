/**
 * One message of a topic by its id, where the broker's ids say what comes before it.
 *
 * Invariant: what cannot be read within `waitMs` is null, never another message. Cost: one subscription.
 */
import type { Broker } from '../../broker/broker.ts';

const LAST_SEQUENCE = '18446744073709551615';

export async function readOne(
  broker: Broker,
  topic: string,
  id: string,
  waitMs: number,
): Promise<Uint8Array | string | null> {
  const before = idBefore(id);
  if (before === null) return null;
  let take: (body: Uint8Array | string | null) => void = () => {};
  const found = new Promise<Uint8Array | string | null>((resolve) => {
    take = resolve;
  });
  const timer = setTimeout(() => take(null), waitMs);
  const subscriber = await broker.subscribe(
    topic,
    (delivery) => take(delivery.id === id ? delivery.message.body : null),
    { from: { id: before }, maxInFlight: 1, deadLetter: false },
  );
  const body = await found;
  clearTimeout(timer);
  await subscriber.unsubscribe();
  return body;
}

/**
 * The id before another one, whether a message has it or not. Ids of streams are `milliseconds-sequence`,
 * those of NATS numbers; null for others, and for the first of all.
 */
export function idBefore(id: string): string | null {
  if (/^[1-9]\d{0,15}$/.test(id)) return String(BigInt(id) - 1n);
  const [, ms, sequence] = /^(\d{1,15})-(\d{1,20})$/.exec(id) ?? [];
  if (ms === undefined || sequence === undefined) return null;
  if (sequence !== '0') return `${ms}-${BigInt(sequence) - 1n}`;
  return ms === '0' ? null : `${Number(ms) - 1}-${LAST_SEQUENCE}`;
}

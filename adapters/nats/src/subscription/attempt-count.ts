/**
 * Which attempt a delivery is, from the record of earlier hand-overs and the server's counts.
 *
 * Invariant: a message that ended its process gets its attempts and no more, as far as there are records,
 * and a message that was only fetched ahead has none counted.
 */
import type { HandOverRecord } from './attempts.ts';
import type { GroupTopic } from './group-topic.ts';
import type { InFlight } from './in-flight.ts';

export function attemptOf(
  from: GroupTopic,
  { sequence, deliveries }: InFlight,
  record: HandOverRecord | null,
): { readonly attempt: number; readonly suspect: boolean } {
  const isTakenFromDead = sequence <= from.suspectUpTo;
  // A consumer that was made again counts its deliveries from one.
  const isOther = from.isTakenOver(sequence);
  if (record === null) return { attempt: 1, suspect: deliveries > 1 || isTakenFromDead };
  const unknown = isOther ? deliveries - 1 : Math.max(0, deliveries - record.deliveries - 1);
  const suspect = unknown > 0 || !record.isBack || (isOther && isTakenFromDead);
  return { attempt: record.count + 1, suspect };
}

/**
 * The groups of one stream of this process's engine, read from memory: a topic may have 20 000 of them, and
 * XINFO GROUPS would write them all in one turn.
 *
 * Invariants: the engine is not changed; at most MOST_GROUPS rows, those with the longest lag. Cost: one
 * pass over the groups in slices, one binary search for each of the rows that are kept.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { roundedLag } from '../../consumer-groups/lag.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import type { GroupPolicy, GroupRow } from '../api-types.ts';
import { nameText } from '../topics/names.ts';
import { Slices } from '../topics/slices.ts';
import { MOST_GROUPS } from './stream-source.ts';

/** The groups with the longest lag; of equal ones, in the order in which they were made. */
export async function rowsFromMemory(value: StreamValue): Promise<GroupRow[]> {
  const slices = new Slices();
  const kept: { readonly group: ConsumerGroup; readonly lag: number }[] = [];
  for (const group of [...value.groups.values()]) {
    const rest = slices.due(4);
    if (rest) await rest;
    const lag = roundedLag(value.stream, group) ?? -1;
    if (kept.length === MOST_GROUPS && lag <= kept.at(-1)!.lag) continue;
    let [low, high] = [0, kept.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (kept[middle]!.lag >= lag) low = middle + 1;
      else high = middle;
    }
    kept.splice(low, 0, { group, lag });
    if (kept.length > MOST_GROUPS) kept.pop();
  }
  return kept.map(({ group }) => rowFromMemory(value, group));
}

export function rowFromMemory({ stream }: StreamValue, group: ConsumerGroup): GroupRow {
  return {
    name: nameText(group.name),
    consumers: group.consumerCount,
    pending: group.pending.size,
    lag: roundedLag(stream, group),
    lastDeliveredId: group.lastId.toString(),
    policy: policyFromMemory(group),
  };
}

function policyFromMemory({ policy }: ConsumerGroup): GroupPolicy | null {
  if (policy === null) return null;
  const { ackWait, maxDeliveries, backoff, deadLetter } = policy;
  return {
    ackWaitMs: ackWait,
    maxDeliveries: maxDeliveries === 0 ? null : maxDeliveries,
    deadLetter: deadLetter === null ? null : nameText(deadLetter),
    backoffMs: backoff === null ? [] : [backoff.minMs, backoff.maxMs],
  };
}

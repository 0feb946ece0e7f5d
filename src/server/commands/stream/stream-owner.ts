/**
 * OWNER: XNACK and XCLAIM of entries that are still one consumer's. An addition to Redis.
 *
 * A consumer that works on an entry longer than its group allows may lose it to another consumer. With OWNER
 * its late XNACK or XCLAIM changes nothing, and the reply shows that.
 */
import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import { PendingCursor } from '../../../consumer-groups/pending/pending-cursor.ts';
import { IdList } from '../../../stream/id-list.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import { scratch } from '../../../util/scratch.ts';
import type { Session } from '../../connection/session.ts';

/**
 * Leaves in `ids` those that are pending for the consumer named by argument `at`. An empty name where no
 * consumer has it: those that belong to no consumer, as XPENDING shows them.
 */
export function keepOwned(session: Session, group: ConsumerGroup, ids: IdList, at: number): void {
  const { args } = session;
  const owner = group.findConsumerIn(args.buffer, args.offsets[at], args.lengths[at]);
  given.clear();
  for (let i = 0; i < ids.count; i++) given.push(ids.get(i, id));
  ids.clear();
  if (owner === undefined && args.lengths[at] !== 0) return;
  for (let i = 0; i < given.count; i++) {
    given.get(i, id);
    if (group.pending.find(id, cursor) && group.consumerAt(cursor.consumer) === owner) ids.push(id);
  }
}

// Scratch: never held across commands.
const given = new IdList();
const id = new StreamId();
const cursor = scratch(new PendingCursor());

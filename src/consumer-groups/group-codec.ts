/**
 * A group's metadata as bytes, for the checkpoint. Version 3:
 *
 *     u8 version · bytes name · id last-delivered (16) · varint entries-read + 1 (0 = unknown)
 *     varint nacked · varint releases · varint next page id
 *     varint consumers, each: varint index · bytes name · f64 seen · f64 active · varint pending
 *     varint pages, each: varint id · id low (16) · varint entries · u32 u32 summary of consumers ·
 *       u8 which bounds follow (1 owned, 2 delayed, 4 released), 8 = some await their dead letter · f64 each
 *     f64 latest delivery · varint delayed (of the nacked) · policy (group-policy.ts), or nothing
 *
 * Versions 1 and 2, which are read, had no bounds and no latest delivery, and 2 ended with policy and
 * delayed, which 1 had not.
 * Pages' entries are kept apart (page-codec.ts), so a restart reads this and no pending entry.
 */
import { StreamId } from '../stream/stream-id.ts';
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { minus, plus } from '../util/whole.ts';
import { ConsumerGroup } from './group.ts';
import { decodePolicy, encodePolicy } from './group-policy.ts';
import type { PageBounds } from './pending/page-bounds.ts';
import { type Epoch, NO_EPOCH } from './pending/page-store.ts';
import { PAGE_ENTRIES } from './pending/pending-columns.ts';

const VERSION = 1;
const WITH_POLICY = 2;
const WITH_BOUNDS = 3;
const OWNED = 1;
const SOME_DELAYED = 2;
const RELEASED = 4;
const SOME_AWAITING = 8;

export function encodeGroup(group: ConsumerGroup, writer: ByteWriter): void {
  const { pending } = group;
  writer.u8(WITH_BOUNDS);
  writer.bytes(group.name);
  group.lastId.encode(writer);
  writer.whole(plus(group.entriesRead, 1));
  writer.varint(group.nackedCount);
  writer.varint(pending.releases);
  writer.varint(pending.nextPageId);
  writer.varint(group.consumerCount);
  for (const consumer of group.consumers()) {
    writer.varint(consumer.index);
    writer.bytes(consumer.name);
    writer.f64(consumer.seenTime);
    writer.f64(consumer.activeTime);
    writer.varint(consumer.pendingCount);
  }
  const pages = pending.pages();
  writer.varint(pages.length);
  for (const page of pages) {
    writer.varint(page.id);
    page.low.encode(writer);
    writer.varint(page.live);
    writer.u32(page.presenceLow);
    writer.u32(page.presenceHigh);
    page.tightenBounds();
    writeBounds(page.bounds, writer);
  }
  writer.f64(pending.latest);
  writer.varint(group.parkedCount);
  if (group.policy !== null) encodePolicy(group.policy, writer);
}

function writeBounds(
  { owned, delayed, released, awaitingDeadLetter }: PageBounds,
  writer: ByteWriter,
): void {
  const none = Number.POSITIVE_INFINITY;
  writer.u8(
    (owned < none ? OWNED : 0) |
      (delayed < none ? SOME_DELAYED : 0) |
      (released < none ? RELEASED : 0) |
      (awaitingDeadLetter ? SOME_AWAITING : 0),
  );
  if (owned < none) writer.f64(owned);
  if (delayed < none) writer.f64(delayed);
  if (released < none) writer.f64(released);
}

function readBounds(bounds: PageBounds, reader: ByteReader): void {
  const which = reader.u8();
  const none = Number.POSITIVE_INFINITY;
  bounds.owned = (which & OWNED) === 0 ? none : reader.f64();
  bounds.delayed = (which & SOME_DELAYED) === 0 ? none : reader.f64();
  bounds.released = (which & RELEASED) === 0 ? none : reader.f64();
  bounds.awaitingDeadLetter = (which & SOME_AWAITING) !== 0;
}

/**
 * The group as it was, all its pages unloaded: `group.pending.attach(store)` before it is used.
 * Throws an Error that says what is wrong with the bytes.
 */
export function decodeGroup(reader: ByteReader, epoch: Epoch = NO_EPOCH): ConsumerGroup {
  const version = reader.u8();
  if (version < VERSION || version > WITH_BOUNDS) {
    throw new Error(`consumer group: version ${version} is not known`);
  }
  const name = Buffer.from(reader.bytes());
  const lastId = new StreamId().decode(reader);
  const group = new ConsumerGroup(name, lastId, minus(reader.whole(), 1), epoch);
  group.nackedCount = reader.varint();
  group.pending.releases = reader.varint();
  group.pending.nextPageId = reader.varint();
  readConsumers(group, reader);
  readPages(group, reader, version);
  if (version === WITH_POLICY) {
    group.policy = decodePolicy(reader);
    group.parkedCount = reader.varint();
  } else if (version === WITH_BOUNDS) {
    group.pending.latest = reader.f64();
    group.parkedCount = reader.varint();
    if (!reader.done) group.policy = decodePolicy(reader);
  }
  const { pending } = group;
  if (version < WITH_BOUNDS) pending.latest = Number.POSITIVE_INFINITY;
  pending.delayShift = group.policy?.ackWait ?? 0;
  return group;
}

function readConsumers(group: ConsumerGroup, reader: ByteReader): void {
  for (let left = reader.varint(); left > 0; left--) {
    const index = reader.varint();
    const name = Buffer.from(reader.bytes());
    const consumer = group.restoreConsumer(name, index, reader.f64());
    consumer.activeTime = reader.f64();
    consumer.pendingCount = reader.varint();
  }
}

function readPages(group: ConsumerGroup, reader: ByteReader, version: number): void {
  const low = new StreamId();
  const previous = new StreamId();
  for (let left = reader.varint(), first = true; left > 0; left--, first = false) {
    const id = reader.varint();
    low.decode(reader);
    const live = reader.varint();
    const damaged = live > PAGE_ENTRIES || id >= group.pending.nextPageId;
    if (damaged || (!first && low.compare(previous) <= 0)) {
      throw new Error(`consumer group ${group.name}: directory of pending pages is damaged`);
    }
    const presence = reader.u32() | 0;
    const bounds = group.pending.restorePage(id, low, live, presence, reader.u32() | 0);
    if (version < WITH_BOUNDS) bounds.forget();
    else readBounds(bounds, reader);
    previous.copy(low);
  }
  let counted = group.nackedCount;
  for (const consumer of group.consumers()) counted += consumer.pendingCount;
  if (counted !== group.pending.size) {
    throw new Error(
      `consumer group ${group.name}: ${group.pending.size} pending, ${counted} owned`,
    );
  }
}

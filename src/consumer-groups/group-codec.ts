/**
 * A group's metadata as bytes, for the checkpoint. Version 1, and 2 for a group with a policy:
 *
 *     u8 version · bytes name · id last-delivered (16) · varint entries-read + 1 (0 = unknown)
 *     varint nacked · varint releases · varint next page id
 *     varint consumers, each: varint index · bytes name · f64 seen · f64 active · varint pending
 *     varint pages, each: varint id · id low (16) · varint entries · u32 u32 summary of consumers
 *     version 2: policy (group-policy.ts) · varint resting (of the nacked)
 *
 * Pages' entries are kept apart (page-codec.ts), so a restart reads this and no pending entry.
 */
import { StreamId } from '../stream/stream-id.ts';
import type { ByteReader, ByteWriter } from '../util/byte-writer.ts';
import { minus, plus } from '../util/whole.ts';
import { ConsumerGroup } from './group.ts';
import { decodePolicy, encodePolicy } from './group-policy.ts';
import { type Epoch, NO_EPOCH } from './page-store.ts';
import { PAGE_ENTRIES } from './pending-columns.ts';

const VERSION = 1;
const WITH_POLICY = 2;

export function encodeGroup(group: ConsumerGroup, writer: ByteWriter): void {
  const { pending } = group;
  writer.u8(group.policy === null ? VERSION : WITH_POLICY);
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
  }
  if (group.policy !== null) {
    encodePolicy(group.policy, writer);
    writer.varint(group.parkedCount);
  }
}

/**
 * The group as it was, all its pages unloaded: `group.pending.attach(store)` before it is used.
 * Throws an Error that says what is wrong with the bytes.
 */
export function decodeGroup(reader: ByteReader, epoch: Epoch = NO_EPOCH): ConsumerGroup {
  const version = reader.u8();
  if (version !== VERSION && version !== WITH_POLICY) {
    throw new Error(`consumer group: version ${version} is not known`);
  }
  const name = Buffer.from(reader.bytes());
  const lastId = new StreamId().decode(reader);
  const group = new ConsumerGroup(name, lastId, minus(reader.whole(), 1), epoch);
  group.nackedCount = reader.varint();
  group.pending.releases = reader.varint();
  group.pending.nextPageId = reader.varint();
  readConsumers(group, reader);
  readPages(group, reader);
  if (version === WITH_POLICY) {
    group.policy = decodePolicy(reader);
    group.parkedCount = reader.varint();
    group.pending.restShift = group.policy.ackWait;
  }
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

function readPages(group: ConsumerGroup, reader: ByteReader): void {
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
    group.pending.restorePage(id, low, live, reader.u32() | 0, reader.u32() | 0);
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

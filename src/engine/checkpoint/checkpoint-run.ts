/**
 * One running checkpoint: its frozen changes, captured one object at a time.
 *
 * Order: removals, flushed keyspaces, keys, blocks, groups, pages. uids are never used twice, so a
 * removal never meets a later write of the same name; within a stream, `freeze` gives the removals of
 * blocks before the blocks.
 * Invariant: an object is captured exactly once: when its turn comes, or earlier when it is about to
 * change; it is then in `captured` or `capturedGroups`, for `cleanUp`.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { encodeGroup } from '../../consumer-groups/group-codec.ts';
import { encodePage } from '../../consumer-groups/pending/page-codec.ts';
import type { PendingPage } from '../../consumer-groups/pending/pending-page.ts';
import type { Checkpoint } from '../../storage/checkpoint.ts';
import type { Block } from '../../stream/block/block.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import type { KeyspaceId } from '../keyspace/keyspace-id.ts';
import type { ScheduledEntry } from '../schedule/scheduled-queue.ts';
import type { StreamValue } from '../streams/stream-value.ts';
import type { ChangeSet } from './change-set.ts';
import * as names from './checkpoint-keys.ts';
import type { CheckpointSource } from './checkpoint-source.ts';
import {
  type CheckpointMeta,
  encodeKey,
  encodeMeta,
  encodeRetention,
  encodeScheduled,
} from './checkpoint-values.ts';

/** Pages captured in a row before the caller looks at the time: some tens of microseconds each. */
const PAGES_AT_ONCE = 4;
/** Flushed keys that are looked at in a row. */
const LOOKS_AT_ONCE = 100;

export class CheckpointRun {
  readonly position: number;
  readonly changes: ChangeSet;
  /** What `settle` has to deal with. */
  readonly captured: KeyEntry[] = [];
  readonly capturedGroups: { entry: KeyEntry; group: ConsumerGroup }[] = [];
  /** Names of pages removed: of interest again when the checkpoint fails. */
  readonly removedPages: Buffer[] = [];
  /** True until `commit` or the failure: only then captured bytes are of interest. */
  open = true;
  committed = false;
  /** How far `settle` is. */
  settled = 0;
  private readonly engine: CheckpointSource;
  private readonly checkpoint: Checkpoint;
  private readonly meta: CheckpointMeta;
  private readonly work: Iterator<void>;
  private readonly streams: KeyEntry[] = [];

  constructor(
    engine: CheckpointSource,
    checkpoint: Checkpoint,
    changes: ChangeSet,
    position: number,
  ) {
    this.engine = engine;
    this.checkpoint = checkpoint;
    this.changes = changes;
    this.position = position;
    const keyspaces = engine.databases.map(({ keyspace, size }) => ({ uid: keyspace.uid, size }));
    const { lastScheduled, steady } = engine;
    const { stepped } = engine.time;
    this.meta = { lastUid: 0, keyspaces, lastScheduled, stepped, steady };
    this.work = this.pieces();
  }

  /** Captures one more object or so; false when there is none. */
  captureNext(): boolean {
    return this.work.next().done !== true;
  }

  /** After the last object: facts about the whole. */
  captureMeta(): void {
    this.meta.lastUid = this.engine.lastUid;
    writer.clear();
    encodeMeta(this.meta, writer);
    this.checkpoint.put(names.META_KEY, writer.buffer.subarray(0, writer.length));
  }

  /** The key is about to change, or its turn has come. */
  captureEntry(entry: KeyEntry): void {
    const { value } = entry;
    // A closed stream lacks records that the log has: the log must stay.
    if (this.open && value.type === 'stream' && value.damage !== null && !this.wasGone(entry)) {
      throw value.damage;
    }
    this.changes.entries.delete(entry);
    if (!this.open || this.wasGone(entry)) return;
    const uid = this.uidOf(entry);
    this.captured.push(entry);
    writer.clear();
    const rest = encodeKey(entry, writer);
    this.checkpoint.put(names.keyName(uid), writer.buffer.subarray(0, writer.length), rest);
    if (entry.value.type === 'stream') this.freezeStream(entry, entry.value, uid);
  }

  /** The group is about to change, or its turn has come. */
  captureGroup(group: ConsumerGroup, entry: KeyEntry): void {
    this.changes.groups.delete(group);
    if (!this.open || this.wasGone(entry)) return;
    const uid = this.uidOf(entry);
    if (group.uid === 0) group.uid = this.engine.nextUid();
    this.capturedGroups.push({ entry, group });
    writer.clear();
    encodeGroup(group, writer);
    this.checkpoint.put(names.groupName(uid, group.uid), writer.buffer.subarray(0, writer.length));
    for (const pageId of group.pending.takeFrozenRemoved()) {
      const name = names.pageName(uid, group.uid, pageId);
      this.checkpoint.remove(name);
      this.removedPages.push(name);
    }
  }

  captureBlock(uid: number, value: StreamValue, block: Block): void {
    if (this.open) {
      writer.clear();
      block.encode(writer);
      const name = names.blockName(uid, block.readFirstId(blockId));
      this.checkpoint.put(name, writer.buffer.subarray(0, writer.length));
    }
    value.stream.captured(block);
  }

  capturePage(entry: KeyEntry, group: ConsumerGroup, page: PendingPage): void {
    if (!this.open) return;
    writer.clear();
    encodePage(page, writer);
    const name = names.pageName(entry.uid, group.uid, page.id);
    this.checkpoint.put(name, writer.buffer.subarray(0, writer.length));
  }

  private captureScheduled(scheduled: ScheduledEntry): void {
    if (!this.open || this.isFlushed(scheduled.space)) return;
    writer.clear();
    encodeScheduled(scheduled, writer);
    const name = names.scheduledName(scheduled.number);
    this.checkpoint.put(name, writer.buffer.subarray(0, writer.length));
  }

  /** The checkpoint's name of a key; given now when it has none. */
  uidOf(entry: KeyEntry): number {
    if (entry.uid === 0) entry.uid = this.engine.nextUid();
    return entry.uid;
  }

  /** All the work, a piece per step. Sets lose what is captured early while they are walked. */
  private *pieces(): Generator<void> {
    const { changes } = this;
    yield* this.removeKeys(changes.removedStrings, changes.removedStreams);
    for (const { streamUid, groupUid } of changes.removedGroups) {
      this.removeGroup(streamUid, groupUid);
      yield;
    }
    for (const name of changes.removedPages) {
      this.checkpoint.remove(name);
      yield;
    }
    for (const number of changes.removedScheduled) {
      this.checkpoint.remove(names.scheduledName(number));
      yield;
    }
    for (const keyspace of changes.flushed) {
      for (const { number } of keyspace.schedule.entries()) {
        this.checkpoint.remove(names.scheduledName(number));
        yield;
      }
      const strings: number[] = [];
      const streams: number[] = [];
      let looks = 0;
      for (const { uid, value } of keyspace.table.entries()) {
        if (uid !== 0) (value.type === 'stream' ? streams : strings).push(uid);
        if (++looks % LOOKS_AT_ONCE === 0) yield;
      }
      yield* this.removeKeys(strings, streams);
    }
    for (const entry of changes.entries) {
      this.captureEntry(entry);
      yield;
    }
    // Streams and groups that changed early are in these lists already.
    for (const entry of this.streams) yield* this.frozenBlocks(entry);
    for (const [group, entry] of changes.groups) {
      this.captureGroup(group, entry);
      yield;
    }
    for (const scheduled of changes.scheduled) {
      this.captureScheduled(scheduled);
      yield;
    }
    for (const { entry, group } of this.capturedGroups) {
      const visit = (page: PendingPage): void => this.capturePage(entry, group, page);
      while (!group.pending.takeFrozen(visit, PAGES_AT_ONCE)) yield;
      yield;
    }
  }

  private *frozenBlocks(entry: KeyEntry): Generator<void> {
    const value = entry.value as StreamValue;
    for (;;) {
      const block = value.stream.nextFrozen();
      if (block === undefined) return;
      this.captureBlock(entry.uid, value, block);
      yield;
    }
  }

  private freezeStream(entry: KeyEntry, value: StreamValue, uid: number): void {
    const { removedBelow, removed } = value.stream.freeze();
    if (removedBelow !== null) {
      this.checkpoint.removeRange(names.blocksBegin(uid), names.blockName(uid, removedBelow));
    }
    for (const id of removed) this.checkpoint.remove(names.blockName(uid, id));
    if (value.idempotency !== null) {
      this.checkpoint.put(names.idempotencyName(uid), value.idempotency.export());
    }
    if (value.retention !== null) {
      writer.clear();
      encodeRetention(value.retention, writer);
      this.checkpoint.put(names.retentionName(uid), writer.buffer.subarray(0, writer.length));
    }
    this.streams.push(entry);
  }

  private *removeKeys(strings: readonly number[], streams: readonly number[]): Generator<void> {
    for (const { from, to, hasStream } of runsOf(strings, streams)) {
      this.checkpoint.removeRange(names.keyName(from), names.keyName(to + 1));
      if (hasStream) this.removeStreams(from, to);
      yield;
    }
  }

  /** All but the names of the keys with these uids. */
  private removeStreams(from: number, to: number): void {
    const { checkpoint } = this;
    checkpoint.removeRange(names.idempotencyName(from), names.idempotencyName(to + 1));
    checkpoint.removeRange(names.retentionName(from), names.retentionName(to + 1));
    checkpoint.removeRange(names.blocksBegin(from), names.blocksEnd(to));
    checkpoint.removeRange(names.groupsBegin(from), names.groupsEnd(to));
    checkpoint.removeRange(names.pagesBegin(from), names.pagesEnd(to));
  }

  private removeGroup(streamUid: number, groupUid: number): void {
    const { checkpoint } = this;
    checkpoint.remove(names.groupName(streamUid, groupUid));
    checkpoint.removeRange(
      names.groupPagesBegin(streamUid, groupUid),
      names.groupPagesEnd(streamUid, groupUid),
    );
  }

  /** Whether the key was flushed before this checkpoint started: then it is no part of the picture. */
  private wasGone(entry: KeyEntry): boolean {
    return this.isFlushed(entry.space);
  }

  private isFlushed({ flushedEpoch }: KeyspaceId): boolean {
    return flushedEpoch !== -1 && flushedEpoch < this.engine.epoch.current;
  }
}

interface Run {
  readonly from: number;
  readonly to: number;
  readonly hasStream: boolean;
}

/**
 * Runs of uids that follow each other: keys that were made together have uids in a row, and go in one
 * go. A flush of 200,000 streams is a few ranges, not a million removals.
 */
function* runsOf(strings: readonly number[], streams: readonly number[]): Generator<Run> {
  const sorted = new Float64Array(strings.length + streams.length);
  for (let i = 0; i < strings.length; i++) sorted[i] = strings[i] * 2;
  for (let i = 0; i < streams.length; i++) sorted[strings.length + i] = streams[i] * 2 + 1;
  sorted.sort();
  let from = 0;
  let hasStream = false;
  for (let i = 0; i < sorted.length; i++) {
    hasStream ||= sorted[i] % 2 === 1;
    const isLast = i + 1 === sorted.length;
    if (!isLast && Math.floor(sorted[i + 1] / 2) <= Math.floor(sorted[i] / 2) + 1) continue;
    yield { from: Math.floor(sorted[from] / 2), to: Math.floor(sorted[i] / 2), hasStream };
    from = i + 1;
    hasStream = false;
  }
}

const writer = scratch(new ByteWriter(64 * 1024));
const blockId = new StreamId();

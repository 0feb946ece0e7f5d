/**
 * The slow twin of a stream, which always tells the truth: a plain array of entries. And a checkpoint
 * of blocks in a plain map, with the overlay rules that the engine's checkpointer follows.
 */
import assert from 'node:assert/strict';
import { Block } from '../../src/stream/block/block.ts';
import type { ColdBlocks } from '../../src/stream/block/cold-blocks.ts';
import type { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';

export interface TwinEntry {
  readonly ms: bigint;
  readonly seq: bigint;
  readonly pairs: readonly string[];
}

export function idOf(ms: bigint, seq: bigint): StreamId {
  const u32 = 0xffff_ffffn;
  return new StreamId(Number(ms >> 32n), Number(ms & u32), Number(seq >> 32n), Number(seq & u32));
}

export function order(a: TwinEntry, ms: bigint, seq: bigint): number {
  if (a.ms !== ms) return a.ms < ms ? -1 : 1;
  return a.seq < seq ? -1 : a.seq > seq ? 1 : 0;
}

export function textOf(entry: TwinEntry): string {
  return `${entry.ms}-${entry.seq} ${JSON.stringify(entry.pairs)}`;
}

/** Every entry in [start, end] as text, read through the iterator. */
export function readRange(
  stream: Stream,
  start: StreamId,
  end: StreamId,
  reverse: boolean,
  iterator: StreamIterator = new StreamIterator(),
): string[] {
  const found: string[] = [];
  iterator.seek(stream, start, end, reverse);
  while (iterator.next()) {
    const pairs: string[] = [];
    while (iterator.nextField()) {
      const field = iterator.fieldBuffer.subarray(
        iterator.fieldOffset,
        iterator.fieldOffset + iterator.fieldLength,
      );
      const value = iterator.valueBuffer.subarray(
        iterator.valueOffset,
        iterator.valueOffset + iterator.valueLength,
      );
      pairs.push(Buffer.from(field).toString('latin1'), Buffer.from(value).toString('latin1'));
    }
    assert.equal(pairs.length, iterator.fieldCount * 2);
    found.push(`${iterator.id} ${JSON.stringify(pairs)}`);
  }
  return found;
}

export function readAll(stream: Stream): string[] {
  return readRange(stream, StreamId.min(), StreamId.max(), false);
}

/** Blocks by the hex of their first id; `committed` is what cold lookups see. */
export class TwinCheckpoint implements ColdBlocks {
  committed: Map<string, Buffer> = new Map();
  #underWay: Map<string, Buffer> | null = null;
  /** Blocks read, and lists of first ids. */
  lookups = 0;
  lists = 0;

  get isUnderWay(): boolean {
    return this.#underWay !== null;
  }

  begin(stream: Stream): void {
    const next = new Map(this.committed);
    const { removedBelow, removed } = stream.freeze();
    for (const key of next.keys()) {
      if (removedBelow !== null && key < keyOf(removedBelow)) next.delete(key);
    }
    for (const id of removed) next.delete(keyOf(id));
    this.#underWay = next;
  }

  capture(stream: Stream, block: Block): void {
    const id = block.readFirstId(new StreamId());
    this.#underWay?.set(keyOf(id), block.export());
    stream.captured(block);
  }

  /** Captures up to `count` more blocks; true when all have been captured. */
  advance(stream: Stream, count: number): boolean {
    for (; count > 0; count--) {
      const block = stream.nextFrozen();
      if (block === undefined) return true;
      this.capture(stream, block);
    }
    return stream.nextFrozen() === undefined;
  }

  commit(stream: Stream): void {
    this.committed = this.#underWay ?? this.committed;
    this.#underWay = null;
    stream.committed();
  }

  abort(stream: Stream): void {
    this.#underWay = null;
    stream.aborted();
  }

  read(id: StreamId): Block | undefined {
    this.lookups++;
    const bytes = this.committed.get(keyOf(id));
    return bytes === undefined ? undefined : Block.import(bytes);
  }

  firstIds(from: StreamId, last: StreamId, visit: (id: StreamId) => void): void {
    this.lists++;
    for (const key of [...this.committed.keys()].sort()) {
      if (key < keyOf(from) || key > keyOf(last)) continue;
      visit(new StreamId().fromKey(Buffer.from(key, 'hex')));
    }
  }
}

function keyOf(id: StreamId): string {
  const bytes = Buffer.alloc(16);
  id.toKey(bytes);
  return bytes.toString('hex');
}

/**
 * One block of a stream, which is what Redis calls a node: up to `stream-node-max-entries` entries in
 * one run of bytes.
 *
 * How its bytes are laid out: entry-format.ts.
 *
 * A block does not own its bytes: while it is the stream's last one they are a growing buffer of its
 * own, later a stretch of a chunk shared with its neighbours (chunk-store.ts), because a typed array
 * of its own would cost more than all else about it.
 * Cost: about 160 bytes a block; finding an entry scans half of the block on average, and at most
 * 128 entries (block-steps.ts).
 */
import { ByteReader, ByteWriter } from '../../util/byte-writer.ts';
import type { RadixLeaf } from '../radix-tree.ts';
import { StreamId } from '../stream-id.ts';
import { readVarint, varintEnd } from '../varint.ts';
import { BlockCursor } from './block-cursor.ts';
import { BlockSteps, stretchLimits } from './block-steps.ts';
import { OWN_FIELDS, TOMBSTONE } from './entry-format.ts';
import { integerElementBytes } from './listpack-size.ts';

const VERSION = 1;
const HEADER_BYTES = 1 + 4 * 4 + 2 * 16;
const EMPTY = new Uint8Array(0);

/** `epoch` of a block that is as the last durable checkpoint has it. */
export const CLEAN = -1;
/** `epoch` of a block that the running checkpoint has taken. */
export const CAPTURED = -2;
/** `epoch` of a block that has left the stream. */
export const REMOVED = -3;

export class Block implements RadixLeaf {
  /** The first id, which names the block: four signed 32-bit quarters. */
  readonly key0: number;
  readonly key1: number;
  readonly key2: number;
  readonly key3: number;
  /** The last entry's id, tombstone or not, in the same form. */
  last0: number;
  last1: number;
  last2: number;
  last3: number;
  bytes: Uint8Array = EMPTY;
  /** Where in `bytes` the block starts. */
  start = 0;
  /** Its length in bytes. */
  length = 0;
  /** Where the entries start, from `start`. */
  entriesAt = 0;
  /** Live entries. */
  live = 0;
  /** Tombstones. */
  deleted = 0;
  /** Bytes of tombstones' bodies (block-compaction.ts). */
  dead = 0;
  /** The size that Redis's listpack of this node would have. */
  listpackBytes = 0;
  /** The ledger's epoch in which it changed last, or CLEAN, CAPTURED, REMOVED (block-changes.ts). */
  epoch = CLEAN;
  /** Whether some checkpoint may hold a version of it. */
  stored = false;
  /** Its bytes belong to another stream, too (COPY): they move before they are changed. */
  shared = false;
  /** Where its stretches begin; null with up to 128 entries. */
  steps: BlockSteps | null = null;

  constructor(first: StreamId) {
    this.last0 = this.key0 = first.msHi | 0;
    this.last1 = this.key1 = first.msLo | 0;
    this.last2 = this.key2 = first.seqHi | 0;
    this.last3 = this.key3 = first.seqLo | 0;
  }

  /** Sets `into` to the block's first id, which names it. */
  readFirstId(into: StreamId): StreamId {
    return into.set(this.key0 >>> 0, this.key1 >>> 0, this.key2 >>> 0, this.key3 >>> 0);
  }

  /** Sets `into` to the last entry's id, tombstones included. */
  readLastId(into: StreamId): StreamId {
    return into.set(this.last0 >>> 0, this.last1 >>> 0, this.last2 >>> 0, this.last3 >>> 0);
  }

  /** Negative, zero or positive as the last entry is before, at or after `id`. */
  compareLast(id: StreamId): number {
    const last0 = this.last0 >>> 0;
    if (last0 !== id.msHi) return last0 - id.msHi;
    const last1 = this.last1 >>> 0;
    if (last1 !== id.msLo) return last1 - id.msLo;
    const last2 = this.last2 >>> 0;
    if (last2 !== id.seqHi) return last2 - id.seqHi;
    return (this.last3 >>> 0) - id.seqLo;
  }

  /** Makes the entry whose header is at `headerAt` a tombstone. It must be live. */
  markDeleted(headerAt: number, bodyBytes: number): void {
    this.dead += bodyBytes;
    this.bytes[headerAt] |= TOMBSTONE;
    this.listpackBytes +=
      integerElementBytes(this.live - 1) -
      integerElementBytes(this.live) +
      integerElementBytes(this.deleted + 1) -
      integerElementBytes(this.deleted);
    this.live--;
    this.deleted++;
  }

  /** The entry that begins at `offset` from the start follows one with the id `previous`. */
  addStep(offset: number, previous: StreamId): void {
    this.steps ??= new BlockSteps();
    this.steps.add(offset, previous.msHi, previous.msLo, previous.seqHi, previous.seqLo);
  }

  /** A block of the same content on the same bytes, which neither changes from now on. */
  share(): Block {
    const copy = this.twin();
    copy.shared = this.shared = true;
    return copy;
  }

  /** A block of the same content, whose bytes have to be moved before either of the two changes. */
  twin(): Block {
    const copy = this.#copy();
    copy.bytes = this.bytes;
    copy.start = this.start;
    return copy;
  }

  #copy(): Block {
    const copy = new Block(this.readFirstId(scratch));
    copy.last0 = this.last0;
    copy.last1 = this.last1;
    copy.last2 = this.last2;
    copy.last3 = this.last3;
    copy.length = this.length;
    copy.entriesAt = this.entriesAt;
    copy.live = this.live;
    copy.deleted = this.deleted;
    copy.dead = this.dead;
    copy.listpackBytes = this.listpackBytes;
    copy.steps = this.steps === null ? null : this.steps.clone();
    return copy;
  }

  /** Header and entries as one new Buffer, versioned. */
  export(): Buffer {
    const writer = new ByteWriter(this.exportedBytes);
    this.encode(writer);
    return writer.buffer;
  }

  /** How many bytes `export` returns. */
  get exportedBytes(): number {
    return HEADER_BYTES + this.length;
  }

  /** Writes what `export` returns. */
  encode(writer: ByteWriter): void {
    writer.u8(VERSION);
    writer.u32(this.length);
    writer.u32(this.live);
    writer.u32(this.deleted);
    writer.u32(this.listpackBytes);
    this.readFirstId(scratch).encode(writer);
    this.readLastId(scratch).encode(writer);
    writer.raw(this.bytes, this.start, this.length);
  }

  /**
   * The block in `bytes`, which it keeps but does not change: a stream that takes it over moves its
   * content first. Every entry is walked: damaged data throws RangeError and
   * nothing outside of `bytes` is read.
   */
  static import(bytes: Uint8Array): Block {
    const reader = new ByteReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    const version = reader.u8();
    if (version !== VERSION) {
      throw new RangeError(`stream block has format ${version}, this program reads ${VERSION}`);
    }
    const length = reader.u32();
    const live = reader.u32();
    const deleted = reader.u32();
    const listpackBytes = reader.u32();
    const block = new Block(new StreamId().decode(reader));
    const last = new StreamId().decode(reader);
    if (bytes.length - HEADER_BYTES !== length) {
      throw new RangeError(`stream block has ${bytes.length - HEADER_BYTES} bytes, not ${length}`);
    }
    block.last0 = last.msHi | 0;
    block.last1 = last.msLo | 0;
    block.last2 = last.seqHi | 0;
    block.last3 = last.seqLo | 0;
    // A plain Uint8Array, as every other block's bytes: one hidden class keeps the scans fast.
    block.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    block.start = HEADER_BYTES;
    block.length = length;
    block.live = live;
    block.deleted = deleted;
    block.listpackBytes = listpackBytes;
    validate(block, last);
    return block;
  }
}

function validate(block: Block, last: StreamId): void {
  const { bytes, start } = block;
  const end = start + block.length;
  let at = start;
  const fields = checkedVarint(bytes, at, end);
  at = varintEnd;
  if (fields === 0) throw damaged('no field names');
  for (let i = 0; i < fields; i++) {
    const length = checkedVarint(bytes, at, end);
    at = varintEnd + length;
    if (at > end) throw damaged('a field name runs over the end');
  }
  block.entriesAt = at - start;
  const cursor = new BlockCursor();
  const previous = new StreamId();
  let live = 0;
  let deleted = 0;
  cursor.attach(block);
  while (cursor.at < end) {
    if (!cursor.next() || !(cursor.bodyEnd <= end)) throw damaged('an entry runs over the end');
    const count = live + deleted;
    if (count > 0 && cursor.id.compare(previous) <= 0) throw damaged('ids do not ascend');
    if (count > 0 && count % stretchLimits.entries === 0)
      block.addStep(cursor.headerAt - start, previous);
    previous.copy(cursor.id);
    if ((cursor.header & TOMBSTONE) === 0) {
      live++;
    } else {
      deleted++;
      block.dead += cursor.bodyEnd - cursor.bodyAt;
      // Its body may have been given back.
      if (cursor.bodyEnd === cursor.bodyAt) continue;
    }
    validateBody(bytes, cursor.bodyAt, cursor.bodyEnd, (cursor.header & OWN_FIELDS) !== 0, fields);
  }
  if (live !== block.live || deleted !== block.deleted || live + deleted === 0) {
    throw damaged(
      `${live} entries and ${deleted} tombstones, not ${block.live} and ${block.deleted}`,
    );
  }
  if (!previous.equals(last)) throw damaged('the last id is another');
}

function validateBody(
  bytes: Uint8Array,
  at: number,
  end: number,
  ownFields: boolean,
  fields: number,
): void {
  let texts = fields;
  if (ownFields) {
    texts = checkedVarint(bytes, at, end) * 2;
    at = varintEnd;
    if (texts === 0) throw damaged('an entry without fields');
  }
  for (let i = 1; i < texts; i++) {
    const length = checkedVarint(bytes, at, end);
    at = varintEnd + length;
    if (at > end) throw damaged('a field or value runs over its entry');
  }
}

function checkedVarint(bytes: Uint8Array, at: number, end: number): number {
  const value = at < end ? readVarint(bytes, at) : 0;
  if (at >= end || varintEnd > end || value > 0x7fff_ffff) throw damaged('a length is cut off');
  return value;
}

function damaged(why: string): RangeError {
  return new RangeError(`stream block is damaged: ${why}`);
}

const scratch = new StreamId();

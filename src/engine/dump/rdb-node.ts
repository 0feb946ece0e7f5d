/**
 * A block of a stream as the listpack of one of Redis's nodes, and back.
 *
 *     node    count deleted num-fields field... 0  entry...
 *     entry   flags ms-delta seq-delta [num-fields field value ... | value...] elements-of-the-entry
 *
 * The first six elements are the node's master entry, whose field names an entry may share (a flag).
 * Ids are differences from the id that names the node. Tombstones stay, with their content.
 * Reading checks every count and the order of ids; what is wrong throws RangeError.
 * Source of the format: Redis 7.0 t_stream.c (streamAppendItem, streamIteratorGetID).
 */
import { Block } from '../../stream/block/block.ts';
import { BlockCursor } from '../../stream/block/block-cursor.ts';
import { writeEntry, writeFields } from '../../stream/block/block-writer.ts';
import { OWN_FIELDS, TOMBSTONE } from '../../stream/block/entry-format.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { readVarint, varintEnd } from '../../stream/varint.ts';
import { Arguments } from '../../util/arguments.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import { ListpackReader, ListpackWriter } from './listpack.ts';

const DELETED = 1;
const SAME_FIELDS = 2;
/** Flags, the two differences. */
const ENTRY_ELEMENTS = 3;
/** Room for an entry's overhead behind the last one. */
const SPARE = 32;
const TWO_32 = 0x1_0000_0000;
/** Numbers whose upper half is below it are exact as doubles. */
const SMALL_HALF = 2 ** 21;
const U64 = 2n ** 64n - 1n;

/** Appends the node's listpack to `writer`; the block must have an entry. */
export function writeNode(block: Block, writer: ByteWriter): void {
  const pack = new ListpackWriter(writer);
  const { bytes } = block;
  pack.begin();
  pack.integer(block.live);
  pack.integer(block.deleted);
  let at = block.start;
  const fields = readVarint(bytes, at);
  pack.integer(fields);
  at = varintEnd;
  for (let i = 0; i < fields; i++) {
    const length = readVarint(bytes, at);
    pack.text(bytes, varintEnd, length);
    at = varintEnd + length;
  }
  pack.integer(0);
  block.readFirstId(master);
  cursor.attach(block);
  while (cursor.next()) writeNodeEntry(pack, fields);
  pack.end();
}

function writeNodeEntry(pack: ListpackWriter, fields: number): void {
  const { bytes, header, id } = cursor;
  const own = (header & OWN_FIELDS) !== 0;
  pack.integer(((header & TOMBSTONE) !== 0 ? DELETED : 0) | (own ? 0 : SAME_FIELDS));
  pack.integer(difference(id.msHi, id.msLo, master.msHi, master.msLo));
  pack.integer(difference(id.seqHi, id.seqLo, master.seqHi, master.seqLo));
  const first = pack.elements;
  let at = cursor.bodyAt;
  let texts = fields;
  if (own) {
    const pairs = readVarint(bytes, at);
    at = varintEnd;
    pack.integer(pairs);
    texts = pairs * 2;
  }
  // The last one has no length: it ends with the body.
  for (let i = 1; i < texts; i++) {
    const length = readVarint(bytes, at);
    pack.text(bytes, varintEnd, length);
    at = varintEnd + length;
  }
  pack.text(bytes, at, cursor.bodyEnd - at);
  pack.integer(pack.elements - first + ENTRY_ELEMENTS);
}

/** As a signed 64-bit number. */
function difference(high: number, low: number, fromHigh: number, fromLow: number): number | bigint {
  const simple = (high - fromHigh) * TWO_32 + (low - fromLow);
  if (Number.isSafeInteger(simple)) return simple;
  const exact = (BigInt(high - fromHigh) << 32n) + BigInt(low - fromLow);
  return BigInt.asIntN(64, exact);
}

/**
 * The block that a node's listpack describes, on its own buffer; null where all its entries are
 * deleted. `last` is the last id before the node, and becomes the last one in it.
 */
export function readNode(name: StreamId, bytes: Buffer, last: StreamId): Block | null {
  const pack = new ListpackReader(bytes);
  const live = pack.nextCount(bytes.length);
  const deleted = pack.nextCount(bytes.length);
  const fields = pack.nextCount(pack.left);
  if (fields === 0) throw damaged('no field names');
  texts.clear();
  for (let i = 0; i < fields; i++) texts.add(pack);
  pack.nextCount(0);
  let block: Block | null = null;
  for (let left = live + deleted; left > 0; left--) {
    const flags = pack.nextCount(DELETED | SAME_FIELDS);
    setShifted(name, pack.nextInteger(), pack.nextInteger());
    if (id.compare(last) <= 0) throw damaged('ids do not ascend');
    last.copy(id);
    readPairs(pack, fields, (flags & SAME_FIELDS) !== 0);
    block ??= emptyBlock(fields, bytes.length);
    const headerAt = block.start + block.length;
    writeEntry(block, id, pairs, 0, pairs.count);
    if ((flags & DELETED) !== 0) block.markDeleted(headerAt, block.start + block.length - headerAt);
  }
  pack.finish();
  if (block === null || block.live !== live)
    throw damaged('its entries are not as many as it says');
  return live === 0 ? null : block;
}

/** Reads an entry's elements after its id into `pairs`. */
function readPairs(pack: ListpackReader, fields: number, same: boolean): void {
  const before = pack.elements;
  const count = same ? fields : pack.nextCount(pack.left);
  if (count === 0) throw damaged('an entry without fields');
  texts.keep(fields);
  for (let i = same ? count : count * 2; i > 0; i--) texts.add(pack);
  const elements = pack.elements - before + ENTRY_ELEMENTS;
  if (pack.nextInteger() !== elements) throw damaged('the count at the end of an entry');
  pairs.clear(texts.buffer);
  for (let i = 0; i < count; i++) {
    texts.push(pairs, same ? i : fields + 2 * i);
    texts.push(pairs, same ? fields + i : fields + 2 * i + 1);
  }
}

/**
 * A block named by `id`, with the first `fields` texts as its field names. `size`: of the listpack, which
 * takes more bytes than the block as a rule.
 */
function emptyBlock(fields: number, size: number): Block {
  const block = new Block(id);
  block.bytes = new Uint8Array(size + SPARE);
  names.clear(texts.buffer);
  for (let i = 0; i < fields; i++) {
    texts.push(names, i);
    texts.push(names, i);
  }
  writeFields(block, names, 0, names.count);
  return block;
}

/** Elements of a listpack as text, one after the other in one buffer. */
class Texts {
  readonly #writer = new ByteWriter(1024);
  readonly #ends: number[] = [];

  clear(): void {
    this.#writer.clear();
    this.#ends.length = 0;
  }

  /** Gives back what a large node took. */
  release(): void {
    this.#writer.release();
  }

  get buffer(): Buffer {
    return this.#writer.buffer;
  }

  /** Adds the next element. */
  add(pack: ListpackReader): void {
    pack.next();
    if (pack.integer === null) this.#writer.raw(pack.buffer, pack.from, pack.size);
    else {
      const text = Buffer.from(String(pack.integer), 'latin1');
      this.#writer.raw(text, 0, text.length);
    }
    this.#ends.push(this.#writer.length);
  }

  /** Forgets all but the first `count`. */
  keep(count: number): void {
    this.#ends.length = count;
    this.#writer.length = this.#ends[count - 1];
  }

  push(args: Arguments, i: number): void {
    const from = i === 0 ? 0 : this.#ends[i - 1];
    args.push(from, this.#ends[i] - from);
  }
}

/** Sets `id` to `from` moved by these differences, modulo 2^64. */
function setShifted(from: StreamId, ms: number | bigint, seq: number | bigint): void {
  const { msHi, msLo, seqHi, seqLo } = from;
  const isSmall = msHi < SMALL_HALF && seqHi < SMALL_HALF;
  if (isSmall && typeof ms === 'number' && typeof seq === 'number') {
    const newMs = msHi * TWO_32 + msLo + ms;
    const newSeq = seqHi * TWO_32 + seqLo + seq;
    if (isExact(newMs) && isExact(newSeq)) {
      id.set(Math.floor(newMs / TWO_32), newMs >>> 0, Math.floor(newSeq / TWO_32), newSeq >>> 0);
      return;
    }
  }
  const newMs = sum(msHi, msLo, ms);
  const newSeq = sum(seqHi, seqLo, seq);
  id.set(
    Number(newMs >> 32n),
    Number(newMs & 0xffff_ffffn),
    Number(newSeq >> 32n),
    Number(newSeq & 0xffff_ffffn),
  );
}

function isExact(sum: number): boolean {
  return sum >= 0 && sum <= Number.MAX_SAFE_INTEGER;
}

function sum(high: number, low: number, difference: number | bigint): bigint {
  return ((BigInt(high) << 32n) + BigInt(low) + BigInt(difference)) & U64;
}

function damaged(what: string): RangeError {
  return new RangeError(`a node is damaged: ${what}`);
}

const cursor = new BlockCursor();
const master = new StreamId();
const id = new StreamId();
const pairs = scratch(new Arguments());
const names = scratch(new Arguments());
const texts = scratch(new Texts());

/**
 * Writes entries into the last block of a stream, whose bytes are a buffer that grows.
 *
 * Field names and values are copied once, straight from the command's buffer.
 * Cost: O(bytes), amortised; no allocation while the buffer has room and no value is long.
 */
import type { Arguments } from '../../util/arguments.ts';
import { StreamId } from '../stream-id.ts';
import { readVarint, varintBytes, varintEnd, writeVarint, writeVarint64 } from '../varint.ts';
import type { Block } from './block.ts';
import { stretchLimits } from './block-steps.ts';
import { MAX_SHORT_MS_DELTA, OWN_FIELDS } from './entry-format.ts';
import {
  EMPTY_LISTPACK_BYTES,
  int64ElementBytes,
  integerElementBytes,
  SMALL_INTEGER_BYTES,
  stringElementBytes,
} from './listpack-size.ts';

/** Up to 64 bytes V8 keeps a typed array's bytes on its own heap, without a separate allocation. */
const FIRST_CAPACITY = 64;
/** A header and the body's length. */
const FIRST_ENTRY_OVERHEAD = 1 + 5;
/** The same and two 64-bit varints. */
const ENTRY_OVERHEAD = FIRST_ENTRY_OVERHEAD + 10 + 10;
/** A longer copy is worth the two small objects that a native one needs. */
const LONG_COPY = 96;

/** Writes the field names of a new block's first entry, which become the block's own. */
export function writeFields(block: Block, args: Arguments, from: number, to: number): void {
  const count = (to - from) >> 1;
  let size = varintBytes(count);
  let listpack = EMPTY_LISTPACK_BYTES + SMALL_INTEGER_BYTES * 3 + integerElementBytes(count);
  for (let i = from; i < to; i += 2) {
    const length = args.lengths[i];
    size += varintBytes(length) + length;
    listpack += stringElementBytes(args.buffer, args.offsets[i], length);
  }
  reserve(block, size);
  let at = writeVarint(block.bytes, 0, count);
  for (let i = from; i < to; i += 2) at = writeText(block.bytes, at, args, i);
  block.entriesAt = block.length = at;
  // The count of live entries is written as 1 here; writeEntry counts from 0.
  block.listpackBytes = listpack;
}

/** Appends one entry; `id` must be after the block's last one. */
export function writeEntry(
  block: Block,
  id: StreamId,
  args: Arguments,
  from: number,
  to: number,
): void {
  const own = !hasFieldsOf(block, args, from, to);
  const buffer = args.buffer;
  const { offsets, lengths } = args;
  const pairs = (to - from) >> 1;
  let body = own ? varintBytes(pairs) : 0;
  // flags, and lp-count: three fixed elements, the values, and with own fields their names and count.
  let listpack = SMALL_INTEGER_BYTES + integerElementBytes(own ? 3 + pairs * 2 + 1 : 3 + pairs);
  if (own) listpack += integerElementBytes(pairs);
  const last = to - 1;
  for (let i = own ? from : from + 1; i < to; i += own ? 1 : 2) {
    const length = lengths[i];
    body += i === last ? length : varintBytes(length) + length;
    listpack += stringElementBytes(buffer, offsets[i], length);
  }
  const count = block.live + block.deleted;
  const isFirst = count === 0;
  if (!isFirst && count % stretchLimits.entries === 0) {
    block.addStep(block.length, block.readLastId(previous));
  }
  reserve(block, body + (isFirst ? FIRST_ENTRY_OVERHEAD : ENTRY_OVERHEAD));
  const bytes = block.bytes;
  let at = block.start + block.length;
  at = writeId(block, bytes, at, id, own ? OWN_FIELDS : 0);
  at = writeVarint(bytes, at, body);
  if (own) at = writeVarint(bytes, at, pairs);
  for (let i = own ? from : from + 1; i < to; i += own ? 1 : 2) {
    if (i !== last) at = writeVarint(bytes, at, lengths[i]);
    at = copyBytes(bytes, at, buffer, offsets[i], lengths[i]);
  }
  block.length = at - block.start;
  block.listpackBytes += listpack + deltaElementBytes(block, id) + countGrowth(block.live);
  block.live++;
  block.last0 = id.msHi | 0;
  block.last1 = id.msLo | 0;
  block.last2 = id.seqHi | 0;
  block.last3 = id.seqLo | 0;
}

/** Moves the block's bytes to its own buffer, with room to grow. */
export function makeGrowable(block: Block, spare: Uint8Array | null): void {
  const enough = spare !== null && spare.length >= block.length + FIRST_CAPACITY;
  const buffer = enough ? spare : new Uint8Array(grownCapacity(block.length, FIRST_CAPACITY));
  buffer.set(block.bytes.subarray(block.start, block.start + block.length));
  block.bytes = buffer;
  block.start = 0;
}

/** Whether the pairs args[from .. to) have exactly the block's field names, in their order. */
function hasFieldsOf(block: Block, args: Arguments, from: number, to: number): boolean {
  const bytes = block.bytes;
  const buffer = args.buffer;
  let at = block.start;
  if (readVarint(bytes, at) !== (to - from) >> 1) return false;
  at = varintEnd;
  for (let i = from; i < to; i += 2) {
    const length = readVarint(bytes, at);
    at = varintEnd;
    if (length !== args.lengths[i]) return false;
    const offset = args.offsets[i];
    for (let j = 0; j < length; j++) if (bytes[at + j] !== buffer[offset + j]) return false;
    at += length;
  }
  return true;
}

/** Writes the header and how the id follows from the block's last one. */
function writeId(block: Block, bytes: Uint8Array, at: number, id: StreamId, flags: number): number {
  const { msHi, msLo, seqHi, seqLo } = id;
  if (block.live + block.deleted === 0) {
    bytes[at] = flags;
    return at + 1;
  }
  const lastMsLo = block.last1 >>> 0;
  const msDeltaLo = (msLo - lastMsLo) >>> 0;
  const msDeltaHi = (msHi - (block.last0 >>> 0) - (msLo < lastMsLo ? 1 : 0)) >>> 0;
  if ((msDeltaHi | msDeltaLo) === 0) {
    const lastSeqLo = block.last3 >>> 0;
    const seqDeltaLo = (seqLo - lastSeqLo) >>> 0;
    const seqDeltaHi = (seqHi - (block.last2 >>> 0) - (seqLo < lastSeqLo ? 1 : 0)) >>> 0;
    if (seqDeltaHi === 0 && seqDeltaLo === 1) {
      bytes[at] = flags;
      return at + 1;
    }
    bytes[at] = flags | 1;
    return writeVarint64(bytes, at + 1, seqDeltaHi, seqDeltaLo);
  }
  if ((seqHi | seqLo) !== 0) {
    bytes[at] = flags | 63;
    at = writeVarint64(bytes, at + 1, msDeltaHi, msDeltaLo);
    return writeVarint64(bytes, at, seqHi, seqLo);
  }
  if (msDeltaHi === 0 && msDeltaLo <= MAX_SHORT_MS_DELTA) {
    bytes[at] = flags | (msDeltaLo + 1);
    return at + 1;
  }
  bytes[at] = flags | 62;
  return writeVarint64(bytes, at + 1, msDeltaHi, msDeltaLo);
}

/** Redis stores ms and seq as differences from the node's first id, as int64. */
function deltaElementBytes(block: Block, id: StreamId): number {
  const msLo = block.key1 >>> 0;
  const seqLo = block.key3 >>> 0;
  const msHi = (id.msHi - (block.key0 >>> 0) - (id.msLo < msLo ? 1 : 0)) >>> 0;
  const seqHi = (id.seqHi - (block.key2 >>> 0) - (id.seqLo < seqLo ? 1 : 0)) >>> 0;
  return (
    int64ElementBytes(msHi, (id.msLo - msLo) >>> 0) +
    int64ElementBytes(seqHi, (id.seqLo - seqLo) >>> 0)
  );
}

function countGrowth(live: number): number {
  return live < 127 ? 0 : integerElementBytes(live + 1) - integerElementBytes(live);
}

function writeText(bytes: Uint8Array, at: number, args: Arguments, i: number): number {
  const length = args.lengths[i];
  return copyBytes(bytes, writeVarint(bytes, at, length), args.buffer, args.offsets[i], length);
}

function copyBytes(
  target: Uint8Array,
  at: number,
  source: Uint8Array,
  from: number,
  length: number,
): number {
  if (length < LONG_COPY) {
    for (let i = 0; i < length; i++) target[at + i] = source[from + i];
  } else {
    target.set(source.subarray(from, from + length), at);
  }
  return at + length;
}

function reserve(block: Block, size: number): void {
  const needed = block.length + size;
  if (needed <= block.bytes.length) return;
  const grown = new Uint8Array(grownCapacity(needed, block.bytes.length));
  grown.set(block.bytes.subarray(0, block.length));
  block.bytes = grown;
}

/** Doubles while small; a large entry gets little more than it needs. */
function grownCapacity(needed: number, capacity: number): number {
  if (needed > 16_384) return needed + (needed >> 3);
  let size = Math.max(capacity, FIRST_CAPACITY);
  while (size < needed) size *= 2;
  return size;
}

const previous = new StreamId();

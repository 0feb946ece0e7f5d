/**
 * Walks the entries of one block from its first to its last, tombstones included.
 *
 * Invariant: between two calls the block must not change but by tombstones. Cost: a few nanoseconds
 * an entry, whatever its size; no allocation.
 */

import { StreamId } from '../stream-id.ts';
import { readVarint, readVarint64, varintEnd, varintHi } from '../varint.ts';
import type { BlockSteps } from './block-steps.ts';
import { ID_CODE, MAX_SHORT_MS_DELTA } from './entry-format.ts';

const U32_MAX = 0xffff_ffff;
const EMPTY = new Uint8Array(0);

/** A block, as far as its cursor needs it. */
export interface BlockBytes {
  readonly bytes: Uint8Array;
  /** Where the block starts in `bytes`, and how long it is. */
  readonly start: number;
  readonly length: number;
  /** Where the entries start, from `start`. */
  readonly entriesAt: number;
  readonly steps: BlockSteps | null;
  readFirstId(id: StreamId): StreamId;
}

export class BlockCursor {
  /** The current entry's id. */
  readonly id: StreamId = new StreamId();
  bytes: Uint8Array = EMPTY;
  /** Where the next entry starts. */
  at = 0;
  end = 0;
  /** Where the current entry's header is. */
  headerAt = 0;
  header = 0;
  /** The current entry's body. */
  bodyAt = 0;
  bodyEnd = 0;

  /** Lets go of the block's bytes. */
  release(): void {
    this.bytes = EMPTY;
    this.at = this.end = 0;
  }

  /** Stands before the first entry of `block`. */
  attach(block: BlockBytes): void {
    this.bytes = block.bytes;
    this.at = block.start + block.entriesAt;
    this.end = block.start + block.length;
    const id = block.readFirstId(this.id);
    // One before the first, within ms: seq 0 wraps around and the first entry's code 0 wraps back.
    if (id.seqLo !== 0) id.seqLo--;
    else {
      id.seqLo = U32_MAX;
      id.seqHi = id.seqHi === 0 ? U32_MAX : id.seqHi - 1;
    }
  }

  /** Stands before the first entry of a stretch of `block`, which ends where the next one begins. */
  attachStretch(block: BlockBytes, stretch: number): void {
    this.attach(block);
    const { steps } = block;
    if (steps === null) return;
    if (stretch > 0) {
      this.at = block.start + steps.offset(stretch - 1);
      steps.readPrevious(stretch - 1, this.id);
    }
    if (stretch < steps.count) this.end = block.start + steps.offset(stretch);
  }

  /** Moves on, towards `target`, past whole stretches of entries that are before it. */
  skipTo(block: BlockBytes, target: StreamId): void {
    const step = block.steps === null ? -1 : block.steps.before(target);
    if (step < 0 || block.steps === null) return;
    const at = block.start + block.steps.offset(step);
    if (at <= this.at) return;
    this.at = at;
    block.steps.readPrevious(step, this.id);
  }

  /** The block's bytes, which were at `start` in others, have moved. */
  moved(block: BlockBytes, start: number): void {
    const by = block.start - start;
    this.bytes = block.bytes;
    this.at += by;
    this.end += by;
    this.headerAt += by;
    this.bodyAt += by;
    this.bodyEnd += by;
  }

  /** Moves to the next entry; false at the end of the block. */
  next(): boolean {
    let at = this.at;
    if (at >= this.end) return false;
    const bytes = this.bytes;
    this.headerAt = at;
    const header = bytes[at++];
    this.header = header;
    const code = header & ID_CODE;
    if (code === 0 && this.id.seqLo !== U32_MAX) this.id.seqLo++;
    else at = this.#advanceId(code, at);
    const length = bytes[at];
    if (length < 128) {
      this.bodyAt = at + 1;
      this.at = this.bodyEnd = at + 1 + length;
    } else {
      const long = readVarint(bytes, at);
      this.bodyAt = varintEnd;
      this.at = this.bodyEnd = varintEnd + long;
    }
    return true;
  }

  /**
   * Moves to the first entry at or after `target`; false when there is none. The same walk as `next`
   * with the id in local variables: lookups pass half a block, so here it counts.
   */
  seek(target: StreamId): boolean {
    const { bytes, end, id } = this;
    const { msHi: toMsHi, msLo: toMsLo, seqHi: toSeqHi, seqLo: toSeqLo } = target;
    let { at } = this;
    let { msHi, msLo, seqHi, seqLo } = id;
    while (at < end) {
      const headerAt = at;
      const code = bytes[at++] & ID_CODE;
      if (code === 0 && seqLo !== U32_MAX) seqLo++;
      else {
        id.set(msHi, msLo, seqHi, seqLo);
        at = this.#advanceId(code, at);
        msHi = id.msHi;
        msLo = id.msLo;
        seqHi = id.seqHi;
        seqLo = id.seqLo;
      }
      const reached =
        msLo === toMsLo && msHi === toMsHi
          ? seqHi > toSeqHi || (seqHi === toSeqHi && seqLo >= toSeqLo)
          : msHi > toMsHi || (msHi === toMsHi && msLo > toMsLo);
      const length = bytes[at];
      let bodyAt = at + 1;
      if (length < 128) at = bodyAt + length;
      else {
        const long = readVarint(bytes, at);
        bodyAt = varintEnd;
        at = bodyAt + long;
      }
      if (reached) {
        id.set(msHi, msLo, seqHi, seqLo);
        this.headerAt = headerAt;
        this.header = bytes[headerAt];
        this.bodyAt = bodyAt;
        this.at = this.bodyEnd = at;
        return true;
      }
    }
    this.at = at;
    return false;
  }

  /** Moves `id` on as an entry's code, and the varints at `at`, say; returns where they end. */
  #advanceId(code: number, at: number): number {
    if (code === 0) this.#addSeq(0, 1);
    else if (code >= 2 && code <= MAX_SHORT_MS_DELTA + 1) this.#addMs(0, code - 1);
    else return this.#nextFarId(code, at);
    return at;
  }

  #nextFarId(code: number, at: number): number {
    const lo = readVarint64(this.bytes, at);
    if (code === 1) {
      this.#addSeq(varintHi, lo);
      return varintEnd;
    }
    this.#addMs(varintHi, lo);
    if (code === ID_CODE) {
      this.id.seqLo = readVarint64(this.bytes, varintEnd);
      this.id.seqHi = varintHi;
    }
    return varintEnd;
  }

  #addSeq(hi: number, lo: number): void {
    const id = this.id;
    const sum = id.seqLo + lo;
    id.seqHi = (id.seqHi + hi + (sum > U32_MAX ? 1 : 0)) >>> 0;
    id.seqLo = sum >>> 0;
  }

  #addMs(hi: number, lo: number): void {
    const id = this.id;
    const sum = id.msLo + lo;
    if (hi !== 0 || sum > U32_MAX) id.msHi = (id.msHi + hi + (sum > U32_MAX ? 1 : 0)) >>> 0;
    id.msLo = sum >>> 0;
    id.seqHi = 0;
    id.seqLo = 0;
  }
}

/**
 * A cursor over the live entries of a stream between two ids, either way.
 *
 * Invariant: a cursor is valid as long as the stream does not change; `seek` again after a change.
 * (A stale cursor may read old bytes; it never reads outside of the arrays it holds.)
 * Backwards, ids cannot be told from what follows them, so a stretch of a block (block-steps.ts) is
 * first walked forwards and its entries' places are noted.
 * Cost: seek O(log blocks) + the scan of one stretch; next O(1), no allocation per entry. One scratch
 * instance can serve a whole server.
 */
import type { Block } from './block/block.ts';
import { BlockCursor } from './block/block-cursor.ts';
import { OWN_FIELDS, TOMBSTONE } from './block/entry-format.ts';
import type { Stream } from './stream.ts';
import { StreamId } from './stream-id.ts';
import { readVarint, varintEnd } from './varint.ts';

export class StreamIterator {
  /** The current entry's id. Scratch: overwritten by `next`. */
  readonly id: StreamId = new StreamId();
  /** Field/value pairs of the current entry. */
  fieldCount = 0;

  // The current pair, set by nextField: views into the block's bytes, valid until the stream changes.
  fieldBuffer: Uint8Array = EMPTY;
  fieldOffset = 0;
  fieldLength = 0;
  valueBuffer: Uint8Array = EMPTY;
  valueOffset = 0;
  valueLength = 0;

  #stream: Stream | null = null;
  readonly #start: StreamId = new StreamId();
  readonly #end: StreamId = new StreamId();
  #reverse = false;
  readonly #cursor: BlockCursor = new BlockCursor();
  #block: Block | undefined = undefined;
  readonly #blockId: StreamId = new StreamId();
  /** Forwards: whether the current block has entries before the start, or after the end. */
  #skips = false;
  #stops = false;
  /** Backwards: the stretch of the block that is noted. */
  #stretch = 0;
  /** Backwards: how many noted entries are still to come, and the notes. */
  #left = 0;
  readonly #notes: Notes = new Notes();

  // Where the current entry's pairs are read.
  #blockFields = 0;
  #fieldsAt = 0;
  #ownFields = false;
  #bodyAt = 0;
  #bodyEnd = 0;
  #fieldAt = 0;
  #valueAt = 0;
  #pairsLeft = 0;

  /** Starts over [start, end], both inclusive; `reverse` goes from end to start. */
  seek(stream: Stream, start: StreamId, end: StreamId, reverse = false): void {
    this.#stream = stream;
    this.#start.copy(start);
    this.#end.copy(end);
    this.#reverse = reverse;
    this.#pairsLeft = 0;
    const { index } = stream;
    if (stream.length === 0 || start.compare(end) > 0 || end.compare(stream.firstId) < 0) {
      this.#enter(undefined);
    } else if (reverse) {
      this.#enter(index.floor(end));
    } else {
      this.#enter(index.floorFor(start) ?? index.higher(start));
    }
  }

  /** Lets go of the stream and its bytes; `seek` before the next use (util/scratch.ts). */
  release(): void {
    this.#stream = null;
    this.#block = undefined;
    this.#pairsLeft = 0;
    this.#left = 0;
    this.fieldBuffer = this.valueBuffer = EMPTY;
    this.#cursor.release();
  }

  /** Moves to the next live entry; false at the end. */
  next(): boolean {
    return this.#reverse ? this.#nextBackward() : this.#nextForward();
  }

  /** Moves to the current entry's next pair; false after the last. */
  nextField(): boolean {
    if (this.#pairsLeft === 0) return false;
    this.#pairsLeft--;
    const bytes = this.valueBuffer;
    let at = this.#valueAt;
    if (this.#ownFields) {
      this.fieldLength = readVarint(bytes, at);
      this.fieldOffset = varintEnd;
      at = varintEnd + this.fieldLength;
    } else {
      this.fieldLength = readVarint(bytes, this.#fieldAt);
      this.fieldOffset = varintEnd;
      this.#fieldAt = varintEnd + this.fieldLength;
    }
    if (this.#pairsLeft === 0) {
      this.valueOffset = at;
      this.valueLength = this.#bodyEnd - at;
    } else {
      this.valueLength = readVarint(bytes, at);
      this.valueOffset = varintEnd;
      this.#valueAt = varintEnd + this.valueLength;
    }
    return true;
  }

  /** Starts the current entry's pairs over. */
  rewindFields(): void {
    this.#fieldAt = this.#fieldsAt;
    this.#valueAt = this.#bodyAt;
    if (this.#ownFields) {
      this.fieldCount = readVarint(this.valueBuffer, this.#bodyAt);
      this.#valueAt = varintEnd;
    } else {
      this.fieldCount = this.#blockFields;
    }
    this.#pairsLeft = this.fieldCount;
  }

  #nextForward(): boolean {
    const cursor = this.#cursor;
    while (this.#block !== undefined) {
      while (this.#skips ? cursor.seek(this.#start) : cursor.next()) {
        this.#skips = false;
        if ((cursor.header & TOMBSTONE) !== 0) continue;
        if (this.#stops && cursor.id.compare(this.#end) > 0) {
          this.#enter(undefined);
          return false;
        }
        this.id.copy(cursor.id);
        this.#stand(cursor.header, cursor.bodyAt, cursor.bodyEnd);
        return true;
      }
      this.#enter(this.#stops ? undefined : this.#stream?.index.higher(this.#blockId));
    }
    return false;
  }

  #nextBackward(): boolean {
    const notes = this.#notes;
    while (this.#block !== undefined) {
      while (this.#left > 0) {
        notes.read(--this.#left, this.id);
        if (this.#stops && this.id.compare(this.#end) > 0) continue;
        if (this.#skips && this.id.compare(this.#start) < 0) {
          this.#enter(undefined);
          return false;
        }
        this.#stand(notes.header[this.#left], notes.bodyAt[this.#left], notes.bodyEnd[this.#left]);
        return true;
      }
      if (this.#stretch > 0) {
        this.#stretch--;
        this.#note(this.#block);
        continue;
      }
      this.#enter(this.#skips ? undefined : this.#stream?.index.lower(this.#blockId));
    }
    return false;
  }

  /** Makes the entry with this body the current one. */
  #stand(header: number, bodyAt: number, bodyEnd: number): void {
    this.#ownFields = (header & OWN_FIELDS) !== 0;
    this.#bodyAt = bodyAt;
    this.#bodyEnd = bodyEnd;
    this.rewindFields();
  }

  #enter(block: Block | undefined): void {
    this.#block = block;
    if (block === undefined) {
      this.#stream = null;
      this.#cursor.bytes = this.fieldBuffer = this.valueBuffer = EMPTY;
      this.#cursor.end = 0;
      return;
    }
    const { bytes, start } = block;
    block.readFirstId(this.#blockId);
    this.fieldBuffer = this.valueBuffer = bytes;
    this.#blockFields = readVarint(bytes, start);
    this.#fieldsAt = varintEnd;
    this.#skips = this.#blockId.compare(this.#start) < 0;
    this.#stops = block.compareLast(this.#end) > 0;
    const { steps } = block;
    if (this.#reverse) {
      this.#stretch = steps === null ? 0 : this.#stops ? steps.before(this.#end) + 1 : steps.count;
      this.#note(block);
      return;
    }
    this.#cursor.attach(block);
    if (this.#skips) this.#cursor.skipTo(block, this.#start);
  }

  /** Notes the present stretch. */
  #note(block: Block): void {
    this.#cursor.attachStretch(block, this.#stretch);
    this.#left = this.#notes.take(this.#cursor);
  }
}

/** The places of one stretch's live entries. */
class Notes {
  ids = new Uint32Array(4 * 128);
  header = new Uint8Array(128);
  bodyAt = new Int32Array(128);
  bodyEnd = new Int32Array(128);

  /** Walks to the end of the stretch and returns how many live entries it passed. */
  take(cursor: BlockCursor): number {
    let count = 0;
    while (cursor.next()) {
      if ((cursor.header & TOMBSTONE) !== 0) continue;
      if (count === this.header.length) this.#grow();
      const { id } = cursor;
      this.ids[count * 4] = id.msHi;
      this.ids[count * 4 + 1] = id.msLo;
      this.ids[count * 4 + 2] = id.seqHi;
      this.ids[count * 4 + 3] = id.seqLo;
      this.header[count] = cursor.header;
      this.bodyAt[count] = cursor.bodyAt;
      this.bodyEnd[count] = cursor.bodyEnd;
      count++;
    }
    return count;
  }

  read(i: number, into: StreamId): void {
    const { ids } = this;
    into.set(ids[i * 4], ids[i * 4 + 1], ids[i * 4 + 2], ids[i * 4 + 3]);
  }

  #grow(): void {
    const { ids, header, bodyAt, bodyEnd } = this;
    this.ids = new Uint32Array(ids.length * 2);
    this.ids.set(ids);
    this.header = new Uint8Array(header.length * 2);
    this.header.set(header);
    this.bodyAt = new Int32Array(bodyAt.length * 2);
    this.bodyAt.set(bodyAt);
    this.bodyEnd = new Int32Array(bodyEnd.length * 2);
    this.bodyEnd.set(bodyEnd);
  }
}

const EMPTY = new Uint8Array(0);

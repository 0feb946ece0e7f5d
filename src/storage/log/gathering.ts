/**
 * Records on their way into the log: gathered, and cut into batches of whole commands, one a frame.
 *
 * Holds: the batch that is being filled and the full ones before it, oldest first; where the record
 * and the unit (a command's, or a MULTI's, records) that are being written began.
 * Invariants: a batch ends where a unit ends, so a unit is on disk whole or not at all; a batch that
 * was taken never holds part of a record, because a record that was begun and not ended is cut off.
 * Cost: a record is two stores beyond its bytes; a batch is one object.
 */
import { ByteWriter } from '../../util/byte-writer.ts';
import { FRAME_HEADER, frameSize, RECORD_HEADER } from './frame.ts';

/** A frame to be: FRAME_HEADER bytes kept free, then records. */
export interface Batch {
  readonly writer: ByteWriter;
  readonly records: number;
  /** The position after its last record. */
  readonly end: number;
}

const FIRST_BUFFER = 64 * 1024;
/** Buffers kept for the next batches. */
const KEPT = 2;

export class Gathering {
  /** The position after the last record that was ended. */
  appended = 0;
  /** A record was begun and not ended. */
  unfinished = false;
  /** What the full batches take as frames. */
  fullBytes = 0;
  readonly #splitBytes: number;
  readonly #keepBytes: number;
  readonly #full: Batch[] = [];
  readonly #free: ByteWriter[] = [];
  #writer = newBuffer();
  #records = 0;
  #recordAt = 0;
  #unitAt = 0;

  /** A batch of `splitBytes` gets no further unit; buffers larger than `keepBytes` are not kept. */
  constructor(splitBytes: number, keepBytes: number) {
    this.#splitBytes = splitBytes;
    this.#keepBytes = keepBytes;
  }

  start(position: number): void {
    this.appended = this.#unitAt = position;
  }

  begin(type: number): ByteWriter {
    const writer = this.#writer;
    writer.ensure(RECORD_HEADER);
    this.#recordAt = writer.length;
    this.unfinished = true;
    writer.buffer[writer.length + 4] = type;
    writer.length += RECORD_HEADER;
    return writer;
  }

  end(): void {
    const writer = this.#writer;
    const at = this.#recordAt;
    const length = writer.length - at;
    writer.buffer.writeUInt32LE(length - RECORD_HEADER, at);
    this.unfinished = false;
    this.#records++;
    this.appended += length;
  }

  /** A unit has ended. */
  boundary(): void {
    this.#unitAt = this.appended;
    if (this.#writer.length >= this.#splitBytes && this.#records > 0) this.#close();
  }

  /** Bytes recorded since the last boundary. */
  get unitBytes(): number {
    return this.appended - this.#unitAt;
  }

  /** Allocates memory for `bytes` more; throws where there is none. */
  reserve(bytes: number): void {
    this.#writer.ensure(bytes);
  }

  /** Bytes of the batch that is being filled. */
  get fillingBytes(): number {
    return this.#writer.length;
  }

  get isEmpty(): boolean {
    return this.#records === 0 && this.#full.length === 0;
  }

  /** What the full batches take as frames, oldest first. */
  fullSizes(): number[] {
    return this.#full.map(({ writer }) => frameSize(writer.length - FRAME_HEADER));
  }

  /** The oldest batch, for the next frame; null when nothing is gathered. */
  take(): Batch | null {
    if (this.#full.length === 0) {
      if (this.#records === 0) return null;
      this.#close();
    }
    const batch = this.#full.shift() as Batch;
    this.fullBytes -= frameSize(batch.writer.length - FRAME_HEADER);
    return batch;
  }

  /** The frame made of this buffer is written. */
  giveBack(writer: ByteWriter): void {
    if (this.#free.length >= KEPT) return;
    this.#free.push(writer.buffer.length > this.#keepBytes ? newBuffer() : emptied(writer));
  }

  #close(): void {
    const writer = this.#writer;
    if (this.unfinished) writer.length = this.#recordAt;
    this.unfinished = false;
    this.#full.push({ writer, records: this.#records, end: this.appended });
    this.fullBytes += frameSize(writer.length - FRAME_HEADER);
    this.#writer = this.#free.pop() ?? newBuffer();
    this.#records = 0;
  }
}

/** Ready to gather: the header's place kept free. */
export function newBuffer(): ByteWriter {
  return emptied(new ByteWriter(FIRST_BUFFER));
}

function emptied(writer: ByteWriter): ByteWriter {
  writer.length = FRAME_HEADER;
  return writer;
}

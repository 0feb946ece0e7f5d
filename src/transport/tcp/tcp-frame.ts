/**
 * The frames of our own transport over TCP: types, limits, writer and reader.
 *
 * A connection begins with the client's bytes `RVL1`. Then frames in both directions:
 *
 *   u32le length | u8 type | u32le stream | payload        length counts type, stream and payload
 *
 *   1 HELLO   u8 version, u32 window, u32 largest frame, text token, text node id, u8 count, content types
 *   2 OPEN    u8 kind, name (service and endpoint), varint timeout ms (0 = none), u8 content type, headers, body
 *   3 MORE    body                         4 END     headers (trailers)
 *   5 REPLY   u8 content type, headers, body: the only and last message of the server
 *   6 ERROR   text code, text id, varint status, text detail, u8 flags, text name, headers, body
 *   7 CANCEL                               8 GRANT   u32 bytes
 *   9 PING   10 PONG   11 GOAWAY           12 HEAD   u8 content type, headers
 *
 *   text    = varint length, UTF-8         headers = varint count, each a name and a text
 *   name    = varint: n > 0 is the n-th name told on this connection, 0 is followed by a text, which
 *             both sides number while their tables have room (1000 names)
 *   content type = number in the sender's HELLO, 255 for one that follows as a text
 *
 * Streams of the client are odd, and their numbers rise. Invariant: a frame is written whole or not
 * at all; the reader hands over whole frames only. Cost: one copy of small bodies, none of large ones.
 */
import { RivuletError } from '../../errors.ts';
import { Fields } from '../fields.ts';
import { keptOf } from '../held-bytes.ts';
import { type Metadata, NO_METADATA } from '../transport.ts';

export const PREFACE = 'RVL1';
export const VERSION = 1;

export const Frame = {
  HELLO: 1,
  OPEN: 2,
  MORE: 3,
  END: 4,
  REPLY: 5,
  ERROR: 6,
  CANCEL: 7,
  GRANT: 8,
  PING: 9,
  PONG: 10,
  GOAWAY: 11,
  HEAD: 12,
} as const;

export const KINDS = ['unary', 'serverStream', 'clientStream', 'bidi'] as const;

/** Content types that need no HELLO: both sides know them by number. */
const CONTENT_TYPES = [
  'application/json',
  'application/protobuf',
  'application/octet-stream',
  'text/plain',
  'application/msgpack',
  'application/bson',
] as const;
const NAMED = 255;

export const MAX_FRAME = 16 * 1024 * 1024;
const MAX_NAMES = 1000;
const MAX_NAME_BYTES = 1024;
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_HEADERS = 1000;
const HEAD_BYTES = 9;
/** Bodies from this size are written from where they are instead of copied. */
const LARGE_BODY = 16 * 1024;
const BUFFER_BYTES = 64 * 1024;
/** Shorter texts are written before they are measured: their length has one byte, unless they are no ASCII. */
const SHORT_TEXT = 100;

/** Writes frames one behind the other; `take` gives what has gathered. */
export class FrameWriter {
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #length = 0;
  /** Bytes of #buffer that are already in #chunks. */
  #taken = 0;
  #start = 0;
  #chunks: Uint8Array[] = [];
  /** Bytes of large bodies of the frame that is being written. */
  #outside = 0;
  /** Bytes gathered. */
  pending = 0;
  readonly #names = new Map<string, number>();
  /** Numbers of names of two parts that are in #names, by both. */
  readonly #pairs = new Map<string, Map<string, number>>();
  /** A frame has begun and not ended. */
  #isOpen = false;
  /** Names told before the frame that is being written. */
  #toldNames = 0;

  /** A frame that was begun and could not be written to its end is dropped. */
  begin(type: number, stream: number): void {
    if (this.#isOpen) this.#drop();
    this.#isOpen = true;
    this.#toldNames = this.#names.size;
    this.#start = this.#length;
    this.#outside = 0;
    this.#ensure(HEAD_BYTES);
    const buffer = this.#buffer;
    buffer[this.#length + 4] = type;
    buffer.writeUInt32LE(stream, this.#length + 5);
    this.#length += HEAD_BYTES;
  }

  /**
   * Finishes the frame, `body` being its last part. Throws BODY_TOO_LARGE for a frame that the peer would
   * not take; nothing of it is written then.
   */
  end(body?: Uint8Array | null): void {
    if (body) {
      if (body.length < LARGE_BODY) {
        this.#ensure(body.length);
        this.#buffer.set(body, this.#length);
        this.#length += body.length;
      } else this.#outside = body.length;
    }
    const length = this.#length - this.#start - 4 + this.#outside;
    if (length > MAX_FRAME + 5) {
      this.#drop();
      const text = `a message of ${length - 5} bytes with its headers; at most ${MAX_FRAME} can be sent at once`;
      throw new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
    }
    this.#isOpen = false;
    this.#buffer.writeUInt32LE(length, this.#start);
    this.pending += length + 4;
    if (this.#outside > 0) {
      this.#cut();
      this.#chunks.push(body as Uint8Array);
    }
  }

  u8(value: number): void {
    this.#ensure(1);
    this.#buffer[this.#length++] = value;
  }

  u32(value: number): void {
    this.#ensure(4);
    this.#length = this.#buffer.writeUInt32LE(value, this.#length);
  }

  varint(value: number): void {
    this.#ensure(8);
    while (value > 127) {
      this.#buffer[this.#length++] = (value % 128) | 128;
      value = Math.floor(value / 128);
    }
    this.#buffer[this.#length++] = value;
  }

  text(value: string): void {
    if (value.length < SHORT_TEXT) {
      this.#ensure(3 * SHORT_TEXT);
      const written = this.#buffer.write(value, this.#length + 1);
      if (written < 128) {
        this.#buffer[this.#length] = written;
        this.#length += written + 1;
        return;
      }
    }
    const bytes = Buffer.byteLength(value);
    this.varint(bytes);
    this.#ensure(bytes);
    this.#length += this.#buffer.write(value, this.#length);
  }

  name(value: string): void {
    const number = this.#names.get(value);
    if (number !== undefined) {
      this.varint(number);
      return;
    }
    if (value.length > MAX_NAME_BYTES / 3 && Buffer.byteLength(value) > MAX_NAME_BYTES) {
      const text = `a name of ${Buffer.byteLength(value)} bytes; at most ${MAX_NAME_BYTES} can be sent`;
      throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
    }
    this.varint(0);
    this.text(value);
    if (this.#names.size < MAX_NAMES) this.#names.set(value, this.#names.size + 1);
  }

  /** As `name` of both with a space between them; names that are known are not joined. */
  pair(first: string, second: string): void {
    const known = this.#pairs.get(first)?.get(second);
    if (known !== undefined) {
      this.varint(known);
      return;
    }
    const name = `${first} ${second}`;
    this.name(name);
    const number = this.#names.get(name);
    if (number === undefined) return;
    let seconds = this.#pairs.get(first);
    if (seconds === undefined) {
      seconds = new Map();
      this.#pairs.set(first, seconds);
    }
    seconds.set(second, number);
  }

  contentType(value: string): void {
    const number = CONTENT_TYPES.indexOf(value as (typeof CONTENT_TYPES)[number]);
    this.u8(number < 0 ? NAMED : number);
    if (number < 0) this.name(value);
  }

  headers(metadata: Metadata): void {
    if (metadata === NO_METADATA) {
      this.u8(0);
      return;
    }
    const names = Object.keys(metadata);
    this.varint(names.length);
    for (const name of names) {
      this.name(name);
      this.text(metadata[name] as string);
    }
  }

  /** What has gathered, to be written in this order; the writer begins afresh. */
  take(): Uint8Array[] {
    if (this.#isOpen) this.#drop();
    this.#cut();
    const chunks = this.#chunks;
    this.#chunks = [];
    this.pending = 0;
    return chunks;
  }

  /** As if the frame had not begun: the peer learns none of its names. */
  #drop(): void {
    this.#isOpen = false;
    this.#length = this.#start;
    if (this.#names.size === this.#toldNames) return;
    this.#pairs.clear();
    for (const [name, number] of this.#names) {
      if (number > this.#toldNames) this.#names.delete(name);
    }
  }

  #cut(): void {
    if (this.#length === this.#taken) return;
    this.#chunks.push(this.#buffer.subarray(this.#taken, this.#length));
    this.#taken = this.#length;
  }

  /** The buffer is never written again where it was taken: the socket may still hold it. */
  #ensure(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const begun = this.#buffer.subarray(this.#start, this.#length);
    const whole = this.#start > this.#taken;
    if (whole) this.#chunks.push(this.#buffer.subarray(this.#taken, this.#start));
    const size = Math.max(BUFFER_BYTES, 2 * (begun.length + bytes));
    const next = Buffer.allocUnsafeSlow(size);
    begun.copy(next);
    this.#buffer = next;
    this.#length = begun.length;
    this.#start = 0;
    this.#taken = 0;
  }
}

/** One whole frame, read in place. Every read checks its bounds and throws PROTOCOL beyond them. */
export class FrameReader {
  buffer: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;
  type = 0;
  stream = 0;
  readonly #names: string[] = [];

  u8(): number {
    if (this.at >= this.end) this.#short();
    return this.buffer[this.at++] as number;
  }

  u32(): number {
    if (this.at + 4 > this.end) this.#short();
    const value = this.buffer.readUInt32LE(this.at);
    this.at += 4;
    return value;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
      if (scale > 2 ** 49) protocolError('a varint is longer than eight bytes');
    }
  }

  text(most = MAX_HEADER_BYTES): string {
    const length = this.varint();
    if (length > most) protocolError(`a text of ${length} bytes; at most ${most} are allowed`);
    if (this.at + length > this.end) this.#short();
    const text = this.buffer.toString('utf8', this.at, this.at + length);
    this.at += length;
    return text;
  }

  name(): string {
    const number = this.varint();
    if (number > 0) {
      const known = this.#names[number - 1];
      if (known === undefined) protocolError(`name ${number} was never told`);
      return known as string;
    }
    const name = this.text(MAX_NAME_BYTES);
    if (this.#names.length < MAX_NAMES) this.#names.push(name);
    return name;
  }

  contentType(): string {
    const number = this.u8();
    if (number === NAMED) return this.name();
    const known = CONTENT_TYPES[number];
    if (known === undefined) protocolError(`content type ${number} is not known`);
    return known as string;
  }

  headers(): Metadata {
    const count = this.varint();
    if (count === 0) return NO_METADATA;
    if (count > MAX_HEADERS) protocolError(`${count} headers; at most ${MAX_HEADERS} are allowed`);
    const metadata = new Fields();
    const from = this.at;
    for (let index = 0; index < count; index++) {
      const name = this.name();
      metadata[name] = this.text();
      // Names and values have the limit, not the numbers before them.
      if (this.at - from > MAX_HEADER_BYTES + 8 * (index + 1)) {
        protocolError(`headers of more than ${MAX_HEADER_BYTES} bytes`);
      }
    }
    return metadata;
  }

  /** All that is left of the frame, without a copy. */
  rest(): Uint8Array {
    const rest = this.buffer.subarray(this.at, this.end);
    this.at = this.end;
    return rest;
  }

  /** As `rest` for what is kept: a small part of what was read at once must not keep all of it. */
  kept(): Uint8Array {
    return keptOf(this.rest());
  }

  #short(): never {
    protocolError('a frame ends before its contents do');
  }
}

/** Cuts a byte stream into frames. */
export class FrameSplitter {
  readonly #reader: FrameReader;
  readonly #onFrame: (frame: FrameReader) => unknown;
  /** Bytes of the largest payload that is taken. */
  largest = MAX_FRAME;
  /** The beginning of a frame whose rest has yet to come. */
  #parts: Buffer[] = [];
  #held = 0;
  #needed = 4;

  /** `onFrame` returns false to get no further frame until the next `push`, perhaps of no bytes. */
  constructor(reader: FrameReader, onFrame: (frame: FrameReader) => unknown) {
    this.#reader = reader;
    this.#onFrame = onFrame;
  }

  /** False where `onFrame` has stopped it. */
  push(chunk: Buffer): boolean {
    let data = chunk;
    if (this.#held > 0) {
      this.#parts.push(chunk);
      this.#held += chunk.length;
      if (this.#held < this.#needed) return true;
      data = Buffer.concat(this.#parts, this.#held);
      this.#parts = [];
      this.#held = 0;
    }
    const reader = this.#reader;
    let at = 0;
    let isStopped = false;
    this.#needed = 4;
    while (!isStopped && data.length - at >= 4) {
      const length = data.readUInt32LE(at);
      if (length < 5 || length > this.largest + 5) {
        protocolError(`a frame of ${length} bytes; from 5 to ${this.largest} are allowed`);
      }
      if (data.length - at - 4 < length) {
        this.#needed = length + 4;
        break;
      }
      reader.buffer = data;
      reader.type = data[at + 4] as number;
      reader.stream = data.readUInt32LE(at + 5);
      reader.at = at + HEAD_BYTES;
      reader.end = at + 4 + length;
      at = reader.end;
      isStopped = this.#onFrame(reader) === false;
    }
    if (at < data.length) {
      this.#parts = [at === 0 ? data : data.subarray(at)];
      this.#held = data.length - at;
    }
    return !isStopped;
  }
}

export function protocolError(text: string): never {
  throw new RivuletError('PROTOCOL', text);
}

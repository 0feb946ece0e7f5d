/**
 * Turns bytes from a server, in pieces of any size, into replies (RESP2 and RESP3).
 *
 * Holds: the unread rest of the last piece (always less than one line, or one small string), the
 * arrays that are still being filled, and a long string that is still arriving.
 * Invariant: no byte is looked at twice but for the unfinished last line or small string; nesting
 * costs no recursion. Attributes are read and dropped. Streamed types, which no server sends, are
 * protocol errors.
 * Cost: one view per string, one array per array; O(bytes).
 * Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
import { RivuletError } from '../errors.ts';
import { type Reply, ReplyError, ReplyMap } from './reply.ts';

export interface ReplyListener {
  reply(reply: Reply): void;
  /** A RESP3 push: its kind is the first item. */
  push(items: Reply[]): void;
}

export interface ReplyLimits {
  /** Bytes of one string. @default 1 GiB */
  readonly maxBulkLength?: number;
  /** Arrays in arrays. @default 64 */
  readonly maxDepth?: number;
}

const CR = 13;
const MAX_LINE = 65_536;
/** Strings from here on are copied into their own buffer as they arrive. */
const LONG_STRING = 16_384;
const EMPTY = Buffer.alloc(0);

interface Frame {
  readonly type: number;
  readonly items: Reply[];
  missing: number;
}

export class ReplyParser {
  readonly #listener: ReplyListener;
  readonly #maxBulkLength: number;
  readonly #maxDepth: number;
  #buffer: Buffer = EMPTY;
  #at = 0;
  #frames: Frame[] = [];
  #long: Buffer | null = null;
  #longType = 0;
  #longFilled = 0;
  /** Set by #readInteger when the line held no safe integer. */
  #exact: bigint | null = null;

  constructor(listener: ReplyListener, limits: ReplyLimits = {}) {
    this.#listener = listener;
    this.#maxBulkLength = limits.maxBulkLength ?? 2 ** 30;
    this.#maxDepth = limits.maxDepth ?? 64;
  }

  /** Whether a piece of this many bytes is a part of a long string, and is copied as it is read. */
  copies(length: number): boolean {
    return this.#long !== null && this.#longFilled + length <= this.#long.length;
  }

  /** Reads a piece, calling the listener for each reply that it completes. Throws on what is not RESP. */
  feed(chunk: Buffer): void {
    if (this.#long !== null) chunk = this.#feedLong(this.#long, chunk);
    if (chunk.length === 0) return;
    const rest = this.#buffer.length - this.#at;
    this.#buffer = rest === 0 ? chunk : Buffer.concat([this.#buffer.subarray(this.#at), chunk]);
    this.#at = 0;
    while (this.#at < this.#buffer.length && this.#readValue());
    if (this.#at === this.#buffer.length) {
      this.#buffer = EMPTY;
      this.#at = 0;
    }
  }

  /** Reads one token; false, with nothing consumed, when it is not complete. */
  #readValue(): boolean {
    const start = this.#at;
    const type = this.#buffer[start];
    switch (type) {
      case 0x24: // $
      case 0x3d: // =
      case 0x21: // !
        return this.#readString(type);
      case 0x3a: {
        // :
        const value = this.#readInteger();
        if (value === undefined) return false;
        this.#complete(this.#exact ?? value);
        return true;
      }
      case 0x2a: // *
      case 0x7e: // ~
      case 0x25: // %
      case 0x3e: // >
      case 0x7c: // |
        return this.#readHeader(type);
    }
    const line = this.#readLine();
    if (line === undefined) return false;
    this.#complete(this.#scalar(type, line));
    return true;
  }

  #scalar(type: number, line: string): Reply {
    switch (type) {
      case 0x2b: // +
        return line;
      case 0x2d: // -
        return new ReplyError(line);
      case 0x5f: // _
        return null;
      case 0x23: // #
        if (line === 't' || line === 'f') return line === 't';
        break;
      case 0x2c: // ,
        return line === 'inf' ? Infinity : line === '-inf' ? -Infinity : Number(line);
      case 0x28: // (
        if (/^-?[0-9]+$/.test(line)) return BigInt(line);
        break;
    }
    throw protocolError(
      `unexpected ${JSON.stringify(String.fromCharCode(type) + line.slice(0, 40))}`,
    );
  }

  #readString(type: number): boolean {
    const start = this.#at;
    const length = this.#readInteger();
    if (length === undefined) return false;
    if (length === -1) {
      this.#complete(null);
      return true;
    }
    if (length < 0 || length > this.#maxBulkLength) {
      throw protocolError(`a string of ${length} bytes`);
    }
    const from = this.#at;
    const end = from + length + 2;
    if (end > this.#buffer.length) {
      if (length < LONG_STRING) {
        this.#at = start;
        return false;
      }
      // The string and its line end get a new buffer, filled as the pieces come.
      this.#long = Buffer.allocUnsafeSlow(length + 2);
      this.#longType = type;
      this.#longFilled = this.#buffer.copy(this.#long, 0, from);
      this.#at = this.#buffer.length;
      return true;
    }
    if (this.#buffer[end - 2] !== CR) throw protocolError('a string longer than it says');
    this.#at = end;
    this.#completeString(type, this.#buffer.subarray(from, from + length));
    return true;
  }

  #feedLong(long: Buffer, chunk: Buffer): Buffer {
    const copied = chunk.copy(long, this.#longFilled);
    this.#longFilled += copied;
    if (this.#longFilled === long.length) {
      this.#long = null;
      if (long[long.length - 2] !== CR) throw protocolError('a string longer than it says');
      this.#completeString(this.#longType, long.subarray(0, long.length - 2));
    }
    return chunk.subarray(copied);
  }

  #completeString(type: number, bytes: Buffer): void {
    if (type === 0x24) this.#complete(bytes);
    else if (type === 0x3d) this.#complete(bytes.subarray(4));
    else this.#complete(new ReplyError(bytes.toString()));
  }

  #readHeader(type: number): boolean {
    const count = this.#readInteger();
    if (count === undefined) return false;
    if (count === -1 && type === 0x2a) {
      this.#complete(null);
      return true;
    }
    if (!(count >= 0 && count < 2 ** 32)) throw protocolError(`an array of ${count} items`);
    if (this.#frames.length === this.#maxDepth) throw protocolError('arrays nested too deeply');
    const missing = type === 0x25 || type === 0x7c ? count * 2 : count;
    this.#frames.push({ type, items: [], missing });
    if (missing === 0) this.#closeFrames();
    return true;
  }

  /** Hands a finished value to the array that holds it, or to the listener. */
  #complete(value: Reply): void {
    const depth = this.#frames.length;
    if (depth === 0) {
      this.#listener.reply(value);
      return;
    }
    const frame = this.#frames[depth - 1];
    frame.items.push(value);
    if (--frame.missing === 0) this.#closeFrames();
  }

  /** The innermost array is full: it is a complete value now. */
  #closeFrames(): void {
    const frame = this.#frames.pop() as Frame;
    if (frame.type === 0x7c) return; // An attribute stands before the value that it is about.
    if (frame.type === 0x3e && this.#frames.length === 0) this.#listener.push(frame.items);
    else this.#complete(frame.type === 0x25 ? toMap(frame.items) : frame.items);
  }

  /** The rest of the line as a number, also left in #exact when rounded; undefined when cut. */
  #readInteger(): number | undefined {
    const buffer = this.#buffer;
    const start = this.#at + 1;
    let at = start;
    const isNegative = buffer[at] === 45;
    if (isNegative) at++;
    let value = 0;
    let byte = buffer[at];
    const digits = at;
    while (byte >= 48 && byte <= 57) {
      value = value * 10 + (byte - 48);
      byte = buffer[++at];
    }
    if (at + 1 >= buffer.length) {
      if (at - start > 32) throw protocolError('a number that does not end');
      return undefined;
    }
    if (byte !== CR || at === digits) {
      throw protocolError(
        `not a number: ${JSON.stringify(buffer.toString('latin1', start, at + 1))}`,
      );
    }
    this.#at = at + 2;
    this.#exact =
      value > Number.MAX_SAFE_INTEGER ? BigInt(buffer.toString('latin1', start, at)) : null;
    return isNegative ? -value : value;
  }

  #readLine(): string | undefined {
    const start = this.#at + 1;
    const end = this.#buffer.indexOf(CR, start);
    if (end < 0 || end + 1 >= this.#buffer.length) {
      if (this.#buffer.length - start > MAX_LINE) throw protocolError('a line that does not end');
      return undefined;
    }
    this.#at = end + 2;
    return this.#buffer.toString('utf8', start, end);
  }
}

function toMap(items: Reply[]): ReplyMap {
  const map = new ReplyMap();
  for (let i = 0; i < items.length; i += 2) map.entries.push([items[i], items[i + 1]]);
  return map;
}

function protocolError(what: string): RivuletError {
  return new RivuletError('CONNECTION_FAILED', `the server sent what is not RESP: ${what}`);
}

/**
 * Writes commands, as arrays of bulk strings, one after another into one buffer.
 *
 * Holds: the commands not yet handed to a socket. `take` returns them in one piece.
 * Cost: short text is written byte by byte without a call into C++ and without an intermediate
 * buffer; nothing is allocated per command.
 */
export type CommandArgument = string | number | bigint | Uint8Array;

const INITIAL = 16_384;
/** Up to here a loop over characters is faster than a native call. */
const SHORT_TEXT = 48;

export class CommandEncoder {
  #buffer = Buffer.allocUnsafeSlow(INITIAL);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Appends one command. */
  write(args: readonly CommandArgument[]): void {
    this.#ensure(32);
    this.#header(42, args.length);
    for (let i = 0; i < args.length; i++) {
      const arg = args[i];
      if (typeof arg === 'string') this.#text(arg);
      else if (typeof arg === 'object') this.#bytes(arg);
      else if (typeof arg === 'number' || typeof arg === 'bigint') this.#text(String(arg));
      else
        throw new TypeError(
          `argument ${i} of a command is ${arg === undefined ? 'undefined' : typeof arg}`,
        );
    }
  }

  /** Returns everything written so far and empties the encoder. The bytes belong to the caller. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#length);
    // The socket may still use these bytes, so later commands are written after them or elsewhere.
    const left = this.#buffer.length - this.#length;
    this.#buffer =
      left >= INITIAL / 4 ? this.#buffer.subarray(this.#length) : Buffer.allocUnsafeSlow(INITIAL);
    this.#length = 0;
    return taken;
  }

  clear(): void {
    this.#length = 0;
  }

  /** Forgets what was written after the encoder had this length: a command that failed half-way. */
  truncate(length: number): void {
    this.#length = length;
  }

  #text(text: string): void {
    const size = text.length;
    if (size > SHORT_TEXT) {
      this.#longText(text);
      return;
    }
    this.#ensure(size + 16);
    const start = this.#length;
    this.#header(36, size);
    const buffer = this.#buffer;
    let at = this.#length;
    for (let i = 0; i < size; i++) {
      const code = text.charCodeAt(i);
      if (code > 127) {
        this.#length = start;
        this.#longText(text);
        return;
      }
      buffer[at++] = code;
    }
    buffer[at++] = 13;
    buffer[at++] = 10;
    this.#length = at;
  }

  #longText(text: string): void {
    const size = Buffer.byteLength(text);
    this.#ensure(size + 16);
    this.#header(36, size);
    this.#length += this.#buffer.write(text, this.#length);
    this.#lineEnd();
  }

  #bytes(bytes: Uint8Array): void {
    if (!(bytes instanceof Uint8Array))
      throw new TypeError('an argument of a command is an object');
    this.#ensure(bytes.length + 16);
    this.#header(36, bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
    this.#lineEnd();
  }

  #header(type: number, value: number): void {
    const buffer = this.#buffer;
    let at = this.#length;
    buffer[at++] = type;
    if (value < 10) buffer[at++] = 48 + value;
    else if (value < 100) {
      buffer[at++] = 48 + ((value / 10) | 0);
      buffer[at++] = 48 + (value % 10);
    } else at += buffer.write(String(value), at, 'latin1');
    buffer[at++] = 13;
    buffer[at++] = 10;
    this.#length = at;
  }

  #lineEnd(): void {
    this.#buffer[this.#length++] = 13;
    this.#buffer[this.#length++] = 10;
  }

  #ensure(size: number): void {
    const needed = this.#length + size;
    if (needed <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2, INITIAL));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

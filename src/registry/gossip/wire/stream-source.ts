/**
 * The bytes of a stream, read as far as they are needed: encryption and compression removed, then one
 * MessagePack value after the other.
 *
 * Invariants: at most `maxBytes` are held, encrypted, plain and uncompressed alike; a length that is
 * beyond that is refused when it is read, before anything is allocated for it. Throws `Malformed`.
 * Cost: each byte is copied at most twice.
 */
import { COMPRESSED, ENCRYPTED, Fields } from './messages.ts';
import type { GossipStream } from './network.ts';
import { decompressed } from './packet.ts';
import { Malformed, RawReader, type RawValue, Truncated } from './raw-msgpack.ts';
import { type Sealer, STREAM_HEAD_BYTES } from './seal.ts';

export class StreamSource {
  readonly #stream: GossipStream;
  readonly #maxBytes: number;
  /** Received and not yet taken: from `#start` to `#end`. */
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  #received = 0;
  /** Everything is in `#bytes`: nothing more is read from the stream. */
  #isWhole = false;

  constructor(stream: GossipStream, maxBytes: number) {
    this.#stream = stream;
    this.#maxBytes = maxBytes;
  }

  /** False where the stream ends without a byte. */
  begins(): Promise<boolean> {
    return this.#has(1);
  }

  /** The type of the message, encryption and compression removed; null for a stream without a byte. */
  async type(sealer: Sealer | null): Promise<number | null> {
    if (!(await this.#has(1))) return null;
    let [type] = await this.take(1);
    if (type === ENCRYPTED) {
      if (sealer === null) throw new Malformed('it is encrypted, and this ring has no key');
      const head = Buffer.concat([
        Uint8Array.of(ENCRYPTED),
        await this.take(STREAM_HEAD_BYTES - 1),
      ]);
      const plain = sealer.open(await this.take(head.readUInt32BE(1)), head);
      if (plain === null) throw new Malformed('it was not encrypted with the key of this ring');
      this.#become(plain);
      [type] = await this.take(1);
    } else if (sealer !== null) throw new Malformed('it is not encrypted, and this ring has a key');
    if (type !== COMPRESSED) return type as number;
    this.#become(decompressed(new Fields(await this.value()), this.#maxBytes));
    [type] = await this.take(1);
    return type as number;
  }

  /** The next value. */
  async value(): Promise<RawValue> {
    for (;;) {
      const reader = new RawReader(this.#bytes.subarray(this.#start, this.#end));
      try {
        const value = reader.value();
        this.#start += reader.offset;
        return value;
      } catch (error) {
        if (!(error instanceof Truncated)) throw error;
        await this.#need(error.needed);
      }
    }
  }

  async take(count: number): Promise<Uint8Array> {
    await this.#need(count);
    this.#start += count;
    return this.#bytes.subarray(this.#start - count, this.#start);
  }

  #become(bytes: Uint8Array): void {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#start = 0;
    this.#end = bytes.length;
    this.#isWhole = true;
  }

  async #need(count: number): Promise<void> {
    if (!(await this.#has(count))) throw new Malformed('it ends too early');
  }

  /** False where the stream ends before. */
  async #has(count: number): Promise<boolean> {
    if (count > this.#maxBytes) throw this.#tooLong();
    while (this.#end - this.#start < count) {
      const chunk = this.#isWhole ? null : await this.#stream.read();
      if (chunk === null) return false;
      this.#received += chunk.length;
      if (this.#received > this.#maxBytes + STREAM_HEAD_BYTES) {
        throw this.#tooLong();
      }
      this.#append(chunk);
    }
    return true;
  }

  #tooLong(): Malformed {
    const text = `it is longer than ${this.#maxBytes} bytes: all members of a ring need the same maxStateBytes`;
    return new Malformed(text);
  }

  /** Into another buffer where this one is full: what was given of this one stays as it was. */
  #append(chunk: Uint8Array): void {
    if (this.#end + chunk.length > this.#bytes.length) {
      const held = this.#end - this.#start;
      const larger = Buffer.alloc(Math.max(4096, 2 * (held + chunk.length)));
      this.#bytes.copy(larger, 0, this.#start, this.#end);
      this.#bytes = larger;
      this.#start = 0;
      this.#end = held;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }
}

/**
 * Jute, the binary form of ZooKeeper's protocol: big-endian numbers, texts and buffers with a length.
 *
 * Invariant: a reader never reads beyond its bytes; what does not fit is PROTOCOL. Cost: one growing
 * buffer for each request, no copy of what is read but texts.
 */
import { RivuletError } from '../../errors.ts';

export class JuteWriter {
  #bytes = Buffer.allocUnsafe(256);
  #length = 0;

  int(value: number): this {
    this.#room(4);
    this.#length = this.#bytes.writeInt32BE(value, this.#length);
    return this;
  }

  long(value: bigint): this {
    this.#room(8);
    this.#length = this.#bytes.writeBigInt64BE(value, this.#length);
    return this;
  }

  bool(value: boolean): this {
    this.#room(1);
    this.#bytes[this.#length++] = value ? 1 : 0;
    return this;
  }

  buffer(value: Uint8Array): this {
    this.int(value.length);
    this.#room(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  text(value: string): this {
    return this.buffer(Buffer.from(value));
  }

  /** What was written, behind its length: a packet. */
  packet(): Buffer {
    const packet = Buffer.allocUnsafe(4 + this.#length);
    packet.writeInt32BE(this.#length);
    this.#bytes.copy(packet, 4, 0, this.#length);
    return packet;
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + more));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

export class JuteReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  int(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  long(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }

  /** A length of -1 is null, which is read as empty. */
  buffer(): Buffer {
    const length = this.int();
    if (length < 0) return Buffer.alloc(0);
    const from = this.#take(length);
    return this.#bytes.subarray(from, from + length);
  }

  text(): string {
    return this.buffer().toString();
  }

  texts(): string[] {
    const count = this.int();
    const texts: string[] = [];
    for (let i = 0; i < count; i++) texts.push(this.text());
    return texts;
  }

  #take(length: number): number {
    const from = this.#at;
    if (length > this.left) {
      throw new RivuletError('PROTOCOL', 'a packet of ZooKeeper ends too early');
    }
    this.#at += length;
    return from;
  }
}

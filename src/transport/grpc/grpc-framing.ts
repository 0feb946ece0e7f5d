/**
 * Messages of gRPC in a stream of bytes: u8 flag (1 = compressed), u32be length, body.
 *
 * Invariants: bodies are handed over whole and in order, whatever the chunks; a message longer than
 * the limit is refused by its head, before its bytes are kept; what is held of a message grows with the
 * bytes that came, whatever its head says. Cost: a copy or two of a message that spans chunks, none of one
 * that does not.
 */
import { RivuletError } from '../../errors.ts';
import { inflate } from '../inflate.ts';

/** go-micro's and gRPC's default. */
export const MAX_MESSAGE = 4 * 1024 * 1024;
const HEAD_BYTES = 5;
const NOTHING = Buffer.alloc(0);

export class GrpcSplitter {
  readonly #limit: number;
  readonly #encoding: string;
  readonly #onMessage: (body: Uint8Array) => void;
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  /** The body that is being gathered; null between messages. */
  #body: Buffer | null = null;
  #bodyBytes = 0;
  /** Bytes of the whole body. */
  #length = 0;

  /** `encoding` is what grpc-encoding said; `identity` where it said nothing. */
  constructor(limit: number, encoding: string, onMessage: (body: Uint8Array) => void) {
    this.#limit = limit;
    this.#encoding = encoding;
    this.#onMessage = onMessage;
  }

  /** Whether the stream may end here. */
  get isBetween(): boolean {
    return this.#body === null && this.#headBytes === 0;
  }

  /** Bytes of memory that the beginning of a message takes. */
  get held(): number {
    return this.#body?.length ?? 0;
  }

  /** Throws BODY_TOO_LARGE, DECODING_FAILED or UNSUPPORTED, after which nothing more can be read. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === null) {
        const take = Math.min(HEAD_BYTES - this.#headBytes, chunk.length - at);
        chunk.copy(this.#head, this.#headBytes, at, at + take);
        this.#headBytes += take;
        at += take;
        if (this.#headBytes < HEAD_BYTES) return;
        const length = this.#head.readUInt32BE(1);
        if (length > this.#limit) {
          const text = `a message of ${length} bytes; at most ${this.#limit} are taken`;
          throw new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
        }
        if (chunk.length - at >= length) {
          this.#finish(chunk.subarray(at, at + length));
          at += length;
          continue;
        }
        this.#body = NOTHING;
        this.#bodyBytes = 0;
        this.#length = length;
      }
      const take = Math.min(this.#length - this.#bodyBytes, chunk.length - at);
      const body = this.#withRoom(this.#bodyBytes + take);
      chunk.copy(body, this.#bodyBytes, at, at + take);
      this.#bodyBytes += take;
      at += take;
      if (this.#bodyBytes === this.#length) this.#finish(body.subarray(0, this.#length));
    }
  }

  /** The body that is being gathered, which has room for so many bytes. */
  #withRoom(bytes: number): Buffer {
    const body = this.#body ?? NOTHING;
    if (body.length >= bytes) return body;
    const grown = Buffer.allocUnsafe(Math.min(this.#length, 2 * bytes));
    body.copy(grown, 0, 0, this.#bodyBytes);
    this.#body = grown;
    return grown;
  }

  #finish(body: Uint8Array): void {
    const flag = this.#head[0] as number;
    this.#headBytes = 0;
    this.#body = null;
    if (flag === 0) {
      this.#onMessage(body);
      return;
    }
    if (flag !== 1 || this.#encoding === 'identity') {
      const text = `a message with flag ${flag}, but grpc-encoding is ${JSON.stringify(this.#encoding.slice(0, 50))}`;
      throw new RivuletError('PROTOCOL', text, { sent: 'no' });
    }
    this.#onMessage(inflate(this.#encoding, body, this.#limit));
  }
}

/** The message as it is written; large bodies are not copied. */
export function frameOf(body: Uint8Array): readonly Uint8Array[] {
  const small = body.length < 16 * 1024;
  const head = small
    ? Buffer.allocUnsafe(HEAD_BYTES + body.length)
    : Buffer.allocUnsafe(HEAD_BYTES);
  head[0] = 0;
  head.writeUInt32BE(body.length, 1);
  if (!small) return [head, body];
  head.set(body, HEAD_BYTES);
  return [head];
}

/** Throws BODY_TOO_LARGE, `sent: 'no'`. */
export function checkLength(body: Uint8Array, limit: number): void {
  if (body.length <= limit) return;
  const text = `a message of ${body.length} bytes; gRPC carries at most ${limit}`;
  throw new RivuletError('BODY_TOO_LARGE', text, { sent: 'no' });
}

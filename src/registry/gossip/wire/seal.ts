/**
 * Encryption of memberlist's wire: AES-GCM under the ring's key, for datagrams and for streams.
 *
 * Form: the version byte 1, a nonce of 12 bytes, the box with its tag of 16 bytes. A stream has before it
 * the byte 10 and the length, which the tag covers too. Invariants: no nonce is used twice, because it is
 * a name that no other process has and a count; what was not sealed with the key opens as null, never as
 * other bytes. Cost: one pass over the bytes.
 */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { ENCRYPTED } from './messages.ts';

const VERSION = 1;
const NAME_BYTES = 8;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAX_COUNT = 0xffff_ffff;
/** What a seal adds to the bytes. */
export const SEAL_BYTES = 1 + NONCE_BYTES + TAG_BYTES;
/** What comes before the seal in a stream. */
export const STREAM_HEAD_BYTES = 5;

export class Sealer {
  readonly #key: Uint8Array;
  readonly #algorithm: 'aes-128-gcm' | 'aes-192-gcm' | 'aes-256-gcm';
  readonly #uniqueName: () => string;
  #name: Buffer;
  #count = 0;

  /** `uniqueName` returns another name at each call, unlike that of any other process. */
  constructor(key: Uint8Array, uniqueName: () => string) {
    this.#key = key;
    this.#algorithm =
      key.length === 16 ? 'aes-128-gcm' : key.length === 24 ? 'aes-192-gcm' : 'aes-256-gcm';
    this.#uniqueName = uniqueName;
    this.#name = this.#newName();
  }

  seal(bytes: Uint8Array, covered?: Uint8Array): Uint8Array {
    const options = { authTagLength: TAG_BYTES };
    const nonce = this.#nonce();
    const cipher = createCipheriv(this.#algorithm, this.#key, nonce, options);
    if (covered !== undefined) cipher.setAAD(covered);
    const box = cipher.update(bytes);
    cipher.final();
    return Buffer.concat([Uint8Array.of(VERSION), nonce, box, cipher.getAuthTag()]);
  }

  /** Null where it was not sealed with this key. */
  open(sealed: Uint8Array, covered?: Uint8Array): Uint8Array | null {
    if (sealed.length < SEAL_BYTES || sealed[0] !== VERSION) return null;
    const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
    const options = { authTagLength: TAG_BYTES };
    const cipher = createDecipheriv(this.#algorithm, this.#key, nonce, options);
    if (covered !== undefined) cipher.setAAD(covered);
    cipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    const bytes = cipher.update(sealed.subarray(1 + NONCE_BYTES, sealed.length - TAG_BYTES));
    try {
      cipher.final();
    } catch {
      return null;
    }
    return bytes;
  }

  /** The bytes as a stream carries them. */
  sealStream(bytes: Uint8Array): Uint8Array {
    const head = Buffer.alloc(STREAM_HEAD_BYTES);
    head[0] = ENCRYPTED;
    head.writeUInt32BE(bytes.length + SEAL_BYTES, 1);
    return Buffer.concat([head, this.seal(bytes, head)]);
  }

  #nonce(): Buffer {
    if (this.#count > MAX_COUNT) {
      this.#name = this.#newName();
      this.#count = 0;
    }
    const nonce = Buffer.alloc(NONCE_BYTES);
    this.#name.copy(nonce);
    nonce.writeUInt32BE(this.#count++, NAME_BYTES);
    return nonce;
  }

  #newName(): Buffer {
    return createHash('sha256').update(this.#uniqueName()).digest().subarray(0, NAME_BYTES);
  }
}

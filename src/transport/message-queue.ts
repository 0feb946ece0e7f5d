/**
 * The receiving end of a stream of bodies: flow/receive-queue.ts, where a body costs its bytes and a
 * fixed overhead.
 *
 * Invariant: a body that waits keeps no more than a few times its own size: what is a small part of the
 * bytes that it was read with is copied, small ones together with their neighbours of the same stream. Cost:
 * that copy, none for a body that a reader waits for.
 */

import { ITEM_OVERHEAD, ReceiveQueue, type ReceiveQueueOptions } from '../flow/receive-queue.ts';
import { isSmallPart } from './held-bytes.ts';

/** What a message costs beside its body, so that empty messages are bounded too. */
export const MESSAGE_OVERHEAD = ITEM_OVERHEAD;

export type MessageQueueOptions = ReceiveQueueOptions;

export class MessageQueue extends ReceiveQueue<Uint8Array> {
  /** Where small bodies are copied to; `#used` bytes of it are taken. */
  #slab: Buffer = NOTHING;
  #used = 0;

  override push(body: Uint8Array, cost = body.length + ITEM_OVERHEAD): void {
    super.push(this.isAwaited || !isSmallPart(body) ? body : this.#copyOf(body), cost);
  }

  #copyOf(body: Uint8Array): Uint8Array {
    const { length } = body;
    if (length > MAX_SLAB / 4) return copyInto(Buffer.allocUnsafeSlow(length), body);
    // The first that waits begins a small slab: a stream that is quiet afterwards keeps no large one.
    if (this.size === 0 || this.#used + length > this.#slab.length) {
      const next = this.size === 0 ? MIN_SLAB : Math.min(MAX_SLAB, 2 * this.#slab.length);
      this.#slab = Buffer.allocUnsafeSlow(Math.max(next, length));
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += length;
    return copyInto(this.#slab.subarray(at, at + length), body);
  }
}

const NOTHING = Buffer.alloc(0);
const MIN_SLAB = 256;
const MAX_SLAB = 8 * 1024;

function copyInto(room: Buffer, body: Uint8Array): Buffer {
  room.set(body);
  return room;
}

/**
 * The receiving end of a stream of bodies: flow/receive-queue.ts, where a body costs its bytes and a
 * fixed overhead.
 */
import { ITEM_OVERHEAD, ReceiveQueue, type ReceiveQueueOptions } from '../flow/receive-queue.ts';

/** What a message costs beside its body, so that empty messages are bounded too. */
export const MESSAGE_OVERHEAD = ITEM_OVERHEAD;

export type MessageQueueOptions = ReceiveQueueOptions;

export class MessageQueue extends ReceiveQueue<Uint8Array> {
  override push(body: Uint8Array, cost = body.length + ITEM_OVERHEAD): void {
    super.push(body, cost);
  }
}

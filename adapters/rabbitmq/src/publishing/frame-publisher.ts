/**
 * Publishes the frames of requests and replies.
 *
 * RabbitMQ closes a channel when a message exceeds its `max_message_size`, and drops what was sent on it
 * after that message. Invariant: a frame above 64 KiB is published on a channel for such frames, so it
 * cannot fail a frame of another call below that size. Frames are numbered, so two channels may
 * reorder them.
 * Cost: two channels per process; one confirm per frame.
 */
import { type RawMessage, RivuletError, type Scheduler } from 'rivulet/adapter';
import type { Link } from '../link.ts';
import { encode } from '../message-codec.ts';
import { PublishLane } from './publish-lane.ts';

const SMALL_BYTES = 64 * 1024;

export interface Destination {
  readonly exchange: string;
  readonly routingKey: string;
  /** The messageId: the id of the request that the frame belongs to. */
  readonly id: string;
  /** RabbitMQ drops the frame if nothing consumes it within this time, ms. */
  readonly expiresMs?: number | null;
}

export class FramePublisher {
  readonly #small: PublishLane;
  readonly #large: PublishLane;

  constructor(link: Link, scheduler: Scheduler, onMissing: () => void) {
    const setup = { link, scheduler, onMissing, isOfLog: false };
    this.#small = new PublishLane(setup);
    this.#large = new PublishLane(setup);
  }

  /** Resolves to false if no queue receives it. Rejects with BODY_TOO_LARGE if it does not fit. */
  async send(frame: RawMessage, to: Destination): Promise<boolean> {
    const { exchange, routingKey, id, expiresMs = null } = to;
    if (Buffer.byteLength(routingKey) > 255) {
      throw new RivuletError('INVALID_ARGUMENT', 'the address of a frame has more than 255 bytes');
    }
    const properties = {
      ...encode(frame, id),
      persistent: false,
      ...(expiresMs === null ? {} : { expiration: String(Math.ceil(expiresMs)) }),
    };
    const publisher = frame.body.length > SMALL_BYTES ? this.#large : this.#small;
    return publisher.send(exchange, routingKey, frame.body, properties);
  }

  async close(): Promise<void> {
    await Promise.all([this.#small.close(), this.#large.close()]);
  }
}

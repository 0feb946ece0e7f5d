/**
 * One unacknowledged delivery, and the replies that settle it at the server.
 *
 * Invariant: a delivery that is `gone` is settled or lost, and no reply is sent for it any more.
 */
import type { Msg } from '@nats-io/transport-node';
import type { RawDelivery } from 'rivulet/adapter';

const NANOS = 1_000_000;
const ACK_SUBJECT = '$JS.ACK.';

export const ACK: Uint8Array = Buffer.from('+ACK');
export const NAK: Uint8Array = Buffer.from('-NAK');
export const IN_PROGRESS: Uint8Array = Buffer.from('+WPI');
export const TERM: Uint8Array = Buffer.from('+TERM');

/** What of a group's topic is needed to settle its deliveries. */
export interface DeliverySource {
  readonly topic: string;
  /** Names the stream as it was made; another one after it was deleted. */
  readonly origin: string;
  /** Its unacknowledged deliveries, by sequence. */
  readonly inFlight: Map<number, NatsDelivery>;
}

export interface InFlight {
  readonly from: DeliverySource;
  /** The message as it was delivered; replies go to its reply subject. */
  readonly delivered: Msg;
  readonly sequence: number;
  /** How often the server has delivered it, this time included. */
  readonly deliveries: number;
  /** When it was received, monotonic ms. */
  readonly since: number;
  deadline: number;
  /** When the next reply is due: that it is in progress or, at its deadline, given back. */
  replyAt: number;
  /** There is a record of its hand-overs. */
  isRecorded: boolean;
  /** Its hand-over could not be recorded when it happened. */
  isLate: boolean;
  /** The sequence of the record that this process has written. */
  record: Promise<number> | null;
  gone: boolean;
}

export interface NatsDelivery extends RawDelivery {
  readonly inFlight: InFlight;
}

/** What tells a delivery of a message from others of its sequence. */
export interface DeliveryMark {
  readonly deliveries: number;
  readonly publishedAt: number;
}

export function markOf({ publishedAt, inFlight: { deliveries } }: NatsDelivery): DeliveryMark {
  return { deliveries, publishedAt };
}

/**
 * Whether a delivery is a later one of the same message by the same consumer. A consumer that was made again
 * counts from one, and a stream that was made again has another message under this sequence.
 */
export function isLaterDelivery(later: DeliveryMark, earlier: DeliveryMark): boolean {
  return later.deliveries > earlier.deliveries && later.publishedAt === earlier.publishedAt;
}

export function nakWithDelay(ms: number): Uint8Array {
  return Buffer.from(`-NAK {"delay": ${Math.ceil(ms) * NANOS}}`);
}

/** Parses the reply subject of a delivery: `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>...`. */
export function parseReply(reply: string) {
  // Every message has one, so it is parsed without splitting it.
  if (!reply.startsWith(ACK_SUBJECT)) return null;
  let dots = 0;
  for (let i = reply.indexOf('.', ACK_SUBJECT.length); i >= 0; i = reply.indexOf('.', i + 1))
    dots++;
  if (dots < 6) return null;
  let at = ACK_SUBJECT.length;
  // Servers with domains put two more words before the stream, and one at the end.
  for (let skip = dots >= 8 ? 4 : 2; skip > 0; skip--) at = reply.indexOf('.', at) + 1;
  const sequence = reply.indexOf('.', at) + 1;
  const own = reply.indexOf('.', sequence) + 1;
  const time = reply.indexOf('.', own) + 1;
  return {
    deliveries: Number(reply.slice(at, sequence - 1)),
    sequence: Number(reply.slice(sequence, own - 1)),
    // The server writes nanoseconds.
    timeMs: Number(reply.slice(time, reply.indexOf('.', time) - 6)),
  };
}

/**
 * One delivery in hand, and the words in which the server is told what became of it.
 *
 * Invariant: a delivery that is `gone` is settled or lost, and nothing more is said of it.
 */
import type { Msg } from '@nats-io/transport-node';
import type { RawDelivery } from 'rivulet';
import type { GroupTopic } from './group-topic.ts';

const NANOS = 1_000_000;
const ACK_SUBJECT = '$JS.ACK.';

export const ACK: Uint8Array = Buffer.from('+ACK');
export const NAK: Uint8Array = Buffer.from('-NAK');
export const IN_PROGRESS: Uint8Array = Buffer.from('+WPI');
export const TERM: Uint8Array = Buffer.from('+TERM');

export interface Held {
  readonly from: GroupTopic;
  /** Its reply subject is where the words go. */
  readonly delivered: Msg;
  readonly sequence: number;
  /** How often the server has delivered it, this time included. */
  readonly deliveries: number;
  readonly since: number;
  deadline: number;
  /** When the server has to hear of it again: that it is in progress or, at its deadline, given back. */
  dueAt: number;
  gone: boolean;
}

export interface NatsDelivery extends RawDelivery {
  readonly held: Held;
}

export function nakWithDelay(ms: number): Uint8Array {
  return Buffer.from(`-NAK {"delay": ${Math.ceil(ms) * NANOS}}`);
}

/** What the reply subject of a delivery tells: `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>...`. */
export function parseAck(reply: string) {
  // Nothing is split: every message has one.
  if (!reply.startsWith(ACK_SUBJECT)) return null;
  let dots = 0;
  for (let i = reply.indexOf('.', ACK_SUBJECT.length); i >= 0; i = reply.indexOf('.', i + 1))
    dots++;
  if (dots < 6) return null;
  let at = ACK_SUBJECT.length;
  // Servers that know domains put two words more before the stream, and one behind.
  for (let skip = dots >= 8 ? 4 : 2; skip > 0; skip--) at = reply.indexOf('.', at) + 1;
  const sequence = reply.indexOf('.', at) + 1;
  const own = reply.indexOf('.', sequence) + 1;
  const time = reply.indexOf('.', own) + 1;
  return {
    deliveries: Number(reply.slice(at, sequence - 1)),
    sequence: Number(reply.slice(sequence, own - 1)),
    // Nanoseconds.
    timeMs: Number(reply.slice(time, reply.indexOf('.', time) - 6)),
  };
}

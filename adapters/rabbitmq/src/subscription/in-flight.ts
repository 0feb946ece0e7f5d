/** One unacknowledged delivery: its channel, and how often its message was delivered before. */
import type { Channel, ConsumeMessage } from 'amqplib';
import type { RawDelivery } from 'rivulet/adapter';
import type { LinkChannel } from '../link.ts';

/** Shared by a delivery and its retries in place. `Consumer` is what it was received by. */
export interface InFlight<Consumer = unknown> {
  readonly consumer: Consumer;
  readonly on: LinkChannel<Channel>;
  readonly message: ConsumeMessage;
  /** The id of the message that was received before it; null for the first one. */
  readonly previousId: string | null;
  /** When it was received, monotonic ms. */
  readonly since: number;
  /** The attempts before this message was published: it is a copy for a retry. */
  readonly base: number;
  /** How often RabbitMQ has returned the message to its queue. */
  readonly returns: number;
  /** Which hand-over it is, or would be; 0 while that is unknown. */
  attempt: number;
  /** The hand-over that this consumer has recorded; 0 = none. */
  counted: number;
  /** It was settled, or lost with its channel. */
  gone: boolean;
}

export interface AmqpDelivery<Consumer = unknown> extends RawDelivery {
  readonly inFlight: InFlight<Consumer>;
}

export function tagOf({ message }: InFlight): number {
  return message.fields.deliveryTag;
}

/** How often a message was returned, by the header that this version of RabbitMQ counts in. */
export function returnsOf({ fields, properties }: ConsumeMessage): number {
  const headers = properties.headers ?? {};
  const counts = [headers['x-acquired-count'], headers['x-delivery-count']].map(
    (each) => Number(each) || 0,
  );
  return Math.max(...counts, fields.redelivered ? 1 : 0);
}

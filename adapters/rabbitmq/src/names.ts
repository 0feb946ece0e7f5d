/**
 * Names of exchanges and queues, and patterns in RabbitMQ's own words.
 *
 * Invariant: a name has at most RabbitMQ's 255 bytes; what would be longer is cut and made unique by
 * a hash. Everything of ours begins with `rivulet.`, so one policy can address it.
 */
import { createHash } from 'node:crypto';

const MOST_BYTES = 255;

export const REGISTRY = 'rivulet.registry';
/** Where messages with a long way to go are looked at again. */
export const DUE = 'rivulet.due';
/** Messages that the broker itself gave up on, by the routing key that they came with. */
export const GIVEN_UP = 'rivulet.given-up';
export const REQUESTS = 'rivulet.requests';
export const CANCELS = 'rivulet.cancels';

/** The stream that holds the log of a topic. */
export function streamOf(topic: string): string {
  return fit(`rivulet.topic.${topic}`);
}

/** The queue of a group; the exchange of the same name says that it is complete. */
export function queueOf(pattern: string, group: string): string {
  return fit(`rivulet.group.${group}:${pattern}`);
}

/** The queue in which dead letters wait for being sent back. */
export function redriveQueueOf(deadTopic: string): string {
  return fit(`rivulet.redrive.${deadTopic}`);
}

export function requestQueueOf(topic: string, group: string): string {
  return fit(`rivulet.requests.${group}:${topic}`);
}

export function lockOf(queue: string): string {
  return fit(`rivulet.lock.${queue}`);
}

/** `>` is one word or more; RabbitMQ's `#` is none or more. */
export function bindingKey(pattern: string): string {
  return pattern.replace(/>$/, '*.#');
}

function fit(name: string): string {
  if (Buffer.byteLength(name) <= MOST_BYTES) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 32);
  return `${Buffer.from(name)
    .toString('latin1')
    .slice(0, 200)
    .replace(/[^\x21-\x7e]/g, '_')}~${hash}`;
}

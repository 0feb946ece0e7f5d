/**
 * Names of exchanges and queues, and topic patterns as RabbitMQ's binding keys.
 *
 * Invariants: different parts make different names. A name has at most 255 bytes, RabbitMQ's limit; a
 * longer one is replaced by `#` and a hash, and no topic and no group contains `#`. Every name begins
 * with `rivulet.`, so one policy can address them all.
 */
import { createHash } from 'node:crypto';

const MAX_BYTES = 255;

export const REGISTRY = 'rivulet.registry';
/** The stream of hand-overs; see hand-over-log.ts. */
export const HAND_OVERS = 'rivulet.hand-overs';
/** The queue that delayed publishes reach after each wait. */
export const DUE = 'rivulet.due';
/** The exchange that routes retries back into the queue of their group. */
export const RETRIES = 'rivulet.retries';
/** Exchange and queue that receive retries whose own queue has been deleted. */
export const UNROUTABLE = 'rivulet.unroutable';
export const REQUESTS = 'rivulet.requests';
export const CANCELS = 'rivulet.cancels';

const LOGS = 'rivulet.topic.';

/** The exchange whose routing keys are topics. */
export function topicExchangeOf(goMicro: boolean): string {
  return goMicro ? 'micro' : 'rivulet';
}

/** The stream that is the log of a topic. */
export function streamOf(topic: string): string {
  return bounded(LOGS, topic);
}

/** Whether a queue is the log of a topic. */
export function isLog(queue: string): boolean {
  return queue.startsWith(LOGS);
}

/** The queue of a group. An exchange of the same name exists once the queue is complete. */
export function queueOf(pattern: string, group: string): string {
  return bounded('rivulet.group.', `${escaped(group)}:${pattern}`);
}

/** The queue that keeps dead letters for redrive. */
export function redriveQueueOf(deadTopic: string): string {
  return bounded('rivulet.redrive.', deadTopic);
}

export function requestQueueOf(topic: string): string {
  return bounded('rivulet.requests.', topic);
}

export function lockOf(queue: string): string {
  return bounded('rivulet.lock.', queue);
}

/** Retries wait here for `ms` milliseconds. */
export function retryQueueOf(ms: number): string {
  return `rivulet.retry.${ms}`;
}

/** Delayed publishes wait here for `ms` milliseconds, then go to DUE. */
export function delayQueueOf(ms: number): string {
  return `rivulet.delay.${ms}`;
}

/**
 * A topic's name, shortened to the 255 bytes of a routing key. Only derived names (dead letters) can be
 * longer: they keep their beginning, a hash and their last word.
 */
export function boundedTopic(topic: string): string {
  if (Buffer.byteLength(topic) <= MAX_BYTES) return topic;
  const last = topic.slice(topic.lastIndexOf('.'));
  const end = `~${hashOf(topic)}${Buffer.byteLength(last) < 64 ? last : ''}`;
  return `${firstBytes(topic, MAX_BYTES - Buffer.byteLength(end))}${end}`;
}

/** `>` matches one word or more; RabbitMQ's `#` matches none or more. */
export function bindingKey(pattern: string): string {
  return pattern.replace(/>$/, '*.#');
}

/** A colon separates group and pattern, so it is escaped in the group. */
function escaped(group: string): string {
  return group.replaceAll('%', '%25').replaceAll(':', '%3A');
}

function bounded(prefix: string, name: string): string {
  const whole = prefix + name;
  if (Buffer.byteLength(whole) <= MAX_BYTES) return whole;
  const start = firstBytes(name, 150).replace(/[^\x21-\x7e]/g, '_');
  return `${prefix}#${hashOf(name)}.${start}`;
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 32);
}

/** The longest prefix of whole characters that has at most `bytes` bytes. */
function firstBytes(text: string, bytes: number): string {
  let end = 0;
  let length = 0;
  for (const character of text) {
    length += Buffer.byteLength(character);
    if (length > bytes) break;
    end += character.length;
  }
  return text.slice(0, end);
}

/**
 * Settles deliveries on RabbitMQ.
 *
 * A message that is given back is published again for its retry, with the number of its attempts, and
 * then acknowledged; so it does not depend on RabbitMQ's count of deliveries. In an ordered group
 * (`x-single-active-consumer`) a message that is given back stays unacknowledged and is retried in
 * place; what was not handled returns, in order, when the channel closes.
 * Invariant: a message is acknowledged only after its copy was confirmed, so a crash between the two
 * leaves both.
 */

import type { ResolvedSubscribeOptions, Scheduler, Settler } from 'rivulet/adapter';
import { type BrokerEvents, deadLetterMessage, type Events, RivuletError } from 'rivulet/adapter';
import type { Delays } from '../delays.ts';
import { toRivulet } from '../errors.ts';
import { encode } from '../message-codec.ts';
import { boundedTopic } from '../names.ts';
import type { Publisher } from '../publishing/publisher.ts';
import type { Topology } from '../topology.ts';
import { mustBeOpen } from './deliveries.ts';
import type { HandOverLog } from './hand-over-log.ts';
import type { QueueDelivery } from './queue-consumer.ts';

const DONE = Promise.resolve();

export interface SettlementsSetup {
  readonly options: ResolvedSubscribeOptions;
  readonly topology: Topology;
  readonly publisher: Publisher;
  readonly delays: Delays;
  readonly handOvers: HandOverLog;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  /** Whether every handler that may run is past its deadline. */
  readonly isStuck: () => boolean;
  /** Whether a handler has the message. */
  readonly isInHandler: (topic: string, id: string) => boolean;
  readonly lose: (raw: QueueDelivery, reason: string) => void;
  /** The longest time that RabbitMQ leaves a delivery unacknowledged, ms; null = as long as asked. */
  readonly longestMs: () => number | null;
}

export class Settlements implements Settler<QueueDelivery> {
  readonly #setup: SettlementsSetup;

  constructor(setup: SettlementsSetup) {
    this.#setup = setup;
  }

  async ack({ inFlight }: QueueDelivery): Promise<void> {
    mustBeOpen(inFlight);
    inFlight.consumer.deliveries.ackIfOpen(inFlight);
  }

  async ackMany(raws: readonly QueueDelivery[]): Promise<void> {
    const [first] = raws;
    if (first === undefined) return;
    // Of a topic that a pattern's subscriber takes over, two queues may deliver messages.
    const { consumer } = first.inFlight;
    const others = raws.filter(({ inFlight }) => inFlight.consumer !== consumer);
    const own =
      others.length === 0 ? raws : raws.filter(({ inFlight }) => inFlight.consumer === consumer);
    for (const raw of consumer.deliveries.ackMany(own)) {
      this.#setup.lose(raw, 'its channel to RabbitMQ was lost');
    }
    await this.ackMany(others);
  }

  async nack(raw: QueueDelivery, delayMs: number, _reason: string): Promise<void> {
    const { delays, isStuck, scheduler } = this.#setup;
    const { inFlight } = raw;
    const { consumer } = inFlight;
    mustBeOpen(inFlight);
    if (consumer.spec.exclusive) {
      await this.#record(raw, raw.attempt, inFlight.returns + 1);
      return;
    }
    if (isStuck()) consumer.rest(inFlight.on);
    const properties = encode(raw.message, raw.id, consumer.headersOfCopy(raw, raw.attempt));
    await delays.retry(consumer.queue, delayMs, raw.message.body, properties);
    consumer.deliveries.ackIfOpen(inFlight);
    if (delayMs < 1) return;
    const since = scheduler.monotonic();
    const { topic, id, attempt: attempts } = raw;
    consumer.retries.add({ topic, id, attempts, since, until: since + delayMs });
  }

  async deadLetter(raw: QueueDelivery, topic: string, reason: string): Promise<void> {
    const { topology, publisher, options, scheduler } = this.#setup;
    const { inFlight } = raw;
    mustBeOpen(inFlight);
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, scheduler.now());
    const to = boundedTopic(topic);
    await topology.deadTopic(to);
    const properties = encode(topology.addressed(to, dead), raw.id);
    if (!(await publisher.send(topology.exchange, to, dead.body, properties))) {
      topology.doubt(to);
      throw new RivuletError('NOT_CONNECTED', `the dead letters of ${raw.topic} have no log`);
    }
    inFlight.consumer.deliveries.ackIfOpen(inFlight);
  }

  /** Sends nothing: RabbitMQ has no deadline for one message. */
  async extend(raw: QueueDelivery, ms: number): Promise<void> {
    const { inFlight, topic, id } = raw;
    mustBeOpen(inFlight);
    const longest = this.#setup.longestMs();
    const total = this.#setup.scheduler.monotonic() - inFlight.since + ms;
    if (longest === null || total <= longest) return;
    const { consumer } = inFlight;
    if (!this.#setup.isInHandler(topic, id) && !consumer.spec.exclusive) {
      // The message has only waited for a handler. RabbitMQ delivers it again, with a new deadline.
      consumer.intake.lose(raw);
      inFlight.on.channel.reject(inFlight.message, true);
      consumer.deliveries.end(inFlight);
      mustBeOpen(inFlight);
    }
    const text = `message ${id} of ${topic} would be unacknowledged for ${Math.round(total / 60_000)} minutes: before RabbitMQ 3.12 the server takes it back after 30`;
    throw new RivuletError('SERVER_TOO_OLD', text);
  }

  async release(raw: QueueDelivery): Promise<void> {
    const { inFlight } = raw;
    const { consumer } = inFlight;
    if (inFlight.gone || !inFlight.on.open) return;
    const stored = consumer.spec.own ? DONE : this.#recordReleased(raw);
    if (consumer.spec.exclusive) {
      // Before the record is confirmed: confirms come in any order, deliveries must not.
      consumer.setAside(raw);
      await stored;
      return;
    }
    await stored;
    if (inFlight.gone || !inFlight.on.open) return;
    if (this.#setup.isStuck()) consumer.rest(inFlight.on);
    inFlight.on.channel.reject(inFlight.message, true);
    consumer.deliveries.end(inFlight);
  }

  /** Without the record the next consumer treats the message as a suspect, which is slow but loses nothing. */
  async #recordReleased(raw: QueueDelivery): Promise<void> {
    const { base, returns } = raw.inFlight;
    try {
      await this.#record(raw, Math.max(base, raw.attempt - 1), returns + 1);
    } catch (error) {
      this.#setup.events.emit('warning', { error: toRivulet(error) });
    }
  }

  async storeAttempt(raw: QueueDelivery): Promise<void> {
    await this.storeAttemptNow(raw);
  }

  /** The record has been written to the socket when this returns. */
  storeAttemptNow(raw: QueueDelivery): Promise<void> {
    const { inFlight } = raw;
    inFlight.attempt = raw.attempt;
    inFlight.counted = raw.attempt;
    return inFlight.consumer.spec.own ? DONE : this.#record(raw, raw.attempt, inFlight.returns);
  }

  #record({ id, inFlight }: QueueDelivery, attempts: number, returns: number): Promise<void> {
    const record = { attempts, base: inFlight.base, returns };
    return this.#setup.handOvers.write(inFlight.consumer.queue, id, record);
  }
}

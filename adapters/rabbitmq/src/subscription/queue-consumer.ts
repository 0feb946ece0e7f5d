/**
 * The consumer of one group's queue: a channel that is opened again whenever it ends.
 *
 * Invariants: at most `maxInFlight` messages are unacknowledged (prefetch). Whatever ends the channel
 * (the connection, the queue's deletion, a consumer timeout) is reported, every delivery on it is lost
 * to this consumer, and a new channel begins. If the queue was deleted, it is filled again from the log
 * after the last message that was delivered here, and what was delivered and not settled is published
 * into it again; in order, the log is read from the oldest of those. Its binding is made again on each channel, and every 2.5 s while nothing arrives.
 * Cost: one channel; while nothing arrives, one look at the queue every 2.5 s.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Dispatcher,
  type Events,
  isPattern,
  type PendingEntry,
  type Position,
  pause,
  type ResolvedSubscribeOptions,
  RivuletError,
} from 'rivulet/adapter';
import { isMissing, replyCode, toRivulet } from '../errors.ts';
import type { History } from '../history.ts';
import type { Link, LinkChannel } from '../link.ts';
import { attemptsOf, decode, encode, type Headers, wireHeaders } from '../message-codec.ts';
import { queueOf } from '../names.ts';
import type { Publisher } from '../publishing/publisher.ts';
import type { Registry } from '../registry.ts';
import type { GroupSpec, Topology } from '../topology.ts';
import { DeafWatch } from './deaf-watch.ts';
import { Deliveries } from './deliveries.ts';
import type { HandOverLog } from './hand-over-log.ts';
import { type AmqpDelivery, type InFlight, returnsOf, tagOf } from './in-flight.ts';
import { Intake } from './intake.ts';
import { WaitingRetries } from './waiting-retries.ts';

/** Before 3.12 RabbitMQ closes a channel on which a delivery is unacknowledged for 30 minutes. */
export const CONSUMER_TIMEOUT_MS = 29 * 60_000;
const MAX_PREFETCH = 65_535;
/** A marker that could not be applied is delivered again after this. */
const SPLIT_RETRY_MS = 250;
/** After this many acknowledgements, one no longer has to leave before the next hand-over. */
const WRITE_AT_ONCE = 60;

export interface QueueConsumerSetup {
  readonly spec: GroupSpec;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: Link;
  readonly topology: Topology;
  readonly registry: Registry;
  readonly history: History;
  readonly publisher: Publisher;
  readonly handOvers: HandOverLog;
  readonly events: Events<BrokerEvents>;
  readonly dispatcher: Dispatcher<QueueDelivery>;
  readonly settlements: { release(raw: QueueDelivery): Promise<void> };
  readonly consumer: string;
  /** The dispatcher loses these deliveries. */
  readonly lose: (raws: readonly QueueDelivery[], reason: string) => void;
  /** Whether RabbitMQ lets a consumer set its timeout: from 3.12 on. */
  readonly hasConsumerTimeout: boolean;
}

/** A delivery of a queue's consumer, as its settlements need it. */
export type QueueDelivery = AmqpDelivery<QueueConsumer>;

export class QueueConsumer {
  readonly spec: GroupSpec;
  readonly queue: string;
  readonly deliveries = new Deliveries<QueueDelivery>();
  readonly retries = new WaitingRetries();
  readonly intake: Intake<QueueDelivery>;
  readonly #setup: QueueConsumerSetup;
  /** In an ordered group, what waited behind a late handler: it is handled after that one returns. */
  readonly #aside: QueueDelivery[] = [];
  /** Delivered and not settled when the channel was lost, with the attempts until then. */
  #unsettled: { readonly raw: QueueDelivery; readonly attempts: number }[] = [];
  readonly #stop = new AbortController();
  #open: LinkChannel<Channel> | null = null;
  #consumerTag = '';
  #running: Promise<void> | null = null;
  /** Changes when the group is replayed: retries of an earlier round are dropped. */
  #round = '';
  /** Changes when the queue is made again. */
  #madeAs = '';
  #hasMade = false;
  #wasOpen = false;
  /** Consumes nothing, because every handler is past its deadline. */
  #isResting = false;
  #lastId: string | null = null;
  #receivedSinceWatch = 0;
  #isDraining = false;
  /** The queue was missing and is made again; that is not reported yet. */
  #isLost = false;
  readonly #watch: DeafWatch;

  constructor(setup: QueueConsumerSetup) {
    this.#setup = setup;
    this.spec = setup.spec;
    const { dispatcher, broker, handOvers } = setup;
    this.queue = queueOf(this.spec.pattern, this.spec.group);
    this.intake = new Intake<QueueDelivery>({
      queue: this.queue,
      log: this.spec.own ? null : handOvers,
      hasRoom: () => !this.#stop.signal.aborted && dispatcher.free > 0,
      push: (raw) => {
        this.deliveries.update(raw);
        dispatcher.push(raw);
      },
      failed: (error) => this.#warn(toRivulet(error)),
      scheduler: broker.scheduler,
    });
    this.#watch = new DeafWatch({
      scheduler: broker.scheduler,
      missed: () => this.#missed(),
      replace: () => this.#replace(),
    });
  }

  /** Consumes once, so that the caller receives an error, then until it is closed. */
  async start(): Promise<void> {
    await this.#consume();
    this.#running = this.#run();
    this.#watch.start();
  }

  /** The dispatcher has room. */
  free(): void {
    if (this.#isResting) void this.#open?.close();
    if (this.#isDraining) return;
    this.#isDraining = true;
    // After the acknowledgements of this turn are written: the next message may end the process.
    queueMicrotask(() => {
      this.#isDraining = false;
      const aside = this.#aside.splice(0);
      this.intake.unshift(aside.sort((a, b) => tagOf(a.inFlight) - tagOf(b.inFlight)));
    });
  }

  /** The group is replayed: drops all deliveries and consumes again. */
  async abandon(): Promise<void> {
    const open = this.#open;
    this.retries.clear();
    this.#drop(open);
    this.#unsettled = [];
    await open?.close();
  }

  /** What is delivered here of a topic, and its retries that wait. */
  pending(topic: string): PendingEntry[] {
    const now = this.#now();
    const delivered = this.deliveries
      .all()
      .filter((raw) => raw.topic === topic)
      .map(({ id, attempt, inFlight }) => ({
        id,
        consumer: this.#setup.consumer,
        idleMs: Math.round(now - inFlight.since),
        attempts: attempt,
      }));
    return [...this.retries.pending(topic, now), ...delivered];
  }

  /** Receives no more, and returns what was not pushed. */
  async stop(): Promise<QueueDelivery[]> {
    this.#stop.abort();
    this.#watch.stop();
    const open = this.#open;
    // In order the consumer stays the active one: what it holds returns when its channel closes.
    if (open?.open && !this.spec.exclusive) {
      await open.channel.cancel(this.#consumerTag).catch(() => {});
    }
    return this.intake.clear();
  }

  /** Closes the channel: RabbitMQ returns what is still unacknowledged, in order. */
  async leave(): Promise<void> {
    await this.#open?.close();
    await this.#running;
    for (const { inFlight } of this.deliveries.all()) this.deliveries.end(inFlight);
    this.#setup.handOvers.drop(this.queue);
    if (!this.spec.own) return;
    const { pattern, group } = this.spec;
    await this.#setup.topology.deleteGroup(pattern, group).catch(() => {});
  }

  /** The headers of a copy of a message that goes back into this queue. */
  headersOfCopy(raw: QueueDelivery, attempts: number): Headers {
    return {
      [wireHeaders.attempts]: attempts,
      [wireHeaders.topic]: raw.topic,
      ...(this.spec.own ? {} : { [wireHeaders.round]: this.#round }),
    };
  }

  /** In order: the message keeps its place and is handled after the late handler has returned. */
  setAside(raw: QueueDelivery): void {
    if (!this.#stop.signal.aborted) this.#aside.push(raw);
  }

  /** Stops consuming, so that other consumers receive what is given back. */
  rest(on: LinkChannel<Channel>): void {
    if (this.#isResting || !on.open) return;
    this.#isResting = true;
    on.channel.cancel(this.#consumerTag).catch(() => {});
    for (const raw of this.intake.clear()) void this.#setup.settlements.release(raw);
  }

  async #run(): Promise<void> {
    const { broker, link, topology } = this.#setup;
    const { scheduler } = broker;
    const { signal } = this.#stop;
    for (let failures = 0; ; failures++) {
      const open = this.#open;
      if (open !== null) await open.ended;
      this.#lose(open);
      if (signal.aborted) return;
      const wait = backoffMs(broker.reconnect, failures, scheduler.fraction());
      if (failures > 0) await pause(scheduler, wait, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        await link.ready(signal);
        await this.#consume();
        failures = -1;
      } catch (error) {
        this.#open = null;
        if (isMissing(error)) topology.forget();
        if (!signal.aborted) this.#warn(toRivulet(error));
      }
    }
  }

  async #consume(): Promise<void> {
    const { link, topology, history, handOvers, options, broker, events, consumer } = this.#setup;
    const { pattern, group, own } = this.spec;
    const from = this.#wasOpen ? this.#resumeFrom() : options.from;
    const fill = this.#wasOpen ? history.fillFrom(from) : history.fillNew(from);
    const isMade = await topology.group(this.spec, fill);
    this.#hasMade ||= isMade;
    // The next try finds the queue that this one has made.
    this.#isLost ||= isMade && this.#wasOpen;
    await this.#restoreUnsettled(this.#isLost);
    if (this.#isLost) events.emit('groupLost', { topic: pattern, group });
    this.#isLost = false;
    // After a reconnect it need not delay consuming: if it fails, the watch repeats it.
    const binding = isMade ? null : topology.rebind(this.spec);
    if (this.#wasOpen) binding?.catch(() => {});
    else await binding;
    if (!own) await handOvers.open();
    const open = await link.channel();
    const { ended } = this.deliveries;
    link.writeAtOnce(open.channel, () => this.deliveries.ended - ended > WRITE_AT_ONCE);
    try {
      await open.channel.prefetch(Math.min(options.maxInFlight, MAX_PREFETCH));
      const longest = Math.max(2 * CONSUMER_TIMEOUT_MS, 2 * options.ackWaitMs);
      const { consumerTag } = await open.channel.consume(
        this.queue,
        (message) => {
          if (message !== null) return this.#receive(open, message);
          // The queue was deleted, so other things may be missing too.
          topology.forget();
          void open.close();
        },
        {
          consumerTag: `${consumer.slice(0, 200)}/${broker.scheduler.uniqueName()}`,
          ...(this.#setup.hasConsumerTimeout
            ? { arguments: { 'x-consumer-timeout': Math.min(longest * 24, 2 ** 31) } }
            : {}),
        },
      );
      this.#consumerTag = consumerTag;
    } catch (error) {
      await open.close();
      throw toRivulet(error);
    }
    this.#open = open;
    this.#wasOpen = true;
    this.#isResting = false;
    if (this.#stop.signal.aborted) await open.close();
  }

  /**
   * If the queue was deleted and made again, what this consumer had not settled is in no queue: it is
   * published again. After a replay it is not, because the log has it.
   */
  async #restoreUnsettled(isGone: boolean): Promise<void> {
    const { registry, publisher } = this.#setup;
    const { pattern, group, own } = this.spec;
    let isLost = isGone;
    if (!own) {
      const facts = await registry.group(pattern, group);
      const { round = '', made = '' } = facts ?? {};
      isLost = this.#madeAs !== '' && made !== this.#madeAs && round === this.#round;
      this.#round = round;
      this.#madeAs = made;
    }
    const unsettled = this.#unsettled;
    this.#unsettled = [];
    // In order the log brings them back to their places.
    if (!isLost || this.spec.exclusive) return;
    for (const [index, { raw, attempts }] of unsettled.entries()) {
      const properties = encode(raw.message, raw.id, this.headersOfCopy(raw, attempts));
      try {
        if (await publisher.send('', this.queue, raw.message.body, properties)) continue;
        throw new RivuletError('GROUP_LOST', `the queue ${this.queue} was deleted`);
      } catch (error) {
        this.#unsettled = unsettled.slice(index);
        this.#madeAs = 'deleted';
        throw error;
      }
    }
  }

  #receive(on: LinkChannel<Channel>, message: ConsumeMessage): void {
    const { pattern } = this.spec;
    const { id, message: content, publishedAt, headers } = decode(message);
    const base = attemptsOf(headers);
    const inFlight: InFlight<QueueConsumer> = {
      consumer: this,
      on,
      message,
      previousId: this.#lastId,
      since: this.#now(),
      base,
      returns: returnsOf(message),
      attempt: 0,
      counted: 0,
      gone: false,
    };
    const topic = isPattern(pattern)
      ? String(headers[wireHeaders.topic] ?? message.fields.routingKey)
      : pattern;
    const raw: QueueDelivery = {
      topic,
      id,
      message: content,
      publishedAt,
      attempt: base + 1,
      counted: false,
      inFlight,
    };
    if (this.#stop.signal.aborted && this.spec.exclusive) {
      // It returns when the channel closes. A record is needed only if it was returned before.
      this.deliveries.markIncomplete(on);
      if (inFlight.returns === 0) {
        const record = { attempts: base, base, returns: 1 };
        this.#setup.handOvers.write(this.queue, id, record).catch(() => {});
      }
      return;
    }
    this.#receivedSinceWatch++;
    this.retries.delete(id);
    const split = headers[wireHeaders.split];
    if (typeof split === 'string') {
      void this.#leaveTopic(on, message, split);
      return;
    }
    if (this.#isForAnother(topic, headers, inFlight)) {
      if (on.open) on.channel.ack(message);
      return;
    }
    this.deliveries.add(raw);
    if (this.#isResting) {
      // RabbitMQ had sent it before it cancelled the consumer.
      void this.#setup.settlements.release(raw);
      return;
    }
    this.#lastId = id;
    this.intake.add(raw);
  }

  /** Whether another group handles the message, or it is a retry from before a replay. */
  #isForAnother(topic: string, headers: Headers, { returns }: InFlight): boolean {
    const round = headers[wireHeaders.round];
    if (round !== undefined) return round !== this.#round;
    const { pattern, group, own } = this.spec;
    if (!isPattern(pattern)) return false;
    // A pattern that matches dead letters as well receives them only if it ends in `.dead`.
    if (topic.endsWith('.dead') && !pattern.endsWith('.dead')) return true;
    // A returned message may be from before the other group received the topic.
    return !own && returns === 0 && this.#setup.registry.isElsewhere(pattern, group, topic);
  }

  /** A marker: from here on the topic's messages are in the queue of its own group of this name. */
  async #leaveTopic(
    on: LinkChannel<Channel>,
    message: ConsumeMessage,
    topic: string,
  ): Promise<void> {
    const { registry, broker } = this.#setup;
    const { group } = this.spec;
    this.deliveries.markIncomplete(on);
    try {
      const facts = await registry.group(topic, group);
      if (facts !== null) {
        const { exclusive, round, made } = facts;
        await registry.add({ topic, group, exclusive, round, made, split: true });
      }
      if (on.open) on.channel.ack(message);
    } catch (error) {
      this.#warn(toRivulet(error));
      await pause(broker.scheduler, SPLIT_RETRY_MS, this.#stop.signal).catch(() => {});
      if (on.open) on.channel.reject(message, true);
    }
  }

  /** The channel has ended, and every delivery on it is lost. */
  #lose(open: LinkChannel<Channel> | null): void {
    const failure = open?.failure ?? null;
    if (failure !== null) {
      const isTimeout = replyCode(failure) === 406 && /timed out|timeout/i.test(failure.message);
      const text = `RabbitMQ took messages of ${this.spec.pattern} back: they were unacknowledged for longer than its consumer_timeout`;
      this.#warn(
        isTimeout
          ? new RivuletError('DELIVERY_LOST', text, { cause: failure })
          : toRivulet(failure),
      );
    }
    this.#drop(open);
  }

  #drop(open: LinkChannel<Channel> | null): void {
    const { dispatcher, lose } = this.#setup;
    this.#aside.length = 0;
    const lost = this.deliveries
      .all()
      .filter(({ inFlight }) => inFlight.on === open || !inFlight.on.open);
    const handedOver = new Map<string, Set<string>>();
    for (const raw of lost) {
      const { inFlight, topic, id } = raw;
      let ids = handedOver.get(topic);
      if (ids === undefined) {
        ids = new Set(dispatcher.idsInHandlers(topic));
        handedOver.set(topic, ids);
      }
      const attempts = ids.has(id) ? raw.attempt : raw.attempt - 1;
      this.#unsettled.push({ raw, attempts });
      this.intake.lose(raw);
      this.deliveries.end(inFlight);
      this.deliveries.markIncomplete(inFlight.on);
    }
    if (!this.#stop.signal.aborted) lose(lost, 'its channel to RabbitMQ was lost');
  }

  /**
   * Where a queue that was deleted begins again: after the last message that was delivered here. In
   * order, after the last one before those that are not settled.
   */
  #resumeFrom(): Position {
    const [oldest] = this.spec.exclusive ? this.#unsettled : [];
    const lastId = oldest === undefined ? this.#lastId : oldest.raw.inFlight.previousId;
    if (lastId !== null) return { id: lastId };
    return this.#hasMade ? this.#setup.options.from : 'earliest';
  }

  async #replace(): Promise<void> {
    const text = `group ${this.spec.group} received none of the messages in its queue for 5 s: consuming again`;
    this.#warn(new RivuletError('GROUP_LOST', text));
    await this.#open?.close();
  }

  /** How many messages are ready, where this consumer has room and none is delivered. */
  async #missed(): Promise<number> {
    const { dispatcher, topology, link } = this.#setup;
    const isIdle = this.#receivedSinceWatch === 0 && this.deliveries.size === 0;
    this.#receivedSinceWatch = 0;
    const open = this.#open;
    if (dispatcher.stuck && this.intake.length > 0 && open !== null) this.rest(open);
    if (!isIdle || this.#isResting || !open?.open || !link.connected) return 0;
    const ready = await topology.depth(this.queue);
    if (ready === null) {
      // The queue was deleted, and RabbitMQ 3.10 has not cancelled the consumer on this node.
      topology.forget();
      await open.close();
      return 0;
    }
    await topology.rebind(this.spec);
    // In an ordered group another consumer may be the active one.
    return this.#receivedSinceWatch === 0 && !this.spec.exclusive ? ready : 0;
  }

  #warn(error: RivuletError): void {
    this.#setup.events.emit('warning', { error });
  }

  #now(): number {
    return this.#setup.broker.scheduler.monotonic();
  }
}

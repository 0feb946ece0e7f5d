/**
 * One subscription: a channel of its own on the group's queue.
 *
 * RabbitMQ knows no acknowledgement deadline, so it is kept here: a delivery that is neither settled
 * nor extended is rejected back into the queue; when this process dies the broker does the same. A
 * nack with a delay publishes the message into a wait queue and then acknowledges it.
 * Invariants: at most `maxInFlight` are unacknowledged (prefetch). Whatever ends the channel (the
 * connection, the queue's deletion, a consumer timeout), it is reported, everything in hand is lost
 * to the group, and a new channel begins; so it cannot look alive and not be. In an ordered group
 * (`x-single-active-consumer`) what was not handled goes back only when the channel closes, in
 * order.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import {
  type Attachment,
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Consume,
  Dispatcher,
  deadLetterMessage,
  type Events,
  isPattern,
  type PendingEntry,
  type Position,
  pause,
  type RawDelivery,
  type ResolvedSubscribeOptions,
  RivuletError,
  type Settler,
  Timeouts,
  type Tracing,
} from 'rivulet';
import type { Delays } from './delays.ts';
import { replyCode, toRivulet } from './failures.ts';
import { read, transport, write } from './form.ts';
import type { History } from './history.ts';
import type { Link, LinkChannel } from './link.ts';
import { queueOf } from './names.ts';
import type { Publisher } from './publisher.ts';
import type { GroupSpec, Topology } from './topology.ts';

/** The dispatcher notices first that a handler is too slow; the broker hears it right after. */
const GRACE_MS = 20;
/** RabbitMQ closes a channel on which a delivery is unacknowledged for 30 minutes. */
const CONSUMER_TIMEOUT_MS = 29 * 60_000;
const WATCH_EVERY_MS = 2500;
/** What waits for its retry is listed up to this many. */
const MOST_PARKED = 10_000;

/** What is on the channel for a delivery; shared by its retries in place. */
interface Held {
  readonly on: LinkChannel<Channel>;
  readonly message: ConsumeMessage;
  readonly since: number;
  gone: boolean;
  stop: () => void;
}

/** What waits for its retry in a queue of the broker, as far as this subscriber knows. */
interface Parked {
  readonly topic: string;
  readonly id: string;
  readonly attempts: number;
  readonly since: number;
  readonly until: number;
}

export interface AmqpDelivery extends RawDelivery {
  readonly held: Held;
}

export interface SubscriptionSetup {
  readonly pattern: string;
  readonly consume: Consume;
  readonly options: ResolvedSubscribeOptions;
  readonly broker: BrokerOptions;
  readonly link: Link;
  readonly topology: Topology;
  readonly history: History;
  readonly publisher: Publisher;
  readonly delays: Delays;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  readonly consumer: string;
}

export class Subscription implements Attachment, Settler<AmqpDelivery> {
  readonly #setup: SubscriptionSetup;
  readonly #spec: GroupSpec;
  readonly #queue: string;
  readonly #dispatcher: Dispatcher<AmqpDelivery>;
  readonly #timeouts: Timeouts;
  readonly #deliveries = new Map<Held, AmqpDelivery>();
  /** What this subscriber gave back and what waits for its retry, by id. */
  readonly #parked = new Map<string, Parked>();
  /** Channels with deliveries that go back with them: an acknowledgement must not reach over those. */
  readonly #unsettled = new WeakSet<LinkChannel<Channel>>();
  readonly #stop = new AbortController();
  #open: LinkChannel<Channel> | null = null;
  #consumerTag = '';
  #running: Promise<void> | null = null;
  #made = false;
  #everOpen = false;
  /** Consumes nothing: every handler is overdue. */
  #resting = false;
  #lastId: string | null = null;
  #seenSinceWatch = 0;
  #cancelWatch = () => {};

  constructor(setup: SubscriptionSetup) {
    this.#setup = setup;
    const { options, broker, events, tracing, pattern, consume } = setup;
    this.#spec = {
      pattern,
      group: options.group ?? `own.${broker.scheduler.uniqueName()}`,
      exclusive: options.ordered !== 'no' && options.group !== null,
      own: options.group === null,
    };
    this.#queue = queueOf(pattern, this.#spec.group);
    this.#timeouts = new Timeouts(broker.scheduler);
    this.#dispatcher = new Dispatcher<AmqpDelivery>({
      options,
      consume,
      settler: this,
      scheduler: broker.scheduler,
      events,
      tracing,
      onFree: () => {
        if (this.#resting && !this.#dispatcher.stuck) void this.#open?.close();
      },
    });
  }

  get inFlight(): number {
    return this.#dispatcher.inFlight;
  }

  get group(): string {
    return this.#spec.group;
  }

  isOf(pattern: string, group: string): boolean {
    return this.#spec.pattern === pattern && this.#spec.group === group;
  }

  /** The group moves: what is in hand is dropped, and consuming begins anew. */
  async abandon(): Promise<void> {
    const open = this.#open;
    this.#parked.clear();
    this.#drop(open);
    await open?.close();
  }

  /** Consumes once, so that the caller hears what is wrong; then keeps at it. */
  async start(): Promise<void> {
    const { options, link } = this.#setup;
    if (options.ackWaitMs > CONSUMER_TIMEOUT_MS && !this.#hasConsumerTimeout()) {
      throw new RivuletError(
        'SERVER_TOO_OLD',
        `ackWaitMs of ${options.ackWaitMs}: RabbitMQ ${link.version.join('.')} takes a message back after 30 minutes, which a subscriber can change from 3.12 on`,
      );
    }
    await this.#consume();
    this.#running = this.#run();
    this.#watch();
  }

  /** What this subscriber has in hand of a topic. */
  pending(topic: string): PendingEntry[] {
    const now = this.#now();
    const inHand = [...this.#deliveries.values()]
      .filter((raw) => raw.topic === topic)
      .map((raw) => ({
        id: raw.id,
        consumer: this.#setup.consumer,
        idleMs: Math.round(now - raw.held.since),
        attempts: raw.attempt,
      }));
    const parked = [...this.#parked.values()]
      .filter((each) => each.topic === topic && each.until > now)
      .map(({ id, attempts, since }) => ({
        id,
        consumer: '',
        idleMs: Math.round(now - since),
        attempts,
      }));
    return [...parked, ...inHand];
  }

  async close(timeoutMs: number): Promise<void> {
    this.#stop.abort();
    this.#cancelWatch();
    const open = this.#open;
    if (open?.open && !this.#spec.exclusive) {
      await open.channel.cancel(this.#consumerTag).catch(() => {});
    }
    await this.#dispatcher.close(timeoutMs);
    // What is still unacknowledged goes back with the channel, in order.
    await open?.close();
    await this.#running;
    for (const held of [...this.#deliveries.keys()]) this.#forget(held);
    if (!this.#spec.own) return;
    const { topology, pattern } = { ...this.#setup, ...this.#spec };
    await topology.deleteGroup(pattern, this.#spec.group).catch(() => {});
  }

  async ack({ held }: AmqpDelivery): Promise<void> {
    this.#mustHold(held);
    held.on.channel.ack(held.message);
    this.#forget(held);
  }

  /**
   * By one frame for all that came before anything still in hand, where this channel has nothing
   * unsettled that is not known here. What was lost meanwhile is left alone.
   */
  async ackMany(raws: readonly AmqpDelivery[]): Promise<void> {
    const settled: Held[] = [];
    for (const { topic, id, held } of raws) {
      if (held.gone) continue;
      this.#forget(held);
      if (held.on.open) settled.push(held);
      else this.#dispatcher.lose(topic, id, 'its channel to RabbitMQ was lost');
    }
    // Deliveries stand in the order of their tags.
    const [oldest] = this.#deliveries.keys();
    let upTo: Held | null = null;
    for (const held of settled) {
      const before = oldest === undefined || (oldest.on === held.on && tagOf(held) < tagOf(oldest));
      if (!before || this.#unsettled.has(held.on)) held.on.channel.ack(held.message);
      else if (upTo === null) upTo = held;
      else if (upTo.on !== held.on) held.on.channel.ack(held.message);
      else if (tagOf(upTo) < tagOf(held)) upTo = held;
    }
    upTo?.on.channel.ack(upTo.message, true);
  }

  async nack(raw: AmqpDelivery, delayMs: number, _reason: string): Promise<void> {
    const { held } = raw;
    this.#mustHold(held);
    if (delayMs < 1) {
      this.#putBack(held);
      return;
    }
    const headers = {
      [transport.attempts]: raw.attempt,
      [transport.topic]: raw.topic,
    };
    const properties = write(raw.message, raw.id, headers);
    await this.#setup.delays.toQueue(this.#queue, delayMs, raw.message.body, properties);
    await this.#ackIfHeld(held);
    this.#park(raw, delayMs);
  }

  async deadLetter(raw: AmqpDelivery, topic: string, reason: string): Promise<void> {
    const { held } = raw;
    this.#mustHold(held);
    const { topology, publisher, options, broker } = this.#setup;
    const now = broker.scheduler.now();
    const dead = deadLetterMessage(raw, options.group, raw.attempt, reason, now);
    await topology.deadTopic(topic);
    const properties = write(dead, raw.id);
    if (!(await publisher.send(topology.exchange, topic, dead.body, properties))) {
      topology.forget();
      throw new RivuletError('NOT_CONNECTED', `the dead letters of ${raw.topic} have no log`);
    }
    await this.#ackIfHeld(held);
  }

  async extend({ held, topic, id }: AmqpDelivery, ms: number): Promise<void> {
    this.#mustHold(held);
    const total = this.#now() - held.since + ms;
    if (total > CONSUMER_TIMEOUT_MS && !this.#hasConsumerTimeout()) {
      const text = `message ${id} of ${topic} would be held for ${Math.round(total / 60_000)} minutes: before RabbitMQ 3.12 the broker takes it back after 30`;
      throw new RivuletError('SERVER_TOO_OLD', text);
    }
    this.#arm(held, ms);
  }

  async release({ held }: AmqpDelivery): Promise<void> {
    if (held.gone || !held.on.open) return;
    // Order: while this consumer is the active one it would come straight back.
    if (this.#spec.exclusive) return;
    this.#putBack(held);
  }

  /** RabbitMQ counts what it delivers; a retry in place it does not see. */
  async recount(): Promise<void> {}

  #park({ topic, id, attempt }: AmqpDelivery, ms: number): void {
    if (this.#stop.signal.aborted) return;
    const since = this.#now();
    if (this.#parked.size >= MOST_PARKED) {
      for (const [each, { until }] of this.#parked) if (until <= since) this.#parked.delete(each);
    }
    if (this.#parked.size >= MOST_PARKED) return;
    this.#parked.set(id, { topic, id, attempts: attempt, since, until: since + ms });
  }

  async #run(): Promise<void> {
    const { broker, link, events } = this.#setup;
    const { scheduler } = broker;
    const stopped = aborted(this.#stop.signal);
    for (let failures = 0; ; failures++) {
      const open = this.#open;
      if (open !== null) await open.ended;
      this.#lose(open);
      if (this.#stop.signal.aborted) return;
      const wait = backoffMs(broker.reconnect, failures, scheduler.fraction());
      if (failures > 0) await pause(scheduler, wait, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        await Promise.race([link.ready(), stopped]);
        if (this.#stop.signal.aborted) return;
        await this.#consume();
        failures = -1;
      } catch (error) {
        this.#open = null;
        if (!this.#stop.signal.aborted) events.emit('warning', { error: toRivulet(error) });
      }
    }
  }

  async #consume(): Promise<void> {
    const { link, topology, history, options, events, consumer, pattern } = this.#setup;
    const from = this.#everOpen ? this.#resumeFrom() : options.from;
    const made = await topology.group(this.#spec, history.fillFrom(from));
    if (made && this.#everOpen)
      events.emit('groupLost', { topic: pattern, group: this.#spec.group });
    this.#made ||= made;
    const open = await link.channel();
    try {
      await open.channel.prefetch(Math.min(options.maxInFlight, 65_535));
      const longest = Math.max(2 * CONSUMER_TIMEOUT_MS, 2 * options.ackWaitMs);
      const { consumerTag } = await open.channel.consume(
        this.#queue,
        (message) => {
          if (message !== null) return this.#receive(open, message);
          // The queue was deleted, so more may be gone.
          topology.forget();
          void open.close();
        },
        {
          consumerTag: `${consumer.slice(0, 200)}/${this.#setup.broker.scheduler.uniqueName()}`,
          ...(this.#hasConsumerTimeout()
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
    this.#everOpen = true;
    this.#resting = false;
    if (this.#stop.signal.aborted) await open.close();
  }

  #receive(on: LinkChannel<Channel>, message: ConsumeMessage): void {
    // Closing in order: what comes now goes back with the channel.
    if (this.#stop.signal.aborted && this.#spec.exclusive) {
      this.#unsettled.add(on);
      return;
    }
    this.#seenSinceWatch++;
    if (this.#resting) {
      // It was on its way when every handler had become overdue.
      on.channel.reject(message, true);
      return;
    }
    const { pattern } = this.#setup;
    const { id, message: content, publishedAt, transport: headers } = read(message);
    const topic = isPattern(pattern)
      ? String(headers[transport.topic] ?? message.fields.routingKey)
      : pattern;
    if (isPattern(pattern) && topic.endsWith('.dead') && !pattern.endsWith('.dead')) {
      // A pattern over everything does not mean the dead letters of everything.
      on.channel.ack(message);
      return;
    }
    const before = Number(headers[transport.attempts] ?? 0);
    const returned = Number(headers['x-delivery-count'] ?? 0);
    const held: Held = { on, message, since: this.#now(), gone: false, stop: () => {} };
    const raw = { topic, id, message: content, publishedAt, attempt: before + returned + 1, held };
    this.#deliveries.set(held, raw);
    this.#parked.delete(id);
    this.#lastId = id;
    this.#arm(held, this.#setup.options.ackWaitMs);
    this.#dispatcher.push(raw);
  }

  #arm(held: Held, ms: number): void {
    held.stop();
    held.stop = this.#timeouts.add(ms + GRACE_MS, () => {
      const raw = this.#deliveries.get(held);
      if (raw === undefined || held.gone) return;
      this.#putBack(held);
      this.#dispatcher.lose(raw.topic, raw.id, 'its deadline has passed');
    });
  }

  /** `reject`, not `nack`: from RabbitMQ 4.3 on only a reject counts as an attempt. */
  #putBack(held: Held): void {
    if (held.on.open) {
      if (this.#dispatcher.stuck) this.#rest(held.on);
      held.on.channel.reject(held.message, true);
    }
    this.#forget(held);
  }

  /** Stops consuming, so that what is put back goes to others. A handler that returns ends it. */
  #rest(on: LinkChannel<Channel>): void {
    if (this.#resting) return;
    this.#resting = true;
    on.channel.cancel(this.#consumerTag).catch(() => {});
  }

  /** It may have been taken away while its copy was stored; then it comes twice. */
  async #ackIfHeld(held: Held): Promise<void> {
    if (held.gone || !held.on.open) return;
    held.on.channel.ack(held.message);
    this.#forget(held);
  }

  #forget(held: Held): void {
    held.gone = true;
    held.stop();
    this.#deliveries.delete(held);
  }

  #mustHold(held: Held): void {
    if (!held.gone && held.on.open) return;
    const text = "the message is no longer this consumer's: it was put back into its queue";
    throw new RivuletError('DELIVERY_LOST', text);
  }

  /** The channel is gone, and with it everything that came on it. */
  #lose(open: LinkChannel<Channel> | null): void {
    const failure = open?.failure ?? null;
    if (failure !== null) {
      const timedOut = replyCode(failure) === 406 && /timed out|timeout/i.test(failure.message);
      const error = timedOut
        ? new RivuletError(
            'DELIVERY_LOST',
            `RabbitMQ took messages of ${this.#setup.pattern} back: they were held longer than its consumer_timeout`,
            { cause: failure },
          )
        : toRivulet(failure);
      this.#setup.events.emit('warning', { error });
    }
    this.#drop(open);
  }

  #drop(open: LinkChannel<Channel> | null): void {
    for (const held of [...this.#deliveries.keys()]) {
      if (held.on !== open && held.on.open) continue;
      this.#forget(held);
      this.#unsettled.add(held.on);
    }
    if (!this.#stop.signal.aborted) this.#dispatcher.loseAll('its channel to RabbitMQ was lost');
  }

  /** Where a group that was lost begins anew: nothing that this consumer knows of is left out. */
  #resumeFrom(): Position {
    if (this.#lastId !== null) return { id: this.#lastId };
    return this.#made ? this.#setup.options.from : 'earliest';
  }

  /** A queue with messages, a consumer with room, and nothing comes: the channel is made anew. */
  #watch(): void {
    const { scheduler } = this.#setup.broker;
    let suspicious = 0;
    const { topology, link, events } = this.#setup;
    const look = async () => {
      const idle = this.#seenSinceWatch === 0 && this.#dispatcher.inFlight === 0;
      this.#seenSinceWatch = 0;
      const open = this.#open;
      if (idle && !this.#resting && open?.open && link.connected) {
        const waiting = await topology.depth(this.#queue).catch(() => 0);
        // Another consumer may be the active one of an ordered group.
        const passed = (waiting ?? 0) > 0 && this.#seenSinceWatch === 0 && !this.#spec.exclusive;
        suspicious = passed ? suspicious + 1 : 0;
        if (waiting === null) {
          // The queue was deleted on another node, and this one (RabbitMQ 3.10) has not said so.
          topology.forget();
          await open.close();
        } else if (suspicious >= 2) {
          suspicious = 0;
          const text = `${waiting} messages wait for ${this.#spec.group} and none came: consuming anew`;
          events.emit('warning', { error: new RivuletError('GROUP_LOST', text) });
          await open.close();
        }
      } else {
        suspicious = 0;
      }
      if (!this.#stop.signal.aborted) arm();
    };
    const arm = () => {
      this.#cancelWatch = scheduler.after(WATCH_EVERY_MS, () => void look());
    };
    arm();
  }

  #hasConsumerTimeout(): boolean {
    const [major, minor] = this.#setup.link.version;
    return major > 3 || (major === 3 && minor >= 12);
  }

  #now(): number {
    return this.#setup.broker.scheduler.monotonic();
  }
}

function tagOf({ message }: Held): number {
  return message.fields.deliveryTag;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

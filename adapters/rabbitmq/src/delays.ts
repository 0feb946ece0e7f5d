/**
 * Retries and delayed publishes: messages wait in queues with a TTL, which RabbitMQ empties by itself.
 *
 * RabbitMQ expires a message only at the head of its queue, so all messages of a wait queue wait equally
 * long. Delays are rounded to four steps per octave (16, 20, 24, 28, 32, 40, ... ms). A retry rounds up,
 * and RabbitMQ routes it back to its group's queue. A delayed publish has to be on time, and its topic
 * may have been deleted when it is due. So it waits for the largest step that is not too long and goes
 * to the queue `rivulet.due`. A connected client publishes it from there: to wait for the rest, or, when
 * it is due, to its topic.
 * Invariants: a message is acknowledged in `rivulet.due` only after it was stored elsewhere, or after
 * its topic was deleted. A message that cannot be published waits in a wait queue, so that others are
 * not delayed by it. A wait queue never keeps its head: a message whose queue was deleted goes to
 * `rivulet.unroutable`, so no group waits for another.
 * Cost: one queue for each step in use; it expires a week after its last publish. While nothing comes, one look
 * at `rivulet.due` every 2.5 s.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import {
  type BrokerEvents,
  backoffMs,
  type Events,
  pause,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import { isMissing, toRivulet } from './errors.ts';
import type { Link, LinkChannel } from './link.ts';
import { timeOfId, wireHeaders } from './message-codec.ts';
import { DUE, delayQueueOf, RETRIES, retryQueueOf } from './names.ts';
import type { Publisher } from './publishing/publisher.ts';
import { DeafWatch } from './subscription/deaf-watch.ts';
import { type Topology, waitQueue } from './topology.ts';

const SHORTEST_MS = 16;
/** RabbitMQ's limit on times is 2^32 ms. */
const LONGEST_MS = 2 ** 31;
/** A wait queue in use is declared again this often, so that it does not expire. */
const DECLARE_EVERY_MS = 10 * 60_000;
/** A delayed publish with no more than this left waits in the client: each wait queue holds for longer. */
const NEAR_MS = 5;
/** A delayed publish that failed is tried again after this. */
const RETRY_MS = 1000;

/** The shortest step that is not below `ms`. */
function stepUp(ms: number): number {
  return step(ms, Math.ceil);
}

/** The longest step that is not above `ms`; 16 ms for what is shorter. */
function stepDown(ms: number): number {
  return step(ms, Math.floor);
}

function step(ms: number, round: (quarters: number) => number): number {
  if (ms <= SHORTEST_MS) return SHORTEST_MS;
  if (ms >= LONGEST_MS) return LONGEST_MS;
  const quarter = 2 ** Math.floor(Math.log2(ms)) / 4;
  return round(ms / quarter) * quarter;
}

interface Properties {
  readonly headers?: Record<string, unknown>;
  readonly messageId?: string;
  readonly timestamp?: number;
}

export interface DelaysSetup {
  readonly link: Link;
  readonly publisher: Publisher;
  readonly topology: Topology;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
}

export class Delays {
  readonly #setup: DelaysSetup;
  /** When each wait queue was last declared. */
  #declared = new Map<string, { at: number; done: Promise<void> }>();
  #open: LinkChannel<Channel> | null = null;
  #running: Promise<void> | null = null;
  /** Messages of `rivulet.due` that came since the last look. */
  #received = 0;
  /** Messages of `rivulet.due` that this client publishes now. */
  #forwarding = 0;
  readonly #stop = new AbortController();
  readonly #watch: DeafWatch;

  constructor(setup: DelaysSetup) {
    this.#setup = setup;
    this.#watch = new DeafWatch({
      scheduler: setup.scheduler,
      missed: () => this.#missed(),
      replace: (missed) => this.#replace(missed),
    });
  }

  /**
   * Declares and consumes again. RabbitMQ 3.10 may not cancel the consumer of a deleted queue, and then
   * assigns it messages of a new queue of that name without delivering them.
   */
  forget(): void {
    this.#declared = new Map();
    void this.#open?.close();
  }

  /** Publishes into the queue of a group after at least `ms`, and at most a quarter more. */
  async retry(queue: string, ms: number, body: Uint8Array, properties: Properties): Promise<void> {
    const { publisher, topology } = this.#setup;
    if (ms >= 1) {
      const wait = stepUp(ms);
      return this.#wait(retryQueueOf(wait), wait, RETRIES, queue, body, properties);
    }
    if (await publisher.send('', queue, body, { persistent: true, ...properties })) return;
    topology.forget();
    throw new RivuletError('GROUP_LOST', `the queue ${queue} was deleted`);
  }

  /** Publishes to a topic when it is due. */
  async publishAt(
    topic: string,
    dueAt: number,
    body: Uint8Array,
    properties: Properties,
  ): Promise<void> {
    const headers = {
      ...properties.headers,
      [wireHeaders.dueAt]: String(dueAt),
      [wireHeaders.topic]: topic,
      [wireHeaders.deletions]: await this.#setup.topology.deletionsOf(topic),
    };
    await this.#waitForDue(dueAt, body, { ...properties, headers });
  }

  /** Begins to publish what is due. */
  start(): void {
    this.#running = this.#run();
    this.#watch.start();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#watch.stop();
    await this.#open?.close();
    await this.#running;
  }

  #waitForDue(dueAt: number, body: Uint8Array, properties: Properties): Promise<void> {
    const wait = stepDown(dueAt - this.#setup.scheduler.now());
    // The routing key names the queue; the topic is in a header.
    return this.#wait(delayQueueOf(wait), wait, '', DUE, body, properties);
  }

  async #wait(
    name: string,
    ms: number,
    exchange: string,
    routingKey: string,
    body: Uint8Array,
    properties: Properties,
  ): Promise<void> {
    await this.#declare(name, ms, exchange);
    const persistent = { persistent: true, ...properties };
    if (await this.#setup.publisher.send(name, routingKey, body, persistent)) return;
    this.#declared.delete(name);
    throw new RivuletError('NOT_CONNECTED', `the queue ${name} does not exist any more`);
  }

  async #declare(name: string, ms: number, exchange: string): Promise<void> {
    const { link, topology, scheduler } = this.#setup;
    const now = scheduler.monotonic();
    const known = this.#declared.get(name);
    if (known !== undefined && now - known.at < DECLARE_EVERY_MS) return known.done;
    const work = async () => {
      await topology.base();
      await link.using(async (channel) => {
        await channel.assertQueue(name, waitQueue(ms, exchange));
        // Its own exchange leaves the routing key free to name the queue that follows the wait.
        await channel.assertExchange(name, 'fanout', { durable: true, autoDelete: true });
        await channel.bindQueue(name, name, '');
      });
    };
    const done = work();
    const declared = this.#declared;
    declared.set(name, { at: now, done });
    done.catch(() => declared.delete(name));
    await done;
  }

  async #run(): Promise<void> {
    const { link, topology, scheduler, events } = this.#setup;
    for (let failures = 0; !this.#stop.signal.aborted; failures++) {
      try {
        await link.ready(this.#stop.signal);
        await topology.base();
        this.#open = await link.channel();
        await this.#consume(this.#open);
        if (this.#stop.signal.aborted) await this.#open.close();
        failures = 0;
        await this.#open.ended;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (isMissing(error)) topology.forget();
        events.emit('warning', { error: toRivulet(error) });
      }
      const backoff = { minMs: 100, maxMs: 5000, factor: 2, jitter: true };
      const wait = backoffMs(backoff, failures, scheduler.fraction());
      await pause(scheduler, wait, this.#stop.signal).catch(() => {});
    }
  }

  async #consume(open: LinkChannel<Channel>): Promise<void> {
    await open.channel.prefetch(100);
    await open.channel.consume(DUE, (message) => {
      if (message === null) {
        this.#setup.topology.forget();
        void open.close();
        return;
      }
      this.#received++;
      this.#forwarding++;
      this.#forward(message)
        .catch((error) => this.#postpone(message, error))
        .then(
          () => open.open && open.channel.ack(message),
          () => open.open && open.channel.reject(message, true),
        )
        .finally(() => this.#forwarding--);
    });
  }

  /** How many messages are due, where none of them came to this client and it is publishing none. */
  async #missed(): Promise<number> {
    const { link, topology } = this.#setup;
    const isIdle = this.#received === 0 && this.#forwarding === 0;
    this.#received = 0;
    if (!isIdle || !this.#open?.open || !link.connected) return 0;
    const ready = await topology.depth(DUE);
    // It was deleted, and RabbitMQ 3.10 has not cancelled the consumer on this node.
    if (ready === null) topology.forget();
    return this.#received === 0 ? (ready ?? 0) : 0;
  }

  async #replace(missed: number): Promise<void> {
    const text = `this client received none of the ${missed} delayed messages that are due for 5 s: consuming again`;
    this.#setup.events.emit('warning', { error: new RivuletError('GROUP_LOST', text) });
    await this.#open?.close();
  }

  /** Publishes a message of `rivulet.due`: to its topic, or to wait for the rest. */
  async #forward(message: ConsumeMessage): Promise<void> {
    const { publisher, topology, scheduler } = this.#setup;
    const { messageId, timestamp } = message.properties;
    const {
      [wireHeaders.dueAt]: due,
      [wireHeaders.topic]: topic,
      [wireHeaders.deletions]: deletions,
      ...headers
    } = headersOf(message);
    const dueAt = Number(due);
    // Another program put it here: it names no topic to publish to.
    if (typeof topic !== 'string' || Number.isNaN(dueAt)) return;
    let now = scheduler.now();
    // Looked at again after the wait: a timer may end a little early, and the date may be set.
    while (now < dueAt) {
      const left = dueAt - now;
      if (left > NEAR_MS) return this.#waitForDue(dueAt, message.content, propertiesOf(message));
      await pause(scheduler, left);
      now = scheduler.now();
    }
    const publishedAt = timeOfId(String(messageId));
    const sent = {
      persistent: true,
      headers: { ...headers, [wireHeaders.storedAt]: now },
      messageId,
      timestamp,
    };
    for (let again = true; ; again = false) {
      if (await topology.wasDeletedSince(topic, Number(deletions) || 0, publishedAt)) return;
      await topology.topic(topic);
      if (await publisher.send(topology.exchange, topic, message.content, sent)) return;
      topology.doubt(topic);
      if (!again) throw new RivuletError('NOT_CONNECTED', `the log of ${topic} is missing`);
    }
  }

  /** It could not be published: it waits, so that it does not block the queue's other messages. */
  async #postpone(message: ConsumeMessage, error: unknown): Promise<void> {
    const { scheduler, events } = this.#setup;
    const { code, message: reason } = toRivulet(error);
    if (code !== 'NOT_CONNECTED' && code !== 'CLOSED') {
      const topic = String(headersOf(message)[wireHeaders.topic]);
      const text = `a delayed message could not be published to ${topic} and is retried every second: ${reason}`;
      events.emit('warning', { error: new RivuletError(code, text, { cause: error }) });
    }
    try {
      const properties = propertiesOf(message);
      await this.#waitForDue(scheduler.now() + RETRY_MS, message.content, properties);
    } catch (cause) {
      // Rejected at once, RabbitMQ would deliver it again at once.
      await pause(scheduler, RETRY_MS, this.#stop.signal).catch(() => {});
      throw cause;
    }
  }
}

/**
 * The headers without those that RabbitMQ adds: it drops a message that its `x-death` shows to have been
 * in the same wait queue twice.
 */
function headersOf({ properties }: ConsumeMessage): Record<string, unknown> {
  const all = (properties.headers ?? {}) as Record<string, unknown>;
  const added = /^(x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count)$/;
  return Object.fromEntries(Object.entries(all).filter(([name]) => !added.test(name)));
}

function propertiesOf(message: ConsumeMessage): Properties {
  const { messageId, timestamp } = message.properties;
  return { headers: headersOf(message), messageId, timestamp };
}

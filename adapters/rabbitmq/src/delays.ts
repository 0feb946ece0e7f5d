/**
 * Messages for later: they wait in queues from which the broker itself sends them on.
 *
 * A message TTL holds for a queue's head only, so all messages of a wait queue wait equally long: a
 * delay is rounded up to one of four steps per octave (16, 20, 24, 28, 32, 40, ... ms). That is near
 * enough for a retry. A delayed publish is to be on time: it waits for the largest step that is not
 * too long, comes to the queue `rivulet.due`, and whatever client is connected sends it on, to wait
 * for the rest or to where it belongs. Invariant: it is acknowledged there only after that is stored.
 * Cost: one queue per step in use; one that nobody uses goes by itself.
 */
import type { Channel } from 'amqplib';
import {
  type BrokerEvents,
  backoffMs,
  type Events,
  pause,
  RivuletError,
  type Scheduler,
} from 'rivulet';
import { toRivulet } from './failures.ts';
import { transport } from './form.ts';
import type { Link, LinkChannel } from './link.ts';
import { DUE } from './names.ts';
import type { Publisher } from './publisher.ts';
import { type Topology, waitQueue } from './topology.ts';

const SHORTEST_MS = 16;
/** RabbitMQ's limit on times is 2^32 ms. */
const LONGEST_MS = 2 ** 31;
/** A wait queue lives this much longer than the messages in it. */
const SPARE_MS = 10 * 60_000;
/** How late a delayed publish may be: 3 %, but not above a second; below this it does not matter. */
const LATE = { share: 0.03, mostMs: 1000, leastMs: 40 };

/** The shortest step that is not below `ms`. */
export function stepUp(ms: number): number {
  if (ms <= SHORTEST_MS) return SHORTEST_MS;
  if (ms >= LONGEST_MS) return LONGEST_MS;
  const quarter = 2 ** Math.floor(Math.log2(ms)) / 4;
  return Math.ceil(ms / quarter) * quarter;
}

/** The longest step that is not above `ms`. */
export function stepDown(ms: number): number {
  if (ms <= SHORTEST_MS) return SHORTEST_MS;
  if (ms >= LONGEST_MS) return LONGEST_MS;
  const quarter = 2 ** Math.floor(Math.log2(ms)) / 4;
  return Math.floor(ms / quarter) * quarter;
}

interface Properties {
  readonly headers?: Record<string, unknown>;
  readonly messageId?: string;
}

export class Delays {
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #topology: Topology;
  readonly #scheduler: Scheduler;
  readonly #events: Events<BrokerEvents>;
  /** When each wait queue was declared last: that keeps it alive. */
  #declared = new Map<string, { at: number; done: Promise<void> }>();
  #open: LinkChannel<Channel> | null = null;
  #running: Promise<void> | null = null;
  readonly #stop = new AbortController();

  constructor(
    link: Link,
    publisher: Publisher,
    topology: Topology,
    scheduler: Scheduler,
    events: Events<BrokerEvents>,
  ) {
    this.#link = link;
    this.#publisher = publisher;
    this.#topology = topology;
    this.#scheduler = scheduler;
    this.#events = events;
  }

  forget(): void {
    this.#declared = new Map();
  }

  /** Straight into a queue, no sooner than in `ms`, and at most a quarter later. */
  async toQueue(queue: string, ms: number, body: Uint8Array, properties: Properties) {
    await this.#wait(stepUp(ms), '', queue, body, properties);
  }

  /** To an exchange, when it is due. */
  async toExchange(
    exchange: string,
    routingKey: string,
    dueAt: number,
    body: Uint8Array,
    properties: Properties,
  ): Promise<void> {
    const ms = Math.max(0, dueAt - this.#scheduler.now());
    const up = stepUp(ms);
    const tolerance = Math.max(LATE.leastMs, Math.min(LATE.mostMs, ms * LATE.share));
    if (up - ms <= tolerance) return this.#wait(up, exchange, routingKey, body, properties);
    const headers = {
      ...properties.headers,
      [transport.dueAt]: String(dueAt),
      [transport.dueExchange]: exchange,
      [transport.dueKey]: routingKey,
    };
    await this.#wait(stepDown(ms), null, DUE, body, { ...properties, headers });
  }

  /** Begins to send on what is due. */
  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#open?.close();
    await this.#running;
  }

  async #wait(
    ms: number,
    /** null: to the queue of what is due. */
    exchange: string | null,
    routingKey: string,
    body: Uint8Array,
    properties: Properties,
  ): Promise<void> {
    const name = `rivulet.wait.${exchange === null ? 'due' : exchange || 'queue'}.${ms}`;
    await this.#declare(name, ms, exchange);
    const held = { persistent: true, ...properties };
    if (await this.#publisher.send(name, routingKey, body, held)) return;
    this.#declared.delete(name);
    throw new RivuletError('NOT_CONNECTED', `the queue ${name} is not there any more`);
  }

  async #declare(name: string, ms: number, exchange: string | null): Promise<void> {
    const now = this.#scheduler.monotonic();
    const known = this.#declared.get(name);
    if (known !== undefined && now - known.at < SPARE_MS / 4) return known.done;
    const done = this.#link.using(async (channel) => {
      const queue =
        exchange === null
          ? waitQueue(ms, '', ms + SPARE_MS, DUE)
          : waitQueue(ms, exchange, ms + SPARE_MS);
      await channel.assertQueue(name, queue);
      await channel.assertExchange(name, 'fanout', { durable: true, autoDelete: true });
      await channel.bindQueue(name, name, '');
    });
    const declared = this.#declared;
    declared.set(name, { at: now, done });
    done.catch(() => declared.delete(name));
    await done;
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#stop.signal.aborted; failures++) {
      try {
        await this.#link.ready();
        await this.#topology.base();
        this.#open = await this.#link.channel();
        await this.#consume(this.#open);
        if (this.#stop.signal.aborted) await this.#open.close();
        failures = 0;
        await this.#open.ended;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#events.emit('warning', { error: toRivulet(error) });
      }
      const backoff = { minMs: 100, maxMs: 5000, factor: 2, jitter: true };
      const wait = backoffMs(backoff, failures, this.#scheduler.fraction());
      await pause(this.#scheduler, wait, this.#stop.signal).catch(() => {});
    }
  }

  async #consume(open: LinkChannel<Channel>): Promise<void> {
    await open.channel.prefetch(100);
    await open.channel.consume(DUE, (message) => {
      if (message === null) {
        this.#topology.forget();
        void open.close();
        return;
      }
      const {
        [transport.dueAt]: dueAt,
        [transport.dueExchange]: exchange,
        [transport.dueKey]: key,
        // A message that came by a wait queue twice would be taken for one that goes in circles.
        'x-death': _,
        'x-first-death-exchange': __,
        'x-first-death-queue': ___,
        'x-first-death-reason': ____,
        ...headers
      } = (message.properties.headers ?? {}) as Record<string, unknown>;
      const { messageId, timestamp } = message.properties;
      const properties = { headers, messageId, timestamp };
      const sent =
        Number(dueAt) - this.#scheduler.now() > 1
          ? this.toExchange(
              String(exchange),
              String(key),
              Number(dueAt),
              message.content,
              properties,
            )
          : this.#publisher.send(String(exchange), String(key), message.content, {
              persistent: true,
              ...properties,
            });
      sent.then(
        () => open.open && open.channel.ack(message),
        () => open.open && open.channel.reject(message, true),
      );
    });
  }
}

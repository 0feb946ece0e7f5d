/**
 * What has to be there on the broker: exchanges, the log of each topic, the queue of each group.
 *
 * Invariants: everything is declared before it is used, once per connection (a new connection may
 * lead to a broker that has lost it). All queues of a kind have the same arguments, whatever the
 * subscriber's options, because arguments can never be changed: what differs between subscribers is
 * done by the client. A group's queue is complete when the exchange of its name exists; both are
 * made under a lock that all clients share. Cost: nothing for what is known already.
 */
import type { Channel } from 'amqplib';
import { pause, RivuletError, type Scheduler } from 'rivulet';
import { replyCode } from './failures.ts';
import type { Link } from './link.ts';
import {
  bindingKey,
  CANCELS,
  DUE,
  GIVEN_UP,
  lockOf,
  queueOf,
  REQUESTS,
  redriveQueueOf,
  streamOf,
} from './names.ts';
import type { Registry } from './registry.ts';

/** Redeliveries by the broker alone, of a message whose consumers die each time. */
const DELIVERY_LIMIT = 1000;
/** How long the queue of a subscriber without a group outlives its connection. */
const OWN_QUEUE_MS = 5 * 60_000;

/**
 * How long consumers of a deleted queue are given to hear of it. One that has not (RabbitMQ 3.10)
 * would belong to a new queue of the same name and swallow its messages.
 */
const FORGET_MS = 150;

/** Dead-lettering by the broker that survives the loss of a node on the way. */
const SAFELY = { 'x-overflow': 'reject-publish', 'x-dead-letter-strategy': 'at-least-once' };

export interface GroupSpec {
  readonly pattern: string;
  readonly group: string;
  /** One consumer at a time. */
  readonly exclusive: boolean;
  /** Of one subscriber only, and gone with it. */
  readonly own: boolean;
}

/** Puts the past into a new group's queue and binds it. */
export type Fill = (spec: GroupSpec, bind: () => Promise<void>) => Promise<void>;

export class Topology {
  readonly #link: Link;
  readonly #registry: Registry;
  readonly #scheduler: Scheduler;
  readonly #goMicro: boolean;
  /** What publishes of topics go to. */
  readonly exchange: string;
  #known = new Map<string, Promise<unknown>>();
  /** Of what is known, what is made already. */
  readonly #made = new Set<string>();
  readonly #busy = new Map<string, Promise<unknown>>();

  constructor(link: Link, registry: Registry, scheduler: Scheduler, goMicro: boolean) {
    this.#link = link;
    this.#registry = registry;
    this.#scheduler = scheduler;
    this.#goMicro = goMicro;
    this.exchange = goMicro ? 'micro' : 'rivulet';
  }

  /** Nothing is known any more: another connection, or something was found missing. */
  forget(): void {
    this.#known = new Map();
    this.#made.clear();
  }

  /** Whether the log of a topic is made, as far as is known; without waiting. */
  has(topic: string): boolean {
    return this.#made.has(`topic ${topic}`);
  }

  base(): Promise<void> {
    return this.#once('base', async () => {
      await this.#assertMainExchange();
      await this.#link.using(async (channel) => {
        await channel.assertExchange(GIVEN_UP, 'topic', { durable: true });
        await channel.assertExchange(REQUESTS, 'direct', { durable: true });
        await channel.assertExchange(CANCELS, 'direct', { durable: true });
        await channel.assertQueue(DUE, quorum());
      });
    });
  }

  /** The log of a topic, bound. */
  topic(topic: string): Promise<void> {
    return this.#once(`topic ${topic}`, async () => {
      await this.base();
      const stream = streamOf(topic);
      if (!(await this.#queueExists(stream))) await this.#registry.add({ topic });
      await this.#link.using(async (channel) => {
        await channel.assertQueue(stream, {
          durable: true,
          arguments: { 'x-queue-type': 'stream' },
        });
        await channel.bindQueue(stream, this.exchange, topic);
      });
    });
  }

  /** A topic of dead letters: its log, and a queue from which they can be sent back. */
  deadTopic(dead: string): Promise<void> {
    return this.#once(`dead ${dead}`, async () => {
      await this.topic(dead);
      await this.#link.using(async (channel) => {
        const queue = redriveQueueOf(dead);
        await channel.assertQueue(queue, quorum());
        await channel.bindQueue(queue, this.exchange, dead);
      });
    });
  }

  /** The queue of a group, complete. True when it was not there and has been made. */
  group(spec: GroupSpec, fill: Fill): Promise<boolean> {
    const queue = queueOf(spec.pattern, spec.group);
    return this.#oneAtATime(queue, async () => {
      await this.base();
      if (await this.#isComplete(spec, queue)) return false;
      return this.#locked(queue, async () => {
        if (await this.#isComplete(spec, queue)) return false;
        await this.#make(spec, queue, fill);
        return true;
      });
    });
  }

  /**
   * Replaces the queue of a group that exists; `leave` first ends our own consumers of it. False
   * when there is none.
   */
  remake(pattern: string, group: string, fill: Fill, leave: () => Promise<void>): Promise<boolean> {
    const queue = queueOf(pattern, group);
    return this.#oneAtATime(queue, async () => {
      const known = await this.#registry.group(pattern, group);
      if (known === null || !(await this.#exchangeExists(queue))) return false;
      return this.#locked(queue, async () => {
        await leave();
        await this.#make({ pattern, group, exclusive: known.exclusive, own: false }, queue, fill);
        return true;
      });
    });
  }

  async deleteGroup(pattern: string, group: string): Promise<void> {
    await this.#link.using((channel) => channel.deleteQueue(queueOf(pattern, group)));
  }

  async deleteTopic(topic: string, groups: readonly string[]): Promise<void> {
    for (const group of groups) await this.deleteGroup(topic, group);
    await this.#link.using((channel) => channel.deleteQueue(streamOf(topic)));
    await this.#registry.add({ topic, deleted: true });
    for (const name of [`topic ${topic}`, `dead ${topic}`]) {
      this.#known.delete(name);
      this.#made.delete(name);
    }
  }

  /** Messages that wait in a queue; null when there is none. */
  async depth(queue: string): Promise<number | null> {
    try {
      return (await this.#link.using((channel) => channel.checkQueue(queue))).messageCount;
    } catch (error) {
      if (replyCodeOf(error) === 404) return null;
      throw error;
    }
  }

  async #make(spec: GroupSpec, queue: string, fill: Fill): Promise<void> {
    const { pattern, group, exclusive, own } = spec;
    const exact = bindingKey(pattern) === pattern && !pattern.includes('*');
    if (exact) await this.topic(pattern);
    if (!own) await this.#registry.add({ topic: pattern, group, exclusive });
    const gone = await this.depth(queue);
    for (let ghosts = gone === null ? 0 : 1; ; ) {
      if (ghosts > 0) {
        await this.#link.using((channel) => channel.deleteQueue(queue));
        await pause(this.#scheduler, FORGET_MS);
      }
      await this.#link.using((channel) => channel.assertQueue(queue, groupQueue(exclusive, own)));
      if (gone === null) break;
      await pause(this.#scheduler, FORGET_MS);
      ghosts = (await this.#link.using((channel) => channel.checkQueue(queue))).consumerCount;
      if (ghosts === 0) break;
    }
    const bind = () =>
      this.#link.using(async (channel) => {
        await channel.bindQueue(queue, this.exchange, bindingKey(pattern));
      });
    await fill(spec, bind);
    if (exact && !pattern.endsWith('.dead')) await this.#catchGivenUp(pattern, queue);
    await this.#link.using(async (channel) => {
      // Gone with the queue: its only binding goes, and so does the exchange.
      await channel.assertExchange(queue, 'fanout', { durable: true, autoDelete: true });
      await channel.bindQueue(queue, queue, '');
    });
  }

  /** What the broker itself gives up on goes to the dead letters of the topic. */
  async #catchGivenUp(topic: string, queue: string): Promise<void> {
    const dead = `${topic}.dead`;
    if (Buffer.byteLength(dead) > 255) return;
    await this.deadTopic(dead);
    await this.#link.using(async (channel) => {
      for (const to of [streamOf(dead), redriveQueueOf(dead)]) {
        await channel.bindQueue(to, GIVEN_UP, topic);
        await channel.bindQueue(to, GIVEN_UP, queue);
      }
    });
  }

  async #isComplete(spec: GroupSpec, queue: string): Promise<boolean> {
    if (!(await this.#exchangeExists(queue))) return false;
    if (!spec.exclusive) return true;
    try {
      await this.#link.using((channel) => channel.assertQueue(queue, groupQueue(true, spec.own)));
    } catch (error) {
      if (replyCodeOf(error) !== 406) throw error;
      const text = `group ${spec.group} of ${spec.pattern} was made without order: RabbitMQ cannot change that, use another group`;
      throw new RivuletError('UNSUPPORTED', text, { cause: error });
    }
    return true;
  }

  /** go-micro makes its exchange transient; whoever is first decides, so one that exists is taken. */
  async #assertMainExchange(): Promise<void> {
    if (this.#goMicro && (await this.#exchangeExists(this.exchange))) return;
    const durable = !this.#goMicro;
    await this.#link.using((channel) =>
      channel.assertExchange(this.exchange, 'topic', { durable }),
    );
  }

  async #queueExists(queue: string): Promise<boolean> {
    return (await this.depth(queue)) !== null;
  }

  #exchangeExists(exchange: string): Promise<boolean> {
    return this.#link
      .using((channel) => channel.checkExchange(exchange))
      .then(
        () => true,
        (error) => {
          if (replyCodeOf(error) === 404) return false;
          throw error;
        },
      );
  }

  /** One client at a time: an exclusive queue belongs to a connection and goes with it. */
  async #locked<T>(queue: string, work: () => Promise<T>): Promise<T> {
    const name = lockOf(queue);
    for (;;) {
      const open = await this.#link.channel();
      try {
        await open.channel.assertQueue(name, { exclusive: true, durable: false });
      } catch (error) {
        await open.close();
        if (replyCode(error) !== 405) throw error;
        await pause(this.#scheduler, 50);
        continue;
      }
      try {
        return await work();
      } finally {
        await open.channel.deleteQueue(name).catch(() => {});
        await open.close();
      }
    }
  }

  async #once(name: string, work: () => Promise<void>): Promise<void> {
    let known = this.#known.get(name);
    if (known === undefined) {
      const mine = this.#known;
      known = work();
      mine.set(name, known);
      known.then(
        () => {
          if (this.#known === mine && mine.get(name) === known) this.#made.add(name);
        },
        () => mine.delete(name),
      );
    }
    await known;
  }

  #oneAtATime<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#busy.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.catch(() => {});
    this.#busy.set(name, settled);
    void settled.then(() => {
      if (this.#busy.get(name) === settled) this.#busy.delete(name);
    });
    return mine;
  }
}

function quorum(
  more: Record<string, unknown> = {},
): Parameters<Channel['assertQueue']>[1] & object {
  return { durable: true, arguments: { 'x-queue-type': 'quorum', ...more } };
}

function groupQueue(exclusive: boolean, own: boolean) {
  return quorum({
    ...SAFELY,
    // Without a limit, RabbitMQ before 4.0 puts what comes back to the end of the queue.
    'x-delivery-limit': DELIVERY_LIMIT,
    'x-dead-letter-exchange': GIVEN_UP,
    ...(exclusive ? { 'x-single-active-consumer': true } : {}),
    ...(own ? { 'x-expires': OWN_QUEUE_MS } : {}),
  });
}

/** A queue in which messages wait for their time and then go on with the routing key they have. */
export function waitQueue(ms: number, to: string, expiresMs: number, routingKey?: string) {
  return quorum({
    ...SAFELY,
    'x-message-ttl': ms,
    'x-expires': expiresMs,
    'x-dead-letter-exchange': to,
    ...(routingKey === undefined ? {} : { 'x-dead-letter-routing-key': routingKey }),
  });
}

function replyCodeOf(error: unknown): number {
  return replyCode((error as Error).cause ?? error);
}

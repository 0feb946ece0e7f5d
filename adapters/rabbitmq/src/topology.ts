/**
 * The exchanges, streams and queues on the server: what they are and when they are declared.
 *
 * Invariants: everything is declared before it is used, once per connection: the server behind a new
 * connection may have lost it. All queues of a kind have the same arguments whatever a subscriber's
 * options are, because RabbitMQ never lets arguments change; clients do what differs. A group's queue
 * is complete once the exchange of its name exists; both are made under a lock that all clients share.
 * Cost: none for what was declared on this connection before.
 */
import type { Channel } from 'amqplib';
import {
  compilePattern,
  pause,
  type RawMessage,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import { replyCode } from './errors.ts';
import type { Link } from './link.ts';
import {
  bindingKey,
  CANCELS,
  DUE,
  lockOf,
  queueOf,
  REQUESTS,
  RETRIES,
  redriveQueueOf,
  streamOf,
  topicExchangeOf,
  UNROUTABLE,
} from './names.ts';
import type { Registry } from './registry.ts';
import type { HandOverLog } from './subscription/hand-over-log.ts';

/**
 * How often RabbitMQ returns a message to its queue before it drops it. Consumers count attempts, so
 * this is never reached. Without a limit RabbitMQ before 4.0 returns messages to the end of the queue;
 * from 4.0 on the default is 20.
 */
const DELIVERY_LIMIT = 2 ** 31 - 1;
/** A wait queue expires this long after its delay without being declared. */
const WAIT_SPARE_MS = 7 * 24 * 3_600_000;
/** How much of the retries whose queue was deleted is kept for an operator, and for how long. */
const UNROUTABLE_BYTES = 64 * 1024 * 1024;
const UNROUTABLE_MS = 7 * 24 * 3_600_000;
/** How long the queue of a subscriber without a group exists without its consumer. */
const OWN_QUEUE_MS = 5 * 60_000;

/**
 * The wait between deleting a queue and declaring it again, so that its consumers are cancelled first.
 * On RabbitMQ 3.10 a consumer that was not cancelled in time belongs to the new queue of that name and
 * receives its messages without delivering them.
 */
const CANCELLED_MS = 150;

/** Messages that were routed to a queue before it was unbound are stored within this time. */
const ROUTED_MS = 150;

/** The server moves expired messages on without losing any when a node fails. */
const SAFELY = { 'x-overflow': 'reject-publish', 'x-dead-letter-strategy': 'at-least-once' };

const GO_TOPIC = 'Micro-Topic';

export interface GroupSpec {
  readonly pattern: string;
  readonly group: string;
  /** One consumer at a time. */
  readonly exclusive: boolean;
  /** It belongs to one subscriber and is deleted with it. */
  readonly own: boolean;
}

/** Fills a new group's queue from its topics' logs, and binds it. */
export type Fill = (spec: GroupSpec, bind: () => Promise<void>) => Promise<void>;

export class Topology {
  readonly #link: Link;
  readonly #registry: Registry;
  readonly #handOvers: HandOverLog;
  readonly #scheduler: Scheduler;
  readonly #goMicro: boolean;
  /** The exchange that topics are published to. */
  readonly exchange: string;
  #known = new Map<string, Promise<unknown>>();
  /** The names in `#known` whose declaration has finished. */
  readonly #made = new Set<string>();
  /** The last piece of work on each group's queue. */
  readonly #busy = new Map<string, Promise<unknown>>();
  readonly #onForget: (() => void)[] = [];
  /** Topics whose bindings may be missing. */
  readonly #doubted = new Set<string>();

  constructor(
    link: Link,
    registry: Registry,
    handOvers: HandOverLog,
    scheduler: Scheduler,
    goMicro: boolean,
  ) {
    this.#link = link;
    this.#registry = registry;
    this.#handOvers = handOvers;
    this.#scheduler = scheduler;
    this.#goMicro = goMicro;
    this.exchange = topicExchangeOf(goMicro);
  }

  /** The message as it is sent to a topic: a server of go-micro finds its subscribers by a header. */
  addressed(topic: string, message: RawMessage): RawMessage {
    if (!this.#goMicro) return message;
    return { ...message, headers: { ...message.headers, [GO_TOPIC]: topic } };
  }

  /** Nothing counts as declared: the connection is new, or something was found missing. */
  forget(): void {
    this.#known = new Map();
    this.#made.clear();
    for (const listener of this.#onForget) listener();
  }

  /** Calls the listener when what is cached about the server may be wrong. */
  onForget(listener: () => void): void {
    this.#onForget.push(listener);
  }

  /** Whether the log of a topic was declared on this connection. */
  has(topic: string): boolean {
    return this.#made.has(`topic ${topic}`);
  }

  base(): Promise<void> {
    return this.#once('base', async () => {
      await this.#assertMainExchange();
      // If it was deleted just now, its consumers have to be cancelled before it is declared again.
      if (!(await this.#queueExists(DUE))) await pause(this.#scheduler, CANCELLED_MS);
      await this.#link.using(async (channel) => {
        await channel.assertExchange(UNROUTABLE, 'fanout', { durable: true });
        await channel.assertQueue(
          UNROUTABLE,
          quorum({ 'x-max-length-bytes': UNROUTABLE_BYTES, 'x-message-ttl': UNROUTABLE_MS }),
        );
        await channel.bindQueue(UNROUTABLE, UNROUTABLE, '');
        await channel.assertExchange(RETRIES, 'direct', {
          durable: true,
          alternateExchange: UNROUTABLE,
        });
        await channel.assertExchange(REQUESTS, 'direct', { durable: true });
        await channel.assertExchange(CANCELS, 'direct', { durable: true });
        await channel.assertQueue(DUE, quorum());
      });
    });
  }

  /**
   * Declares and binds the log of a topic. The log is bound after all groups: a publish that reaches
   * the log has reached every group. If the log exists, bindings are made again only after `doubt`.
   */
  topic(topic: string): Promise<void> {
    return this.#once(`topic ${topic}`, async () => {
      await this.base();
      const stream = streamOf(topic);
      const exists = await this.#queueExists(stream);
      if (exists && !this.#doubted.has(topic)) return;
      if (!exists) await this.#registry.add({ topic });
      await this.#link.using(async (channel) => {
        await channel.assertQueue(stream, {
          durable: true,
          arguments: { 'x-queue-type': 'stream' },
        });
      });
      await this.#bindGroups(topic);
      await this.#bind(stream, topic);
      this.#doubted.delete(topic);
    });
  }

  /** A publish to this topic was routed to no queue: its log, its bindings or the exchange is missing. */
  doubt(topic: string): void {
    this.#doubted.add(topic);
    this.forget();
  }

  /** How often a topic of this name was deleted. */
  async deletionsOf(topic: string): Promise<number> {
    return (await this.#registry.facts(topic))?.deletions ?? 0;
  }

  /**
   * Whether the topic was deleted after a message was published to it: when it had been deleted
   * `deletions` times, at the time `publishedAt`. Another client's count may be a few milliseconds old;
   * then the time decides.
   */
  async wasDeletedSince(topic: string, deletions: number, publishedAt: number): Promise<boolean> {
    const facts = await this.#registry.facts(topic);
    if (facts === null) return false;
    if (facts.deleted && !facts.exists) return true;
    return facts.deletions > deletions && publishedAt <= facts.deletedAt;
  }

  /** Declares a topic of dead letters: its log, and the queue that redrive takes them from. */
  deadTopic(dead: string): Promise<void> {
    return this.#once(`dead ${dead}`, async () => {
      await this.base();
      const queue = redriveQueueOf(dead);
      await this.#link.using((channel) => channel.assertQueue(queue, quorum()));
      await this.#bind(queue, dead);
      await this.topic(dead);
    });
  }

  /** Binds every queue that receives the messages of a topic, except its log. */
  async #bindGroups(topic: string): Promise<void> {
    if (await this.#queueExists(redriveQueueOf(topic))) {
      await this.#bind(redriveQueueOf(topic), topic);
    }
    for (const [pattern, { groups }] of await this.#registry.topics()) {
      if (!compilePattern(pattern)(topic)) continue;
      for (const group of groups.keys()) {
        const queue = queueOf(pattern, group);
        if (await this.#queueExists(queue)) await this.#bind(queue, bindingKey(pattern));
      }
    }
  }

  async #bind(queue: string, key: string): Promise<void> {
    await this.#link.using((channel) => channel.bindQueue(queue, this.exchange, key));
  }

  /**
   * Binds the queue of a group again. Deleting the exchange deletes its bindings, and RabbitMQ does
   * not notify the consumers.
   */
  async rebind({ pattern, group }: GroupSpec): Promise<void> {
    await this.#assertMainExchange();
    await this.#bind(queueOf(pattern, group), bindingKey(pattern));
  }

  /** Makes the queue of a group complete. Resolves to true if it was missing. */
  group(spec: GroupSpec, fill: Fill): Promise<boolean> {
    const queue = queueOf(spec.pattern, spec.group);
    return this.#oneAtATime(queue, async () => {
      await this.base();
      if (await this.#isComplete(spec, queue)) return false;
      return this.#locked(queue, async () => {
        if (await this.#isComplete(spec, queue)) return false;
        const known = spec.own ? null : await this.#registry.group(spec.pattern, spec.group);
        await this.#make(spec, queue, fill, known?.round ?? this.#scheduler.uniqueName());
        return true;
      });
    });
  }

  /**
   * Replaces the queue of an existing group, after `leave` has ended this process's consumers of it.
   * Resolves to false if there is no such group.
   */
  remake(pattern: string, group: string, fill: Fill, leave: () => Promise<void>): Promise<boolean> {
    const queue = queueOf(pattern, group);
    return this.#oneAtATime(queue, async () => {
      const known = await this.#registry.group(pattern, group);
      if (known === null || !(await this.#exchangeExists(queue))) return false;
      return this.#locked(queue, async () => {
        await leave();
        const spec = { pattern, group, exclusive: known.exclusive, own: false };
        await this.#make(spec, queue, fill, this.#scheduler.uniqueName());
        return true;
      });
    });
  }

  async deleteGroup(pattern: string, group: string): Promise<void> {
    await this.#deleteGroups(pattern, [group]);
  }

  /**
   * Unbinds the queues and waits before it deletes them. RabbitMQ 3.10 closes a publisher's connection if
   * it routes a message to a quorum queue that is being deleted. And a wait queue that has routed a
   * retry to a deleted queue waits 3 minutes for its confirm; 32 of them block all retries of its delay.
   */
  async #deleteGroups(pattern: string, groups: readonly string[]): Promise<void> {
    if (groups.length === 0) return;
    const queues = groups.map((group) => queueOf(pattern, group));
    await this.#link.using(async (channel) => {
      for (const queue of queues) {
        await channel.unbindQueue(queue, this.exchange, bindingKey(pattern));
        await channel.unbindQueue(queue, RETRIES, queue);
      }
    });
    await pause(this.#scheduler, ROUTED_MS);
    await this.#link.using(async (channel) => {
      for (const queue of queues) await channel.deleteQueue(queue);
    });
  }

  async deleteTopic(topic: string, groups: readonly string[]): Promise<void> {
    // Recorded first, so that a delayed publish that falls due meanwhile does not make the topic again.
    await this.#registry.add({ topic, deleted: this.#scheduler.now() });
    await this.#deleteGroups(topic, groups);
    await this.#link.using(async (channel) => {
      await channel.unbindQueue(streamOf(topic), this.exchange, topic);
      await channel.deleteQueue(streamOf(topic));
      // If these are dead letters: what redrive would take.
      await channel.unbindQueue(redriveQueueOf(topic), this.exchange, topic);
      await channel.deleteQueue(redriveQueueOf(topic));
    });
    for (const name of [`topic ${topic}`, `dead ${topic}`]) {
      this.#known.delete(name);
      this.#made.delete(name);
    }
  }

  /** How many messages are ready in a queue; null if there is no such queue. */
  async depth(queue: string): Promise<number | null> {
    try {
      return (await this.#link.using((channel) => channel.checkQueue(queue))).messageCount;
    } catch (error) {
      if (replyCodeOf(error) === 404) return null;
      throw error;
    }
  }

  /** How many consumers a queue has; null if there is no such queue. */
  async consumers(queue: string): Promise<number | null> {
    try {
      return (await this.#link.using((channel) => channel.checkQueue(queue))).consumerCount;
    } catch (error) {
      if (replyCodeOf(error) === 404) return null;
      throw error;
    }
  }

  async #make(spec: GroupSpec, queue: string, fill: Fill, round: string): Promise<void> {
    const { pattern, group, exclusive, own } = spec;
    const exact = bindingKey(pattern) === pattern && !pattern.includes('*');
    if (exact) await this.topic(pattern);
    if (!own) {
      const split = exact && (await this.#registry.patternsOver(pattern, group)).length === 0;
      const made = this.#scheduler.uniqueName();
      await this.#registry.add({ topic: pattern, group, exclusive, round, made, split });
      await this.#handOvers.reset(queue);
    }
    const depth = await this.depth(queue);
    // What exists without its exchange is half filled, or was deleted just now: its consumers go first.
    for (let consumers = depth === null ? 0 : 1; ; ) {
      if (consumers > 0) {
        await this.#deleteGroups(pattern, [group]);
        await pause(this.#scheduler, CANCELLED_MS);
      }
      await this.#link.using((channel) => channel.assertQueue(queue, groupQueue(exclusive, own)));
      if (depth === null) break;
      await pause(this.#scheduler, CANCELLED_MS);
      consumers = (await this.#link.using((channel) => channel.checkQueue(queue))).consumerCount;
      if (consumers === 0) break;
    }
    await this.#link.using((channel) => channel.bindQueue(queue, RETRIES, queue));
    await fill(spec, () => this.#bind(queue, bindingKey(pattern)));
    await this.#link.using(async (channel) => {
      // Deleting the queue deletes the exchange's only binding, and with it the exchange.
      await channel.assertExchange(queue, 'fanout', { durable: true, autoDelete: true });
      await channel.bindQueue(queue, queue, '');
    });
  }

  async #isComplete(spec: GroupSpec, queue: string): Promise<boolean> {
    if (!(await this.#exchangeExists(queue))) return false;
    if (!spec.exclusive) return true;
    try {
      await this.#link.using((channel) => channel.assertQueue(queue, groupQueue(true, spec.own)));
    } catch (error) {
      if (replyCodeOf(error) !== 406) throw error;
      const text = `group ${spec.group} of ${spec.pattern} was made without order, which RabbitMQ cannot change: use another group`;
      throw new RivuletError('UNSUPPORTED', text, { cause: error });
    }
    return true;
  }

  /** go-micro declares its exchange as transient. One that exists is used as it is. */
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

  /**
   * Runs `work` while no other client works on the queue. The lock is an exclusive queue, which the
   * server deletes with its connection.
   */
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
    'x-delivery-limit': DELIVERY_LIMIT,
    ...(exclusive ? { 'x-single-active-consumer': true } : {}),
    ...(own ? { 'x-expires': OWN_QUEUE_MS } : {}),
  });
}

/** A queue that keeps messages for `ms` and then publishes them to `to` with the same routing key. */
export function waitQueue(ms: number, to: string) {
  return quorum({
    ...SAFELY,
    'x-message-ttl': ms,
    'x-expires': ms + WAIT_SPARE_MS,
    'x-dead-letter-exchange': to,
  });
}

function replyCodeOf(error: unknown): number {
  return replyCode((error as Error).cause ?? error);
}

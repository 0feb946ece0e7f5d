/**
 * Which topics and groups there are: AMQP cannot list queues, so this log can.
 *
 * Holds: the records of the stream `rivulet.registry` as read so far. A record is written when a
 * topic or group is made or deleted, so the log grows with those and not with traffic. It is read
 * from its beginning when first asked for, and followed from then on. Our own records count at once.
 */
import type { Channel } from 'amqplib';
import type { Scheduler } from 'rivulet';
import type { Link, LinkChannel } from './link.ts';
import { REGISTRY } from './names.ts';
import type { Publisher } from './publisher.ts';

export interface Entry {
  readonly topic: string;
  readonly group?: string;
  readonly exclusive?: boolean;
  readonly deleted?: boolean;
  /** A reader's mark was put into the topic's log, which is no message. */
  readonly marks?: number;
  /** About how many messages of the log are to be seen. */
  readonly keep?: number;
  /** Nothing but the end of what a reader wants to have read. */
  readonly hello?: boolean;
}

export interface TopicFacts {
  readonly groups: Map<string, { readonly exclusive: boolean }>;
  marks: number;
  keep: number | null;
  /** False for patterns and for deleted ones. */
  exists: boolean;
}

export class Registry {
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #scheduler: Scheduler;
  readonly #topics = new Map<string, TopicFacts>();
  /** Our own records that have not come by in the log yet: they counted when they were written. */
  readonly #seen = new Set<string>();
  #following: Promise<LinkChannel<Channel>> | null = null;
  #declared: Promise<void> | null = null;
  #hellos = new Map<string, () => void>();

  constructor(link: Link, publisher: Publisher, scheduler: Scheduler) {
    this.#link = link;
    this.#publisher = publisher;
    this.#scheduler = scheduler;
  }

  forget(): void {
    this.#declared = null;
  }

  async add(entry: Entry): Promise<void> {
    const id = this.#scheduler.uniqueName();
    if (this.#following !== null) this.#seen.add(id);
    this.#apply(entry);
    await this.#append(id, entry);
  }

  async topics(): Promise<ReadonlyMap<string, TopicFacts>> {
    await this.#follow();
    return this.#topics;
  }

  async group(topic: string, group: string): Promise<{ readonly exclusive: boolean } | null> {
    return (await this.topics()).get(topic)?.groups.get(group) ?? null;
  }

  async facts(topic: string): Promise<TopicFacts | null> {
    return (await this.topics()).get(topic) ?? null;
  }

  async close(): Promise<void> {
    const open = await this.#following?.catch(() => null);
    await open?.close();
  }

  async #append(id: string, entry: Entry): Promise<void> {
    const record = Buffer.from(JSON.stringify(entry));
    const properties = { messageId: id, persistent: true };
    await this.#declare();
    while (!(await this.#publisher.send('', REGISTRY, record, properties))) {
      // Somebody has wiped the broker.
      this.#declared = null;
      await this.#declare();
    }
  }

  #declare(): Promise<void> {
    this.#declared ??= this.#link
      .using(async (channel) => {
        await channel.assertQueue(REGISTRY, {
          durable: true,
          arguments: { 'x-queue-type': 'stream' },
        });
      })
      .catch((error) => {
        this.#declared = null;
        throw error;
      });
    return this.#declared;
  }

  /** Reads to the end as it is now, and goes on reading. */
  #follow(): Promise<LinkChannel<Channel>> {
    this.#following ??= this.#read().catch((error) => {
      this.#following = null;
      throw error;
    });
    return this.#following;
  }

  async #read(): Promise<LinkChannel<Channel>> {
    await this.#declare();
    const open = await this.#link.channel();
    void open.ended.then(() => {
      this.#following = null;
    });
    this.#topics.clear();
    this.#seen.clear();
    await open.channel.prefetch(1000);
    await open.channel.consume(
      REGISTRY,
      (record) => {
        if (record === null) {
          void open.close();
          return;
        }
        open.channel.ack(record);
        const id = String(record.properties.messageId);
        const entry = JSON.parse(record.content.toString()) as Entry;
        if (entry.hello) this.#hellos.get(id)?.();
        else if (!this.#seen.delete(id)) this.#apply(entry);
      },
      { arguments: { 'x-stream-offset': 'first' } },
    );
    const id = this.#scheduler.uniqueName();
    const reached = new Promise<void>((resolve) => this.#hellos.set(id, resolve));
    const hello: Entry = { topic: '', hello: true };
    await this.#append(id, hello);
    await Promise.race([reached, open.ended]);
    this.#hellos.delete(id);
    return open;
  }

  #apply(entry: Entry): void {
    const { topic, group, exclusive = false, deleted, marks, keep } = entry;
    let facts = this.#topics.get(topic);
    if (facts === undefined || deleted) {
      facts = { groups: new Map(), marks: 0, keep: null, exists: false };
      this.#topics.set(topic, facts);
    }
    if (deleted) return;
    if (group !== undefined) facts.groups.set(group, { exclusive });
    else if (marks !== undefined) facts.marks += marks;
    else if (keep !== undefined) facts.keep = keep;
    else facts.exists = true;
  }
}

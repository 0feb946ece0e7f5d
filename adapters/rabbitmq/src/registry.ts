/**
 * The directory of topics and groups. AMQP cannot list queues, so they are recorded in a stream.
 *
 * Holds: the records of the stream `rivulet.registry` that were read so far. A record is written when a
 * topic or group is made or deleted, so the stream grows with those and not with the traffic. It is
 * read from its beginning at the first query and followed from then on.
 * Invariants: a record of this process counts before its write returns. A message in the stream that
 * is no record is skipped. A query fails if the stream could not be read to its end.
 */
import type { Channel } from 'amqplib';
import { compilePattern, isPattern, RivuletError, type Scheduler } from 'rivulet/adapter';
import type { Link, LinkChannel } from './link.ts';
import { REGISTRY } from './names.ts';
import type { Publisher } from './publishing/publisher.ts';

export interface Entry {
  readonly topic: string;
  readonly group?: string;
  readonly exclusive?: boolean;
  /** Of a group: a token that changes when the group is replayed. Retries carry it. */
  readonly round?: string;
  /** Of a group: a token that changes whenever its queue is made. */
  readonly made?: string;
  /** Of a group of one topic: groups of this name with wildcards leave the topic to it. */
  readonly split?: boolean;
  /** The topic was deleted, at this Unix time in ms; older clients wrote `true`. */
  readonly deleted?: boolean | number;
  /** This many marks of readers were put into the topic's log. They are no messages. */
  readonly marks?: number;
  /** How many messages of the log are shown, approximately. */
  readonly keep?: number;
  /** Only marks the end of what a reader wants to have read. */
  readonly hello?: boolean;
}

export interface TopicFacts {
  readonly groups: Map<string, GroupFacts>;
  marks: number;
  keep: number | null;
  /** False for patterns and for deleted topics. */
  exists: boolean;
  deleted: boolean;
  /** How often a topic of this name was deleted, and when it was last, Unix time in ms. */
  readonly deletions: number;
  readonly deletedAt: number;
}

export interface GroupFacts {
  readonly exclusive: boolean;
  readonly round: string;
  readonly made: string;
  readonly split: boolean;
  /** Ascends in the order in which groups were made. */
  readonly order: number;
}

export class Registry {
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #scheduler: Scheduler;
  readonly #topics = new Map<string, TopicFacts>();
  /** Patterns with wildcards, by the name of a group that subscribes to them. */
  readonly #patterns = new Map<string, Set<string>>();
  #groups = 0;
  /** Ids of records that this process wrote and has not read back yet. They are applied already. */
  readonly #written = new Set<string>();
  #following: Promise<LinkChannel<Channel>> | null = null;
  #declared: Promise<void> | null = null;
  readonly #hellos = new Map<string, () => void>();
  #onDeleted: (topic: string) => void = () => {};

  constructor(link: Link, publisher: Publisher, scheduler: Scheduler) {
    this.#link = link;
    this.#publisher = publisher;
    this.#scheduler = scheduler;
  }

  forget(): void {
    this.#declared = null;
  }

  /** Calls the listener when a record says that a topic was deleted. */
  onDeleted(listener: (topic: string) => void): void {
    this.#onDeleted = listener;
  }

  async add(entry: Entry): Promise<void> {
    const id = this.#scheduler.uniqueName();
    if (this.#following !== null) this.#written.add(id);
    this.#apply(entry);
    await this.#append(id, entry);
  }

  async topics(): Promise<ReadonlyMap<string, TopicFacts>> {
    await this.#follow();
    return this.#topics;
  }

  async group(topic: string, group: string): Promise<GroupFacts | null> {
    return (await this.topics()).get(topic)?.groups.get(group) ?? null;
  }

  /**
   * Whether another group of this name handles the topic, by the records read so far. The topic's own
   * group precedes those with wildcards; of two with wildcards the older one precedes.
   */
  isElsewhere(pattern: string, group: string, topic: string): boolean {
    if (!isPattern(pattern)) return false;
    const own = this.#topics.get(topic)?.groups.get(group);
    if (own?.split) return true;
    const order = this.#topics.get(pattern)?.groups.get(group)?.order ?? Number.POSITIVE_INFINITY;
    for (const each of this.#patterns.get(group) ?? []) {
      const other = this.#topics.get(each)?.groups.get(group);
      if (other !== undefined && other.order < order && compilePattern(each)(topic)) return true;
    }
    return false;
  }

  /** The patterns with wildcards under which a group of this name receives the topic. */
  async patternsOver(topic: string, group: string): Promise<string[]> {
    await this.topics();
    return [...(this.#patterns.get(group) ?? [])].filter((each) => compilePattern(each)(topic));
  }

  /** The topics that groups of this name subscribe to both by name and by this pattern. */
  async splitTopics(pattern: string, group: string): Promise<string[]> {
    const matches = compilePattern(pattern);
    return [...(await this.topics())]
      .filter(([topic, { groups }]) => groups.get(group)?.split === true && matches(topic))
      .map(([topic]) => topic);
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
      // The stream was deleted.
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

  /** Reads to the present end, and goes on reading. */
  #follow(): Promise<LinkChannel<Channel>> {
    this.#following ??= this.#link
      .try(() => this.#read())
      .catch((error) => {
        this.#following = null;
        this.#declared = null;
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
    this.#patterns.clear();
    this.#written.clear();
    const id = this.#scheduler.uniqueName();
    try {
      await open.channel.prefetch(1000);
      await open.channel.consume(
        REGISTRY,
        (record) => {
          if (record === null) {
            void open.close();
            return;
          }
          if (open.open) open.channel.ack(record);
          const name = String(record.properties.messageId);
          const entry = entryIn(record.content);
          if (entry === null) return;
          if (entry.hello) this.#hellos.get(name)?.();
          else if (!this.#written.delete(name)) this.#apply(entry);
        },
        { arguments: { 'x-stream-offset': 'first' } },
      );
      let isRead = false;
      const reached = new Promise<void>((resolve) => {
        this.#hellos.set(id, () => {
          isRead = true;
          resolve();
        });
      });
      await this.#append(id, { topic: '', hello: true });
      await Promise.race([reached, open.ended]);
      if (isRead) return open;
      throw new RivuletError(
        'NOT_CONNECTED',
        `the stream ${REGISTRY} could not be read to its end`,
      );
    } catch (error) {
      await open.close();
      throw error;
    } finally {
      this.#hellos.delete(id);
    }
  }

  #apply(entry: Entry): void {
    const { topic, group, deleted, marks, keep } = entry;
    let facts = this.#topics.get(topic);
    if (facts === undefined || deleted) {
      const before = facts;
      facts = {
        groups: new Map(),
        marks: 0,
        keep: null,
        exists: false,
        deleted: Boolean(deleted),
        deletions: (before?.deletions ?? 0) + (deleted ? 1 : 0),
        deletedAt: typeof deleted === 'number' ? deleted : (before?.deletedAt ?? 0),
      };
      this.#topics.set(topic, facts);
    }
    if (deleted) {
      this.#onDeleted(topic);
      return;
    }
    if (group !== undefined) this.#applyGroup(facts, entry, group);
    else if (marks !== undefined) facts.marks += marks;
    else if (keep !== undefined) facts.keep = keep;
    else facts.exists = true;
  }

  #applyGroup(facts: TopicFacts, entry: Entry, group: string): void {
    const { topic, exclusive = false, round = '', made = '', split = false } = entry;
    const order = facts.groups.get(group)?.order ?? this.#groups++;
    facts.groups.set(group, { exclusive, round, made, split, order });
    if (!isPattern(topic)) return;
    const patterns = this.#patterns.get(group) ?? new Set();
    this.#patterns.set(group, patterns.add(topic));
  }
}

/** null when another program wrote the message. */
function entryIn(content: Buffer): Entry | null {
  try {
    const { topic, group, round, made, marks, keep, ...flags } = JSON.parse(content.toString());
    const isText = (value: unknown) => value === undefined || typeof value === 'string';
    const isCount = (value: unknown) => value === undefined || Number.isSafeInteger(value);
    if (typeof topic !== 'string' || ![group, round, made].every(isText)) return null;
    if (![marks, keep].every(isCount)) return null;
    return { topic, group, round, made, marks, keep, ...flags } as Entry;
  } catch {
    return null;
  }
}

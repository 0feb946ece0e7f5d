/**
 * Messages of topics for many clients, over few subscriptions of the broker.
 *
 * Holds: per topic one feed of what comes, and one for each id from which clients resume; each feed has one
 * subscription, its clients, and the last `maxRecent` messages. Invariants: a client gets every message after
 * its id once, in order, and receives a gap before the first of them where the topic may have lost some;
 * clients that resume from the same id share a feed, so that all clients of a gateway
 * that was restarted need one subscription; a feed that has reached what comes gives its clients to that
 * feed; a client that does not read is ended when `maxQueued` messages wait for it, or when it has held up
 * others that read the past for `slowMs`; a feed without clients is unsubscribed. Cost: one queue entry per
 * client and message.
 */
import type { Broker, Delivery, Position, Subscriber } from '../../broker/broker.ts';
import { checkTopic } from '../../broker/topics/topics.ts';
import { idBefore } from '../handlers/read-one.ts';
import { HttpError } from '../http-error.ts';
import { mayHaveLost } from './resume.ts';
import { type TopicGap, type TopicMessage, TopicReader } from './topic-reader.ts';

export interface HubLimits {
  /** Clients. */
  readonly maxReaders: number;
  /** Messages of a feed that are kept. */
  readonly maxRecent: number;
  /** Messages that wait for a client. */
  readonly maxQueued: number;
  /** Feeds that read the past of topics. */
  readonly maxPast: number;
  /** How long a client may hold up others that read the past. */
  readonly slowMs: number;
  /** Until a position behind which no message comes is called a gap. */
  readonly resumeWaitMs: number;
}

interface Feed {
  readonly topic: string;
  /** The id after which it began, or `earliest`; null for the feed of what comes. */
  readonly since: string | null;
  readonly clients: Set<TopicReader>;
  readonly recent: TopicMessage[];
  /** Whether `recent` holds everything since it began. */
  isWhole: boolean;
  /** Until it is known whether everything behind `since` is there; null where that is known. */
  checking: (() => Promise<void>) | null;
  hasGap: boolean;
  timer: NodeJS.Timeout | undefined;
  subscriber: Promise<Subscriber>;
}

export class TopicHub {
  readonly #broker: () => Promise<Broker>;
  readonly #limits: HubLimits;
  readonly #feeds = new Map<string, Feed[]>();
  readonly #readers = new Set<TopicReader>();
  #past = 0;
  #isClosed = false;

  constructor(broker: () => Promise<Broker>, limits: HubLimits) {
    this.#broker = broker;
    this.#limits = limits;
  }

  get readers(): number {
    return this.#readers.size;
  }

  /** Messages of a topic after a position. Rejects with 503 beyond `maxReaders` and `maxPast`. */
  async read(topic: string, from: 'new' | 'earliest' | { readonly id: string }) {
    checkTopic(topic);
    if (this.#isClosed) throw new HttpError(503, 'the gateway is stopping');
    if (this.#readers.size >= this.#limits.maxReaders) {
      const text = `the gateway serves ${this.#limits.maxReaders} subscriptions, which is its limit`;
      throw new HttpError(503, text, { 'retry-after': '5' });
    }
    const reader = new TopicReader(() => this.#leave(topic, reader), this.#limits.maxQueued);
    this.#readers.add(reader);
    try {
      const since = from === 'new' ? null : from === 'earliest' ? from : from.id;
      await this.#join(topic, reader, since);
      if (reader.isOver) await this.#leave(topic, reader);
      return reader;
    } catch (error) {
      await this.#leave(topic, reader);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const reader of [...this.#readers]) reader.end();
    await Promise.all([...this.#feeds.values()].flat().map((feed) => this.#drop(feed)));
  }

  async #join(topic: string, reader: TopicReader, since: string | null): Promise<void> {
    let feed: Feed | null = null;
    for (const each of this.#feeds.get(topic) ?? []) {
      const from = startIn(each, since);
      if (from === null) continue;
      feed = each;
      each.clients.add(reader);
      if (each.hasGap && from === 0) reader.push(gapBehind(each));
      for (const message of each.recent.slice(from)) reader.push(message);
      break;
    }
    feed ??= this.#open(topic, since, reader);
    // Where clients of the past arrive at, however many feeds they come from.
    const live = since === null || this.#live(topic) !== null ? null : this.#open(topic, null);
    await feed.subscriber;
    await live?.subscriber.catch(() => {});
  }

  #live(topic: string): Feed | null {
    return this.#feeds.get(topic)?.find(({ since }) => since === null) ?? null;
  }

  #open(topic: string, since: string | null, reader?: TopicReader): Feed {
    const { maxPast } = this.#limits;
    if (since !== null && this.#past >= maxPast) {
      const text = `${maxPast} subscriptions read the past of topics, which is the limit`;
      throw new HttpError(503, text, { 'retry-after': '5' });
    }
    const feed: Feed = {
      topic,
      since,
      clients: new Set(reader === undefined ? [] : [reader]),
      recent: [],
      isWhole: true,
      checking: null,
      hasGap: false,
      timer: undefined,
      subscriber: null as never,
    };
    // The client's own last message shows, as the first one that comes, that none behind it is gone.
    const before = since === null || since === 'earliest' ? null : idBefore(since);
    if (before !== null) feed.checking = this.#checkOf(feed);
    const from: Position =
      since === null ? 'new' : since === 'earliest' ? 'earliest' : { id: before ?? since };
    const known = this.#feeds.get(topic);
    if (known === undefined) this.#feeds.set(topic, [feed]);
    else known.push(feed);
    if (since !== null) this.#past++;
    feed.subscriber = this.#subscribe(feed, from);
    feed.subscriber.catch(() => this.#forget(feed));
    return feed;
  }

  async #subscribe(feed: Feed, from: Position): Promise<Subscriber> {
    const broker = await this.#broker();
    const { topic } = feed;
    const handler = ({ id, publishedAt, message }: Delivery) =>
      this.#deliver(feed, {
        topic,
        id,
        publishedAt,
        key: message.key ?? null,
        headers: message.headers ?? {},
        body: typeof message.body === 'string' ? Buffer.from(message.body) : message.body,
      });
    const subscriber = await broker.subscribe(topic, handler, { from, deadLetter: false });
    if (feed.checking !== null && this.#feeds.get(topic)?.includes(feed)) {
      feed.timer = setTimeout(() => void feed.checking?.(), this.#limits.resumeWaitMs);
    }
    return subscriber;
  }

  /** Looks once, however many ask, and tells the clients of the feed where messages may be gone. */
  #checkOf(feed: Feed): () => Promise<void> {
    let running: Promise<void> | null = null;
    const look = async () => {
      const { topic, since } = feed;
      const broker = await this.#broker();
      const { resumeWaitMs } = this.#limits;
      // What cannot be read may be gone.
      const hasLost = await mayHaveLost(broker, topic, since as string, resumeWaitMs).catch(
        () => true,
      );
      if (feed.checking === null) return;
      this.#isKnown(feed);
      if (!hasLost) return;
      feed.hasGap = true;
      for (const client of feed.clients) client.push(gapBehind(feed));
    };
    return () => {
      running ??= look().catch(() => {});
      return running;
    };
  }

  #isKnown(feed: Feed): void {
    feed.checking = null;
    clearTimeout(feed.timer);
  }

  #deliver(feed: Feed, message: TopicMessage): void | Promise<void> {
    if (message.id === feed.since) {
      this.#isKnown(feed);
      return;
    }
    if (feed.checking === null) return this.#spread(feed, message);
    return feed.checking().then(() => this.#spread(feed, message));
  }

  /** What comes is never held back; the past is, while a client of the feed has no room. */
  #spread(feed: Feed, message: TopicMessage): void | Promise<void> {
    feed.recent.push(message);
    if (feed.recent.length > this.#limits.maxRecent) {
      feed.recent.shift();
      feed.isWhole = false;
    }
    for (const client of feed.clients) client.push(message);
    this.#merge(feed.topic);
    if (feed.since === null || feed.clients.size === 0) return;
    const waits = [...feed.clients].map((client) => client.room()).filter((room) => room !== null);
    if (waits.length > 0) return this.#roomOf(feed, Promise.all(waits));
  }

  async #roomOf(feed: Feed, room: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const slow = new Promise<'slow'>((resolve) => {
      timer = setTimeout(() => resolve('slow'), this.#limits.slowMs);
    });
    const first = await Promise.race([room, slow]);
    clearTimeout(timer);
    if (first !== 'slow') return;
    // One that reads alone harms no other by being slow.
    const full = [...feed.clients].filter((client) => client.room() !== null);
    if (full.length < feed.clients.size) for (const client of full) client.endSlow();
    else await room;
  }

  /** Feeds of the past that have reached a message of the live one go on there. */
  #merge(topic: string): void {
    const feeds = this.#feeds.get(topic);
    if (feeds === undefined || feeds.length < 2) return;
    const live = this.#live(topic);
    const [oldest] = live?.recent ?? [];
    if (live === null || oldest === undefined) return;
    for (const feed of [...feeds]) {
      const last = feed.recent.at(-1);
      if (feed === live || last === undefined || last.publishedAt < oldest.publishedAt) continue;
      const at = live.recent.findLastIndex(({ id }) => id === last.id);
      if (at < 0) continue;
      for (const client of feed.clients) {
        live.clients.add(client);
        for (const message of live.recent.slice(at + 1)) client.push(message);
      }
      feed.clients.clear();
      void this.#drop(feed);
    }
  }

  async #leave(topic: string, reader: TopicReader): Promise<void> {
    this.#readers.delete(reader);
    reader.end();
    for (const feed of [...(this.#feeds.get(topic) ?? [])]) feed.clients.delete(reader);
    const feeds = this.#feeds.get(topic) ?? [];
    // The live feed stays while clients of the past are on their way to it.
    const isUsed = feeds.some(({ clients }) => clients.size > 0);
    const unused = feeds.filter(
      ({ clients, since }) => clients.size === 0 && (since !== null || !isUsed),
    );
    await Promise.all(unused.map((feed) => this.#drop(feed)));
  }

  #forget(feed: Feed): boolean {
    const feeds = this.#feeds.get(feed.topic) ?? [];
    const at = feeds.indexOf(feed);
    if (at < 0) return false;
    feeds.splice(at, 1);
    this.#isKnown(feed);
    if (feeds.length === 0) this.#feeds.delete(feed.topic);
    if (feed.since !== null) this.#past--;
    return true;
  }

  async #drop(feed: Feed): Promise<void> {
    if (!this.#forget(feed)) return;
    const subscriber = await feed.subscriber.catch(() => null);
    await subscriber?.unsubscribe().catch(() => {});
  }
}

function gapBehind({ topic, since }: Feed): TopicGap {
  return { topic, gap: { after: since as string } };
}

/** Where in what a feed keeps a client begins that has everything up to `since`; null where it cannot. */
function startIn(feed: Feed, since: string | null): number | null {
  if (since === null) return feed.since === null ? feed.recent.length : null;
  if (feed.since === since && feed.isWhole) return 0;
  const at = feed.recent.findLastIndex(({ id }) => id === since);
  return at < 0 ? null : at + 1;
}

/**
 * Messages of topics for many clients, over few subscriptions of the broker.
 *
 * Holds: per topic one feed of what comes, and one for each id from which clients resume; each feed has one
 * subscription, its clients, and the last `maxRecent` messages, at most `maxRecentBytes` of them. Invariants: a client gets every message after
 * its id once, in order, and receives a gap where the topic may have lost some: before the first of them, and
 * after an outage of the broker; clients that resume from the same id share a feed, so that all clients of a gateway
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
import {
  type ReaderLimits,
  sizeOf,
  type TopicGap,
  type TopicMessage,
  TopicReader,
} from './topic-reader.ts';

export interface HubLimits extends ReaderLimits {
  /** Clients. */
  readonly maxReaders: number;
  /** Messages of a feed that are kept. */
  readonly maxRecent: number;
  /** Bytes of them; the newest is kept in any case. */
  readonly maxRecentBytes: number;
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
  /** The last messages, and the gaps among them. */
  readonly recent: (TopicMessage | TopicGap)[];
  recentBytes: number;
  /** Whether `recent` holds everything since it began. */
  isWhole: boolean;
  /** The position of its clients: the id of the last message, or where they began; null where no id says it. */
  last: string | null;
  /** When it began, Unix milliseconds. */
  readonly openedAt: number;
  /** Ids of messages that clients have, for those that the broker delivers again. */
  readonly spread: Set<string>;
  /** Until it is known whether everything behind `last` is there; null where that is known. */
  checking: (() => Promise<void>) | null;
  /** Messages that came before it is known, in order: each goes on when it is called. */
  readonly held: (() => void)[];
  timer: NodeJS.Timeout | undefined;
  subscriber: Promise<Subscriber>;
}

/** Ids that a feed remembers: more than the broker delivers at once, and so may deliver again. */
const MAX_SPREAD = 1000;
/** Topics that are looked at together after an outage. */
const LOOKS_AT_ONCE = 16;

export class TopicHub {
  readonly #broker: () => Promise<Broker>;
  readonly #limits: HubLimits;
  readonly #feeds = new Map<string, Feed[]>();
  readonly #readers = new Set<TopicReader>();
  readonly #listening: (() => void)[] = [];
  #followed: Broker | null = null;
  #past = 0;
  #isClosed = false;
  /** Pending while the connection to the broker is lost. */
  #connected: Promise<void> = Promise.resolve();
  #reconnect: (() => void) | null = null;

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
    const reader = new TopicReader(() => this.#leave(topic, reader), this.#limits);
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
    for (const stop of this.#listening) stop();
    this.#isConnected();
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
      recentBytes: 0,
      isWhole: true,
      last: since === 'earliest' ? null : since,
      openedAt: Date.now(),
      spread: new Set(),
      checking: null,
      held: [],
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
    this.#follow(broker);
    const { topic } = feed;
    const handler = ({ id, attempt, publishedAt, message }: Delivery) =>
      this.#deliver(
        feed,
        {
          topic,
          id,
          publishedAt,
          key: message.key ?? null,
          headers: message.headers ?? {},
          body: typeof message.body === 'string' ? Buffer.from(message.body) : message.body,
        },
        attempt > 1,
      );
    const subscriber = await broker.subscribe(topic, handler, { from, deadLetter: false });
    if (feed.checking !== null && this.#feeds.get(topic)?.includes(feed)) {
      feed.timer = setTimeout(() => void feed.checking?.(), this.#limits.resumeWaitMs);
    }
    return subscriber;
  }

  /** While the broker cannot be reached, or has lost a group, topics may lose what no feed has read. */
  #follow(broker: Broker): void {
    if (this.#followed !== null || this.#isClosed) return;
    this.#followed = broker;
    this.#listening.push(
      broker.on('disconnected', () => {
        if (this.#reconnect === null) {
          this.#connected = new Promise((resolve) => {
            this.#reconnect = resolve;
          });
        }
        for (const feed of [...this.#feeds.values()].flat()) this.#suspect(feed);
      }),
      broker.on('connected', () => {
        this.#isConnected();
        void this.#lookAtAll();
      }),
      broker.on('groupLost', ({ topic }) => {
        for (const feed of this.#feeds.get(topic) ?? []) {
          this.#suspect(feed);
          void feed.checking?.();
        }
      }),
    );
  }

  #isConnected(): void {
    this.#reconnect?.();
    this.#reconnect = null;
  }

  /** What comes next is held until it is known whether it is what comes next in the topic. */
  #suspect(feed: Feed): void {
    if (feed.last !== null && idBefore(feed.last) === null) return;
    clearTimeout(feed.timer);
    feed.checking = this.#checkOf(feed);
  }

  /** Those that may get no message for long; where no id says the position, the next message does. */
  async #lookAtAll(): Promise<void> {
    const rest = [...this.#feeds.values()].flat().filter(({ last }) => last !== null);
    const lookAtOne = async () => {
      for (let feed = rest.pop(); feed !== undefined; feed = rest.pop()) await feed.checking?.();
    };
    await Promise.all(Array.from({ length: LOOKS_AT_ONCE }, lookAtOne));
  }

  /** Looks once, however many ask, and tells the clients of the feed where messages may be gone. */
  #checkOf(feed: Feed): () => Promise<void> {
    const { topic, last: after, openedAt } = feed;
    let running: Promise<void> | null = null;
    const look = async () => {
      await this.#connected;
      const broker = await this.#broker();
      const { resumeWaitMs } = this.#limits;
      const position = after ?? new Date(openedAt);
      // What cannot be read may be gone.
      const hasLost = await mayHaveLost(broker, topic, position, resumeWaitMs).catch(() => true);
      // Another outage asks again.
      if (feed.checking === check) this.#isKnown(feed, hasLost ? { topic, gap: { after } } : null);
    };
    const check = () => {
      running ??= look().catch(() => {});
      return running;
    };
    return check;
  }

  /** Clients get the gap, where there is one, and then what was held. */
  #isKnown(feed: Feed, gap: TopicGap | null = null): void {
    feed.checking = null;
    clearTimeout(feed.timer);
    if (gap !== null) this.#keep(feed, gap);
    for (const goOn of feed.held.splice(0)) goOn();
  }

  #deliver(feed: Feed, message: TopicMessage, isRepeated: boolean): void | Promise<void> {
    if (message.id === feed.since) {
      if (feed.last === feed.since) this.#isKnown(feed);
      return;
    }
    const { checking } = feed;
    if (checking === null) return this.#spread(feed, message, isRepeated);
    return new Promise((resolve) => {
      feed.held.push(() => resolve(this.#spread(feed, message, isRepeated)));
      void checking();
    });
  }

  #keep(feed: Feed, item: TopicMessage | TopicGap): void {
    const { recent } = feed;
    const { maxRecent, maxRecentBytes } = this.#limits;
    recent.push(item);
    feed.recentBytes += sizeOf(item);
    while (recent.length > maxRecent || (recent.length > 1 && feed.recentBytes > maxRecentBytes)) {
      feed.recentBytes -= sizeOf(recent.shift() as TopicMessage | TopicGap);
      feed.isWhole = false;
    }
    for (const client of feed.clients) client.push(item);
  }

  /** What comes is never held back; the past is, while a client of the feed has no room. */
  #spread(feed: Feed, message: TopicMessage, isRepeated: boolean): void | Promise<void> {
    const { spread } = feed;
    // Its acknowledgement did not reach the broker.
    if (isRepeated && spread.has(message.id)) return;
    spread.add(message.id);
    if (spread.size > MAX_SPREAD) spread.delete(spread.values().next().value as string);
    feed.last = message.id;
    this.#keep(feed, message);
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
    const oldest = live?.recent.find(isMessage);
    if (live === null || oldest === undefined) return;
    for (const feed of [...feeds]) {
      const last = feed.recent.findLast(isMessage);
      if (feed === live || last === undefined || last.publishedAt < oldest.publishedAt) continue;
      const at = placeOf(last.id, live);
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

function isMessage(item: TopicMessage | TopicGap): item is TopicMessage {
  return 'id' in item;
}

/** Where in what a feed keeps a message is; below 0 where it is not. */
function placeOf(id: string, { recent }: Feed): number {
  return recent.findLastIndex((each) => isMessage(each) && each.id === id);
}

/** Where in what a feed keeps a client begins that has everything up to `since`; null where it cannot. */
function startIn(feed: Feed, since: string | null): number | null {
  if (since === null) return feed.since === null ? feed.recent.length : null;
  if (feed.since === since && feed.isWhole) return 0;
  const at = placeOf(since, feed);
  return at < 0 ? null : at + 1;
}

/**
 * Fills the queue of a group that begins in the past from its topics' logs.
 *
 * First the log is copied until fewer than 200 messages are left. Then the queue is bound, together with
 * a temporary twin queue, and the messages that were stored meanwhile are copied, except those that
 * the twin received: the binding has brought them. Nothing is lost. A message may be stored twice only
 * if it was published between the two bindings.
 * Cost: one publish for each message that is copied; a pause of 100 ms.
 */
import type { ConsumeMessage } from 'amqplib';
import {
  compilePattern,
  isPattern,
  type LogEdge,
  type Position,
  pause,
  type Scheduler,
} from 'rivulet/adapter';
import { isMissing } from './errors.ts';
import type { Link } from './link.ts';
import {
  type LogReaderSetup,
  offsetOf,
  publishMark,
  READ_WINDOW,
  readToEnd,
  SILENT_MS,
  type StreamOffset,
} from './log-reader.ts';
import { decode, storedAtOf, timeOfId, type WireMessage, wireHeaders } from './message-codec.ts';
import { bindingKey, queueOf, streamOf } from './names.ts';
import type { Publisher } from './publishing/publisher.ts';
import type { Registry } from './registry.ts';
import type { Fill, GroupSpec, Topology } from './topology.ts';

/** A message that was routed before a binding may reach the log this much later. */
const SETTLE_MS = 100;
/** Copying repeats until it has copied fewer messages than this. */
const FEW = 200;
/** Reading begins this much before the wanted time: the clocks of clients and server differ. */
const SLACK_MS = 60_000;
/** A log that delivers nothing for this long has delivered its end, or seems to be empty. */
const QUIET_MS = 80;

interface Entry {
  readonly offset: number;
  readonly message: WireMessage;
  readonly content: ConsumeMessage;
}

export class History {
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #registry: Registry;
  readonly #topology: Topology;
  readonly #scheduler: Scheduler;

  constructor(
    link: Link,
    publisher: Publisher,
    registry: Registry,
    topology: Topology,
    scheduler: Scheduler,
  ) {
    this.#link = link;
    this.#publisher = publisher;
    this.#registry = registry;
    this.#topology = topology;
    this.#scheduler = scheduler;
  }

  /** Fills the queue of a group that was replayed or lost, so that it begins at `from`. */
  fillFrom(from: Position): Fill {
    if (from === 'new') return (_, bind) => bind();
    return (spec, bind) => this.#link.try(() => this.#fill(spec, bind, from));
  }

  /**
   * Fills the queue of a group for its first subscriber. If a group of the same name already receives
   * the topic by wildcards, the new queue continues it: a marker in the other queue says where it
   * leaves the topic. A message that is published between binding and marker may be handled twice.
   */
  fillNew(from: Position): Fill {
    const fill = this.fillFrom(from);
    return async (spec, bind) => {
      const patterns = spec.own || isPattern(spec.pattern) ? [] : await this.#patternsOver(spec);
      if (patterns.length === 0) return fill(spec, bind);
      await bind();
      // A message that was routed before the binding may reach the other queue a little later.
      await pause(this.#scheduler, SETTLE_MS);
      for (const pattern of patterns) {
        await this.#publisher.send('', queueOf(pattern, spec.group), Buffer.alloc(0), {
          headers: { [wireHeaders.split]: spec.pattern },
          messageId: this.#scheduler.uniqueName(),
          persistent: true,
        });
      }
    };
  }

  #patternsOver({ pattern, group }: GroupSpec): Promise<string[]> {
    return this.#registry.patternsOver(pattern, group);
  }

  /** Approximately how many messages a log has; 0 if an operator has deleted it. */
  async length(topic: string): Promise<number> {
    const { first, last } = await this.#link
      .try(() => this.edges(topic))
      .catch((error) => {
        if (isMissing(error)) return { first: null, last: null };
        throw error;
      });
    if (first === null || last === null) return 0;
    const facts = await this.#registry.facts(topic);
    const length = Math.max(0, last.place - first.place + 1 - (facts?.marks ?? 0));
    return facts?.keep == null ? length : Math.min(length, facts.keep);
  }

  /** The first and the last message of a log, marks included; rejects if there is no such log. */
  async edges(topic: string): Promise<{ first: LogEdge | null; last: LogEdge | null }> {
    const stream = streamOf(topic);
    const first = (await this.#edge(stream, 'first', QUIET_MS)) ?? (await this.#firstOf(topic));
    if (first === null) return { first, last: null };
    return { first, last: (await this.#edge(stream, 'last', SILENT_MS)) ?? first };
  }

  /**
   * The first message of a log that seems to be empty. A busy server may be late, so this puts a mark into the
   * log, once: afterwards there is a first message. null where the mark cannot be put.
   */
  async #firstOf(topic: string): Promise<LogEdge | null> {
    try {
      await this.#registry.add({ topic, marks: 1 });
      await publishMark(this.#reader, streamOf(topic));
    } catch {
      return null;
    }
    return this.#edge(streamOf(topic), 'first', SILENT_MS);
  }

  async #fill(spec: GroupSpec, bind: () => Promise<void>, from: Exclude<Position, 'new'>) {
    const queue = queueOf(spec.pattern, spec.group);
    const topics = await this.#topicsOf(spec);
    const since = typeof from === 'object' && 'time' in from ? from.time.getTime() : 0;
    const next = new Map<string, StreamOffset>();
    for (const topic of topics) next.set(topic, await this.#startOf(topic, from));
    for (let copied = FEW; copied >= FEW; ) {
      copied = 0;
      for (const topic of topics) {
        copied += await this.#copy(topic, queue, next, (entry) => isSince(entry, since));
      }
    }
    const open = await this.#link.channel();
    const { channel } = open;
    try {
      const twin = await channel.assertQueue('', { exclusive: true, durable: false });
      await bind();
      await channel.bindQueue(twin.queue, this.#topology.exchange, bindingKey(spec.pattern));
      await pause(this.#scheduler, SETTLE_MS);
      const gap: Entry[] = [];
      for (const topic of topics) {
        await this.#readTo(topic, next, async (entry) => {
          gap.push(entry);
        });
      }
      const brought = new Set<string>();
      for (;;) {
        const message = await channel.get(twin.queue, { noAck: true });
        if (message === false) break;
        brought.add(decode(message).id);
      }
      for (const entry of gap) {
        if (!brought.has(entry.message.id))
          await this.#send(entry, queue, entry.content.fields.routingKey);
      }
      await channel.deleteQueue(twin.queue);
    } finally {
      await open.close();
    }
  }

  async #topicsOf({ pattern, group }: GroupSpec): Promise<string[]> {
    if (!isPattern(pattern)) return [pattern];
    const matches = compilePattern(pattern);
    const all = await this.#registry.topics();
    return [...all]
      .filter(([topic, { exists }]) => exists && matches(topic))
      .map(([topic]) => topic)
      .filter((topic) => !this.#registry.isElsewhere(pattern, group, topic));
  }

  /** The offset of the first message that is wanted, or of one shortly before it. */
  async #startOf(topic: string, from: Exclude<Position, 'new'>): Promise<StreamOffset> {
    if (from === 'earliest') {
      const keep = (await this.#registry.facts(topic))?.keep ?? null;
      return keep === null ? 'first' : this.#backFromEnd(topic, keep);
    }
    if ('time' in from) return timestamp(from.time.getTime() - SLACK_MS);
    const time = timeOfId(from.id);
    const next = new Map<string, StreamOffset>([
      [topic, time === 0 ? 'first' : timestamp(time - SLACK_MS)],
    ]);
    let found: number | null = null;
    let later: number | null = null;
    await this.#readTo(topic, next, async ({ offset, message }) => {
      if (message.id === from.id) found = offset + 1;
      else if (later === null && timeOfId(message.id) > time) later = offset;
    });
    return found ?? later ?? (next.get(topic) as StreamOffset);
  }

  async #backFromEnd(topic: string, keep: number): Promise<StreamOffset> {
    const end = await this.#readToMark(topic, 'last', async () => {});
    return Math.max(0, end - keep);
  }

  async #copy(
    topic: string,
    queue: string,
    next: Map<string, StreamOffset>,
    wanted: (entry: Entry) => boolean,
  ): Promise<number> {
    let copied = 0;
    const sending: Promise<void>[] = [];
    await this.#readTo(topic, next, async (entry) => {
      if (!wanted(entry)) return;
      copied++;
      sending.push(this.#send(entry, queue, topic));
      if (sending.length >= READ_WINDOW) await Promise.all(sending.splice(0));
    });
    await Promise.all(sending);
    return copied;
  }

  /** Publishes a copy into one queue, without the headers that RabbitMQ adds to a stream. */
  async #send({ content, message }: Entry, queue: string, topic: string): Promise<void> {
    const { 'x-stream-offset': _, 'x-death': __, ...headers } = message.headers;
    await this.#publisher.send('', queue, content.content, {
      headers: { ...headers, [wireHeaders.topic]: topic },
      messageId: message.id,
      timestamp: content.properties.timestamp,
      persistent: true,
    });
  }

  /** Calls `each` for every message up to the log's present end; the next reading begins there. */
  async #readTo(
    topic: string,
    next: Map<string, StreamOffset>,
    each: (entry: Entry) => Promise<void>,
  ): Promise<void> {
    const end = await this.#readToMark(topic, next.get(topic) ?? 'first', each);
    next.set(topic, end + 1);
  }

  /** Appends a mark to the log and reads up to it. Resolves to its offset. */
  async #readToMark(
    topic: string,
    from: StreamOffset,
    each: (entry: Entry) => Promise<void>,
  ): Promise<number> {
    await this.#topology.topic(topic);
    await this.#registry.add({ topic, marks: 1 });
    try {
      return await readToEnd(this.#reader, streamOf(topic), from, (content) =>
        each({ offset: offsetOf(content), message: decode(content), content }),
      );
    } catch (error) {
      this.#topology.forget();
      throw error;
    }
  }

  get #reader(): LogReaderSetup {
    return { link: this.#link, publisher: this.#publisher, scheduler: this.#scheduler };
  }

  /** The first or last message of a log; null if nothing comes for `emptyAfterMs`. */
  async #edge(
    stream: string,
    which: 'first' | 'last',
    emptyAfterMs: number,
  ): Promise<LogEdge | null> {
    const open = await this.#link.channel();
    try {
      await open.channel.prefetch(READ_WINDOW);
      return await new Promise<LogEdge | null>((resolve, reject) => {
        let last: LogEdge | null = null;
        let stop = () => {};
        const wait = (ms: number) => {
          stop();
          // In two parts: when this process was held up, messages may wait to be read.
          stop = this.#scheduler.after(ms / 2, () => {
            stop = this.#scheduler.after(ms / 2, () => resolve(last));
          });
        };
        const consuming = open.channel.consume(
          stream,
          (message) => {
            if (message === null) return;
            last = { place: offsetOf(message), at: storedAtOf(decode(message)) || null };
            if (which === 'first') {
              stop();
              resolve(last);
            } else {
              wait(QUIET_MS);
            }
            if (open.open) open.channel.ack(message);
          },
          { arguments: { 'x-stream-offset': which } },
        );
        consuming.then(() => last ?? wait(emptyAfterMs), reject);
      });
    } finally {
      await open.close();
    }
  }
}

function isSince({ message }: Entry, time: number): boolean {
  return storedAtOf(message) >= time;
}

function timestamp(ms: number): StreamOffset {
  return { '!': 'timestamp', value: Math.max(0, Math.floor(ms / 1000)) };
}

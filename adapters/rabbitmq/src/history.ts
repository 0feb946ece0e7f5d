/**
 * The past of a topic: read from its log, and put into the queue of a group that begins in it.
 *
 * A log has no end that AMQP would tell, so a mark is put behind it and read up to. A group that
 * begins in the past is filled in two steps: the log is copied until what is left is short; then the
 * queue is bound, and what came in between is copied too, less what the binding brought already
 * (a twin of the queue, bound a moment later, tells). Nothing is lost; a message may come twice only
 * when it was published in the very moment of binding.
 */
import type { ConsumeMessage } from 'amqplib';
import {
  compilePattern,
  isPattern,
  type Position,
  pause,
  RivuletError,
  type Scheduler,
} from 'rivulet';
import { type Read, read, timeOfId, transport } from './form.ts';
import type { Link } from './link.ts';
import { bindingKey, queueOf, streamOf } from './names.ts';
import type { Publisher } from './publisher.ts';
import type { Registry } from './registry.ts';
import type { Fill, GroupSpec, Topology } from './topology.ts';

/** What is unread at once of a log. */
const WINDOW = 500;
/** What was routed before a binding may reach the log a little later. */
const SETTLE_MS = 100;
/** Copying goes round again until a round has fewer than this. */
const SHORT = 200;
/** A log is looked up this much earlier than the time that is wanted: clocks differ. */
const SLACK_MS = 60_000;
/** No message of a log that is there takes this long to arrive. */
const QUIET_MS = 60;

type StreamOffset = number | string | { '!': 'timestamp'; value: number };

interface Entry {
  readonly offset: number;
  readonly message: Read;
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

  /** What fills a new group's queue so that it begins at `from`. */
  fillFrom(from: Position): Fill {
    if (from === 'new') return (_, bind) => bind();
    return (spec, bind) => this.#fill(spec, bind, from);
  }

  /** How many messages a log holds, near enough for a number that people read. */
  async length(topic: string): Promise<number> {
    const stream = streamOf(topic);
    const first = await this.#edge(stream, 'first');
    if (first === null) return 0;
    const last = (await this.#edge(stream, 'last')) ?? first;
    const facts = await this.#registry.facts(topic);
    const length = Math.max(0, last - first + 1 - (facts?.marks ?? 0));
    return facts?.keep == null ? length : Math.min(length, facts.keep);
  }

  async #fill(spec: GroupSpec, bind: () => Promise<void>, from: Exclude<Position, 'new'>) {
    const queue = queueOf(spec.pattern, spec.group);
    const topics = await this.#topicsOf(spec.pattern);
    const next = new Map<string, StreamOffset>();
    for (const topic of topics) next.set(topic, await this.#startOf(topic, from));
    for (let copied = SHORT; copied >= SHORT; ) {
      copied = 0;
      for (const topic of topics) {
        const wanted = typeof from === 'object' && 'time' in from ? from.time.getTime() : 0;
        copied += await this.#copy(topic, queue, next, (entry) => isSince(entry, wanted));
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
        brought.add(read(message).id);
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

  async #topicsOf(pattern: string): Promise<string[]> {
    if (!isPattern(pattern)) return [pattern];
    const matches = compilePattern(pattern);
    const all = await this.#registry.topics();
    return [...all]
      .filter(([topic, { exists }]) => exists && matches(topic))
      .map(([topic]) => topic);
  }

  /** Where in the log to begin, so that the first message read is the first that is wanted. */
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
    const end = await this.#mark(topic, 'last', async () => {});
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
      if (sending.length >= WINDOW) await Promise.all(sending.splice(0));
    });
    await Promise.all(sending);
    return copied;
  }

  /** A copy for one queue alone. The broker's own headers of the log stay behind. */
  async #send({ content, message }: Entry, queue: string, topic: string): Promise<void> {
    const { 'x-stream-offset': _, 'x-death': __, ...headers } = message.transport;
    await this.#publisher.send('', queue, content.content, {
      headers: { ...headers, [transport.topic]: topic },
      messageId: message.id,
      timestamp: content.properties.timestamp,
      persistent: true,
    });
  }

  /** Hands over every message of the log up to its present end; the next reading begins there. */
  async #readTo(
    topic: string,
    next: Map<string, StreamOffset>,
    each: (entry: Entry) => Promise<void>,
  ): Promise<void> {
    const end = await this.#mark(topic, next.get(topic) ?? 'first', each);
    next.set(topic, end + 1);
  }

  /** Puts a mark behind the log and reads up to it; its offset. */
  async #mark(
    topic: string,
    from: StreamOffset,
    each: (entry: Entry) => Promise<void>,
  ): Promise<number> {
    await this.#topology.topic(topic);
    const stream = streamOf(topic);
    const id = this.#scheduler.uniqueName();
    await this.#registry.add({ topic, marks: 1 });
    const marked = await this.#publisher.send('', stream, Buffer.alloc(0), {
      headers: { [transport.mark]: id },
      messageId: id,
    });
    if (!marked) {
      this.#topology.forget();
      throw new RivuletError('NOT_CONNECTED', `the log of ${topic} is not there any more`);
    }
    const open = await this.#link.channel();
    try {
      await open.channel.prefetch(WINDOW);
      return await new Promise<number>((resolve, reject) => {
        let chain = Promise.resolve();
        const take = async (message: ConsumeMessage) => {
          const entry = { offset: offsetOf(message), message: read(message), content: message };
          const mark = entry.message.transport[transport.mark];
          if (mark === id) resolve(entry.offset);
          else if (mark === undefined) await each(entry);
          if (open.open) open.channel.ack(message);
        };
        const lost = () => reject(open.failure ?? new Error('the log of the topic went away'));
        open.channel
          .consume(
            stream,
            (message) => {
              if (message === null) return lost();
              chain = chain.then(() => take(message)).catch(reject);
            },
            { arguments: { 'x-stream-offset': from } },
          )
          .catch(reject);
        void open.ended.then(lost);
      });
    } finally {
      await open.close();
    }
  }

  /** The first or last offset of a log; null when it is empty. */
  async #edge(stream: string, which: 'first' | 'last'): Promise<number | null> {
    const open = await this.#link.channel();
    try {
      await open.channel.prefetch(WINDOW);
      return await new Promise<number | null>((resolve, reject) => {
        let last: number | null = null;
        let stop = () => {};
        const wait = () => {
          stop();
          stop = this.#scheduler.after(QUIET_MS, () => resolve(last));
        };
        const consuming = open.channel.consume(
          stream,
          (message) => {
            if (message === null) return;
            last = offsetOf(message);
            if (which === 'first') {
              stop();
              resolve(last);
            } else {
              wait();
            }
            if (open.open) open.channel.ack(message);
          },
          { arguments: { 'x-stream-offset': which } },
        );
        consuming.then(() => last ?? wait(), reject);
      });
    } finally {
      await open.close();
    }
  }
}

function isSince({ message }: Entry, time: number): boolean {
  // What was published with a delay came later than its id says.
  return message.publishedAt >= time || message.transport['x-death'] !== undefined;
}

function offsetOf(message: ConsumeMessage): number {
  return Number(message.properties.headers?.['x-stream-offset']);
}

function timestamp(ms: number): StreamOffset {
  return { '!': 'timestamp', value: Math.max(0, Math.floor(ms / 1000)) };
}

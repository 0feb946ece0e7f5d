/**
 * Reads the messages of a topic from its log, which is a stream, without a group.
 *
 * A place is an offset. Marks (see log-reader.ts) have offsets too and are passed over. A stream is read
 * forwards only: for the newest messages a window before the end is read, and a larger one before it while
 * messages are missing. Invariant: nothing is taken from a queue; nothing is published but, once, a mark into a log
 * that seems to be empty. Cost: one channel for each window; the end of a stream is known some time after its last
 * message has come.
 */
import type { ConsumeMessage } from 'amqplib';
import {
  type LogEdge,
  type LogEdges,
  type LogEntry,
  type LogRange,
  type MessageLog,
  RivuletError,
  type Scheduler,
} from 'rivulet/adapter';
import { isMissing, toRivulet } from './errors.ts';
import type { History } from './history.ts';
import type { Link } from './link.ts';
import { offsetOf, type StreamOffset } from './log-reader.ts';
import { decode, storedAtOf, wireHeaders } from './message-codec.ts';
import { redriveQueueOf, streamOf } from './names.ts';
import type { Topology } from './topology.ts';

/** Messages on their way to one reader. */
const PREFETCH = 100;
/** A stream that sends nothing for this long, of what is known to be in it, has failed. */
const SILENT_MS = 5000;
/** A stream that sends nothing for this long has nothing that is as new as was asked for. */
const QUIET_MS = 500;
/** Offsets beyond the wanted number that a first window has: marks are among them. */
const SPARE = 8;

export class StoredMessages implements MessageLog {
  readonly #link: Link;
  readonly #history: History;
  readonly #topology: Topology;
  readonly #scheduler: Scheduler;

  constructor(link: Link, history: History, topology: Topology, scheduler: Scheduler) {
    this.#link = link;
    this.#history = history;
    this.#topology = topology;
    this.#scheduler = scheduler;
  }

  async edges(topic: string): Promise<LogEdges | null> {
    const edges = await this.#edges(topic);
    if (edges === null) return null;
    if (edges.first === null || edges.last === null) return { length: 0, first: null, last: null };
    const length = await this.#history.length(topic);
    const [first] = await this.#up(topic, edges.first.place, edges.last.place, 1);
    return { length, first: edgeOf(first), last: edges.last };
  }

  async read(topic: string, { from, to, newest, limit }: LogRange): Promise<LogEntry[]> {
    const edges = await this.#edges(topic);
    if (edges?.first == null || edges.last === null) return [];
    const low = Math.max(from ?? 0, edges.first.place);
    const high = Math.min(to ?? edges.last.place, edges.last.place);
    if (!newest) return this.#up(topic, low, high, limit);
    const found: LogEntry[] = [];
    let size = limit + SPARE;
    for (let end = high; end >= low && found.length < limit; size *= 2) {
      const start = Math.max(low, end - size + 1);
      found.push(...(await this.#up(topic, start, end, Number.POSITIVE_INFINITY)).reverse());
      end = start - 1;
    }
    return found.slice(0, limit);
  }

  async placeAt(topic: string, ms: number): Promise<number> {
    const edges = await this.#edges(topic);
    if (edges?.first == null || edges.last === null) return 0;
    const high = edges.last.place;
    // A stream finds whole seconds, and the clocks of publishers differ a little.
    const start = { '!': 'timestamp', value: Math.max(0, Math.floor(ms / 1000) - 1) } as const;
    let found = high + 1;
    if (edges.last.at !== null && edges.last.at < ms) return found;
    const take = (entry: LogEntry | null) => {
      if (entry === null || (entry.at ?? 0) < ms) return true;
      found = entry.place;
      return false;
    };
    await this.#consume(topic, start, high, take, true);
    return found;
  }

  /** What `redrive` would take: a redriven letter stays in the log. */
  async waitingLetters(deadTopic: string): Promise<number> {
    return (await this.#topology.depth(redriveQueueOf(deadTopic))) ?? 0;
  }

  async #edges(topic: string): Promise<{ first: LogEdge | null; last: LogEdge | null } | null> {
    try {
      return await this.#link.try(() => this.#history.edges(topic));
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async #up(topic: string, low: number, high: number, limit: number): Promise<LogEntry[]> {
    const found: LogEntry[] = [];
    if (low > high || limit < 1) return found;
    await this.#consume(topic, low, high, (entry) => {
      if (entry !== null && entry.place >= low && entry.place <= high) found.push(entry);
      return found.length < limit;
    });
    return found;
  }

  /**
   * Calls `each` for messages up to an offset, null for a mark, until it returns false. `mayBeQuiet`: what
   * is asked for need not exist, and a stream that sends nothing has ended.
   */
  async #consume(
    topic: string,
    from: StreamOffset,
    high: number,
    each: (entry: LogEntry | null) => boolean,
    mayBeQuiet = false,
  ): Promise<void> {
    const stream = streamOf(topic);
    const open = await this.#link.channel();
    let stopTimer = () => {};
    try {
      await this.#link.try(() => open.channel.prefetch(PREFETCH));
      await new Promise<void>((resolve, reject) => {
        let isDone = false;
        const finish = () => {
          isDone = true;
          resolve();
        };
        const fail = (text: string) =>
          reject(new RivuletError('NOT_CONNECTED', text, { cause: open.failure ?? undefined }));
        const watch = () => {
          stopTimer();
          stopTimer = this.#scheduler.after(mayBeQuiet ? QUIET_MS : SILENT_MS, () => {
            if (mayBeQuiet) finish();
            else fail(`the stream ${stream} sent nothing for ${SILENT_MS} ms`);
          });
        };
        watch();
        open.channel
          .consume(
            stream,
            (message) => {
              if (isDone) return;
              if (message === null) return fail(`the stream ${stream} was deleted`);
              watch();
              const entry = entryOf(message);
              const wants = offsetOf(message) <= high && each(entry);
              if (!wants || offsetOf(message) >= high) return finish();
              if (open.open) open.channel.ack(message);
            },
            { arguments: { 'x-stream-offset': from } },
          )
          .catch((error) => reject(toRivulet(error)));
        void open.ended.then(() => fail(`the channel that read the stream ${stream} was closed`));
      });
    } finally {
      stopTimer();
      await open.close();
    }
  }
}

/** Null: a mark. */
function entryOf(content: ConsumeMessage): LogEntry | null {
  const wire = decode(content);
  if (wire.headers[wireHeaders.mark] !== undefined) return null;
  return {
    place: offsetOf(content),
    at: storedAtOf(wire) || null,
    id: wire.id,
    message: wire.message,
  };
}

function edgeOf({ place, at }: LogEdge): LogEdge {
  return { place, at };
}

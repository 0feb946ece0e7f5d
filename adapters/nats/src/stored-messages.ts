/**
 * Reads the messages of a topic from its stream by sequence, without a consumer.
 *
 * A place is a sequence. Sequences may be missing in a stream, and in a stream of another program those of
 * other subjects are passed over. Reading goes in windows of 32 requests at a time; where a window holds
 * nothing, the server is asked for the next message that exists, so a gap of any length costs few requests.
 * Invariant: no consumer is made, so streams with the retention `workqueue` or `interest` stay as they are.
 * Cost: one request for each message.
 */
import type { MsgRequest, StoredMsg, StreamInfo } from '@nats-io/jetstream';
import {
  type LogEdge,
  type LogEdges,
  type LogEntry,
  type LogRange,
  type MessageLog,
  type RawMessage,
  RivuletError,
} from 'rivulet/adapter';
import { numberOf } from './errors.ts';
import type { Link } from './link.ts';
import type { MessageCodec } from './message-codec.ts';
import { streamOf } from './names.ts';
import type { MessageStore } from './publish/message-store.ts';

const NO_MESSAGE = 10_037;
const NO_STREAM = 10_059;
const WINDOW = 32;

interface Place {
  readonly stream: string;
  readonly info: StreamInfo;
  /** Messages of other subjects are in it too. */
  readonly isShared: boolean;
}

export class StoredMessages implements MessageLog {
  readonly #link: Link;
  readonly #codec: MessageCodec;
  readonly #store: MessageStore;

  constructor(link: Link, codec: MessageCodec, store: MessageStore) {
    this.#link = link;
    this.#codec = codec;
    this.#store = store;
  }

  async edges(topic: string): Promise<LogEdges | null> {
    return this.#link.try(async () => {
      const place = await this.#find(topic);
      return place === null ? null : this.#edgesOf(topic, place);
    });
  }

  async read(topic: string, { from, to, newest, limit }: LogRange): Promise<LogEntry[]> {
    return this.#link.try(async () => {
      const place = await this.#find(topic);
      if (place === null) return [];
      const { first_seq, last_seq } = place.info.state;
      const low = Math.max(from ?? 1, first_seq, 1);
      const high = Math.min(to ?? last_seq, last_seq);
      const found = newest
        ? await this.#down(topic, place, low, high, limit)
        : await this.#up(topic, place, low, high, limit);
      return found.map((each) => ({
        place: each.seq,
        at: timeOf(each),
        message: this.#codec.decode(each.data, each.header),
      }));
    });
  }

  async placeAt(topic: string, ms: number): Promise<number> {
    return this.#link.try(async () => {
      const place = await this.#find(topic);
      if (place === null) return 1;
      let { first_seq: low, last_seq: high } = place.info.state;
      high++;
      while (low < high) {
        const middle = Math.floor((low + high) / 2);
        const found = await this.#next(place.stream, topic, middle);
        if (found === null || (timeOf(found) ?? 0) >= ms) high = middle;
        else low = found.seq + 1;
      }
      return low;
    });
  }

  async remove(topic: string, place: number): Promise<boolean> {
    return this.#link.try(async () => {
      const found = await this.#find(topic);
      if (found === null) return false;
      const message = await this.#one(found.stream, topic, place);
      if (message === null) return false;
      return this.#delete(found.stream, place);
    });
  }

  async move(
    from: string,
    place: number,
    to: string,
    message: RawMessage,
    variant: string,
  ): Promise<string> {
    return this.#link.try(async () => {
      const found = await this.#find(from);
      if (found === null) throw new RivuletError('NOT_FOUND', `there is no topic ${from}`);
      const { stream, info } = found;
      // As `redrive` names it: of two that move one message at the same time, one copy is stored.
      const id = `redrive:${stream}:${info.created}:${place}${variant}`;
      const receipt = await this.#store.add(to, message, id);
      await this.#delete(stream, place);
      return receipt.id;
    });
  }

  async #delete(stream: string, sequence: number): Promise<boolean> {
    try {
      return await this.#link.jsm.streams.deleteMessage(stream, sequence, false);
    } catch (error) {
      if (isMissing(error)) return false;
      // Deleted meanwhile: the server has no error number for it.
      if ((await this.#exact(stream, sequence)) === null) return false;
      throw error;
    }
  }

  /** Null: no stream holds the topic. */
  async #find(topic: string): Promise<Place | null> {
    const { streams } = this.#link.jsm;
    try {
      const stream = streamOf(topic);
      return { stream, info: await streams.info(stream), isShared: false };
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) throw error;
    }
    const stream = await streams.find(topic).catch(() => null);
    if (stream === null) return null;
    return { stream, info: await streams.info(stream), isShared: true };
  }

  async #edgesOf(topic: string, { stream, info, isShared }: Place): Promise<LogEdges> {
    const { state } = info;
    if (!isShared) {
      if (state.messages === 0) return { length: 0, first: null, last: null };
      return {
        length: state.messages,
        first: { place: state.first_seq, at: millis(state.first_ts) },
        last: { place: state.last_seq, at: millis(state.last_ts) },
      };
    }
    const options = { subjects_filter: topic };
    const { subjects = {} } = (await this.#link.jsm.streams.info(stream, options)).state;
    const first = await this.#next(stream, topic, 1);
    const last = await this.#get(stream, { last_by_subj: topic });
    return { length: subjects[topic] ?? 0, first: edgeOf(first), last: edgeOf(last) };
  }

  async #up(topic: string, { stream }: Place, low: number, high: number, limit: number) {
    const found: StoredMsg[] = [];
    for (let at = low; at <= high && found.length < limit; ) {
      const size = Math.min(WINDOW, limit - found.length, high - at + 1);
      const some = await this.#window(stream, topic, at, size);
      found.push(...some);
      at += size;
      if (some.length > 0) continue;
      const next = await this.#next(stream, topic, at);
      if (next === null) break;
      at = next.seq;
    }
    return found;
  }

  async #down(topic: string, place: Place, low: number, high: number, limit: number) {
    const { stream } = place;
    const found: StoredMsg[] = [];
    for (let at = high; at >= low && found.length < limit; ) {
      const size = Math.min(WINDOW, limit - found.length, at - low + 1);
      const some = await this.#window(stream, topic, at - size + 1, size);
      found.push(...some.reverse());
      at -= size;
      if (some.length === 0) at = await this.#lastUpTo(stream, topic, low, at);
    }
    return found;
  }

  /** The highest sequence of the topic in a range; below the range if it has none. By bisection. */
  async #lastUpTo(stream: string, topic: string, low: number, high: number): Promise<number> {
    let last = low - 1;
    let [from, to] = [low, high];
    while (from <= to) {
      const middle = Math.floor((from + to) / 2);
      const found = await this.#next(stream, topic, middle);
      if (found === null || found.seq > high) {
        to = middle - 1;
      } else {
        last = Math.max(last, found.seq);
        from = found.seq + 1;
      }
    }
    return last;
  }

  async #window(stream: string, topic: string, from: number, size: number): Promise<StoredMsg[]> {
    const asked = Array.from({ length: size }, (_, index) =>
      this.#one(stream, topic, from + index),
    );
    return (await Promise.all(asked)).filter((each) => each !== null);
  }

  /** Null: there is no message of the topic at this sequence. */
  async #one(stream: string, topic: string, sequence: number): Promise<StoredMsg | null> {
    const found = await this.#exact(stream, sequence);
    return found?.subject === topic ? found : null;
  }

  #exact(stream: string, sequence: number): Promise<StoredMsg | null> {
    return this.#get(stream, { seq: sequence });
  }

  /** The first message of the topic from a sequence on. */
  #next(stream: string, topic: string, sequence: number): Promise<StoredMsg | null> {
    return this.#get(stream, { seq: sequence, next_by_subj: topic } as MsgRequest);
  }

  async #get(stream: string, query: MsgRequest): Promise<StoredMsg | null> {
    try {
      return await this.#link.jsm.streams.getMessage(stream, query);
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }
}

function isMissing(error: unknown): boolean {
  const number = numberOf(error);
  return number === NO_MESSAGE || number === NO_STREAM;
}

function edgeOf(message: StoredMsg | null): LogEdge | null {
  return message === null ? null : { place: message.seq, at: timeOf(message) };
}

function timeOf({ time }: StoredMsg): number | null {
  const ms = time.getTime();
  return Number.isNaN(ms) ? null : ms;
}

function millis(text: string): number | null {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? null : ms;
}

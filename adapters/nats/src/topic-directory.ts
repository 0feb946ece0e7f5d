/**
 * The topics on the server: which there are, and their lengths and groups.
 *
 * Holds: the topics whose stream's name is too long to contain the topic, by the stream.
 * Cost: one request per page of stream names; for `describe` two requests per topic.
 */
import { type BrokerEvents, type Events, RivuletError, type TopicInfo } from 'rivulet/adapter';
import { numberOf, toRivulet } from './errors.ts';
import type { Link } from './link.ts';
import { streamOf, TOPIC_STREAM, topicOf } from './names.ts';

/** Streams that are asked about at the same time. */
const STREAMS_AT_ONCE = 16;
const NO_STREAM = 10_059;

export class TopicDirectory {
  readonly #link: Link;
  readonly #events: Events<BrokerEvents>;
  readonly #longNamed = new Map<string, string>();

  constructor(link: Link, events: Events<BrokerEvents>) {
    this.#link = link;
    this.#events = events;
  }

  async *all(): AsyncIterable<TopicInfo> {
    const streams = await this.#topicStreams();
    for (let at = 0; at < streams.length; at += STREAMS_AT_ONCE) {
      const some = streams.slice(at, at + STREAMS_AT_ONCE).map((each) => this.#describe(each));
      for (const each of await Promise.all(some)) if (each !== null) yield each;
    }
  }

  /** Null if the stream is gone, or if its node does not answer, which is reported. */
  async #describe(stream: string): Promise<TopicInfo | null> {
    const { jsm } = this.#link;
    try {
      const { config, state } = await jsm.streams.info(stream);
      const groups: TopicInfo['groups'][number][] = [];
      for await (const info of jsm.consumers.list(stream)) {
        const { description: name = info.name } = info.config;
        groups.push({
          name,
          pending: info.num_ack_pending,
          lag: info.num_pending,
          delivered: info.delivered.stream_seq,
          settled: info.ack_floor.stream_seq,
          redelivered: info.num_redelivered,
        });
      }
      const topic = config.subjects[0] as string;
      const { messages: length, last_seq: added, bytes } = state;
      return { topic, length, added, bytes, groups };
    } catch (error) {
      if (numberOf(error) === NO_STREAM) return null;
      const { code, message } = toRivulet(error);
      const text = `topics() leaves out the stream ${stream}: ${message}`;
      this.#events.emit('warning', { error: new RivuletError(code, text, { cause: error }) });
      return null;
    }
  }

  /** The names of the topics that may match a pattern. */
  async matching(pattern: string): Promise<string[]> {
    const streams = await this.#topicStreams(pattern);
    const topics = await Promise.all(streams.map((each) => topicOf(each) ?? this.#subjectOf(each)));
    return topics.filter((topic) => topic !== null);
  }

  /**
   * The names of the topics' streams. A list with their states makes a cluster ask all its nodes, which
   * takes seconds if one does not answer.
   */
  #topicStreams(pattern?: string): Promise<string[]> {
    return this.#link.try(async () => {
      const found: string[] = [];
      for await (const name of this.#link.jsm.streams.names(pattern)) {
        if (name.startsWith(TOPIC_STREAM)) found.push(name);
      }
      return found;
    });
  }

  /** Null if the stream is gone, is another program's, or its node does not answer. */
  async #subjectOf(stream: string): Promise<string | null> {
    const known = this.#longNamed.get(stream);
    if (known !== undefined) return known;
    try {
      const { config } = await this.#link.jsm.streams.info(stream);
      const [topic] = config.subjects ?? [];
      if (topic === undefined || streamOf(topic) !== stream) return null;
      this.#longNamed.set(stream, topic);
      return topic;
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) this.#events.emit('warning', { error: toRivulet(error) });
      return null;
    }
  }
}

/**
 * Streams: made when they are first needed, found again when somebody has removed them.
 *
 * Invariant: what is known here is a cache; a call that finds it wrong forgets and tries again. A
 * topic that an existing stream of the user's captures stays there: that stream is used.
 */
import type { StreamConfig, StreamInfo } from '@nats-io/jetstream';
import { type BrokerOptions, RivuletError } from 'rivulet';
import { numberOf, toRivulet } from './failures.ts';
import type { Link } from './link.ts';
import {
  ATTEMPT_STREAM,
  ATTEMPT_SUBJECTS,
  LEAD_STREAM,
  LEAD_SUBJECTS,
  SCHEDULE_STREAM,
  SCHEDULE_SUBJECTS,
  streamOf,
} from './names.ts';

const NANOS = 1_000_000;
/** How long, and how many, records of attempts are kept: as long as retries may take. */
const RECORDS_KEPT_MS = 7 * 24 * 3_600_000;
const MOST_RECORDS = 1_000_000;

const OVERLAP = 10_065;
const NAME_IN_USE = 10_058;
const NO_STREAM = 10_059;

/** What is known of a stream that holds a topic. */
export interface StreamFacts {
  readonly name: string;
  /** Names this very stream, and no other that has or will have its name. */
  readonly origin: string;
  /** For how long it remembers the ids of messages. */
  readonly windowMs: number;
}

export class Streams {
  readonly #link: Link;
  readonly #options: BrokerOptions;
  #known = new Map<string, Promise<StreamFacts>>();
  /** What is known of the streams of topics, without waiting. */
  readonly #there = new Map<string, StreamFacts>();

  constructor(link: Link, options: BrokerOptions) {
    this.#link = link;
    this.#options = options;
  }

  get replicas(): number {
    const wanted = this.#options.client?.replicas;
    if (typeof wanted === 'number') return wanted;
    return this.#link.clustered ? 3 : 1;
  }

  forget(): void {
    this.#known = new Map();
    this.#there.clear();
  }

  /** The stream of a topic where it is known already; without waiting. */
  known(topic: string): StreamFacts | null {
    return this.#there.get(topic) ?? null;
  }

  /** The stream that holds the topic; made where there is none. */
  async topic(topic: string): Promise<StreamFacts> {
    const known = this.#known;
    const facts = await this.#ensure(streamOf(topic), [topic], { description: topic });
    if (known === this.#known) this.#there.set(topic, facts);
    return facts;
  }

  /** Whether some stream holds the topic now: asked, not remembered. */
  async holds(topic: string): Promise<boolean> {
    const { streams } = this.#link.jsm;
    try {
      await streams.info(streamOf(topic));
      return true;
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) throw toRivulet(error);
    }
    for await (const _ of streams.names(topic)) return true;
    return false;
  }

  async schedule(): Promise<string> {
    const more = { retention: 'workqueue' } as const;
    return (await this.#ensure(SCHEDULE_STREAM, [SCHEDULE_SUBJECTS], more)).name;
  }

  async leads(): Promise<string> {
    const more = { max_msgs_per_subject: 1 };
    return (await this.#ensure(LEAD_STREAM, [LEAD_SUBJECTS], more)).name;
  }

  async attempts(): Promise<string> {
    const more = {
      max_msgs_per_subject: 1,
      max_msgs: MOST_RECORDS,
      max_age: RECORDS_KEPT_MS * NANOS,
    };
    return (await this.#ensure(ATTEMPT_STREAM, [ATTEMPT_SUBJECTS], more)).name;
  }

  #ensure(name: string, subjects: string[], more: Partial<StreamConfig>): Promise<StreamFacts> {
    let known = this.#known.get(name);
    if (known === undefined) {
      const mine = this.#known;
      known = this.#make(name, subjects, more).catch((error) => {
        mine.delete(name);
        throw toRivulet(error);
      });
      mine.set(name, known);
    }
    return known;
  }

  async #make(name: string, subjects: string[], more: Partial<StreamConfig>): Promise<StreamFacts> {
    const { jsm } = this.#link;
    try {
      return await this.#withWindow(await jsm.streams.info(name));
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) throw error;
    }
    try {
      const made = await jsm.streams.add({
        name,
        subjects,
        num_replicas: this.replicas,
        duplicate_window: this.#windowNanos,
        storage: 'file',
        ...more,
      });
      return factsOf(made);
    } catch (error) {
      if (numberOf(error) === NAME_IN_USE) return this.#withWindow(await jsm.streams.info(name));
      if (numberOf(error) !== OVERLAP) throw error;
    }
    const found = await jsm.streams.find(subjects[0] as string).catch(() => null);
    if (found !== null) return factsOf(await jsm.streams.info(found));
    const text = `topic ${subjects[0]} overlaps with the subjects of a stream that does not hold it`;
    throw new RivuletError('TOPIC_ILLEGAL', text);
  }

  /** A stream of ours that another client has made keeps the longest window that a client claims. */
  async #withWindow(info: StreamInfo): Promise<StreamFacts> {
    if (info.config.duplicate_window >= this.#windowNanos) return factsOf(info);
    const changed = { duplicate_window: this.#windowNanos };
    return factsOf(await this.#link.jsm.streams.update(info.config.name, changed));
  }

  get #windowNanos(): number {
    return Math.ceil(this.#options.idWindowMs) * NANOS;
  }
}

function factsOf({ config, created }: StreamInfo): StreamFacts {
  return {
    name: config.name,
    origin: `${config.name}:${created}`,
    windowMs: config.duplicate_window / NANOS,
  };
}

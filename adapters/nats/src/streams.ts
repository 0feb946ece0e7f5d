/**
 * The streams of JetStream that this adapter uses; each is made when it is first needed.
 *
 * Invariants: everything here is a cache; a call that finds it wrong calls `forget` and tries again. If
 * another program's stream already captures a topic's subject, that stream is used.
 * Cost: one request for a stream's first use after `forget`.
 */
import type { StreamConfig, StreamInfo } from '@nats-io/jetstream';
import { type BrokerOptions, pause, RivuletError } from 'rivulet/adapter';
import { numberOf, toRivulet } from './errors.ts';
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
/**
 * NATS 2.9 removes the directory of a deleted stream after it has confirmed the deletion. A stream of
 * the same name that is made before that loses its files: it stores messages and delivers none.
 */
const DELETED_MS = 1000;
/** The most names of streams in memory. */
const MAX_SEEN = 100_000;
/** How long records of attempts are kept, which must exceed the delays of retries, and how many. */
const RECORDS_KEPT_MS = 7 * 24 * 3_600_000;
const MAX_RECORDS = 1_000_000;

const OVERLAP = 10_065;
const NAME_IN_USE = 10_058;
const NO_STREAM = 10_059;

/** A stream that holds a topic. */
export interface StreamFacts {
  readonly name: string;
  /** Identifies this stream among all that have had or will have its name. */
  readonly origin: string;
  /** How long it deduplicates by message id. */
  readonly windowMs: number;
}

export class Streams {
  readonly #link: Link;
  readonly #options: BrokerOptions;
  #known = new Map<string, Promise<StreamFacts>>();
  /** The streams of topics whose request has finished. */
  readonly #ready = new Map<string, StreamFacts>();

  /** Names of streams that existed. If one is missing, it was deleted, perhaps a moment ago. */
  readonly #seen = new Set<string>();

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
    this.#ready.clear();
  }

  /** The stream of a topic, or null if it has to be asked for. */
  known(topic: string): StreamFacts | null {
    return this.#ready.get(topic) ?? null;
  }

  /** The stream that holds the topic. It is made if there is none. */
  async topic(topic: string): Promise<StreamFacts> {
    const known = this.#known;
    const facts = await this.#ensure(streamOf(topic), [topic], { description: topic });
    if (known === this.#known) this.#ready.set(topic, facts);
    return facts;
  }

  /** Asks the server whether a stream holds the topic now. */
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
      max_msgs: MAX_RECORDS,
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
      const info = await jsm.streams.info(name);
      this.#remember(name);
      return await this.#withWindow(info);
    } catch (error) {
      if (numberOf(error) !== NO_STREAM) throw error;
    }
    if (this.#seen.delete(name)) await pause(this.#options.scheduler, DELETED_MS);
    try {
      const made = await jsm.streams.add({
        name,
        subjects,
        num_replicas: this.replicas,
        duplicate_window: this.#windowNanos,
        storage: 'file',
        ...more,
      });
      this.#remember(name);
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

  #remember(name: string): void {
    if (this.#seen.size >= MAX_SEEN) this.#seen.clear();
    this.#seen.add(name);
  }

  /** A stream that another client made gets the longest deduplication window that any client claims. */
  async #withWindow(info: StreamInfo): Promise<StreamFacts> {
    if (info.config.duplicate_window >= this.#windowNanos) return factsOf(info);
    const changed = { duplicate_window: this.#windowNanos };
    return factsOf(await this.#link.jsm.streams.update(info.config.name, changed));
  }

  get #windowNanos(): number {
    return Math.ceil(this.#options.dedupWindowMs) * NANOS;
  }
}

/** Identifies a stream among all that have had or will have its name. */
export function originOf(name: string, created: string): string {
  return `${name}:${created}`;
}

function factsOf({ config, created }: StreamInfo): StreamFacts {
  return {
    name: config.name,
    origin: originOf(config.name, created),
    windowMs: config.duplicate_window / NANOS,
  };
}

/**
 * Streams: made when they are first needed, found again when somebody has removed them.
 *
 * Invariant: what is known here is a cache; a call that finds it wrong forgets and tries again. A
 * topic that an existing stream of the user's captures stays there: that stream is used.
 */
import type { StreamConfig } from '@nats-io/jetstream';
import { type BrokerOptions, RivuletError } from 'rivulet';
import { numberOf, toRivulet } from './failures.ts';
import type { Link } from './link.ts';
import {
  LEAD_STREAM,
  LEAD_SUBJECTS,
  SCHEDULE_STREAM,
  SCHEDULE_SUBJECT,
  streamOf,
} from './names.ts';

const NANOS = 1_000_000;

const OVERLAP = 10_065;
const NAME_IN_USE = 10_058;

export class Streams {
  readonly #link: Link;
  readonly #options: BrokerOptions;
  #known = new Map<string, Promise<string>>();
  /** Topics whose streams are known. */
  readonly #there = new Set<string>();

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

  /** Whether the stream of a topic is known; without waiting. */
  has(topic: string): boolean {
    return this.#there.has(topic);
  }

  /** The name of the stream that holds the topic. */
  async topic(topic: string): Promise<string> {
    const stream = await this.#ensure(streamOf(topic), [topic], { description: topic });
    this.#there.add(topic);
    return stream;
  }

  schedule(): Promise<string> {
    return this.#ensure(SCHEDULE_STREAM, [SCHEDULE_SUBJECT], { retention: 'workqueue' });
  }

  leads(): Promise<string> {
    return this.#ensure(LEAD_STREAM, [LEAD_SUBJECTS], { max_msgs_per_subject: 1 });
  }

  #ensure(name: string, subjects: string[], more: Partial<StreamConfig>): Promise<string> {
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

  async #make(name: string, subjects: string[], more: Partial<StreamConfig>): Promise<string> {
    const { jsm } = this.#link;
    try {
      await jsm.streams.info(name);
      return name;
    } catch (error) {
      if (numberOf(error) !== 10_059) throw error;
    }
    try {
      await jsm.streams.add({
        name,
        subjects,
        num_replicas: this.replicas,
        duplicate_window: this.#options.idWindowMs * NANOS,
        storage: 'file',
        ...more,
      });
      return name;
    } catch (error) {
      if (numberOf(error) === NAME_IN_USE) return name;
      if (numberOf(error) !== OVERLAP) throw error;
    }
    const found = await jsm.streams.find(subjects[0] as string).catch(() => null);
    if (found !== null) return found;
    const text = `topic ${subjects[0]} overlaps with the subjects of a stream that does not hold it`;
    throw new RivuletError('TOPIC_ILLEGAL', text);
  }
}

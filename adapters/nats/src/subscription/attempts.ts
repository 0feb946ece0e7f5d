/**
 * Records of hand-overs, because JetStream counts deliveries.
 *
 * A message that was fetched ahead of its handler, retried in place, or delivered by an ordered group's
 * consumer that was made again, has another number of hand-overs. So hand-overs are recorded: one message
 * on a subject for each, in a stream that keeps the last message of each subject for a week. A delivery
 * without a record was no hand-over. Invariant: a record names its topic's stream, so records of a
 * deleted stream do not count.
 * Cost: one message stored for each of a subscription's first hand-overs, then at most one in 50 ms; one
 * for each message that is given back, and one read for each that another process has given back. After a
 * recorded message is acknowledged its record is removed; in an ordered group it is set to 0 before.
 */
import type { StoredMsg } from '@nats-io/jetstream';
import type { Scheduler } from 'rivulet/adapter';
import { numberOf } from '../errors.ts';
import type { Link } from '../link.ts';
import { attemptSubject, attemptSubjects } from '../names.ts';
import { Publisher } from '../publish/publisher.ts';
import type { Streams } from '../streams.ts';

const NO_MESSAGE = 10_037;
/** The last message of the subject is another one than the writer expects. */
const WRONG_LAST = new Set([10_071, 10_164]);
const MOST_TRIES = 5;

export interface HandOverRecord {
  /** Hand-overs to handlers so far. */
  readonly count: number;
  /** The server's count of deliveries when the record was written. */
  readonly deliveries: number;
  /** The message was given back; otherwise a handler had it. */
  readonly isBack: boolean;
}

/** A message in a group. */
export interface Place {
  readonly topic: string;
  readonly group: string;
  readonly sequence: number;
  /** Identifies the stream that the sequence belongs to. */
  readonly origin: string;
}

export class Attempts {
  readonly #link: Link;
  readonly #streams: Streams;
  readonly #publisher: Publisher;
  /** A record has been stored on this connection, so the stream exists. */
  #exists = false;
  /** The last record of each subject that the server has not answered yet. */
  readonly #underWay = new Map<string, Promise<unknown>>();

  constructor(link: Link, streams: Streams, scheduler: Scheduler) {
    this.#link = link;
    this.#streams = streams;
    this.#publisher = new Publisher(link, scheduler, link.outgoing);
  }

  close(): void {
    this.#publisher.close();
  }

  /** Resolves to the record's sequence once it is stored. */
  write(place: Place, record: HandOverRecord): Promise<number> {
    return this.#followed(place, this.#store(place, record));
  }

  /** As `write`, for a hand-over in this turn: when it returns, the record has been written to the socket. */
  writeNow(place: Place, record: HandOverRecord): Promise<number> {
    const stored = this.#send(place, record).catch(() => {
      // The stream may have been deleted.
      this.#streams.forget();
      return this.#storeLate(place, record);
    });
    const followed = this.#followed(place, stored);
    if (this.#link.connected) this.#link.outgoing.sendNow();
    return followed;
  }

  /** As `write`, for a hand-over that could not be recorded when it happened: a newer record stays. */
  writeLate(place: Place, record: HandOverRecord): Promise<number> {
    return this.#followed(place, this.#storeLate(place, record));
  }

  /**
   * As `write`, before a reply, which goes out on the same connection. A single server handles both in order, so
   * there it does not wait. If the record cannot be stored, the server's own count decides.
   */
  async writeBeforeReply(place: Place, record: HandOverRecord): Promise<void> {
    if (this.#exists && !this.#link.clustered) {
      this.#link.outgoing.publish(attemptSubject(place), text(place, record));
      return;
    }
    await this.write(place, record).catch(() => {});
  }

  /** Removes the record of a message that was acknowledged. Does not wait until it is removed. */
  async remove(sequence: number): Promise<void> {
    const stream = await this.#streams.attempts();
    const request = JSON.stringify({ seq: sequence, no_erase: true });
    this.#link.nc.publish(`$JS.API.STREAM.MSG.DELETE.${stream}`, request);
  }

  /**
   * Writes that the hand-overs of a message count no more, which is acknowledged next: when it returns, the record
   * is on the socket before the acknowledgement. Resolves to the record's sequence.
   */
  clear(place: Place, deliveries: number): Promise<number> {
    return this.#followed(place, this.#send(place, { count: 0, deliveries, isBack: true }));
  }

  /** The group begins again: what handlers had before counts no more. */
  async forget(topic: string, group: string): Promise<void> {
    const stream = await this.#streams.attempts();
    await this.#link.jsm.streams.purge(stream, { filter: attemptSubjects(topic, group) });
  }

  /**
   * null if there is no record. Waits for what this process writes: a message that it has just acknowledged may
   * have been delivered again before that, and in a cluster a read overtakes a write.
   */
  async read(place: Place): Promise<HandOverRecord | null> {
    await this.#underWay.get(attemptSubject(place))?.catch(() => {});
    const stored = await this.#last(place);
    return stored === null ? null : recordIn(stored.string(), place.origin);
  }

  async #last(place: Place): Promise<StoredMsg | null> {
    const stream = await this.#streams.attempts();
    const { streams } = this.#link.jsm;
    return streams.getMessage(stream, { last_by_subj: attemptSubject(place) }).catch((error) => {
      if (numberOf(error) === NO_MESSAGE) return null;
      throw error;
    });
  }

  async #store(place: Place, record: HandOverRecord): Promise<number> {
    await this.#streams.attempts();
    return this.#send(place, record);
  }

  async #send(place: Place, record: HandOverRecord): Promise<number> {
    const { id } = await this.#publisher.send(attemptSubject(place), text(place, record));
    this.#exists = true;
    return Number(id);
  }

  /** Meanwhile this process or another one may have stored a newer record, which must stay. */
  async #storeLate(place: Place, record: HandOverRecord): Promise<number> {
    for (let tries = 1; ; tries++) {
      const last = await this.#last(place);
      const known = last === null ? null : recordIn(last.string(), place.origin);
      if (last !== null && known !== null && !isOlder(known, record)) return last.seq;
      try {
        const expect = { lastSubjectSequence: last?.seq ?? 0 };
        const { js } = this.#link;
        const { seq } = await js.publish(attemptSubject(place), text(place, record), { expect });
        return seq;
      } catch (error) {
        if (tries === MOST_TRIES || !WRONG_LAST.has(numberOf(error))) throw error;
      }
    }
  }

  #followed(place: Place, stored: Promise<number>): Promise<number> {
    const subject = attemptSubject(place);
    this.#underWay.set(subject, stored);
    const end = () => {
      if (this.#underWay.get(subject) === stored) this.#underWay.delete(subject);
    };
    stored.then(end, end);
    return stored;
  }
}

function text({ origin }: Place, { count, deliveries, isBack }: HandOverRecord): string {
  return JSON.stringify([origin, count, deliveries, isBack]);
}

/** Whether a stored record tells of fewer hand-overs than another one of the same message. */
function isOlder(stored: HandOverRecord, other: HandOverRecord): boolean {
  // The hand-overs of a message that was acknowledged count no more.
  const isCleared = stored.count === 0 && stored.deliveries >= other.deliveries;
  return stored.count < other.count && !isCleared;
}

function recordIn(json: string, origin: string): HandOverRecord | null {
  try {
    const [of, count, deliveries, isBack] = JSON.parse(json);
    if (of !== origin || !Number.isSafeInteger(count) || !Number.isSafeInteger(deliveries))
      return null;
    return { count, deliveries, isBack: isBack === true };
  } catch {
    return null;
  }
}

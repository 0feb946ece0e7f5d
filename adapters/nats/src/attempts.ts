/**
 * What of a message's hand-overs the server's own count does not say.
 *
 * JetStream counts deliveries. That is the number of hand-overs too, except where a message was given
 * back before a handler had it, where it is retried in place, and where an ordered group's consumer
 * was made again. Then a record is written: one message on a subject of its own, in a stream that
 * keeps the last of each subject for a week. Invariant: a record belongs to one very stream; of one
 * that was deleted and made again nothing is known.
 * Cost: nothing while messages are acknowledged at their first delivery; one message stored for each
 * that is given back, and one read for each that another process has given back.
 */
import { numberOf } from './failures.ts';
import type { Link } from './link.ts';
import { attemptSubject } from './names.ts';
import type { Streams } from './streams.ts';

const NO_MESSAGE = 10_037;

/** As it was at delivery number `deliveries`. */
export interface HandOverRecord {
  /** Hand-overs to handlers until then. */
  readonly count: number;
  readonly deliveries: number;
  /** It was given back; otherwise it is in a handler's hands, counted. */
  readonly isBack: boolean;
}

export interface Place {
  readonly topic: string;
  readonly group: string;
  readonly sequence: number;
  /** Of the stream that the sequence is in. */
  readonly origin: string;
}

export class Attempts {
  readonly #link: Link;
  readonly #streams: Streams;
  /** The stream of records has taken one. */
  #isThere = false;

  constructor(link: Link, streams: Streams) {
    this.#link = link;
    this.#streams = streams;
  }

  /** Rejects when it could not be stored. */
  async write(place: Place, record: HandOverRecord): Promise<void> {
    await this.#streams.attempts();
    await this.#link.try(() => this.#link.js.publish(attemptSubject(place), text(place, record)));
    this.#isThere = true;
  }

  /**
   * As `write`, for what is said next on this connection: on one server it need not be waited for. A
   * record that cannot be stored is missed no more than the server's own count is wrong.
   */
  async tell(place: Place, record: HandOverRecord): Promise<void> {
    if (this.#isThere && !this.#link.clustered) {
      this.#link.nc.publish(attemptSubject(place), text(place, record));
      return;
    }
    await this.write(place, record).catch(() => {});
  }

  /** Null when there is none. */
  async read(place: Place): Promise<HandOverRecord | null> {
    const stream = await this.#streams.attempts();
    const { streams } = this.#link.jsm;
    const stored = await streams
      .getMessage(stream, { last_by_subj: attemptSubject(place) })
      .catch((error) => {
        if (numberOf(error) === NO_MESSAGE) return null;
        throw error;
      });
    return stored === null ? null : recordIn(stored.string(), place.origin);
  }
}

function text({ origin }: Place, { count, deliveries, isBack }: HandOverRecord): string {
  return JSON.stringify([origin, count, deliveries, isBack]);
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

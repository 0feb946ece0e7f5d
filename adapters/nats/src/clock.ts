/**
 * The server's clock, as this client can measure it.
 *
 * The server stamps each message that it stores. A sample stores one and reads its time. Between samples
 * the client's monotonic clock counts, so neither a wrong client clock nor a step of it changes when a
 * delayed message is due. Invariant: `now()` is never ahead of the server's clock, and behind it by at
 * most the time that a sample took, so no message is delivered too early.
 * Cost: two requests each minute, only while delayed messages are checked.
 */
import type { Scheduler } from 'rivulet/adapter';
import type { Link } from './link.ts';
import { CLOCK_SUBJECT } from './names.ts';
import type { Streams } from './streams.ts';

const SAMPLE_EVERY_MS = 60_000;

export class ServerClock {
  readonly #link: Link;
  readonly #streams: Streams;
  readonly #scheduler: Scheduler;
  /** What to add to the monotonic clock. */
  #offset = 0;
  #sampledAt = Number.NEGATIVE_INFINITY;
  #sampling: Promise<void> | null = null;

  constructor(link: Link, streams: Streams, scheduler: Scheduler) {
    this.#link = link;
    this.#streams = streams;
    this.#scheduler = scheduler;
  }

  /** Unix time in ms on the server's clock. Rejects if no sample could be taken yet. */
  async now(): Promise<number> {
    if (this.#scheduler.monotonic() - this.#sampledAt > SAMPLE_EVERY_MS) {
      this.#sampling ??= this.#sample().finally(() => {
        this.#sampling = null;
      });
      await this.#sampling.catch((error) => {
        if (this.#sampledAt === Number.NEGATIVE_INFINITY) throw error;
      });
    }
    return this.#scheduler.monotonic() + this.#offset;
  }

  /** After a reconnect: the server may be another one, or have another clock. */
  invalidate(): void {
    if (this.#sampledAt !== Number.NEGATIVE_INFINITY) this.#sampledAt = -SAMPLE_EVERY_MS * 2;
  }

  async #sample(): Promise<void> {
    const stream = await this.#streams.leads();
    const { seq } = await this.#link.js.publish(CLOCK_SUBJECT, '');
    let ended = this.#scheduler.monotonic();
    const { streams } = this.#link.jsm;
    let stored = await streams.getMessage(stream, { seq }).catch(() => null);
    if (stored === null) {
      // Another client has taken a sample meanwhile: its message has replaced this one.
      stored = await streams.getMessage(stream, { last_by_subj: CLOCK_SUBJECT });
      ended = this.#scheduler.monotonic();
    }
    if (stored === null) throw new Error('the stream of leases has no message of the clock');
    this.#offset = stored.time.getTime() - ended;
    this.#sampledAt = ended;
  }
}

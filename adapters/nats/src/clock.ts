/**
 * The server's clock, as this client can know it.
 *
 * A message that the server stores gets the server's time. Between two such samples time is measured
 * by the client's monotonic clock, so neither a client's wrong clock nor a step of it changes when a
 * delayed message is due. Invariant: `now()` is never ahead of the server's clock and behind it by at
 * most the time that a sample took, so no message comes too early.
 * Cost: two exchanges each `SAMPLE_EVERY_MS`, only while delayed messages are looked at.
 */
import type { Scheduler } from 'rivulet';
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

  /** Unix time in milliseconds, by the server. Rejects while the server cannot be asked at all. */
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

  /** Another server may answer now, or the same one with another clock. */
  doubt(): void {
    if (this.#sampledAt !== Number.NEGATIVE_INFINITY) this.#sampledAt = -SAMPLE_EVERY_MS * 2;
  }

  async #sample(): Promise<void> {
    const stream = await this.#streams.leads();
    const { seq } = await this.#link.js.publish(CLOCK_SUBJECT, '');
    let ended = this.#scheduler.monotonic();
    const { streams } = this.#link.jsm;
    let stored = await streams.getMessage(stream, { seq }).catch(() => null);
    if (stored === null) {
      // Another client has asked meanwhile: its message has replaced ours.
      stored = await streams.getMessage(stream, { last_by_subj: CLOCK_SUBJECT });
      ended = this.#scheduler.monotonic();
    }
    if (stored === null) throw new Error('the stream of leads has lost its clock');
    this.#offset = stored.time.getTime() - ended;
    this.#sampledAt = ended;
  }
}

/**
 * Who alone consumes an ordered group: one holder at a time, found by all through one subject.
 *
 * The last message on the subject names the holder; it is replaced only by who knows its number, so
 * two cannot both succeed. A holder writes anew every third of `LEAD_MS`; whoever sees the same
 * number for `LEAD_MS` by its own clock takes over. Clocks are never compared. A holder that could not
 * write for `LEAD_MS` has lost the lead, and knows it before anybody else has it.
 */
import { pause, type Scheduler } from 'rivulet';
import { numberOf } from './failures.ts';
import type { Link } from './link.ts';
import { LEAD_STREAM } from './names.ts';
import type { Streams } from './streams.ts';

const LEAD_MS = 4000;
/** Earlier by this much a holder stops to believe in its lead. */
const MARGIN_MS = 500;
const ASK_EVERY_MS = 200;
const NO_MESSAGE = 10_037;
const WRONG_LAST = new Set([10_071, 10_164]);

export class Lead {
  readonly #link: Link;
  readonly #streams: Streams;
  readonly #scheduler: Scheduler;
  readonly #subject: string;
  readonly #name: string;
  #sequence = 0;
  #seenAt = 0;
  #writtenAt: number | null = null;
  /** The holder before this one has not given the lead up: it may have died with work in its hands. */
  fromDead = false;

  constructor(link: Link, streams: Streams, scheduler: Scheduler, subject: string, name: string) {
    this.#link = link;
    this.#streams = streams;
    this.#scheduler = scheduler;
    this.#subject = subject;
    this.#name = name;
  }

  get held(): boolean {
    if (this.#writtenAt === null) return false;
    return this.#scheduler.monotonic() - this.#writtenAt < LEAD_MS - MARGIN_MS;
  }

  /** Resolves once the lead is ours. Rejects when the signal aborts. */
  async take(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (await this.#tryToTake().catch(() => false)) return;
      await pause(this.#scheduler, ASK_EVERY_MS, signal);
    }
    throw signal.reason;
  }

  /** Keeps it until it is lost or the signal aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    while (this.held && !signal.aborted) {
      await pause(this.#scheduler, LEAD_MS / 6, signal).catch(() => {});
      if (signal.aborted) return;
      const due =
        this.#writtenAt !== null && this.#scheduler.monotonic() - this.#writtenAt > LEAD_MS / 3;
      if (due && (await this.#write(this.#name).catch(() => null)) === false) {
        this.#writtenAt = null;
      }
    }
    if (!this.held) this.#writtenAt = null;
  }

  async yield(): Promise<void> {
    if (!this.held) return;
    await this.#write('').catch(() => {});
    this.#writtenAt = null;
  }

  async #tryToTake(): Promise<boolean> {
    const stream = await this.#streams.leads();
    const now = this.#scheduler.monotonic();
    const last = await this.#link.jsm.streams
      .getMessage(stream, { last_by_subj: this.#subject })
      .catch((error) => {
        if (numberOf(error) === NO_MESSAGE) return null;
        // The stream may have been removed, or be another one: what is known of it is asked again.
        this.#streams.forget();
        throw error;
      });
    const sequence = last?.seq ?? 0;
    const holder = last?.string() ?? '';
    if (sequence !== this.#sequence || this.#seenAt === 0) {
      this.#sequence = sequence;
      this.#seenAt = now;
    }
    if (holder !== '' && holder !== this.#name && now - this.#seenAt < LEAD_MS) return false;
    this.fromDead = holder !== '' && holder !== this.#name;
    return this.#write(this.#name);
  }

  /** False when somebody else has written. */
  async #write(holder: string): Promise<boolean> {
    const began = this.#scheduler.monotonic();
    try {
      const { seq } = await this.#link.js.publish(this.#subject, holder, {
        expect: { streamName: LEAD_STREAM, lastSubjectSequence: this.#sequence },
      });
      this.#sequence = seq;
      this.#writtenAt = began;
      return true;
    } catch (error) {
      if (WRONG_LAST.has(numberOf(error))) return false;
      this.#streams.forget();
      throw error;
    }
  }
}

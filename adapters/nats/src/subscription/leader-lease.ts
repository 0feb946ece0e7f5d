/**
 * The lease of an ordered group: its holder alone consumes.
 *
 * The last message on the lease's subject names the holder. It is written with the sequence of the
 * message that it replaces, so of two writers one fails. The holder renews it every third of
 * `LEASE_MS`. A member that sees the same sequence for `LEASE_MS`, on its own clock, acquires it; clocks
 * are never compared. Invariant: a holder that could not renew stops to be the holder half a second
 * before another member can acquire the lease.
 * Cost: one message each 1.3 s; one request each 200 ms for a member that waits.
 */
import { isOutage, pause, type Scheduler } from 'rivulet/adapter';
import { numberOf, toRivulet } from '../errors.ts';
import type { Link } from '../link.ts';
import { LEAD_STREAM } from '../names.ts';
import type { Streams } from '../streams.ts';

const LEASE_MS = 4000;
/** The holder's own lease is this much shorter. */
const MARGIN_MS = 500;
const ASK_EVERY_MS = 200;
const WARN_EVERY_MS = 30_000;
const NO_MESSAGE = 10_037;
const WRONG_LAST = new Set([10_071, 10_164]);

export interface LeaderLeaseSetup {
  readonly link: Link;
  readonly streams: Streams;
  readonly scheduler: Scheduler;
  readonly subject: string;
  /** The name of this member. */
  readonly name: string;
  /** Reports why the lease cannot be acquired, at most every 30 s. */
  readonly warn: (error: unknown) => void;
}

export class LeaderLease {
  readonly #setup: LeaderLeaseSetup;
  #sequence = 0;
  /** When this member first saw the sequence, monotonic ms. */
  #seenAt = 0;
  #renewedAt: number | null = null;
  #warnedAt = Number.NEGATIVE_INFINITY;
  /** The previous holder did not release the lease: it may have died with unsettled messages. */
  isFromDead = false;

  constructor(setup: LeaderLeaseSetup) {
    this.#setup = setup;
  }

  get isHeld(): boolean {
    if (this.#renewedAt === null) return false;
    return this.#now() - this.#renewedAt < LEASE_MS - MARGIN_MS;
  }

  /** Resolves once this member is the holder. Rejects when the signal aborts. */
  async acquire(signal: AbortSignal): Promise<void> {
    const { scheduler } = this.#setup;
    while (!signal.aborted) {
      try {
        if (await this.#tryToAcquire()) return;
      } catch (error) {
        this.#report(error);
      }
      await pause(scheduler, ASK_EVERY_MS, signal);
    }
    throw signal.reason;
  }

  /** Renews the lease until it is lost or the signal aborts. */
  async renew(signal: AbortSignal): Promise<void> {
    while (this.isHeld && !signal.aborted) {
      await pause(this.#setup.scheduler, LEASE_MS / 6, signal).catch(() => {});
      if (signal.aborted) return;
      const isDue = this.#renewedAt !== null && this.#now() - this.#renewedAt > LEASE_MS / 3;
      if (isDue && (await this.#write(this.#setup.name).catch(() => null)) === false) {
        this.#renewedAt = null;
      }
    }
    if (!this.isHeld) this.#renewedAt = null;
  }

  async release(): Promise<void> {
    if (!this.isHeld) return;
    await this.#write('').catch(() => {});
    this.#renewedAt = null;
  }

  async #tryToAcquire(): Promise<boolean> {
    const { link, streams, subject, name } = this.#setup;
    const stream = await streams.leads();
    const now = this.#now();
    const last = await link.jsm.streams
      .getMessage(stream, { last_by_subj: subject })
      .catch((error) => {
        if (numberOf(error) === NO_MESSAGE) return null;
        // The stream may have been deleted or made again: what is cached about it is asked for again.
        streams.forget();
        throw error;
      });
    const sequence = last?.seq ?? 0;
    const holder = last?.string() ?? '';
    if (sequence !== this.#sequence || this.#seenAt === 0) {
      this.#sequence = sequence;
      this.#seenAt = now;
    }
    if (holder !== '' && holder !== name && now - this.#seenAt < LEASE_MS) return false;
    this.isFromDead = holder !== '' && holder !== name;
    return this.#write(name);
  }

  /** Resolves to false if another member has written. */
  async #write(holder: string): Promise<boolean> {
    const { link, streams, subject } = this.#setup;
    const began = this.#now();
    try {
      const { seq } = await link.js.publish(subject, holder, {
        expect: { streamName: LEAD_STREAM, lastSubjectSequence: this.#sequence },
      });
      this.#sequence = seq;
      this.#renewedAt = began;
      return true;
    } catch (error) {
      if (WRONG_LAST.has(numberOf(error))) return false;
      streams.forget();
      throw error;
    }
  }

  /** Without the lease a member receives nothing, so a lasting failure must not be silent. */
  #report(error: unknown): void {
    if (isOutage(toRivulet(error)) || this.#now() - this.#warnedAt < WARN_EVERY_MS) return;
    this.#warnedAt = this.#now();
    this.#setup.warn(error);
  }

  #now(): number {
    return this.#setup.scheduler.monotonic();
  }
}

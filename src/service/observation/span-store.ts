/**
 * Writes the spans of a service to the stream `_rivulet.spans`, from which the console shows traces.
 *
 * Holds: spans that wait for the next batch. Invariants: one batch a second at most; at most `maxQueued`
 * spans wait, and further ones are dropped and counted; the count is in the next batch. A span without an
 * error is stored when its trace is in the share of traces that are stored, which is the same in every
 * process; one with an error always. The service never waits for a span: while the broker is away the
 * spans wait here, and a batch that is refused is dropped, counted and reported once.
 * The stream keeps 64 MiB and 24 h: by the broker's own limits, or by the number of its entries.
 * Cost: a span is one object; a batch is one publish.
 */
import type { Broker } from '../../broker/broker.ts';
import { runInScope } from '../../broker/dispatch/scope.ts';
import { type LimitsTopics, limitsTopics } from '../../broker/topics/topic-limits.ts';
import type { SpanFacts } from '../../rpc/seen/spans.ts';
import { crc32Within } from '../../util/crc32.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import {
  MAX_ENTRIES,
  SPANS_MAX_AGE_MS,
  SPANS_MAX_BYTES,
  SPANS_TOPIC,
  spanMessages,
} from './span-entry.ts';

const BATCH_MS = 1000;
/** How long a close waits for the broker. */
const CLOSE_MS = 1000;
/** The limits are set again, because the stream may have been deleted. */
const LIMIT_MS = 3_600_000;
const ALL = 2 ** 32;

export interface SpanStoreSetup {
  readonly scheduler: Scheduler;
  readonly service: () => string;
  readonly node: () => string;
  /** Of all traces, from 0 to 1. */
  readonly share: number;
  readonly maxQueued: number;
  /** Receives why spans cannot be stored; once until they can be again. */
  readonly warn: (error: unknown) => void;
}

export class SpanStore {
  readonly #setup: SpanStoreSetup;
  #queue: SpanFacts[] = [];
  #dropped = 0;
  #allDropped = 0;
  #broker: Broker | null = null;
  #isAway = false;
  #unwatch: () => void = () => {};
  #cancel: (() => void) | null = null;
  #sending: Promise<void> | null = null;
  #limitedAt = Number.NEGATIVE_INFINITY;
  #hasWarned = false;
  #isClosed = false;
  /** Ends what is being sent when a close takes too long. */
  readonly #end = new AbortController();

  constructor(setup: SpanStoreSetup) {
    this.#setup = setup;
  }

  /** Spans that were not stored, since the service was made. */
  get dropped(): number {
    return this.#allDropped;
  }

  /** Spans that wait for the next batch. */
  get queued(): number {
    return this.#queue.length;
  }

  readonly add = (facts: SpanFacts): void => {
    if (this.#isClosed || (facts.error === null && !this.#isStored(facts.trace))) return;
    if (this.#queue.length >= this.#setup.maxQueued) this.#drop(1);
    else this.#queue.push(facts);
    this.#plan();
  };

  /** Counts a span that is to be stored and has no room; false where there is room, or it is not known. */
  readonly isFull = (): boolean => {
    const { share, maxQueued } = this.#setup;
    if (share < 1 || this.#isClosed || this.#queue.length < maxQueued) return false;
    this.#drop(1);
    this.#plan();
    return true;
  };

  /** Batches go to this broker from now on, until the returned function is called. */
  attach(broker: Broker): () => void {
    this.#broker = broker;
    this.#isAway = false;
    const stops = [
      broker.on('disconnected', () => {
        this.#isAway = true;
      }),
      broker.on('connected', () => {
        this.#isAway = false;
        this.#limitedAt = Number.NEGATIVE_INFINITY;
        if (this.#queue.length > 0) this.#plan();
      }),
    ];
    const detach = (): void => {
      for (const stop of stops.splice(0)) stop();
      if (this.#broker === broker) this.#broker = null;
      this.#cancel?.();
      this.#cancel = null;
    };
    this.#unwatch = detach;
    if (this.#queue.length > 0) this.#plan();
    return detach;
  }

  /** Stores what waits, within a second. Idempotent. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancel?.();
    this.#cancel = null;
    const late = this.#setup.scheduler.after(CLOSE_MS, () => this.#end.abort());
    await this.#sending;
    if (this.#broker !== null && !this.#isAway) await this.#send(this.#broker);
    else this.#drop(this.#queue.splice(0).length);
    late();
    this.#unwatch();
  }

  /** Traces are chosen by their ids, so every process chooses the same ones. */
  #isStored(trace: string): boolean {
    const { share } = this.#setup;
    if (share >= 1) return true;
    const bytes = Buffer.from(trace, 'latin1');
    return crc32Within(bytes, 0, bytes.length) < share * ALL;
  }

  #plan(): void {
    if (this.#cancel !== null || this.#broker === null || this.#isAway || this.#isClosed) return;
    this.#cancel = this.#setup.scheduler.after(BATCH_MS, () => this.#due(), false);
  }

  #due(): void {
    this.#cancel = null;
    const broker = this.#broker;
    if (broker === null || this.#isAway || this.#isClosed) return;
    if (this.#sending === null) {
      this.#sending = this.#send(broker).finally(() => {
        this.#sending = null;
        if (this.#queue.length > 0) this.#plan();
      });
    } else this.#plan();
  }

  /** Never rejects. */
  async #send(broker: Broker): Promise<void> {
    const spans = this.#queue;
    const dropped = this.#dropped;
    if (spans.length === 0 && dropped === 0) return;
    this.#queue = [];
    this.#dropped = 0;
    try {
      const { service, node } = this.#setup;
      const messages = spanMessages({ service: service(), node: node(), dropped, spans });
      const limited = limitsTopics(broker) ? broker : null;
      const bound = limited === null ? { maxLength: MAX_ENTRIES } : {};
      const options = { ...bound, signal: this.#end.signal };
      // The timer was set by the handler whose span came first: the batch is not part of its trace.
      await runInScope(OUTSIDE, () => broker.publishBatch(SPANS_TOPIC, messages, options));
      if (limited !== null) await this.#limit(limited);
      this.#hasWarned = false;
    } catch (error) {
      this.#drop(spans.length);
      this.#dropped += dropped;
      this.#warn(error);
    }
  }

  /** Never rejects: the batch is stored. */
  async #limit(broker: LimitsTopics): Promise<void> {
    const now = this.#setup.scheduler.monotonic();
    if (now - this.#limitedAt < LIMIT_MS) return;
    this.#limitedAt = now;
    const limits = { maxAgeMs: SPANS_MAX_AGE_MS, maxBytes: SPANS_MAX_BYTES };
    await broker.limitTopic(SPANS_TOPIC, limits).catch((error) => this.#warn(error));
  }

  #warn(error: unknown): void {
    if (!this.#hasWarned) this.#setup.warn(error);
    this.#hasWarned = true;
  }

  #drop(count: number): void {
    this.#dropped += count;
    this.#allDropped += count;
  }
}

const OUTSIDE = {
  deadline: Number.POSITIVE_INFINITY,
  signal: () => null,
  trace: null,
  handler: null,
} as const;

/**
 * The options of brokers, publishes and subscriptions, with units and defaults; and the functions that
 * fill in the defaults and refuse bad values. The allowed values of each option are in option-rows.ts.
 */
import { hostname } from 'node:os';
import { checkOptions, given, invalid } from '../../client/option-table.ts';
import type { Backoff } from '../../util/time/backoff.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import type { Position } from '../positions.ts';
import { brokerTable, MOST_IN_FLIGHT, subscribeTable } from './option-rows.ts';

export { type Backoff, backoffMs } from '../../util/time/backoff.ts';

export interface BrokerOptions {
  /** [Addrs] One or more URLs of one broker or cluster. */
  readonly addresses: readonly string[];
  /** Names this process among a group's consumers. Default: host, pid and a random suffix. */
  readonly clientName: string;
  /** How long a publish waits for a broker that cannot be reached. Default 10 000. */
  readonly publishTimeoutMs: number;
  /** How many publishes may wait at once. Default 10 000. */
  readonly maxPendingPublishes: number;
  /** How long `connect` tries. Default 10 000. */
  readonly connectTimeoutMs: number;
  /** Backoff between reconnects. Default 50 ms to 5 s, factor 2, jitter. */
  readonly reconnect: Backoff;
  /** How long `disconnect` and `unsubscribe` wait for running handlers. Default 30 000. */
  readonly drainTimeoutMs: number;
  /** Largest body a publish accepts. Default 8 MiB, or the broker's own limit where smaller. */
  readonly maxBodyBytes: number;
  /** How long a `dedupId` is remembered, where the broker lets one choose. Default 120 000. */
  readonly dedupWindowMs: number;
  /** Writes and reads go-micro's own message form where it differs. Default false. */
  readonly goMicro: boolean;
  /** Time, timers and chance, for tests on a virtual clock. Default: the system's. */
  readonly scheduler: Scheduler;
  /** Passed to the adapter's client library as they are. */
  readonly client?: Readonly<Record<string, unknown>>;
}

export interface PublishOptions {
  /**
   * Deduplicates: a second publish with this id to this topic within `dedupWindowMs` adds nothing.
   * 1 to 1024 bytes.
   */
  readonly dedupId?: string;
  readonly delayMs?: number;
  readonly deliverAt?: Date;
  /** Trims the topic to about this many messages. */
  readonly maxLength?: number;
  readonly signal?: AbortSignal;
}

/** What every form of subscribing takes. */
interface CommonSubscribeOptions {
  /** [Queue] None = every subscriber gets every message. */
  readonly group?: string;
  /** [AutoAck] `auto` (default) acknowledges after the handler succeeds. */
  readonly ack?: 'auto' | 'manual';
  /** Where a new group starts. Default `new`; an existing group keeps its place. */
  readonly from?: Position;
  /** Handlers running at once; with `ordered: 'key'` that many keys at once. Default 1. */
  readonly concurrency?: number;
  /** Deliveries not yet settled. Default 2 × concurrency × batch size; a hard bound. */
  readonly maxInFlight?: number;
  readonly ordered?: 'none' | 'key' | 'strict';
  /** Redelivered to another when not settled or extended by then. Default 30 000. */
  readonly ackWaitMs?: number;
  readonly retry?: { readonly attempts: number; readonly backoff?: Partial<Backoff> };
  /** The topic for messages without attempts left. Default `${topic}.dead`; false = they are dropped. */
  readonly deadLetter?: string | false;
  /** Unsubscribes when it is aborted. */
  readonly signal?: AbortSignal;
}

export interface SubscribeOptions extends CommonSubscribeOptions {
  readonly batch?: undefined;
}

export interface BatchSubscribeOptions extends CommonSubscribeOptions {
  /** The handler, or the loop, gets arrays of deliveries. */
  readonly batch: BatchOptions;
}

export type AnySubscribeOptions = SubscribeOptions | BatchSubscribeOptions;

export interface BatchOptions {
  /** Most deliveries of one batch. Default 100, or `maxInFlight` where that is less. */
  readonly size?: number;
  /** How long a batch that is not full waits for more. Default 10. */
  readonly waitMs?: number;
}

export interface RequestOptions {
  /** Default 10 000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Options of a call with streams. */
export interface StreamOptions {
  /** Until the call must have ended. Default: none; a peer that is silent for 30 s is lost anyway. */
  readonly timeoutMs?: number;
  /** How many bytes of replies may be unread before the responder waits. Default 262 144. */
  readonly windowBytes?: number;
  readonly signal?: AbortSignal;
}

export interface RespondOptions {
  readonly group?: string;
  /** Requests being answered at once; more wait. Default 100. */
  readonly concurrency?: number;
  readonly signal?: AbortSignal;
}

/** Subscribe options with every default filled in. */
export interface ResolvedSubscribeOptions {
  readonly group: string | null;
  readonly ack: 'auto' | 'manual';
  readonly from: Position;
  readonly concurrency: number;
  readonly maxInFlight: number;
  readonly ordered: 'none' | 'key' | 'strict';
  readonly ackWaitMs: number;
  readonly attempts: number;
  readonly backoff: Backoff;
  /** null = `${topic}.dead` of the topic that the message came on. */
  readonly deadLetter: string | false | null;
  readonly batch: { readonly size: number; readonly waitMs: number };
  readonly signal: AbortSignal | null;
}

const RECONNECT: Backoff = { minMs: 50, maxMs: 5000, factor: 2, jitter: true };
const DEFAULT_BACKOFF: Backoff = { minMs: 100, maxMs: 60_000, factor: 2, jitter: true };

/** Broker options with every default filled in. `previous` are those that `init` changes. */
export function resolveBrokerOptions(
  options: Partial<BrokerOptions>,
  previous?: BrokerOptions,
): BrokerOptions {
  checkOptions(brokerTable, options);
  const scheduler = options.scheduler ?? previous?.scheduler ?? systemScheduler;
  const resolved: BrokerOptions = {
    addresses: [],
    clientName: `${hostname()}-${process.pid}-${scheduler.uniqueName()}`,
    publishTimeoutMs: 10_000,
    maxPendingPublishes: 10_000,
    connectTimeoutMs: 10_000,
    drainTimeoutMs: 30_000,
    maxBodyBytes: 8 * 1024 * 1024,
    dedupWindowMs: 120_000,
    goMicro: false,
    ...previous,
    ...given(options),
    reconnect: { ...(previous?.reconnect ?? RECONNECT), ...given(options.reconnect ?? {}) },
    scheduler,
  };
  checkBackoff('reconnect', resolved.reconnect);
  return resolved;
}

/** Subscribe options with every default filled in; rejects nonsense with INVALID_ARGUMENT. */
export function resolveSubscribeOptions(
  options: AnySubscribeOptions = {},
): ResolvedSubscribeOptions {
  checkOptions(subscribeTable, options);
  const ordered = options.ordered ?? 'none';
  const concurrency = options.concurrency ?? 1;
  const batch = batchOf(options);
  const resolved: ResolvedSubscribeOptions = {
    group: options.group ?? null,
    ack: options.ack ?? 'auto',
    from: options.from ?? 'new',
    concurrency,
    maxInFlight: options.maxInFlight ?? Math.min(MOST_IN_FLIGHT, 2 * concurrency * batch.size),
    ordered,
    ackWaitMs: options.ackWaitMs ?? 30_000,
    attempts: options.retry?.attempts ?? 10,
    backoff: backoffOf(options.retry?.backoff ?? {}),
    deadLetter: options.deadLetter ?? null,
    batch,
    signal: options.signal ?? null,
  };
  checkBackoff('retry.backoff', resolved.backoff);
  if (ordered === 'strict' && concurrency > 1) {
    throw invalid('ordered: "strict" and concurrency above 1 exclude each other: use "key"');
  }
  if (ordered !== 'none' && batch.size > 1 && concurrency > 1) {
    throw invalid('batches in order are handled one at a time: leave concurrency at 1');
  }
  if (batch.size > resolved.maxInFlight) {
    throw invalid(
      `a batch of ${batch.size} never fills while maxInFlight is ${resolved.maxInFlight}`,
    );
  }
  return resolved;
}

function batchOf({ batch, maxInFlight }: AnySubscribeOptions) {
  if (batch === undefined) return { size: 1, waitMs: 0 };
  const { size = Math.min(100, maxInFlight ?? 100), waitMs = 10 } = batch;
  return { size, waitMs };
}

function backoffOf(options: Partial<Backoff>): Backoff {
  const resolved = { ...DEFAULT_BACKOFF, ...given(options) };
  // One bound that was given alone moves the default of the other, never itself.
  if (options.maxMs === undefined && resolved.minMs > resolved.maxMs) {
    return { ...resolved, maxMs: resolved.minMs };
  }
  if (options.minMs === undefined && resolved.minMs > resolved.maxMs) {
    return { ...resolved, minMs: resolved.maxMs };
  }
  return resolved;
}

function checkBackoff(name: string, { minMs, maxMs }: Backoff): void {
  if (minMs > maxMs) throw invalid(`${name}: minMs (${minMs}) is above maxMs (${maxMs})`);
}

/** Where a message that came on `topic` goes when its attempts are used up; null = nowhere. */
export function deadLetterTopic(
  topic: string,
  options: Pick<ResolvedSubscribeOptions, 'deadLetter'>,
): string | null {
  if (options.deadLetter === false) return null;
  return options.deadLetter ?? `${topic}.dead`;
}

/**
 * How much longer than `ackWaitMs` the broker waits before it gives a message to another consumer. A
 * live consumer gives it back itself at the deadline, and then its count of hand-overs is exact.
 */
export function deadlineGraceMs(ackWaitMs: number): number {
  return Math.ceil(Math.min(1000, Math.max(100, ackWaitMs / 10)));
}

/**
 * The options of brokers, publishes and subscriptions, with units and defaults; and the one function
 * that fills the defaults in and rejects nonsense.
 */
import { hostname } from 'node:os';
import { RivuletError } from '../errors.ts';
import type { Position } from './broker.ts';
import type { Scheduler } from './scheduler.ts';
import { systemScheduler } from './system-scheduler.ts';
import { checkGroup, checkTopic } from './topics.ts';

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
  /** How long a publish id is remembered, where the broker lets one choose. Default 120 000. */
  readonly idWindowMs: number;
  /** Writes and reads go-micro's own message form where it differs. Default false. */
  readonly goMicro: boolean;
  /** Time, timers and chance, for tests on a virtual clock. Default: the system's. */
  readonly scheduler: Scheduler;
  /** Passed to the adapter's client library as they are. */
  readonly client?: Readonly<Record<string, unknown>>;
}

export interface Backoff {
  readonly minMs: number;
  readonly maxMs: number;
  readonly factor: number;
  readonly jitter: boolean;
}

export interface PublishOptions {
  /** Deduplicates: a second publish with this id within the broker's window adds nothing. */
  readonly id?: string;
  readonly delayMs?: number;
  readonly deliverAt?: Date;
  /** Trims the topic to about this many messages. */
  readonly maxLength?: number;
  readonly signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** [Queue] None = every subscriber gets every message. */
  readonly group?: string;
  /** [AutoAck] `auto` (default) acknowledges after the handler succeeds. */
  readonly ack?: 'auto' | 'manual';
  /** Where a new group starts. Default `new`; an existing group keeps its place. */
  readonly from?: Position;
  /** Handlers running at once; with `ordered: 'by-key'` that many keys at once. Default 1. */
  readonly concurrency?: number;
  /** Deliveries not yet settled. Default 2 × concurrency × batch size; a hard bound. */
  readonly maxInFlight?: number;
  readonly ordered?: 'no' | 'by-key' | 'strictly';
  /** Redelivered to another when not settled or extended by then. Default 30 000. */
  readonly ackWaitMs?: number;
  readonly retry?: { readonly attempts: number; readonly backoff?: Partial<Backoff> };
  /** Where messages go whose attempts are used up. Default `${topic}.dead`; false = dropped. */
  readonly deadLetter?: string | false;
  /** For subscribeBatch: at most `size` deliveries, waiting at most `waitMs` for them. */
  readonly batch?: { readonly size: number; readonly waitMs: number };
  readonly signal?: AbortSignal;
}

export interface RequestOptions {
  /** Default 10 000. */
  readonly timeoutMs?: number;
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
  readonly ordered: 'no' | 'by-key' | 'strictly';
  readonly ackWaitMs: number;
  readonly attempts: number;
  readonly backoff: Backoff;
  /** null = `${topic}.dead` of the topic that the message came on. */
  readonly deadLetter: string | false | null;
  readonly batch: { readonly size: number; readonly waitMs: number };
  readonly signal: AbortSignal | null;
}

const DEFAULT_BACKOFF: Backoff = { minMs: 100, maxMs: 60_000, factor: 2, jitter: true };

/** Broker options with every default filled in. `previous` are those that `init` changes. */
export function resolveBrokerOptions(
  options: Partial<BrokerOptions>,
  previous?: BrokerOptions,
): BrokerOptions {
  const scheduler = options.scheduler ?? previous?.scheduler ?? systemScheduler;
  const resolved: BrokerOptions = {
    addresses: [],
    clientName: `${hostname()}-${process.pid}-${scheduler.uniqueName()}`,
    publishTimeoutMs: 10_000,
    maxPendingPublishes: 10_000,
    connectTimeoutMs: 10_000,
    reconnect: { minMs: 50, maxMs: 5000, factor: 2, jitter: true },
    drainTimeoutMs: 30_000,
    maxBodyBytes: 8 * 1024 * 1024,
    idWindowMs: 120_000,
    goMicro: false,
    ...previous,
    ...options,
    scheduler,
  };
  positive('publishTimeoutMs', resolved.publishTimeoutMs);
  positive('maxPendingPublishes', resolved.maxPendingPublishes);
  positive('connectTimeoutMs', resolved.connectTimeoutMs);
  positive('maxBodyBytes', resolved.maxBodyBytes);
  positive('idWindowMs', resolved.idWindowMs);
  if (!(resolved.drainTimeoutMs >= 0)) invalid('drainTimeoutMs may not be negative');
  if (resolved.clientName === '') invalid('clientName is empty');
  return resolved;
}

/** Subscribe options with every default filled in; rejects nonsense with INVALID_ARGUMENT. */
export function resolveSubscribeOptions(options: SubscribeOptions = {}): ResolvedSubscribeOptions {
  const ordered = options.ordered ?? 'no';
  const concurrency = options.concurrency ?? 1;
  const batch = options.batch ?? { size: 1, waitMs: 0 };
  const resolved: ResolvedSubscribeOptions = {
    group: options.group ?? null,
    ack: options.ack ?? 'auto',
    from: options.from ?? 'new',
    concurrency,
    maxInFlight: options.maxInFlight ?? 2 * concurrency * batch.size,
    ordered,
    ackWaitMs: options.ackWaitMs ?? 30_000,
    attempts: options.retry?.attempts ?? 10,
    backoff: { ...DEFAULT_BACKOFF, ...options.retry?.backoff },
    deadLetter: options.deadLetter ?? null,
    batch,
    signal: options.signal ?? null,
  };
  positive('concurrency', concurrency);
  positive('maxInFlight', resolved.maxInFlight);
  positive('ackWaitMs', resolved.ackWaitMs);
  positive('retry.attempts', resolved.attempts);
  positive('batch.size', batch.size);
  if (options.group !== undefined) checkGroup(options.group);
  if (typeof resolved.deadLetter === 'string') checkTopic(resolved.deadLetter);
  if (ordered === 'strictly' && concurrency > 1) {
    invalid('ordered: "strictly" and concurrency above 1 exclude each other: use "by-key"');
  }
  if (ordered !== 'no' && batch.size > 1 && concurrency > 1) {
    invalid('batches in order are handled one at a time: leave concurrency at 1');
  }
  if (batch.size > resolved.maxInFlight) {
    invalid(`a batch of ${batch.size} never fills while maxInFlight is ${resolved.maxInFlight}`);
  }
  return resolved;
}

/** Where a message that came on `topic` goes when its attempts are used up; null = nowhere. */
export function deadLetterTopic(
  topic: string,
  options: Pick<ResolvedSubscribeOptions, 'deadLetter'>,
): string | null {
  if (options.deadLetter === false) return null;
  return options.deadLetter ?? `${topic}.dead`;
}

/** The wait before delivery `attempt + 1`, in milliseconds; `fraction` in [0, 1) feeds the jitter. */
export function backoffMs(backoff: Backoff, attempt: number, fraction: number): number {
  const full = Math.min(backoff.maxMs, backoff.minMs * backoff.factor ** Math.max(0, attempt - 1));
  return Math.round(backoff.jitter ? full * (0.5 + fraction / 2) : full);
}

function positive(name: string, value: number): void {
  if (!Number.isFinite(value) || value < 1) invalid(`${name} must be at least 1, not ${value}`);
}

function invalid(message: string): never {
  throw new RivuletError('INVALID_ARGUMENT', message);
}

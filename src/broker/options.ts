/**
 * The options of brokers, publishes and subscriptions, with units and defaults; and the one function
 * that fills the defaults in and rejects nonsense.
 */
import { RivuletError } from '../errors.ts';
import type { Clock } from '../util/clock.ts';
import type { Position } from './broker.ts';

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
  /** Writes and reads go-micro's own message form where it differs. Default false. */
  readonly goMicro: boolean;
  /** The time, for tests on a virtual clock. Only the memory broker accepts another than the system's. */
  readonly clock?: Clock;
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
  /** Handlers running at once. Default 1 without order, otherwise the number of keys at a time. */
  readonly concurrency?: number;
  /** Deliveries not yet settled. Default 2 × concurrency; a hard bound. */
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
  readonly deadLetter: string | false;
  readonly batch: { readonly size: number; readonly waitMs: number };
  readonly signal: AbortSignal | null;
}

const DEFAULT_BACKOFF: Backoff = { minMs: 100, maxMs: 60_000, factor: 2, jitter: true };

export function resolveSubscribeOptions(
  topic: string,
  options: SubscribeOptions = {},
): ResolvedSubscribeOptions {
  const ordered = options.ordered ?? 'no';
  const concurrency = ordered === 'strictly' ? 1 : (options.concurrency ?? 1);
  const resolved: ResolvedSubscribeOptions = {
    group: options.group ?? null,
    ack: options.ack ?? 'auto',
    from: options.from ?? 'new',
    concurrency,
    maxInFlight: options.maxInFlight ?? (ordered === 'strictly' ? 1 : concurrency * 2),
    ordered,
    ackWaitMs: options.ackWaitMs ?? 30_000,
    attempts: options.retry?.attempts ?? 10,
    backoff: { ...DEFAULT_BACKOFF, ...options.retry?.backoff },
    deadLetter: options.deadLetter ?? `${topic}.dead`,
    batch: options.batch ?? { size: 1, waitMs: 0 },
    signal: options.signal ?? null,
  };
  positive('concurrency', resolved.concurrency);
  positive('maxInFlight', resolved.maxInFlight);
  positive('ackWaitMs', resolved.ackWaitMs);
  positive('retry.attempts', resolved.attempts);
  positive('batch.size', resolved.batch.size);
  if (options.group === '')
    invalid('group is empty: leave it out for "every subscriber gets every message"');
  if (ordered === 'strictly' && (options.concurrency ?? 1) > 1) {
    invalid('ordered: "strictly" and concurrency above 1 exclude each other: use "by-key"');
  }
  return resolved;
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

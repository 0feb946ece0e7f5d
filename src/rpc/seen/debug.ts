/**
 * go-micro's Debug service: Health, Stats, Log and Trace, on every service.
 *
 * Message forms are those of go-micro's debug.proto, so that its tools read them; times are its units
 * (seconds, nanoseconds). Invariants: Health answers `ok` or fails with UNAVAILABLE and the reasons; a
 * follower of the log that does not read holds at most 1 000 records. protobufjs loads with the first
 * call, so a service that is never asked does not pay for it.
 */
import type { MessageType, TypeDescription } from '../../codec/codec.ts';
import { protoType } from '../../codec/proto/proto-types.ts';
import { protobufjs } from '../../codec/proto/protobufjs.ts';
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { CallContext } from '../context.ts';
import { contract, serverStream, unary } from '../contract.ts';
import type { HandlersOf } from '../handlers.ts';
import type { LogRecord, LogRing } from './log-ring.ts';
import type { Span } from './spans.ts';

const PROTO = `syntax = "proto3";
message HealthRequest { string service = 1; }
message HealthResponse { string status = 1; }
message StatsRequest { string service = 1; }
message StatsResponse {
  uint64 timestamp = 1; uint64 started = 2; uint64 uptime = 3; uint64 memory = 4;
  uint64 threads = 5; uint64 gc = 6; uint64 requests = 7; uint64 errors = 8;
}
message LogRequest { string service = 1; bool stream = 2; int64 count = 3; int64 since = 4; }
message Record { int64 timestamp = 1; map<string, string> metadata = 2; string message = 3; }
message TraceRequest { string id = 1; }
message TraceResponse { repeated Span spans = 1; }
message Span {
  string trace = 1; string id = 2; string parent = 3; string name = 4;
  uint64 started = 5; uint64 duration = 6; map<string, string> metadata = 7;
}`;

export interface HealthResponse {
  readonly status: string;
}

/** Seconds, bytes and nanoseconds, as debug.proto counts. */
export interface StatsResponse {
  readonly timestamp: bigint;
  readonly started: bigint;
  readonly uptime: bigint;
  readonly memory: bigint;
  readonly threads: bigint;
  readonly gc: bigint;
  readonly requests: bigint;
  readonly errors: bigint;
}

export interface LogRequest {
  readonly service?: string;
  /** Goes on with what is logged from now on. */
  readonly stream?: boolean;
  readonly count?: bigint | number;
  /** Seconds back from now. */
  readonly since?: bigint | number;
}

export interface DebugRecord {
  /** Unix seconds. */
  readonly timestamp: bigint;
  readonly metadata: Readonly<Record<string, string>>;
  readonly message: string;
}

export interface DebugSpan {
  readonly trace: string;
  readonly id: string;
  readonly parent: string;
  readonly name: string;
  /** Unix nanoseconds. */
  readonly started: bigint;
  readonly duration: bigint;
  readonly metadata: Readonly<Record<string, string>>;
}

const METHODS = {
  Health: unary<{ service?: string }, HealthResponse>({
    request: message('HealthRequest'),
    response: message('HealthResponse'),
    idempotent: true,
  }),
  Stats: unary<{ service?: string }, StatsResponse>({
    request: message('StatsRequest'),
    response: message('StatsResponse'),
    idempotent: true,
  }),
  Log: serverStream<LogRequest, DebugRecord>({
    request: message('LogRequest'),
    response: message('Record'),
  }),
  Trace: unary<{ id?: string }, { spans: DebugSpan[] }>({
    request: message('TraceRequest'),
    response: message('TraceResponse'),
    idempotent: true,
  }),
};

/** The contract of a service's Debug endpoints: `service.client(debugOf('go.micro.api.orderservice'))`. */
export function debugOf(service: string) {
  return contract(service, { Debug: METHODS });
}

export type DebugContract = ReturnType<typeof debugOf>;

/** What the answers are made of. */
export interface DebugSources {
  /** Why it is not healthy; empty when it is. */
  readonly ailments: () => readonly string[];
  readonly stats: () => { readonly [K in keyof StatsResponse]: number };
  readonly log: LogRing;
  readonly spans: (trace: string) => readonly Span[];
}

export function debugHandlers(sources: DebugSources): HandlersOf<DebugContract> {
  return {
    Debug: {
      Health() {
        const ailments = sources.ailments();
        if (ailments.length === 0) return { status: 'ok' };
        throw new RivuletError('UNAVAILABLE', ailments.join('; '));
      },
      Stats() {
        const entries = Object.entries(sources.stats());
        const whole = entries.map(([name, value]) => [
          name,
          BigInt(Math.max(0, Math.round(value))),
        ]);
        return Object.fromEntries(whole) as StatsResponse;
      },
      Log: (request, context) => logOf(sources.log, request ?? {}, context),
      Trace: (request) => ({ spans: sources.spans(request?.id ?? '').map(spanOf) }),
    },
  };
}

const MAX_WAITING = 1000;

async function* logOf(
  log: LogRing,
  { stream = false, count = 0, since = 0 }: LogRequest,
  { signal }: CallContext,
): AsyncGenerator<DebugRecord, void, void> {
  const waiting: LogRecord[] = [];
  let wake: () => void = () => {};
  const stop = stream
    ? log.follow((record) => {
        waiting.push(record);
        // A reader that is too slow loses the oldest lines.
        if (waiting.length > MAX_WAITING) waiting.shift();
        wake();
      })
    : () => {};
  // One listener for the whole stream.
  const unwatch = stream ? onAbort(signal, () => wake()) : () => {};
  try {
    const sinceMs = Number(since) > 0 ? Number(since) * 1000 : Number.POSITIVE_INFINITY;
    for (const record of log.records(Number(count), sinceMs)) yield recordOf(record);
    while (stream && !signal.aborted) {
      const record = waiting.shift();
      if (record !== undefined) {
        yield recordOf(record);
        continue;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    stop();
    unwatch();
  }
}

function recordOf({ at, level, message, fields }: LogRecord): DebugRecord {
  const timestamp = BigInt(Math.floor(at / 1000));
  return { timestamp, metadata: { ...fields, level }, message };
}

function spanOf({ trace, id, parent, name, startedAt, durationMs, error }: Span): DebugSpan {
  return {
    trace,
    id,
    parent,
    name,
    started: BigInt(Math.round(startedAt)) * 1_000_000n,
    duration: BigInt(Math.round(durationMs * 1e6)),
    metadata: error === null ? {} : { error },
  };
}

// ---- The message types, made when first used ----

const made = new Map<string, MessageType>();

function typeOf(name: string): MessageType {
  let type = made.get(name);
  if (type === undefined) {
    const { root } = protobufjs().parse(PROTO, { keepCase: true });
    type = protoType(root.lookupType(name));
    made.set(name, type);
  }
  return type;
}

function message(name: string): MessageType {
  return {
    name,
    encode: (value) => typeOf(name).encode(value),
    decode: (bytes) => typeOf(name).decode(bytes),
    fromJson: (json) => typeOf(name).fromJson(json),
    toJson: (value, names) => typeOf(name).toJson(value, names),
    copy: (value) => typeOf(name).copy?.(value) ?? value,
    describe: () => typeOf(name).describe?.() as TypeDescription,
  };
}

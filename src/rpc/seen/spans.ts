/**
 * Spans: what a process did within which trace, and the W3C trace context between processes.
 *
 * Holds: the last `MAX_SPANS` spans that ended here. Invariants: a call or message that came with a
 * valid `traceparent` continues its trace, any other begins one; what its handler calls or publishes
 * carries the trace on; a malformed `traceparent` is as good as none, as W3C asks. Ids are a random
 * prefix of the process and a counter. Where OpenTelemetry is set up, its context travels instead and
 * the spans here only record. Cost: two objects per call.
 */

import { currentScope, runInScope, withTrace } from '../../broker/dispatch/scope.ts';
import { loadTracing, type Tracing } from '../../broker/trace.ts';
import { errorText } from '../../util/error-text.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { Metadata } from '../metadata.ts';

export interface Span {
  /** 32 hexadecimal digits. */
  readonly trace: string;
  /** 16 hexadecimal digits. */
  readonly id: string;
  /** Empty where the trace began here. */
  readonly parent: string;
  /** `Struct.Method`, or `topic <name>`. */
  readonly name: string;
  /** Unix milliseconds. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** Null when it succeeded. */
  readonly error: string | null;
}

export type SpanKind = 'publish' | 'deliver' | 'settle' | 'call' | 'serve' | 'step';

/** The message that a span is about. */
export interface SpanMessage {
  readonly topic?: string;
  readonly group?: string;
  readonly message?: string;
  readonly attempt?: number;
}

/** A span that has ended, as it is stored beyond this process. */
export interface SpanFacts extends SpanMessage {
  readonly kind: SpanKind;
  /** 32 hexadecimal digits. */
  readonly trace: string;
  readonly id: string;
  /** Empty where the trace began here. */
  readonly parent: string;
  readonly name: string;
  /** Unix milliseconds. */
  readonly at: number;
  readonly ms: number;
  /** Null when it succeeded. */
  readonly error: string | null;
}

/** A span that has not ended. Its ids are made when they are first read. */
export class OpenSpan {
  /** May be changed until it ends. */
  name: string;
  readonly startedAt: number;
  readonly since: number;
  readonly #traceparent: string | undefined;
  readonly #ids: SpanIds;
  #caller: readonly [trace: string, span: string] | null | undefined;

  constructor(
    name: string,
    traceparent: string | undefined,
    ids: SpanIds,
    startedAt: number,
    since: number,
  ) {
    this.name = name;
    this.#traceparent = traceparent;
    this.#ids = ids;
    this.startedAt = startedAt;
    this.since = since;
  }

  get trace(): string {
    return this.#from?.[0] ?? this.#ids.trace;
  }

  get id(): string {
    return this.#ids.span;
  }

  get parent(): string {
    return this.#from?.[1] ?? '';
  }

  /** Of the caller; null where the trace begins here. */
  get #from(): readonly [trace: string, span: string] | null {
    if (this.#caller === undefined) this.#caller = readTraceparent(this.#traceparent);
    return this.#caller;
  }
}

/** Ids that no other span has: those of the process and a number. */
class SpanIds {
  readonly #process: ProcessIds;
  readonly #number: number;

  constructor(process: ProcessIds, number: number) {
    this.#process = process;
    this.#number = number;
  }

  get trace(): string {
    return this.#process.trace + hex8(this.#number);
  }

  get span(): string {
    return this.#process.span + hex8(this.#number);
  }
}

interface ProcessIds {
  /** 24 hexadecimal digits. */
  readonly trace: string;
  /** 8 hexadecimal digits. */
  readonly span: string;
}

function readTraceparent(text: string | undefined): readonly [string, string] | null {
  const found = text === undefined ? null : TRACEPARENT.exec(text);
  if (found === null || text?.startsWith('ff')) return null;
  const [, trace = '', span = ''] = found;
  return trace === NO_TRACE || span === NO_SPAN ? null : [trace, span];
}

/** One that has ended. */
interface EndedSpan {
  readonly span: OpenSpan;
  readonly durationMs: number;
  readonly error: string | null;
}

const MAX_SPANS = 1000;
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})/;
const HEADERS = ['traceparent', 'tracestate', 'baggage'] as const;
/** Where the id of the span begins in a `traceparent`. */
const SPAN_AT = 36;
const NO_TRACE = '0'.repeat(32);
const NO_SPAN = '0'.repeat(16);

type Headers = Readonly<Record<string, string>>;

export class Tracer {
  /** Receives each span that ends, calls and publishes too; null (the default) where none is stored. */
  sink: ((span: SpanFacts) => void) | null = null;
  /** Asked before `sink`: true where there is no room for a span, whose facts are then not made. */
  isFull: () => boolean = no;
  readonly #scheduler: Scheduler;
  readonly #process: ProcessIds;
  #number = 0;
  readonly #spans: EndedSpan[] = [];
  #next = 0;
  #tracing: Tracing | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
    const word = () => Math.floor(scheduler.fraction() * 2 ** 32);
    // Never all zeros, which W3C refuses.
    const trace = hex8(word() || 1) + hex8(word()) + hex8(word());
    this.#process = { trace, span: hex8(word() || 1) };
    loadTracing().then(
      (tracing) => {
        this.#tracing = tracing;
      },
      () => {},
    );
  }

  /** Gives what leaves this process the trace of what is being handled, or a new one. */
  inject(metadata: Metadata): void {
    if (metadata.has('traceparent')) return;
    const tracing = this.#tracing;
    const headers = tracing?.isActive() ? tracing.inject(NO_HEADERS) : currentScope()?.trace;
    if (headers?.traceparent === undefined) {
      const { trace, span } = this.#process;
      const number = hex8(this.#next32());
      metadata.put('traceparent', `00-${trace}${number}-${span}${number}-01`);
      return;
    }
    for (const name of HEADERS) {
      const value = headers[name];
      if (value !== undefined && !metadata.has(name)) metadata.put(name, value);
    }
  }

  /** `inject`; where spans are stored, the call has a span, and its server's is the child of that. */
  beginCall(service: string, endpoint: string, metadata: Metadata): OpenSpan | null {
    const isGiven = metadata.has('traceparent') || this.#tracing?.isActive() === true;
    if (this.sink === null || isGiven) {
      this.inject(metadata);
      if (this.sink === null) return null;
      return this.begin(`${service}.${endpoint}`, metadata.get('traceparent'));
    }
    const { span, trace } = this.beginWithin(`${service}.${endpoint}`);
    for (const name of HEADERS) {
      const value = trace[name];
      if (value !== undefined && !metadata.has(name)) metadata.put(name, value);
    }
    return span;
  }

  /** The span of something that leaves what is handled, and the headers that it takes along. */
  beginWithin(name: string): { readonly span: OpenSpan; readonly trace: Headers } {
    const outer = currentScope()?.trace ?? NO_HEADERS;
    const span = this.begin(name, outer.traceparent);
    return { span, trace: traceOf(span, outer) };
  }

  /** Whether a span of this tracer is the parent that the `traceparent` names. */
  made(traceparent: string): boolean {
    return traceparent.startsWith(this.#process.span, SPAN_AT);
  }

  /** Whether OpenTelemetry is set up. */
  get isReplaced(): boolean {
    return this.#tracing?.isActive() === true;
  }

  /** The span of something that came in with these headers; `now` is the monotonic time. */
  begin(
    name: string,
    traceparent: string | undefined,
    now = this.#scheduler.monotonic(),
  ): OpenSpan {
    const ids = new SpanIds(this.#process, this.#next32());
    return new OpenSpan(name, traceparent, ids, this.#scheduler.now(), now);
  }

  /** Whether OpenTelemetry makes the spans: handlers must then run within `run`. */
  isExternal(headers: Headers): boolean {
    return this.#tracing?.isActive() === true && headers.traceparent !== undefined;
  }

  /** Runs a handler so that what it calls and publishes belongs to the span. */
  run<T>(span: OpenSpan, headers: Headers, handler: () => T): T {
    const tracing = this.#tracing;
    // OpenTelemetry's own spans have the caller's as their parent.
    if (tracing !== null && this.isExternal(headers)) return tracing.run(headers, handler);
    return runInScope(withTrace(traceOf(span, headers)), handler);
  }

  end(
    span: OpenSpan,
    error: unknown,
    now = this.#scheduler.monotonic(),
    kind: SpanKind = 'serve',
    message?: SpanMessage,
  ): void {
    const durationMs = now - span.since;
    const text = error === null ? null : errorText(error).slice(0, 500);
    if (this.sink !== null && !this.isFull()) this.#sink(span, kind, durationMs, text, message);
    // How a message was settled is no work of this process.
    if (kind === 'settle') return;
    this.#spans[this.#next] = { span, durationMs, error: text };
    this.#next = (this.#next + 1) % MAX_SPANS;
  }

  /** Those of one trace, or all that are kept, oldest first. */
  spans(trace = ''): Span[] {
    const kept = [...this.#spans.slice(this.#next), ...this.#spans.slice(0, this.#next)];
    return kept
      .filter(({ span }) => trace === '' || span.trace === trace)
      .map(({ span, durationMs, error }) => {
        const { name, startedAt, id, parent } = span;
        return { trace: span.trace, id, parent, name, startedAt, durationMs, error };
      });
  }

  #sink(
    { trace, id, parent, name, startedAt }: OpenSpan,
    kind: SpanKind,
    ms: number,
    error: string | null,
    message: SpanMessage | undefined,
  ): void {
    this.sink?.({ kind, trace, id, parent, name, at: startedAt, ms, error, ...message });
  }

  #next32(): number {
    this.#number = (this.#number + 1) % 2 ** 32;
    return this.#number;
  }
}

/** What the span's handler passes on: its own place in the trace, and what else its caller sent. */
export function traceOf(span: OpenSpan, headers: Headers): Headers {
  const flags = span.parent === '' ? '01' : (headers.traceparent ?? '').slice(53, 55) || '01';
  const own: Record<string, string> = { traceparent: `00-${span.trace}-${span.id}-${flags}` };
  if (span.parent !== '') {
    if (headers.tracestate !== undefined) own.tracestate = headers.tracestate;
    if (headers.baggage !== undefined) own.baggage = headers.baggage;
  }
  return own;
}

const no = () => false;
const NO_HEADERS: Headers = Object.freeze({});

/** `toString(16)` of numbers beyond 31 bits is several times as slow. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function hex8(value: number): string {
  return (
    (HEX[value >>> 24] as string) +
    (HEX[(value >>> 16) & 255] as string) +
    (HEX[(value >>> 8) & 255] as string) +
    (HEX[value & 255] as string)
  );
}

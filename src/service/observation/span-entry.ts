/**
 * The stream `_rivulet.spans`: what services did, as the console reads it.
 *
 * An entry is one JSON body: `{ v: 1, service, node, dropped, spans: [...] }`. Invariants: an entry has at
 * most MAX_ENTRY_BYTES, so MAX_ENTRIES of them have at most 64 MiB; a name or error is cut at MAX_TEXT
 * characters; a body that cannot be read as an entry is skipped.
 * Cost: about 250 bytes a span.
 */
import type { Message } from '../../broker/message/message.ts';
import type { SpanFacts, SpanKind } from '../../rpc/seen/spans.ts';

export const SPANS_TOPIC = '_rivulet.spans';
export const SPANS_MAX_BYTES = 64 * 1024 * 1024;
export const SPANS_MAX_AGE_MS = 24 * 60 * 60 * 1000;
export const MAX_ENTRY_BYTES = 32 * 1024;
/** Where the broker limits topics by their number of entries only. */
export const MAX_ENTRIES = SPANS_MAX_BYTES / MAX_ENTRY_BYTES;
const MAX_TEXT = 300;

export interface SpanEntry {
  readonly service: string;
  readonly node: string;
  /** Spans that this process has not stored, since the entry before. */
  readonly dropped: number;
  readonly spans: readonly SpanFacts[];
}

/** The fewest messages that hold the spans. */
export function spanMessages({ service, node, dropped, spans }: SpanEntry): Message[] {
  const messages: Message[] = [];
  const names = { v: 1, service: cut(service), node: cut(node) };
  let texts: string[] = [];
  let bytes = 0;
  const close = (): void => {
    const head = JSON.stringify({ ...names, dropped: messages.length === 0 ? dropped : 0 });
    const body = `${head.slice(0, -1)},"spans":[${texts.join(',')}]}`;
    messages.push({ headers: { 'content-type': 'application/json' }, body });
    texts = [];
    bytes = 0;
  };
  // A name or node of 300 characters has at most 1800 bytes as JSON.
  const room = MAX_ENTRY_BYTES - 4096;
  for (const span of spans) {
    const text = JSON.stringify(shortened(span));
    const length = Buffer.byteLength(text) + 1;
    if (bytes + length > room) close();
    texts.push(text);
    bytes += length;
  }
  if (texts.length > 0 || dropped > 0) close();
  return messages;
}

/** Null for a body that is no entry. */
export function readSpanEntry(body: Uint8Array): SpanEntry | null {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString());
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { v, service, node, dropped, spans } = value as Record<string, unknown>;
  if (v !== 1 || typeof service !== 'string' || typeof node !== 'string') return null;
  if (!Array.isArray(spans)) return null;
  return { service, node, dropped: numberOr(dropped, 0), spans: spans.filter(isSpan) };
}

function isSpan(value: unknown): value is SpanFacts {
  if (typeof value !== 'object' || value === null) return false;
  const span = value as Record<string, unknown>;
  const isText = (name: string) => typeof span[name] === 'string';
  const isNumber = (name: string) => Number.isFinite(span[name]);
  return (
    KINDS.has(span.kind as string) &&
    ['trace', 'id', 'parent', 'name'].every(isText) &&
    ['at', 'ms'].every(isNumber) &&
    (span.error === null || isText('error')) &&
    ['topic', 'group', 'message'].every((name) => span[name] === undefined || isText(name)) &&
    (span.attempt === undefined || isNumber('attempt'))
  );
}

const KINDS = new Set<string>([
  'publish',
  'deliver',
  'settle',
  'call',
  'serve',
  'step',
] satisfies SpanKind[]);

function shortened(span: SpanFacts): SpanFacts {
  const { name, error, topic, group } = span;
  return {
    ...span,
    name: cut(name),
    ms: Math.round(span.ms * 1000) / 1000,
    error: error === null ? null : cut(error),
    ...(topic === undefined ? {} : { topic: cut(topic) }),
    ...(group === undefined ? {} : { group: cut(group) }),
  };
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text;
}

function numberOr(value: unknown, other: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : other;
}

/**
 * Metadata as headers of HTTP/1 and HTTP/2.
 *
 * Values travel as UTF-8, which Go writes and reads as it is; Node shows bytes as Latin-1. Invariants:
 * a header that frames the message or belongs to one connection is never taken from metadata, so no
 * caller can smuggle a request; control characters are refused before anything is sent; names with a
 * meaning for JavaScript's objects are data. Cost: one pass over the headers.
 */
import { RivuletError } from '../errors.ts';
import { type Metadata, NO_METADATA } from './transport.ts';

export const MAX_HEADER_BYTES = 64 * 1024;

/** Headers that belong to the connection or frame the message. */
const OF_THE_WIRE: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'transfer-encoding',
  'content-length',
  'content-encoding',
  'content-type',
  'accept',
  'accept-encoding',
  'date',
  'expect',
  'host',
  'http2-settings',
  'te',
  'timeout',
  'trailer',
  'upgrade',
  'x-content-type',
]);
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
const UNFIT = /[\u0000-\u0008\u000a-\u001f\u007f]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what it recognises
const ASCII = /^[\u0000-\u007f]*$/;
const strict = new TextDecoder('utf-8', { fatal: true });

/** Whether metadata of this lower-case name may be a header. */
export function isCarried(name: string): boolean {
  return (
    !OF_THE_WIRE.has(name) &&
    !name.startsWith(':') &&
    !name.startsWith('grpc-') &&
    !name.startsWith('proxy-')
  );
}

/** A value as Node's HTTP writes it. Throws INVALID_ARGUMENT, `sent: 'no'`, for control characters. */
export function toHeaderValue(name: string, value: string): string {
  if (UNFIT.test(value)) {
    const text = `the value of metadata ${JSON.stringify(name)} has control characters, which HTTP cannot carry`;
    throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
  }
  return ASCII.test(value) ? value : Buffer.from(value, 'utf8').toString('latin1');
}

/** A value as Node's HTTP shows it: UTF-8 where it is, else Latin-1. */
export function fromHeaderValue(value: string): string {
  if (ASCII.test(value)) return value;
  try {
    return strict.decode(Buffer.from(value, 'latin1'));
  } catch {
    return value;
  }
}

/** The headers, names in turn with values, that are metadata; `isOwn` are names of the protocol. */
export function metadataFrom(pairs: readonly string[], isOwn: (name: string) => boolean): Metadata {
  let metadata: Record<string, string> | null = null;
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    const name = (pairs[i] as string).toLowerCase();
    if (!isCarried(name) || isOwn(name)) continue;
    metadata ??= Object.create(null) as Record<string, string>;
    const value = fromHeaderValue(pairs[i + 1] as string);
    const known = metadata[name];
    metadata[name] = known === undefined ? value : `${known}, ${value}`;
  }
  return metadata ?? NO_METADATA;
}

/** `micro-from-service` is `Micro-From-Service`: go-micro looks names up in this form. */
export function titleCase(name: string): string {
  return name.replace(/(^|-)([a-z])/g, (_all, dash: string, letter: string) => {
    return dash + letter.toUpperCase();
  });
}

const NANOSECONDS = 1_000_000;
const MAX_INT64 = 2n ** 63n - 1n;
/** Longer than any timer: as if there were none. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** go-micro's Timeout header for milliseconds. */
export function encodeTimeout(timeoutMs: number): string {
  const ns = Math.max(1, Math.ceil(timeoutMs * NANOSECONDS));
  return Number.isSafeInteger(ns) ? String(ns) : String(BigInt(ns));
}

/**
 * Milliseconds of a Timeout header; null without one. Throws INVALID_ARGUMENT for what is no number of
 * nanoseconds, because a call whose deadline cannot be read must not run without one.
 */
export function decodeTimeout(header: string | undefined): number | null {
  if (header === undefined || header === '') return null;
  const digits = /^[+-]?\d{1,30}$/.test(header) ? BigInt(header) : null;
  if (digits === null || digits > MAX_INT64) {
    const text = `Timeout ${JSON.stringify(header.slice(0, 50))} is no number of nanoseconds`;
    throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
  }
  if (digits <= 0n) {
    throw new RivuletError('TIMEOUT', 'the deadline had passed when the call arrived', {
      sent: 'no',
    });
  }
  const timeoutMs = Number(digits) / NANOSECONDS;
  return timeoutMs > MAX_TIMEOUT_MS ? null : timeoutMs;
}

/**
 * The headers of mucp: which call a request is, and how its reply failed.
 *
 * Invariant: only these names have a meaning; every other header is metadata. The `X-Micro-*` forms
 * and a request with only Method or only Endpoint are read, as old go-micro sends them.
 */
import { fromHeaderValue, toHeaderValue } from '../headers.ts';
import { asErrorCode, encodeMicroError, parseMicroError } from '../micro-error.ts';
import type { CallFailure } from '../transport.ts';

export const MUCP = {
  id: 'Micro-Id',
  service: 'Micro-Service',
  method: 'Micro-Method',
  endpoint: 'Micro-Endpoint',
  error: 'Micro-Error',
  timeout: 'Timeout',
  /** Ours, beside Micro-Error: our code, the name of a typed error, and that no handler ran. */
  code: 'Rivulet-Code',
  errorName: 'Rivulet-Error',
  notSent: 'Rivulet-Not-Run',
} as const;

const OWN: ReadonlySet<string> = new Set(
  [...Object.values(MUCP), 'Micro-Protocol', 'Micro-Target', 'Micro-Stream'].flatMap((name) => {
    const lower = name.toLowerCase();
    return lower.startsWith('micro-') ? [lower, `x-${lower}`] : [lower];
  }),
);

export function isMucpHeader(name: string): boolean {
  return OWN.has(name);
}

type Read = (name: string) => string | undefined;

/** A header or its X- form. */
export function readMucp(read: Read, name: string): string | undefined {
  return read(name.toLowerCase()) ?? read(`x-${name.toLowerCase()}`);
}

export function failureHeaders(failure: CallFailure): string[] {
  const headers = [
    ...[MUCP.error, toHeaderValue(MUCP.error, encodeMicroError(failure))],
    ...[MUCP.code, failure.code],
  ];
  if (failure.name !== undefined) {
    headers.push(MUCP.errorName, toHeaderValue(MUCP.errorName, failure.name));
  }
  if (failure.sent === 'no') headers.push(MUCP.notSent, '1');
  return headers;
}

/** Null for a reply that did not fail. */
export function failureFrom(read: Read, body: Uint8Array): CallFailure | null {
  const text = readMucp(read, MUCP.error);
  if (text === undefined || text === '') return null;
  const failure = parseMicroError(fromHeaderValue(text));
  const name = read(MUCP.errorName.toLowerCase());
  return {
    ...failure,
    code: asErrorCode(read(MUCP.code.toLowerCase()) ?? '') ?? failure.code,
    name: name === undefined ? undefined : fromHeaderValue(name),
    sent: failure.sent === 'no' || read(MUCP.notSent.toLowerCase()) === '1' ? 'no' : 'maybe',
    contentType: read('content-type'),
    body: body.length === 0 ? undefined : body,
  };
}

/**
 * The heads of gRPC's requests: paths, content types, deadlines.
 *
 * Invariants: the last dotted part of a path's service and the method are the endpoint, so that
 * go-micro's `/registry.name.Struct/Method` and protobuf's `/package.Struct/Method` reach the same
 * handler; the earlier of `grpc-timeout` and go-micro's `timeout` is the deadline.
 */
import { RivuletError } from '../../errors.ts';
import { decodeTimeout } from '../headers.ts';
import type { MethodKind, ServedMethod } from '../transport.ts';

const JSON_TYPE = 'application/json';
const PROTO_TYPE = 'application/protobuf';
const BYTES_TYPE = 'application/octet-stream';
const BRACE = 0x7b;
/** Longer than any timer: as if there were none. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export interface GrpcPath {
  /** What stands before the struct: a registry name or a package; empty where there is none. */
  readonly service: string;
  /** `Struct.Method`. */
  readonly endpoint: string;
}

/** Null for what is no path of gRPC. */
export function parsePath(path: string): GrpcPath | null {
  const match = /^\/([^/]+)\/([^/]+)$/.exec(path);
  if (match === null) return null;
  const [, full = '', method = ''] = match;
  const dot = full.lastIndexOf('.');
  return {
    service: dot < 0 ? '' : full.slice(0, dot),
    endpoint: `${full.slice(dot + 1)}.${method}`,
  };
}

/** go-micro's form, which names the service by its name in the registry. */
export function pathOf(service: string, endpoint: string): string {
  const dot = endpoint.indexOf('.');
  return `/${service}.${endpoint.slice(0, dot)}/${endpoint.slice(dot + 1)}`;
}

export function isGrpcType(contentType: string): boolean {
  return /^application\/grpc(\+[a-z0-9.-]+)?($|;| )/.test(contentType);
}

/** The content type on the wire: one of the four that go-micro's servers know. */
export function grpcTypeOf(contentType: string): string {
  if (contentType.startsWith(PROTO_TYPE)) return 'application/grpc+proto';
  if (contentType.startsWith(JSON_TYPE)) return 'application/grpc+json';
  return 'application/grpc+bytes';
}

/**
 * The content type of the messages. Without a word about it they are protobuf where the method has
 * types, unless the first message begins with `{`, which no protobuf message does; else JSON.
 */
export function messageTypeOf(
  grpcType: string,
  said: string | undefined,
  method: ServedMethod | null,
  first: Uint8Array | null,
): string {
  const subtype = /^application\/grpc\+([a-z0-9.-]+)/.exec(grpcType)?.[1];
  if (subtype === 'json') return JSON_TYPE;
  if (subtype === 'bytes') return said === undefined || isOwnType(said) ? BYTES_TYPE : said;
  if (subtype !== undefined && subtype !== 'proto') return `application/${subtype}`;
  if (subtype === undefined && said !== undefined && !isOwnType(said)) return said;
  if (said?.endsWith('json') || method?.isProto !== true) return JSON_TYPE;
  return first?.[0] === BRACE ? JSON_TYPE : PROTO_TYPE;
}

function isOwnType(said: string): boolean {
  return said.startsWith('application/grpc') || said === PROTO_TYPE;
}

/** gRPC's form of a timeout: at most eight digits and a unit. */
export function encodeGrpcTimeout(timeoutMs: number): string {
  const units: [string, number][] = [
    ['n', 1e6],
    ['u', 1e3],
    ['m', 1],
    ['S', 1e-3],
    ['M', 1 / 60_000],
  ];
  for (const [unit, perMs] of units) {
    const amount = Math.ceil(timeoutMs * perMs);
    if (amount < 100_000_000) return `${Math.max(1, amount)}${unit}`;
  }
  return '99999999M';
}

const UNIT_MS: Readonly<Record<string, number>> = {
  n: 1e-6,
  u: 1e-3,
  m: 1,
  S: 1000,
  M: 60_000,
  H: 3_600_000,
};

/**
 * Milliseconds that the call has left; null without a deadline. Throws INVALID_ARGUMENT for a form
 * that is not known, and TIMEOUT for a deadline that has passed.
 */
export function timeoutOf(grpc: string | undefined, micro: string | undefined): number | null {
  const own = decodeTimeout(micro);
  if (grpc === undefined) return own;
  const match = /^(\d{1,8})([HMSmun])$/.exec(grpc);
  if (match === null) {
    const text = `grpc-timeout ${JSON.stringify(grpc.slice(0, 50))} is no number of up to eight digits and a unit`;
    throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
  }
  const timeoutMs = Number(match[1]) * (UNIT_MS[match[2] as string] as number);
  if (timeoutMs === 0) {
    throw new RivuletError('TIMEOUT', 'the deadline had passed when the call arrived', {
      sent: 'no',
    });
  }
  const least = Math.min(timeoutMs, own ?? Number.POSITIVE_INFINITY);
  return least > MAX_TIMEOUT_MS ? null : least;
}

/** The kind of the call between nodes of ours, where the path's method is not known beforehand. */
export const KIND_HEADER = 'rivulet-kind';
const KINDS: ReadonlySet<string> = new Set(['unary', 'serverStream', 'clientStream', 'bidi']);

export function kindOf(header: string | undefined): MethodKind | null {
  return header !== undefined && KINDS.has(header) ? (header as MethodKind) : null;
}

const OWN_NAMES: ReadonlySet<string> = new Set(['user-agent', KIND_HEADER]);

/** Names of the protocol, which are no metadata. */
export function isGrpcHeader(name: string): boolean {
  return OWN_NAMES.has(name) || name.startsWith('grpc-') || name.startsWith(':');
}

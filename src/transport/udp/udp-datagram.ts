/**
 * The datagrams of the udp transport, see udp.ts for their form.
 *
 * Invariant: bytes that are no datagram of ours, or are cut off, are null and never an exception; names
 * with a meaning for JavaScript's objects are data. Cost: one JSON head each.
 */
import { asErrorCode } from '../micro-error.ts';
import type { CallFailure, Metadata } from '../transport.ts';

export const MAX_DATAGRAM = 60 * 1024;
export const TYPE = { request: 1, reply: 2, failure: 3 } as const;
const MAGIC = 'RVU1';
const ID_BYTES = 8;
const FIXED_BYTES = MAGIC.length + 1 + ID_BYTES + 2;

export interface DatagramHead {
  readonly service?: string;
  readonly endpoint?: string;
  readonly contentType?: string;
  readonly metadata?: Metadata;
  readonly timeoutMs?: number | null;
  readonly token?: string;
  readonly failure?: Omit<CallFailure, 'body'>;
}

export interface Datagram {
  readonly type: number;
  /** Sixteen hexadecimal digits. */
  readonly id: string;
  readonly head: DatagramHead;
  readonly body: Uint8Array;
}

export function encodeDatagram({ type, id, head, body }: Datagram): Buffer {
  const json = Buffer.from(JSON.stringify(head), 'utf8');
  const bytes = Buffer.allocUnsafe(FIXED_BYTES + json.length + body.length);
  bytes.write(MAGIC, 'latin1');
  bytes[4] = type;
  bytes.write(id, 5, 'hex');
  // A head that is too long for its length is too long for a datagram: its sender checks that.
  bytes.writeUInt16BE(Math.min(json.length, 0xffff), 5 + ID_BYTES);
  json.copy(bytes, FIXED_BYTES);
  bytes.set(body, FIXED_BYTES + json.length);
  return bytes;
}

export function decodeDatagram(bytes: Buffer): Datagram | null {
  if (bytes.length < FIXED_BYTES || bytes.toString('latin1', 0, 4) !== MAGIC) return null;
  const length = bytes.readUInt16BE(5 + ID_BYTES);
  if (bytes.length < FIXED_BYTES + length) return null;
  const head = headFrom(bytes.toString('utf8', FIXED_BYTES, FIXED_BYTES + length));
  if (head === null) return null;
  return {
    type: bytes[4] as number,
    id: bytes.toString('hex', 5, 5 + ID_BYTES),
    head,
    body: bytes.subarray(FIXED_BYTES + length),
  };
}

function headFrom(text: string): DatagramHead | null {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return null;
  const head = json as Record<string, unknown>;
  for (const name of ['service', 'endpoint', 'contentType', 'token']) {
    if (head[name] !== undefined && typeof head[name] !== 'string') return null;
  }
  const { timeoutMs } = head;
  const isTimeout = typeof timeoutMs === 'number' && timeoutMs > 0 && timeoutMs < 2 ** 31;
  if (timeoutMs !== undefined && timeoutMs !== null && !isTimeout) return null;
  const metadata = metadataFrom(head.metadata);
  if (metadata === null) return null;
  const { failure: said, ...rest } = head;
  const failure = said === undefined ? {} : { failure: failureFrom(said) };
  return { ...rest, ...failure, metadata } as DatagramHead;
}

/** What a peer said of a failure: whatever it wrote is a failure. */
function failureFrom(json: unknown): Omit<CallFailure, 'body'> {
  const said = (typeof json === 'object' ? (json ?? {}) : {}) as Record<string, unknown>;
  const { status } = said;
  const known = Number.isInteger(status) && (status as number) >= 0 && (status as number) < 2 ** 31;
  return {
    code: asErrorCode(textOf(said.code) ?? '') ?? 'RESPONDER_FAILED',
    id: textOf(said.id) ?? '',
    status: known ? (status as number) : 500,
    detail: textOf(said.detail) ?? 'the peer gave no reason',
    name: textOf(said.name),
    contentType: textOf(said.contentType),
    sent: said.sent === 'no' ? 'no' : 'maybe',
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function metadataFrom(json: unknown): Metadata | null {
  const metadata: Record<string, string> = Object.create(null);
  if (json === undefined) return metadata;
  if (typeof json !== 'object' || json === null) return null;
  for (const [name, value] of Object.entries(json)) {
    if (typeof value !== 'string') return null;
    metadata[name.toLowerCase()] = value;
  }
  return metadata;
}

/**
 * The records of a ring as one piece of JSON, which members exchange in a push and pull.
 *
 * Form: go-micro's `{name: [record, …]}`. Ours has one node in each record, and beside go-micro's fields
 * `rivulet`: the version, the member and how long the node is still good for; Go skips it. Invariant: one
 * record that cannot be read hides no other, and after `MAX_BAD` of them no more is read. Both directions
 * are done step by step, so that the caller may let the event loop turn between two records. Cost: linear; a
 * record whose version is known is not read.
 */
import { MAX_RECORD_BYTES, recordFrom } from '../record.ts';
import { listMembers } from './json-lists.ts';
import type { KnownNode, NodeReport } from './record-table.ts';
import { isMemberName } from './wire/messages.ts';
import { Malformed } from './wire/raw-msgpack.ts';
import { MAX_VERSION } from './wire/update.ts';

/** go-micro's register TTL: for how long a record counts that has no age. */
export const FOREIGN_TTL_MS = 90_000;
const MAX_TTL_MS = 366 * 24 * 3600_000;
/** Records of one state that cannot be read; other programs write some, no program this many. */
const MAX_BAD = 1000;
/** What `rivulet` adds to a record, at most. */
const OWN_BYTES = 4096;

/** Yields after each record, and returns the bytes. */
export function* encodeRecords(nodes: Iterable<KnownNode>): Generator<null, Uint8Array> {
  const byName = new Map<string, string[]>();
  for (const { name, json, version, member, ttlMs } of nodes) {
    const extra = JSON.stringify({ version: String(version), member, ttlMs: Math.round(ttlMs) });
    const list = byName.get(name);
    const text = `${json.slice(0, -1)},"rivulet":${extra}}`;
    if (list === undefined) byName.set(name, [text]);
    else list.push(text);
    yield null;
  }
  const parts: Buffer[] = [];
  for (const [name, list] of byName) {
    const before = parts.length === 0 ? '{' : ',';
    parts.push(Buffer.from(`${before}${JSON.stringify(name)}:[${list.join(',')}]`));
    yield null;
  }
  parts.push(Buffer.from(parts.length === 0 ? '{}' : '}'));
  return Buffer.concat(parts);
}

/**
 * The reports of a state, null after each record; a record that is known is passed over, and one that
 * cannot be read is reported. Throws where the state is no JSON, or has too many that cannot be read.
 */
export function* decodeRecords(
  bytes: Uint8Array,
  isKnown: (name: string, id: string, version: bigint) => boolean,
  onBad: (name: string, error: unknown) => void,
): Generator<NodeReport | null, void> {
  if (bytes.length === 0) return;
  let bad = 0;
  for (const member of listMembers(bytes)) {
    try {
      if (member !== null) yield* reportsOf(jsonOf(member.bytes), isKnown);
    } catch (error) {
      onBad(member?.name ?? '', error);
      if (++bad >= MAX_BAD) throw new Malformed(`${bad} records of it cannot be read`);
    }
    yield null;
  }
}

function jsonOf(bytes: Buffer): unknown {
  if (bytes.length > MAX_RECORD_BYTES + OWN_BYTES) {
    throw new Malformed(`it is longer than ${MAX_RECORD_BYTES} bytes`);
  }
  return JSON.parse(bytes.toString());
}

function* reportsOf(
  json: unknown,
  isKnown: (name: string, id: string, version: bigint) => boolean,
): Iterable<NodeReport> {
  const { rivulet, name, nodes } = (json ?? {}) as Record<string, unknown>;
  const { version, member, ttlMs } = (rivulet ?? {}) as Record<string, unknown>;
  const isGiven = typeof version === 'string' && /^\d{1,19}$/.test(version);
  const given = isGiven && BigInt(version) <= MAX_VERSION ? BigInt(version) : 0n;
  const id = Array.isArray(nodes) && nodes.length === 1 ? nodes[0]?.id : undefined;
  if (isGiven && typeof name === 'string' && typeof id === 'string' && isKnown(name, id, given))
    return;
  const isNamed = typeof member === 'string' && member !== '';
  if (isNamed && !isMemberName(member)) {
    throw new Malformed('it names a member that no ring can have');
  }
  const record = recordFrom(json);
  for (const node of record.nodes) {
    yield {
      record: { ...record, nodes: [node] },
      version: given,
      member: isNamed ? member : null,
      ttlMs: ttlOf(ttlMs),
      isDirect: false,
    };
  }
}

/** Milliseconds that another process wrote. */
export function ttlOf(value: unknown): number {
  const isTtl = typeof value === 'number' && value >= 1 && Number.isFinite(value);
  return isTtl ? Math.min(value, MAX_TTL_MS) : FOREIGN_TTL_MS;
}

/**
 * Service records: go-micro's JSON form, checks of what other programs wrote, and merging.
 *
 * Invariants: what is read is complete (absent and null lists and maps are empty) and bounded
 * (1 MiB of JSON, 1000 nodes a record); what cannot be a record is refused with a reason and never
 * throws past the reader. Cost: linear in the record.
 */
import { RivuletError } from '../errors.ts';
import type { ServiceEndpoint, ServiceNode, ServiceRecord, ServiceValue } from './registry.ts';

/** A longer record is refused: it is no description of a service. */
export const MAX_RECORD_BYTES = 1024 * 1024;
const MAX_NODES = 1000;
const MAX_ENDPOINTS = 10_000;
const MAX_VALUE_DEPTH = 3;
const MAX_NAME_BYTES = 255;

/** The record as go-micro writes it. */
export function encodeRecord(service: ServiceRecord): string {
  return JSON.stringify({
    name: service.name,
    version: service.version,
    metadata: service.metadata,
    endpoints: service.endpoints,
    nodes: service.nodes,
  });
}

/** A record that another program wrote. Throws DECODING_FAILED with the reason. */
export function decodeRecord(text: string): ServiceRecord {
  if (text.length > MAX_RECORD_BYTES) refuse(`it is longer than ${MAX_RECORD_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new RivuletError('DECODING_FAILED', 'the service record is not JSON', { cause });
  }
  return recordFrom(json);
}

/** A record from parsed JSON. Throws DECODING_FAILED with the reason. */
export function recordFrom(json: unknown): ServiceRecord {
  const fields = objectFrom(json, 'the record');
  const name = textFrom(fields.name, 'name');
  if (!isServiceName(name)) refuse(`its name is ${JSON.stringify(name.slice(0, 64))}`);
  const nodes = listFrom(fields.nodes, 'nodes', MAX_NODES).map(nodeFrom);
  return {
    name,
    version: textFrom(fields.version ?? '', 'version'),
    metadata: mapFrom(fields.metadata, 'metadata'),
    endpoints: listFrom(fields.endpoints, 'endpoints', MAX_ENDPOINTS).map(endpointFrom),
    nodes,
  };
}

/** A record that a person wrote: the version may be left out. Throws INVALID_ARGUMENT with the reason. */
export function recordByHand(text: string): ServiceRecord {
  try {
    const fields = JSON.parse(text) as Record<string, unknown>;
    const record = recordFrom({ version: 'latest', ...fields });
    checkRecord(record);
    return record;
  } catch (error) {
    const why = (error as Error).message;
    throw new RivuletError('INVALID_ARGUMENT', `the record cannot be used: ${why}`);
  }
}

/** Refuses a record that cannot be registered: INVALID_ARGUMENT. */
export function checkRecord(service: ServiceRecord): void {
  if (!isServiceName(service.name)) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `service name ${JSON.stringify(String(service.name).slice(0, 64))} must be 1 to ${MAX_NAME_BYTES} bytes without spaces, control characters or "/"`,
    );
  }
  if (service.nodes.length === 0) {
    throw new RivuletError('INVALID_ARGUMENT', `service ${service.name} has no node to register`);
  }
  if (service.nodes.length > MAX_NODES) {
    const text = `service ${service.name} has more than ${MAX_NODES} nodes in one record`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  for (const node of service.nodes) {
    if (node.id === '' || !isAddress(node.address)) {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        `node ${JSON.stringify(node.id)} of ${service.name}: ${JSON.stringify(node.address)} is no host:port`,
      );
    }
  }
  const bytes = Buffer.byteLength(encodeRecord(service));
  if (bytes > MAX_RECORD_BYTES) {
    const text = `the record of ${service.name} has ${bytes} bytes; at most ${MAX_RECORD_BYTES} may be registered`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
}

/** Names travel in paths, subjects and labels: no spaces, control characters or slashes. */
export function isServiceName(name: string): boolean {
  return (
    typeof name === 'string' &&
    name !== '' &&
    Buffer.byteLength(name) <= MAX_NAME_BYTES &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
    !/[\s/\u0000-\u001f\u007f]/u.test(name)
  );
}

/** host:port with a port from 1 to 65535; an IPv6 host is in brackets. */
export function isAddress(address: string): boolean {
  return typeof address === 'string' && splitAddress(address) !== null;
}

/** The parts of host:port, brackets of IPv6 removed; null where it is none. */
export function splitAddress(address: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:/@[\]]+)):(\d{1,5})$/.exec(address);
  if (match === null) return null;
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) return null;
  return { host: match[1] ?? match[2] ?? '', port };
}

/** Records of one name and version become one, with every node once (the last one of an id wins). */
export function mergeRecords(records: Iterable<ServiceRecord>): ServiceRecord[] {
  const merged = new Map<string, { record: ServiceRecord; nodes: Map<string, ServiceNode> }>();
  for (const record of records) {
    const key = `${record.name}\n${record.version}`;
    let entry = merged.get(key);
    if (entry === undefined) {
      entry = { record, nodes: new Map() };
      merged.set(key, entry);
    } else if (record.endpoints.length > 0) entry.record = record;
    for (const node of record.nodes) entry.nodes.set(node.id, node);
  }
  return [...merged.values()].map(({ record, nodes }) => ({
    ...record,
    nodes: [...nodes.values()],
  }));
}

/** Whether two records say the same of a service and its nodes. */
export function sameRecord(a: ServiceRecord, b: ServiceRecord): boolean {
  return encodeRecord(a) === encodeRecord(b);
}

function nodeFrom(json: unknown): ServiceNode {
  const fields = objectFrom(json, 'a node');
  const id = textFrom(fields.id, 'node id');
  const address = textFrom(fields.address, 'node address');
  if (id === '') refuse('a node has no id');
  if (!isAddress(address)) {
    refuse(`node ${id.slice(0, 64)}: ${JSON.stringify(address.slice(0, 64))} is no host:port`);
  }
  return { id, address, metadata: mapFrom(fields.metadata, 'node metadata') };
}

function endpointFrom(json: unknown): ServiceEndpoint {
  const fields = objectFrom(json, 'an endpoint');
  return {
    name: textFrom(fields.name, 'endpoint name'),
    request: valueFrom(fields.request, 0),
    response: valueFrom(fields.response, 0),
    metadata: mapFrom(fields.metadata, 'endpoint metadata'),
  };
}

function valueFrom(json: unknown, depth: number): ServiceValue | null {
  if (json === null || json === undefined) return null;
  const fields = objectFrom(json, 'a value');
  const values = listFrom(fields.values, 'values', MAX_ENDPOINTS);
  return {
    name: textFrom(fields.name ?? '', 'value name'),
    type: textFrom(fields.type ?? '', 'value type'),
    values:
      depth >= MAX_VALUE_DEPTH
        ? []
        : values.map((value) => valueFrom(value, depth + 1)).filter((value) => value !== null),
  };
}

function objectFrom(json: unknown, what: string): Record<string, unknown> {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    refuse(`${what} is no object`);
  }
  return json as Record<string, unknown>;
}

function textFrom(json: unknown, what: string): string {
  if (typeof json !== 'string') refuse(`${what} is no text`);
  return json as string;
}

/** go-micro writes empty lists as null. */
function listFrom(json: unknown, what: string, most: number): unknown[] {
  if (json === null || json === undefined) return [];
  if (!Array.isArray(json)) refuse(`${what} is no list`);
  if ((json as unknown[]).length > most) refuse(`${what} has more than ${most} members`);
  return json as unknown[];
}

/** go-micro writes empty maps as null. A map without a prototype: `__proto__` is an ordinary key. */
function mapFrom(json: unknown, what: string): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  if (json === null || json === undefined) return map;
  for (const [key, value] of Object.entries(objectFrom(json, what))) {
    if (typeof value !== 'string') refuse(`${what} ${JSON.stringify(key.slice(0, 64))} is no text`);
    map[key] = value as string;
  }
  return map;
}

function refuse(reason: string): never {
  throw new RivuletError('DECODING_FAILED', `not a service record: ${reason}`);
}

/** Refuses a TTL that no registry can keep: INVALID_ARGUMENT. */
export function checkTtl(ttlMs: number): void {
  if (typeof ttlMs === 'number' && ttlMs >= 1 && ttlMs <= MAX_TTL_MS) return;
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `ttlMs must be a number of milliseconds from 1 to ${MAX_TTL_MS}, not ${ttlMs}`,
  );
}

/** A year. */
const MAX_TTL_MS = 365 * 24 * 3600_000;

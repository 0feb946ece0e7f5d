/**
 * What go-micro writes into the tags of a Consul service: metadata, endpoints, version.
 *
 * A tag is `t-` (one pair of the node's metadata, JSON `{"k":"v"}`), `e-` (one endpoint, JSON) or `v-`
 * (the version's text), each followed by the hex of its zlib stream; older programs write the plain
 * text after `t=`, `e=`, `v=`. `s-` is ours: the metadata of the service, which go-micro leaves out and
 * passes over. Invariants: the first form seen of each letter wins, as in go-micro; a tag that cannot
 * be read is passed over; a tag inflates to at most the size of a record. Cost: one zlib stream a tag.
 */
import { deflateSync, inflateSync } from 'node:zlib';
import { MAX_RECORD_BYTES, recordFrom } from '../record.ts';
import type { ServiceEndpoint, ServiceRecord } from '../registry.ts';

export interface TaggedFacts {
  readonly version: string;
  /** Of the node. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly endpoints: readonly ServiceEndpoint[];
  /** Of the service. */
  readonly serviceMetadata: Readonly<Record<string, string>>;
}

/** The tags of the record's first node. */
export function encodeTags({ nodes, endpoints, version, metadata }: ServiceRecord): string[] {
  const pairs = Object.entries(nodes[0]?.metadata ?? {});
  return [
    ...pairs.map(([key, value]) => `t-${packed(pairJson(key, value))}`),
    ...endpoints.map((endpoint) => `e-${packed(JSON.stringify(endpoint))}`),
    `v-${packed(version)}`,
    ...(Object.keys(metadata).length === 0 ? [] : [`s-${packed(JSON.stringify(metadata))}`]),
  ];
}

/** Null where no version is among them: another program's service. */
export function decodeTags(tags: readonly unknown[]): TaggedFacts | null {
  const texts = tags.filter((tag) => typeof tag === 'string');
  const [version] = ofLetter(texts, 'v');
  if (version === undefined) return null;
  const pairs = ofLetter(texts, 't').map((text) => parsed(text));
  const endpoints = ofLetter(texts, 'e').map((text) => parsed(text));
  const [own] = ofLetter(texts, 's').map((text) => parsed(text));
  // The record's own reader checks the parts: what is no part of a record is left out.
  return {
    version,
    metadata: mapOf(pairs),
    endpoints: endpoints.flatMap((each) => partOf(() => endpointsOf(each))),
    serviceMetadata: mapOf([own]),
  };
}

/** Whether a list of tags, of one service or of several, has a version in it: go-micro's have. */
export function hasVersion(tags: unknown): boolean {
  if (!Array.isArray(tags)) return false;
  return tags.some((tag) => typeof tag === 'string' && /^v[-=]/.test(tag));
}

function ofLetter(tags: readonly string[], letter: string): string[] {
  const first = tags.find((tag) => tag.startsWith(`${letter}-`) || tag.startsWith(`${letter}=`));
  if (first === undefined) return [];
  const start = first.slice(0, 2);
  return tags
    .filter((tag) => tag.startsWith(start))
    .map((tag) => (start.endsWith('-') ? unpacked(tag.slice(2)) : tag.slice(2)))
    .filter((text) => text !== null);
}

function packed(text: string): string {
  return deflateSync(Buffer.from(text)).toString('hex');
}

function unpacked(hex: string): string | null {
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(hex)) return null;
  try {
    const limits = { maxOutputLength: MAX_RECORD_BYTES };
    return inflateSync(Buffer.from(hex, 'hex'), limits).toString();
  } catch {
    return null;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One pair; `__proto__` is a key like any other. */
function pairJson(key: string, value: string): string {
  return `{${JSON.stringify(key)}:${JSON.stringify(value)}}`;
}

function mapOf(parts: readonly unknown[]): Record<string, string> {
  const map: Record<string, string> = Object.create(null);
  for (const part of parts) {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) continue;
    for (const [key, value] of Object.entries(part))
      if (typeof value === 'string') map[key] = value;
  }
  return map;
}

function endpointsOf(json: unknown): readonly ServiceEndpoint[] {
  return recordFrom({ name: 'any', endpoints: [json] }).endpoints;
}

function partOf<T>(read: () => readonly T[]): readonly T[] {
  try {
    return read();
  } catch {
    return [];
  }
}

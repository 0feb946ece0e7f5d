/**
 * A node as DNS records, in go-micro's form, and back.
 *
 * One packet is one node: PTR `<service>.micro` to `<node id>.<service>.micro`, SRV with the port, A or
 * AAAA of the SRV's target, TXT with hex(zlib(JSON)) in pieces of 255. Invariants: an answer repeats
 * the question, because Go's reader drops others; a name that DNS cannot carry is shortened, and the
 * TXT then holds the whole id; what is read is bounded before it is unpacked (1 MiB of JSON). Cost:
 * linear in the record.
 */
import { createHash } from 'node:crypto';
import { isIP, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { deflateSync, inflateSync } from 'node:zlib';
import type { ResponsePacket } from 'multicast-dns';
import { RivuletError } from '../../errors.ts';
import { MAX_RECORD_BYTES, recordFrom, splitAddress } from '../record.ts';
import type { ServiceEndpoint, ServiceNode, ServiceRecord } from '../registry.ts';

const LABEL_BYTES = 63;
const NAME_BYTES = 240;
const PIECE = 255;
/** What one datagram carries, with room for the names around the TXT. */
const MAX_TXT_BYTES = 60_000;
/** go-micro's port of a directory entry. */
const DIRECTORY_PORT = 9999;
const MAX_TTL_S = 2 ** 31 - 1;

type Answer = NonNullable<ResponsePacket['answers']>[number];
type Question = NonNullable<ResponsePacket['questions']>[number];
type Packet = Pick<ResponsePacket, 'answers' | 'additionals'>;

export interface MdnsPacket {
  readonly questions: Question[];
  readonly answers: Answer[];
}

/** What one packet said of a node. */
export interface MdnsNode {
  readonly record: ServiceRecord;
  /** 0 is a farewell. */
  readonly ttlMs: number;
}

export function questionOf(name: string): Question {
  return { name, type: 'PTR', class: 'IN' };
}

/** The DNS name of a service, without the last dot. */
export function serviceDomain(service: string, domain: string): string {
  return `${service}.${domain}`;
}

/** The packet of a node: the answer to a question about its service. `ttlMs` 0 is a farewell. */
export function packetOf(
  record: ServiceRecord,
  node: ServiceNode,
  ttlMs: number,
  domain: string,
): MdnsPacket {
  const service = serviceDomain(record.name, domain);
  const instance = instanceName(node.id, service);
  const ttl = Math.min(MAX_TTL_S, Math.ceil(ttlMs / 1000));
  const address = splitAddress(node.address) as { host: string; port: number };
  const ip = isIP(address.host);
  const target = ip === 0 ? address.host : hostLabel();
  const whole = instance === `${node.id}.${service}`;
  const answers: Answer[] = [
    { type: 'PTR', class: 'IN', ttl, name: service, data: instance },
    {
      type: 'SRV',
      class: 'IN',
      ttl,
      name: instance,
      data: { priority: 10, weight: 1, port: address.port, target },
    },
  ];
  if (ip !== 0) {
    const type = ip === 4 ? 'A' : 'AAAA';
    answers.push({ type, class: 'IN', ttl, name: target, data: address.host });
  }
  const data = textOf(record, node, whole);
  answers.push({ type: 'TXT', class: 'IN', ttl, name: instance, data });
  return { questions: [questionOf(service)], answers };
}

/** The directory's packet: that there is such a service. */
export function directoryPacket(service: string, ttlMs: number, domain: string): MdnsPacket {
  const name = `_services.${domain}`;
  const instance = `${service}.${name}`;
  const ttl = Math.min(MAX_TTL_S, Math.ceil(ttlMs / 1000));
  const target = hostLabel();
  return {
    questions: [questionOf(name)],
    answers: [
      { type: 'PTR', class: 'IN', ttl, name, data: instance },
      {
        type: 'SRV',
        class: 'IN',
        ttl,
        name: instance,
        data: { priority: 10, weight: 1, port: DIRECTORY_PORT, target },
      },
      { type: 'A', class: 'IN', ttl, name: target, data: '0.0.0.0' },
      { type: 'TXT', class: 'IN', ttl, name: instance, data: [''] },
    ],
  };
}

/** The services that a directory's packet names. */
export function directoryOf(packet: Packet, domain: string): string[] {
  const suffix = `._services.${domain}`;
  const names: string[] = [];
  for (const answer of answersOf(packet)) {
    if (answer.type !== 'PTR' || !answer.data.endsWith(suffix)) continue;
    names.push(answer.data.slice(0, -suffix.length));
  }
  return names;
}

/** The nodes of a packet; `onBad` receives what cannot be read. */
export function nodesOf(
  packet: Packet,
  domain: string,
  onBad: (instance: string, error: unknown) => void,
): MdnsNode[] {
  const answers = answersOf(packet);
  const nodes: MdnsNode[] = [];
  for (const answer of answers) {
    if (answer.type !== 'TXT' || !answer.name.endsWith(`.${domain}`)) continue;
    if (answer.name.endsWith(`._services.${domain}`)) continue;
    try {
      nodes.push(nodeOf(answer, answers, domain));
    } catch (error) {
      onBad(answer.name, error);
    }
  }
  return nodes;
}

type TxtAnswer = Extract<Answer, { type: 'TXT' }>;

function nodeOf(txt: TxtAnswer, answers: readonly Answer[], domain: string): MdnsNode {
  const instance = txt.name;
  const fields = fieldsOf(txt);
  const suffix = `.${serviceDomain(String(fields.Service), domain)}`;
  if (!instance.endsWith(suffix)) refuse(`it is about ${JSON.stringify(fields.Service)}`);
  let srv: { port: number; target: string } | null = null;
  for (const answer of answers) {
    if (answer.type === 'SRV' && answer.name === instance) srv = answer.data;
  }
  if (srv === null) return refuse('it has no SRV record');
  let host = srv.target;
  for (const answer of answers) {
    if (answer.type === 'A' && answer.name === srv.target) host = answer.data;
    else if (answer.type === 'AAAA' && answer.name === srv.target) host = answer.data;
  }
  const id = typeof fields.Id === 'string' ? fields.Id : instance.slice(0, -suffix.length);
  const address = `${isIPv6(host) ? `[${host}]` : host}:${srv.port}`;
  const record = recordFrom({
    name: fields.Service,
    version: fields.Version,
    metadata: fields.ServiceMetadata,
    endpoints: fields.Endpoints,
    nodes: [{ id, address, metadata: fields.Metadata }],
  });
  return { record, ttlMs: (txt.ttl ?? 0) * 1000 };
}

function fieldsOf(txt: TxtAnswer): Record<string, unknown> {
  const pieces = Array.isArray(txt.data) ? txt.data : [txt.data];
  const hex = pieces.map((piece) => piece.toString()).join('');
  if (hex === '' || hex.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(hex))
    refuse('its TXT is no hex');
  let json: unknown;
  try {
    const bytes = inflateSync(Buffer.from(hex, 'hex'), { maxOutputLength: MAX_RECORD_BYTES });
    json = JSON.parse(bytes.toString());
  } catch (cause) {
    throw new RivuletError('DECODING_FAILED', 'its TXT is no compressed JSON', { cause });
  }
  if (typeof json !== 'object' || json === null) refuse('its TXT is no object');
  return json as Record<string, unknown>;
}

/** The TXT of a node. What is too long for a datagram goes without the shapes, then without endpoints. */
function textOf(record: ServiceRecord, node: ServiceNode, whole: boolean): string[] {
  const shapeless = (endpoint: ServiceEndpoint) => ({ ...endpoint, request: null, response: null });
  for (const endpoints of [record.endpoints, record.endpoints.map(shapeless), []]) {
    const json = JSON.stringify({
      Service: record.name,
      Version: record.version,
      Endpoints: endpoints,
      Metadata: node.metadata,
      // go-micro passes over what it does not know.
      ...(Object.keys(record.metadata).length > 0 ? { ServiceMetadata: record.metadata } : {}),
      ...(whole ? {} : { Id: node.id }),
    });
    const hex = deflateSync(json).toString('hex');
    if (hex.length > MAX_TXT_BYTES) continue;
    const pieces: string[] = [];
    for (let at = 0; at < hex.length; at += PIECE) pieces.push(hex.slice(at, at + PIECE));
    return pieces;
  }
  throw new RivuletError(
    'INVALID_ARGUMENT',
    `the metadata of node ${node.id} does not fit in a datagram of ${MAX_TXT_BYTES} bytes; shorten it or use another registry`,
  );
}

/** `<node id>.<service>.micro`, with a digest in place of an id that DNS cannot carry. */
export function instanceName(nodeId: string, service: string): string {
  const name = `${nodeId}.${service}`;
  if (isDnsName(name)) return name;
  const digest = createHash('sha256').update(nodeId).digest('hex').slice(0, 32);
  return `n-${digest}.${service}`;
}

/** Whether DNS can carry a name. */
export function isDnsName(name: string): boolean {
  return (
    Buffer.byteLength(name) <= NAME_BYTES &&
    name.split('.').every((label) => label !== '' && Buffer.byteLength(label) <= LABEL_BYTES)
  );
}

function hostLabel(): string {
  return hostname()
    .split('.')
    .map((label) => label.slice(0, LABEL_BYTES))
    .filter((label) => label !== '')
    .slice(0, 3)
    .join('.');
}

function answersOf(packet: Packet): Answer[] {
  return [...(packet.answers ?? []), ...(packet.additionals ?? [])];
}

function refuse(reason: string): never {
  throw new RivuletError('DECODING_FAILED', `not a record of a node: ${reason}`);
}

/**
 * The messages of memberlist's wire between members: pings, and claims about members.
 *
 * Holds: type bytes, Go's field names, and the shape that each message has here. Invariants: what is
 * decoded has every field, of the right kind and within its bounds (names 1 to 255 bytes of UTF-8, meta 512 bytes,
 * six versions); what does not throws `Malformed` or `Truncated`. Cost: linear in the message.
 */
import { isUtf8 } from 'node:buffer';
import { bytesOfHost, type Endpoint, hostOfBytes } from './endpoint.ts';
import { Malformed, RawReader, type RawValue, writeMap } from './raw-msgpack.ts';

export const PING = 0;
export const INDIRECT_PING = 1;
export const ACK = 2;
export const SUSPECT = 3;
export const ALIVE = 4;
export const DEAD = 5;
export const PUSH_PULL = 6;
export const COMPOUND = 7;
export const USER = 8;
export const COMPRESSED = 9;
export const ENCRYPTED = 10;
export const NACK = 11;
export const CRC = 12;
export const ERROR = 13;

/** Least, most and current version of memberlist's protocol, and the same of the delegate's. */
export type Versions = readonly number[];
export const OWN_VERSIONS: Versions = [1, 5, 4, 0, 0, 0];

const MAX_NAME_BYTES = 255;
const MAX_META_BYTES = 512;

export interface Ping {
  readonly type: typeof PING;
  readonly seq: number;
  /** The member that is asked: another one that has taken its address does not answer. */
  readonly node: string;
  /** Where the answer goes; null = to where the ping came from. */
  readonly source: Endpoint | null;
  readonly sourceNode: string;
}

export interface IndirectPing {
  readonly type: typeof INDIRECT_PING;
  readonly seq: number;
  readonly target: Endpoint;
  readonly node: string;
  readonly wantsNack: boolean;
  readonly source: Endpoint | null;
  readonly sourceNode: string;
}

export interface Answer {
  readonly type: typeof ACK | typeof NACK;
  readonly seq: number;
}

/** `from` claims that a member is suspected or dead; a member that claims its own death leaves. */
export interface Accusation {
  readonly type: typeof SUSPECT | typeof DEAD;
  readonly incarnation: number;
  readonly node: string;
  readonly from: string;
}

export interface Alive {
  readonly type: typeof ALIVE;
  readonly incarnation: number;
  readonly node: string;
  readonly endpoint: Endpoint;
  readonly meta: Uint8Array;
  readonly versions: Versions;
}

export interface UserMessage {
  readonly type: typeof USER;
  readonly bytes: Uint8Array;
}

export type GossipMessage = Ping | IndirectPing | Answer | Accusation | Alive | UserMessage;

export function encodeMessage(message: GossipMessage): Uint8Array {
  if (message.type === USER) return Buffer.concat([Uint8Array.of(USER), message.bytes]);
  return Buffer.concat([Uint8Array.of(message.type), writeMap(fieldsOf(message))]);
}

// Go writes the fields of a struct in the order of their names.
function fieldsOf(message: Exclude<GossipMessage, UserMessage>) {
  switch (message.type) {
    case PING:
      return { Node: message.node, SeqNo: message.seq, ...sourceOf(message) };
    case INDIRECT_PING: {
      const { seq, target, node, wantsNack } = message;
      const { SourceAddr, SourceNode, SourcePort } = sourceOf(message) as Record<string, never>;
      const source =
        message.source === null ? {} : ({ SourceAddr, SourceNode, SourcePort } as const);
      const place = { Target: bytesOfHost(target.host) };
      return { Nack: wantsNack, Node: node, Port: target.port, SeqNo: seq, ...source, ...place };
    }
    case ACK:
      return { Payload: null, SeqNo: message.seq };
    case NACK:
      return { SeqNo: message.seq };
    case SUSPECT:
    case DEAD:
      return { From: message.from, Incarnation: message.incarnation, Node: message.node };
    case ALIVE:
      return {
        Addr: bytesOfHost(message.endpoint.host),
        Incarnation: message.incarnation,
        Meta: message.meta,
        Node: message.node,
        Port: message.endpoint.port,
        Vsn: Uint8Array.from(message.versions),
      };
  }
}

function sourceOf({ source, sourceNode }: Ping | IndirectPing) {
  if (source === null) return {};
  return { SourceAddr: bytesOfHost(source.host), SourceNode: sourceNode, SourcePort: source.port };
}

/** The message of a type byte and what follows it. Throws `Malformed` or `Truncated`. */
export function decodeMessage(type: number, bytes: Uint8Array): GossipMessage {
  if (type === USER) return { type, bytes };
  return messageFrom(type, new RawReader(bytes).value());
}

/** The same of a value that was read already. */
export function messageFrom(type: number, value: RawValue): Exclude<GossipMessage, UserMessage> {
  const fields = new Fields(value);
  switch (type) {
    case PING:
      return {
        type,
        seq: fields.u32('SeqNo'),
        node: fields.text('Node'),
        source: fields.endpoint('SourceAddr', 'SourcePort'),
        sourceNode: fields.text('SourceNode'),
      };
    case INDIRECT_PING: {
      const target = fields.endpoint('Target', 'Port');
      if (target === null) throw new Malformed('it names no target');
      return {
        type,
        seq: fields.u32('SeqNo'),
        target,
        node: fields.text('Node'),
        wantsNack: fields.isTrue('Nack'),
        source: fields.endpoint('SourceAddr', 'SourcePort'),
        sourceNode: fields.text('SourceNode'),
      };
    }
    case ACK:
    case NACK:
      return { type, seq: fields.u32('SeqNo') };
    case SUSPECT:
    case DEAD:
      return {
        type,
        incarnation: fields.u32('Incarnation'),
        node: fields.name('Node'),
        from: fields.text('From'),
      };
    case ALIVE: {
      const endpoint = fields.endpoint('Addr', 'Port');
      if (endpoint === null) throw new Malformed('it names no address');
      return {
        type,
        incarnation: fields.u32('Incarnation'),
        node: fields.name('Node'),
        endpoint,
        meta: fields.meta('Meta'),
        versions: fields.versions('Vsn'),
      };
    }
    default:
      throw new Malformed(`its type ${type} is not known`);
  }
}

/** Whether a member can have this name. */
export function isMemberName(name: string): boolean {
  const bytes = Buffer.from(name);
  // Half of a surrogate pair becomes another character as bytes.
  return name !== '' && bytes.length <= MAX_NAME_BYTES && bytes.toString() === name;
}

/** The fields of a message as another program wrote them; an absent one is zero, as in Go. */
export class Fields {
  readonly #map: Map<string, RawValue>;

  constructor(value: RawValue) {
    if (!(value instanceof Map)) throw new Malformed('it is no map');
    this.#map = value;
  }

  u32(name: string): number {
    return this.#unsigned(name, 0xffff_ffff);
  }

  count(name: string, most: number): number {
    return this.#unsigned(name, most);
  }

  isTrue(name: string): boolean {
    return this.#map.get(name) === true;
  }

  bytes(name: string): Uint8Array {
    const value = this.#map.get(name) ?? null;
    if (value === null) return new Uint8Array(0);
    // A list of small numbers is how some writers put bytes.
    if (Array.isArray(value) && value.length <= MAX_NAME_BYTES && value.every(isByte)) {
      return Uint8Array.from(value as number[]);
    }
    if (!(value instanceof Uint8Array)) throw new Malformed(`${name} is no bytes`);
    return value;
  }

  text(name: string): string {
    const bytes = this.bytes(name);
    if (bytes.length > MAX_NAME_BYTES) {
      throw new Malformed(`${name} has more than ${MAX_NAME_BYTES} bytes`);
    }
    // As text it would have other bytes, up to three times as many, and every other member would refuse it.
    if (!isUtf8(bytes)) throw new Malformed(`${name} is no UTF-8`);
    return Buffer.from(bytes).toString();
  }

  name(name: string): string {
    const text = this.text(name);
    if (text === '') throw new Malformed(`${name} is empty`);
    return text;
  }

  meta(name: string): Uint8Array {
    const bytes = this.bytes(name);
    if (bytes.length > MAX_META_BYTES) {
      throw new Malformed(`${name} has more than ${MAX_META_BYTES} bytes`);
    }
    // A copy, so that a member does not hold the whole datagram.
    return Uint8Array.from(bytes);
  }

  versions(name: string): Versions {
    const bytes = this.bytes(name);
    return Array.from({ length: 6 }, (_, at) => bytes[at] ?? 0);
  }

  /** Null where there is no address or no port. */
  endpoint(address: string, port: string): Endpoint | null {
    const bytes = this.bytes(address);
    const number = this.#unsigned(port, 0xffff);
    if (bytes.length === 0 || number === 0) return null;
    const host = hostOfBytes(bytes);
    if (host === null) throw new Malformed(`${address} has ${bytes.length} bytes`);
    return { host, port: number };
  }

  #unsigned(name: string, most: number): number {
    const value = this.#map.get(name) ?? 0;
    if (typeof value !== 'number' || value < 0 || value > most) {
      throw new Malformed(`${name} is no number up to ${most}`);
    }
    return value;
  }
}

function isByte(value: RawValue): boolean {
  return typeof value === 'number' && value >= 0 && value <= 255;
}

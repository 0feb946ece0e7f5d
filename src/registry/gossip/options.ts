/**
 * The options of the gossip registry: what they mean, their defaults and their bounds.
 *
 * Invariants: without a key a ring is for one machine: it listens on the loopback interface and takes no
 * member from elsewhere; go-micro's published default key is refused; an error shows no key. Cost: none.
 */
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { decodePart } from '../server/address-part.ts';
import type { WarningListener } from '../warnings.ts';
import { type Endpoint, isLoopback, isWildcard, textOf } from './wire/endpoint.ts';
import { isMemberName } from './wire/messages.ts';
import { MEMBER_BYTES, MOST_MEMBERS, STATE_HEAD_BYTES } from './wire/push-pull.ts';

export interface GossipRegistryOptions {
  /** `host:port` of members to join, of which one that answers is enough. Default: none, a new ring. */
  readonly seeds?: readonly string[];
  /** `address:port` to listen on, UDP and TCP; port 0 = a free one. Default `127.0.0.1:0`, with a key `0.0.0.0:0`. */
  readonly bind?: string;
  /** `address:port` or `address` that other members reach this one by. Default: where it listens. */
  readonly advertise?: string;
  /** The ring's key, 16, 24 or 32 bytes (AES-128, 192, 256). Without one the ring is for one machine. */
  readonly key?: string | Uint8Array;
  /** The name of this member, unlike that of any other. Default: made up. */
  readonly name?: string;
  /** Milliseconds between two probes. Default 1000. */
  readonly probeIntervalMs?: number;
  /** How long a probed member has for its answer before others are asked. Default 500. */
  readonly probeTimeoutMs?: number;
  /** How many others are asked to probe a silent member. Default 3. */
  readonly indirectChecks?: number;
  /** A suspected member is dead after this many probe intervals, times log10 of the ring, at the soonest. Default 4. */
  readonly suspicionMult?: number;
  /** And at the latest after this times as long, while no other suspects it. Default 6. */
  readonly suspicionMaxMult?: number;
  /** Milliseconds between two rounds of passing on. Default 100. */
  readonly gossipIntervalMs?: number;
  /** To how many members each round. Default 3. */
  readonly gossipNodes?: number;
  /** A message is passed on this many times log10 of the ring, and to 8 members at least. Default 4. */
  readonly retransmitMult?: number;
  /** Milliseconds between two exchanges of everything with one other member. Default 30,000. */
  readonly pushPullIntervalMs?: number;
  /** How long a dead member still receives messages, so that it can refute its death, and one that left is remembered. Default 30,000. */
  readonly deadMs?: number;
  /** Milliseconds between attempts to reach seeds and dead members again. Default 10,000. */
  readonly rejoinIntervalMs?: number;
  /** For how long a dead member is remembered and tried again. Default 3,600,000. */
  readonly reconnectMs?: number;
  /** The most time that one exchange by a stream may take. Default 5000. */
  readonly streamTimeoutMs?: number;
  /** Streams that others opened, at once. Default 16. */
  readonly maxStreams?: number;
  /** Default 1000, or as many as a quarter of `maxStateBytes` has room for. */
  readonly maxMembers?: number;
  /** Nodes of all services. Default 10,000. */
  readonly maxRecords?: number;
  /** The most that one stream carries, the same for all members of a ring. Default 8 MiB. */
  readonly maxStateBytes?: number;
  /** The most that one datagram carries. Default 1400. */
  readonly maxPacketBytes?: number;
  /** Messages that wait to be passed on, of members and of records each. Default 4096. */
  readonly maxQueued?: number;
  readonly scheduler?: Scheduler;
  /** Called once per place for what cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

/** Default, least, most. */
export const GOSSIP_LIMITS = {
  probeIntervalMs: [1000, 10, 3600_000],
  probeTimeoutMs: [500, 1, 3600_000],
  indirectChecks: [3, 0, 100],
  suspicionMult: [4, 1, 100],
  suspicionMaxMult: [6, 1, 100],
  gossipIntervalMs: [100, 1, 3600_000],
  gossipNodes: [3, 1, 1000],
  retransmitMult: [4, 1, 100],
  pushPullIntervalMs: [30_000, 100, 24 * 3600_000],
  deadMs: [30_000, 100, 24 * 3600_000],
  rejoinIntervalMs: [10_000, 100, 24 * 3600_000],
  reconnectMs: [3600_000, 0, 30 * 24 * 3600_000],
  streamTimeoutMs: [5000, 10, 3600_000],
  maxStreams: [16, 1, 10_000],
  maxMembers: [1000, 2, MOST_MEMBERS],
  maxRecords: [10_000, 1, 100_000],
  maxStateBytes: [8 * 1024 * 1024, 64 * 1024, 64 * 1024 * 1024],
  // A message about one member has up to 850 bytes.
  maxPacketBytes: [1400, 1024, 60_000],
  maxQueued: [4096, 16, 1_000_000],
} as const;

/** Of `maxStateBytes` this much is for records, the rest for members. */
export const RECORDS_SHARE = 0.75;

export type GossipLimit = keyof typeof GOSSIP_LIMITS;
export type GossipSettings = { readonly [Name in GossipLimit]: number } & {
  readonly seeds: readonly Endpoint[];
  readonly bind: Endpoint;
  /** Port 0 = the one that is listened on. */
  readonly advertise: Endpoint;
  readonly key: Uint8Array | null;
  readonly name: string | null;
};

const KEY_LENGTHS: ReadonlySet<number> = new Set([16, 24, 32]);
/** In go-micro's source, and so no secret. */
const PUBLISHED_KEY = 'micro-gossip-key';
const DEFAULT_PORT = 7946;

export function gossipSettings(options: GossipRegistryOptions): GossipSettings {
  const key = keyFrom(options.key);
  const seeds = (options.seeds ?? []).map((seed) =>
    placeFrom(seed, 'a member to join', DEFAULT_PORT),
  );
  const bind = placeFrom(
    options.bind ?? (key === null ? '127.0.0.1:0' : '0.0.0.0:0'),
    'this member',
    0,
  );
  if (isIP(bind.host) === 0) refuse(`bind ${JSON.stringify(bind.host)} is no IP address`);
  const advertise = advertiseFrom(options.advertise, bind);
  if (key === null && !(isLoopback(bind.host) && isLoopback(advertise.host))) {
    refuse(
      `a ring without a key is for one machine: give a key of 16, 24 or 32 bytes (gossip://key@host:port), or listen on 127.0.0.1, not on ${bind.host} as ${advertise.host}`,
    );
  }
  const far = seeds.find(({ host }) => isIP(host) !== 0 && !isLoopback(host));
  if (key === null && far !== undefined) {
    refuse(
      `${textOf(far)} is not on this machine, and a ring without a key is for one machine: give the ring's key (gossip://key@host:port)`,
    );
  }
  const { name = null } = options;
  if (name !== null && !(typeof name === 'string' && isMemberName(name))) {
    refuse('the name of a member is a text of 1 to 255 bytes of UTF-8');
  }
  const given = { ...options, maxMembers: options.maxMembers ?? membersOf(options.maxStateBytes) };
  const limits = Object.fromEntries(
    Object.entries(GOSSIP_LIMITS).map(([limit, [fallback, least, most]]) => {
      const value = given[limit as GossipLimit] ?? fallback;
      if (Number.isInteger(value) && value >= least && value <= most) return [limit, value];
      return refuse(`${limit} is a whole number from ${least} to ${most}, not ${value}`);
    }),
  ) as { readonly [Name in GossipLimit]: number };
  if (limits.probeTimeoutMs > limits.probeIntervalMs) {
    refuse('probeTimeoutMs is at most probeIntervalMs: a probe ends within its interval');
  }
  const room = roomForMembers(limits.maxStateBytes);
  if (limits.maxMembers > room) {
    refuse(
      `maxStateBytes ${limits.maxStateBytes} has room for ${room} members, and maxMembers is ${limits.maxMembers}: lower it, or raise maxStateBytes to ${bytesForMembers(limits.maxMembers)}`,
    );
  }
  return { ...limits, seeds, bind, advertise, key, name };
}

/** The members whose facts fit into what `maxStateBytes` leaves beside records, however long they are. */
function roomForMembers(maxStateBytes: number): number {
  return Math.floor((maxStateBytes * (1 - RECORDS_SHARE) - STATE_HEAD_BYTES) / MEMBER_BYTES);
}

function bytesForMembers(maxMembers: number): number {
  return Math.ceil((maxMembers * MEMBER_BYTES + STATE_HEAD_BYTES) / (1 - RECORDS_SHARE));
}

/** The default of `maxMembers`. */
function membersOf(maxStateBytes: number = GOSSIP_LIMITS.maxStateBytes[0]): number {
  const [fallback, least] = GOSSIP_LIMITS.maxMembers;
  // A value that is refused below is no reason of another refusal.
  const room = roomForMembers(maxStateBytes);
  return room >= least ? Math.min(fallback, room) : fallback;
}

/** The options of `key@host:port,host:port?bind=…&probeIntervalMs=…`. */
export function gossipOptionsFrom(rest: string): GossipRegistryOptions {
  const [, key, hosts = '', slash = '', query = ''] =
    /^(?:([^@/?,]*)@)?([^/?#@]*)(\/?)(?:\?([^#]*))?$/s.exec(rest) ?? [];
  if (hosts === '' && slash === '' && query === '' && key === undefined && rest !== '') {
    refuse('the address cannot be read; write gossip://key@host:port,host:port?option=value');
  }
  // A key with a ? as it is: what follows would be shown as an option.
  if (query.includes('@')) refuse('write a ? and an @ of the key as %3F and %40');
  const options: Record<string, unknown> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    if (Object.hasOwn(options, name)) refuse(`${name} is given twice`);
    if (Object.hasOwn(GOSSIP_LIMITS, name))
      options[name] = value.trim() === '' ? Number.NaN : Number(value);
    else if (name === 'bind' || name === 'advertise' || name === 'name') options[name] = value;
    else if (!/^\w*$/.test(name)) {
      // It may be a part of the key.
      refuse(
        'the options after ? cannot be read; write ?option=value&option=value, and what is no letter or digit of the key percent-encoded',
      );
    } else {
      const known = ['bind', 'advertise', 'name', ...Object.keys(GOSSIP_LIMITS)].join(', ');
      refuse(`the option ${JSON.stringify(name.slice(0, 64))} is not known; known are ${known}`);
    }
  }
  return {
    ...options,
    ...(hosts === '' ? {} : { seeds: hosts.split(',').map((host) => host.trim()) }),
    ...(key ? { key: decodePart(key, 'gossip') } : {}),
  };
}

function keyFrom(key: string | Uint8Array | undefined): Uint8Array | null {
  if (key === undefined) return null;
  const bytes = typeof key === 'string' ? Buffer.from(key) : Uint8Array.from(key);
  if (!KEY_LENGTHS.has(bytes.length)) {
    refuse(`a key has 16, 24 or 32 bytes, not ${bytes.length}`);
  }
  if (Buffer.from(bytes).toString('latin1') === PUBLISHED_KEY) {
    refuse("this key is the default in go-micro's source, which every reader has; choose another");
  }
  return bytes;
}

/** Port 0 is one only where this member may choose: where the default is 0. */
function placeFrom(text: string, what: string, defaultPort: number): Endpoint {
  const [, ipv6, name, port] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = ipv6 ?? name;
  const number = Number(port ?? defaultPort);
  if (host === undefined || number > 65_535 || (number === 0 && defaultPort !== 0)) {
    // What is before an @ may be a key.
    const shown = text.includes('@') ? 'a text with @' : JSON.stringify(text.slice(0, 300));
    return refuse(`${shown} is not the address of ${what}: write host:port`);
  }
  return { host, port: number };
}

function advertiseFrom(text: string | undefined, bind: Endpoint): Endpoint {
  if (text === undefined) {
    return isWildcard(bind.host) ? { host: ownAddress(bind.host), port: 0 } : { ...bind, port: 0 };
  }
  const place = placeFrom(text, 'this member', 0);
  if (isIP(place.host) === 0 || isWildcard(place.host)) {
    refuse(`advertise ${JSON.stringify(text)} is no IP address that others reach this member by`);
  }
  return place;
}

/** The address of this machine on its first network. */
function ownAddress(wildcard: string): string {
  const family = wildcard.includes(':') ? 'IPv6' : 'IPv4';
  for (const addresses of Object.values(networkInterfaces())) {
    for (const each of addresses ?? []) {
      const isLocal = each.internal || each.address.startsWith('fe80:');
      if (each.family === family && !isLocal) return each.address;
    }
  }
  return refuse(
    `this machine has no ${family} address that others reach; give one: ?advertise=address`,
  );
}

function refuse(text: string): never {
  throw new RivuletError('INVALID_ARGUMENT', `gossip: ${text}`);
}

/**
 * The mDNS registry: services of one network find each other without a server, in go-micro's form.
 *
 * Every registry answers questions about the nodes that it registered and receives the answers of all.
 * Invariants: a node is known for the TTL of its last answer, and a farewell removes it at once; a
 * question is asked at most once per `FRESH_MS` and service by each process; while there is a watch,
 * known services are asked for again before their TTL ends, because go-micro's do not announce
 * themselves again. Bounds: 10 000 nodes, one datagram per node, `MAX_QUESTIONS` answered of a packet. IPv4 only. A watch reports a node
 * when its first answer arrives. Cost: a question and its answers go to every process of the network.
 */
import { setMaxListeners } from 'node:events';
import makeMdns, { type MulticastDNS, type QueryPacket, type ResponsePacket } from 'multicast-dns';
import { RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { NodeTable } from '../node-table.ts';
import { checkRecord, checkTtl } from '../record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceNode,
  ServiceRecord,
  WatchOptions,
} from '../registry.ts';
import { type WarningListener, Warnings } from '../warnings.ts';
import { Watchers } from '../watchers.ts';
import {
  directoryOf,
  directoryPacket,
  instanceName,
  isDnsName,
  type MdnsPacket,
  nodesOf,
  packetOf,
  questionOf,
  serviceDomain,
} from './mdns-record.ts';

export interface MdnsRegistryOptions {
  /** Address of the network interface. Default: all of them. */
  readonly interface?: string;
  /** Default 5353, where every other program listens. */
  readonly port?: number;
  /** Default go-micro's `micro`. */
  readonly domain?: string;
  /** How long a look-up waits for answers. Default go-micro's 100. */
  readonly timeoutMs?: number;
  readonly scheduler?: Scheduler;
  /** Called once per node whose record cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

const DIRECTORY = '_services';
/** A question that this process asked this recently is not asked again. */
const FRESH_MS = 5000;
/** While there is a watch, each known service is asked for this often; go-micro's TTL is 120 s. */
const REFRESH_MS = 30_000;
const MAX_NODES = 10_000;
const MAX_ASKED = 10_000;
/** Questions of one packet that are answered, each once: programs ask for one service or a few. */
const MAX_QUESTIONS = 16;
const ANSWERED: ReadonlySet<string> = new Set(['PTR', 'SRV', 'TXT', 'ANY']);

interface Own {
  readonly record: ServiceRecord;
  readonly node: ServiceNode;
  /** Monotonic milliseconds. */
  readonly deadline: number;
}

export class MdnsRegistry implements Registry {
  readonly name = 'mdns';
  readonly #options: MdnsRegistryOptions;
  readonly #scheduler: Scheduler;
  readonly #domain: string;
  readonly #timeoutMs: number;
  readonly #warnings: Warnings;
  readonly #watchers = new Watchers();
  readonly #table: NodeTable;
  readonly #known = new Set<string>();
  readonly #directory = new Set<string>();
  readonly #own = new Map<string, Own>();
  /** When each service was last asked for, in monotonic milliseconds. */
  readonly #asked = new Map<string, number>();
  readonly #closing = new AbortController();
  #socket: Promise<MulticastDNS> | null = null;
  /**
   * Asks from another port than 5353: go-micro answers to the port of the question alone, and of several
   * programs on one port only one receives such an answer.
   */
  #asking: MulticastDNS | null = null;
  #cancelRefresh: (() => void) | null = null;

  constructor(options: MdnsRegistryOptions = {}) {
    this.#options = options;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#domain = options.domain ?? 'micro';
    this.#timeoutMs = options.timeoutMs ?? 100;
    this.#warnings = new Warnings('mdns', options.onWarning);
    this.#table = new NodeTable(this.#scheduler);
    // Each look-up that waits listens for the end.
    setMaxListeners(0, this.#closing.signal);
    this.#table.onChange((event) => {
      for (const { id } of event.service.nodes) {
        const key = keyOf(event.service.name, id);
        if (event.action === 'delete') this.#known.delete(key);
        else this.#known.add(key);
      }
      this.#watchers.notify(event);
    });
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    if (!isDnsName(instanceName('n', serviceDomain(service.name, this.#domain)))) {
      const text = `${service.name} is no name for mDNS: 1 to 63 bytes between dots, 200 in all`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const record = structuredClone(service);
    const packets = record.nodes.map((node) => packetOf(record, node, ttlMs, this.#domain));
    const deadline = this.#scheduler.monotonic() + ttlMs;
    for (const node of record.nodes) {
      this.#own.set(keyOf(record.name, node.id), { record, node, deadline });
    }
    this.#table.put(record, ttlMs);
    for (const packet of packets) await this.#respond(packet);
    await this.#respond(directoryPacket(record.name, ttlMs, this.#domain));
  }

  async deregister(service: ServiceRecord): Promise<void> {
    for (const node of service.nodes) {
      const own = this.#own.get(keyOf(service.name, node.id));
      this.#own.delete(keyOf(service.name, node.id));
      this.#table.remove(service.name, node.id);
      // A record that was never registered here may still be a good farewell.
      checkRecord({ ...service, nodes: [node] });
      const { record, node: said } = own ?? { record: service, node };
      await this.#respond(packetOf(record, said, 0, this.#domain));
    }
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    await this.#look(name, () => this.#table.get(name).length > 0);
    return this.#table.get(name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    await this.#look(DIRECTORY, () => this.#known.size > 0);
    const names = new Set([...this.#directory, ...this.#table.names()]);
    await Promise.all([...names].map((name) => this.#look(name, () => true)));
    return this.#table.list();
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    this.#follow(name ?? DIRECTORY);
    return watcher;
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#cancelRefresh?.();
    this.#watchers.close();
    this.#table.close();
    const socket = await this.#socket?.catch(() => null);
    for (const each of [socket, this.#asking]) {
      if (each) await new Promise<void>((resolve) => each.destroy(() => resolve()));
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Asks for a service unless it was asked for just now, and waits until answers have had time. */
  async #look(name: string, isAnswered: () => boolean): Promise<void> {
    if (this.#closing.signal.aborted) throw closed();
    const now = this.#scheduler.monotonic();
    const asked = this.#asked.get(name) ?? Number.NEGATIVE_INFINITY;
    try {
      if (now - asked > FRESH_MS) await this.#ask(name);
      const since = this.#scheduler.monotonic() - (this.#asked.get(name) ?? 0);
      const wait = this.#timeoutMs - since;
      if (wait > 0) await pause(this.#scheduler, wait, this.#closing.signal);
    } catch (error) {
      if (this.#closing.signal.aborted) throw closed();
      // What this process knows is still good while the network is away.
      if (!isAnswered()) throw error;
    }
  }

  async #ask(name: string): Promise<void> {
    const socket = await this.#open();
    this.#noteAsked(name);
    const question = questionOf(serviceDomain(name, this.#domain));
    const asking = this.#asking ?? socket;
    await this.#sent((done) => asking.query([question], done)).catch((error) => {
      this.#asked.delete(name);
      throw error;
    });
  }

  #noteAsked(name: string): void {
    this.#asked.delete(name);
    this.#asked.set(name, this.#scheduler.monotonic());
    if (this.#asked.size > MAX_ASKED) {
      const [oldest] = this.#asked.keys();
      this.#asked.delete(oldest as string);
    }
  }

  async #respond(packet: MdnsPacket): Promise<void> {
    const socket = await this.#open();
    await this.#sent((done) => socket.respond(packet, done));
  }

  #sent(send: (done: (error: Error | null) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      send((error) => (error ? reject(unavailable(error)) : resolve()));
    });
  }

  /** Watches: asks at once, then refreshes while there is a watch. */
  #follow(name: string): void {
    if (this.#closing.signal.aborted) return;
    this.#ask(name).catch(() => {});
    this.#cancelRefresh ??= this.#scheduler.after(REFRESH_MS, () => this.#refresh(), false);
  }

  #refresh(): void {
    this.#cancelRefresh = null;
    if (this.#watchers.size === 0 || this.#closing.signal.aborted) return;
    const now = this.#scheduler.monotonic();
    for (const name of [DIRECTORY, ...this.#table.names()]) {
      const asked = this.#asked.get(name) ?? Number.NEGATIVE_INFINITY;
      if (now - asked > REFRESH_MS / 2) this.#ask(name).catch(() => {});
    }
    this.#cancelRefresh = this.#scheduler.after(REFRESH_MS, () => this.#refresh(), false);
  }

  #open(): Promise<MulticastDNS> {
    if (this.#closing.signal.aborted) return Promise.reject(closed());
    this.#socket ??= this.#bind().catch((error) => {
      this.#socket = null;
      throw error;
    });
    return this.#socket;
  }

  async #bind(): Promise<MulticastDNS> {
    const at = {
      ...(this.#options.interface === undefined ? {} : { interface: this.#options.interface }),
      port: this.#options.port ?? 5353,
    };
    // A socket that is bound to an interface's address receives no multicast.
    const socket = makeMdns({ ...at, bind: '0.0.0.0' });
    socket.on('warning', () => {});
    socket.on('response', (packet) => this.#receive(packet));
    socket.on('query', (packet, { address, port }) => this.#answer(packet, { address, port }));
    await new Promise<void>((resolve, reject) => {
      socket.once('ready', resolve);
      socket.on('error', (error) => reject(unavailable(error)));
    }).catch((error) => {
      socket.destroy();
      throw error;
    });
    // Its port is any that is free: the system's choice with the first question.
    this.#asking = makeMdns({ ...at, bind: false });
    this.#asking.on('warning', () => {});
    this.#asking.on('error', () => {});
    this.#asking.on('response', (packet) => this.#receive(packet));
    return socket;
  }

  #receive(packet: ResponsePacket): void {
    if (this.#closing.signal.aborted) return;
    for (const name of directoryOf(packet, this.#domain)) {
      if (this.#directory.size < MAX_NODES) this.#directory.add(name);
    }
    const onBad = (instance: string, error: unknown) =>
      this.#warnings.badRecord(`the mDNS name ${instance}`, error);
    for (const { record, ttlMs } of nodesOf(packet, this.#domain, onBad)) {
      const id = record.nodes[0]?.id ?? '';
      const key = keyOf(record.name, id);
      if (this.#own.has(key) && this.#table.get(record.name).length > 0) continue;
      if (ttlMs === 0) this.#table.remove(record.name, id);
      else if (this.#known.has(key) || this.#known.size < MAX_NODES) this.#table.put(record, ttlMs);
    }
  }

  #answer(packet: QueryPacket, from: { address: string; port: number }): void {
    if (this.#closing.signal.aborted) return;
    const suffix = `.${this.#domain}`;
    /** Names that were asked for, and whether the sender alone wants the answer as well. */
    const asked = new Map<string, boolean>();
    for (const { name, type, class: kind } of packet.questions ?? []) {
      if (!ANSWERED.has(type)) continue;
      const lower = name.toLowerCase();
      if (!lower.endsWith(suffix) || (asked.size >= MAX_QUESTIONS && !asked.has(lower))) continue;
      // The top bit of the class asks for an answer to the sender alone. No answer reaches port 0.
      const isDirect = kind !== undefined && kind !== 'IN' && kind !== 'ANY' && from.port !== 0;
      asked.set(lower, isDirect || asked.get(lower) === true);
    }
    for (const [name, isDirect] of asked) {
      for (const answer of this.#answersTo(name)) {
        this.#respond(answer).catch(() => {});
        if (isDirect) this.#reply(answer, from);
      }
    }
  }

  #reply(answer: MdnsPacket, to: { address: string; port: number }): void {
    // What cannot be sent is lost, as on the way.
    this.#open()
      .then((socket) => socket.respond(answer, to))
      .catch(() => {});
  }

  *#answersTo(asked: string): Iterable<MdnsPacket> {
    const now = this.#scheduler.monotonic();
    const services = new Map<string, number>();
    for (const [key, { record, node, deadline }] of this.#own) {
      const left = deadline - now;
      if (left <= 0) {
        this.#own.delete(key);
        continue;
      }
      services.set(record.name, Math.max(left, services.get(record.name) ?? 0));
      const service = serviceDomain(record.name, this.#domain).toLowerCase();
      if (asked === service || asked === instanceName(node.id, service).toLowerCase()) {
        yield packetOf(record, node, left, this.#domain);
      }
    }
    if (asked !== `${DIRECTORY}.${this.#domain}`) return;
    for (const [name, left] of services) yield directoryPacket(name, left, this.#domain);
  }
}

/** The registry of `mdns`, `mdns://interface`, `mdns://interface:port`. */
export function mdnsRegistryFrom(rest: string, options: MdnsRegistryOptions = {}): MdnsRegistry {
  if (rest === '') return new MdnsRegistry(options);
  const [, host, port] = /^(\d+\.\d+\.\d+\.\d+)?(?::(\d{1,5}))?\/?$/.exec(rest) ?? [];
  const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
  if ((host === undefined && port === undefined) || !isPort) {
    const text = `${JSON.stringify(rest)} is no interface for mDNS: write mdns://address-of-the-interface:port`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return new MdnsRegistry({
    ...options,
    ...(host === undefined ? {} : { interface: host }),
    ...(port === undefined ? {} : { port: Number(port) }),
  });
}

function keyOf(service: string, nodeId: string): string {
  return `${service}/${nodeId}`;
}

function unavailable(cause: Error): RivuletError {
  const advice = 'name another interface (mdns://address) or another registry';
  const text = `mDNS does not work on this network: ${cause.message}; ${advice}`;
  return new RivuletError('REGISTRY_UNAVAILABLE', text, { cause });
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the registry is closed; open another one');
}

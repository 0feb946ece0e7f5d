/**
 * The ZooKeeper registry, on go-micro's paths: `/micro-registry/<service>/<node id>`, each with the
 * record of that one node, every `/` of a name as `-`.
 *
 * The nodes are ephemeral: they go with the session of the process that wrote them. go-micro writes
 * nodes that stay; both read each other's. Invariants: a node is there while it is renewed and this
 * process lives, and goes when its TTL passes without a renewal, or with the next connection where the
 * server could not be reached then; after a session that ended all nodes are written again at once; one
 * record that cannot be read hides no other. Cost: a renewal is one
 * exchange; a watch keeps all nodes in memory and reads only the services that changed.
 */
import { RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { decodeRecord, encodeRecord, isAddress, mergeRecords } from '../record.ts';
import type { ServiceNode, ServiceRecord } from '../registry.ts';
import { decodePart, shownPart } from '../server/address-part.ts';
import { ServerRegistry } from '../server/server-registry.ts';
import { type Snapshot, SnapshotWatch } from '../server/snapshot-watch.ts';
import type { WarningListener } from '../warnings.ts';
import { ZookeeperClient, type ZookeeperClientOptions } from './zookeeper-client.ts';

const ZOOKEEPER_ROOT = '/micro-registry';
const DEFAULT_PORT = 2181;
/** ZooKeeper's own bound on a packet (`jute.maxbuffer`), less the packet's own fields. */
const MAX_NODE_BYTES = 1024 * 1024 - 4096;
/** Reads that run at once. */
const SIDE_BY_SIDE = 64;
const POLL_MS = 5000;
/** What ZooKeeper refuses as a part of a path, in UTF-16 units. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are among them
const UNFIT = /^\.{1,2}$|[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/;

export interface ZookeeperRegistryOptions {
  /** host:port of each server. Default 127.0.0.1:2181. */
  readonly servers?: readonly string[];
  /** `user:password` of the scheme `digest`. */
  readonly digest?: string;
  readonly tls?: NonNullable<ZookeeperClientOptions['tls']>;
  /** How long one request may take, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
  /**
   * How long the nodes of a process that died stay, in milliseconds; the server keeps it within 2 to 20
   * of its ticks. Default 10,000.
   */
  readonly sessionTimeoutMs?: number;
  readonly scheduler?: Scheduler;
  /** Called once per record that cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

interface Held {
  readonly value: string;
  readonly session: bigint;
  /** Ends the wait for the renewal. */
  readonly cancel: () => void;
}

export class ZookeeperRegistry extends ServerRegistry {
  readonly name = 'zookeeper';
  protected readonly follower: SnapshotWatch<null>;
  readonly #client: ZookeeperClient;
  readonly #scheduler: Scheduler;
  /** What this registry wrote, by path. */
  readonly #held = new Map<string, Held>();
  /** Paths at which a node of this session may be that is to go: the server could not be reached. */
  readonly #leaving = new Set<string>();
  /** For the watch: the records of each service, as its folder is called. */
  #seen = new Map<string, ServiceRecord[]>();
  /** Folders that changed since they were read; null = all of them. */
  #changed: Set<string> | null = null;
  #hasEvents = true;
  #notify: () => void = () => {};

  constructor(options: ZookeeperRegistryOptions = {}) {
    super('zookeeper', options.onWarning);
    const { servers = [`127.0.0.1:${DEFAULT_PORT}`], digest, tls } = options;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#client = new ZookeeperClient({
      servers,
      scheduler: this.#scheduler,
      timeoutMs: options.timeoutMs ?? 5000,
      sessionTimeoutMs: options.sessionTimeoutMs ?? 10_000,
      ...(digest === undefined ? {} : { auth: { scheme: 'digest', text: digest } }),
      ...(tls === undefined ? {} : { tls }),
      onEvent: ({ path }) => this.#note(path),
      onConnected: (isNew) => this.#connected(isNew),
    });
    this.follower = new SnapshotWatch<null>({
      scheduler: this.#scheduler,
      warnings: this.warnings,
      read: () => this.#readChanges(),
      changed: (_, signal) => this.#waitForChange(signal),
      onEvent: (event) => this.watchers.notify(event),
    });
  }

  protected nodeKey(service: string, nodeId: string): string {
    return pathOf(service, nodeId);
  }

  protected prepare(single: ServiceRecord, ttlMs: number): () => Promise<void> {
    for (const name of [single.name, (single.nodes[0] as ServiceNode).id]) {
      if (!UNFIT.test(name)) continue;
      const text = `${JSON.stringify(name.slice(0, 64))} is no name for ZooKeeper: it takes no ".", "..", control characters and characters beyond U+D7FF`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const value = encodeRecord(single);
    const bytes = Buffer.byteLength(value);
    if (bytes > MAX_NODE_BYTES) {
      const text = `the record of ${single.name} has ${bytes} bytes; ZooKeeper takes at most ${MAX_NODE_BYTES}`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const path = pathOf(single.name, (single.nodes[0] as ServiceNode).id);
    return () => this.#put(path, value, ttlMs);
  }

  protected async remove(service: string, nodeId: string): Promise<void> {
    if (UNFIT.test(service) || UNFIT.test(nodeId)) return;
    const path = pathOf(service, nodeId);
    this.#held.get(path)?.cancel();
    this.#held.delete(path);
    this.#leaving.add(path);
    await this.#client.delete(path);
    this.#leaving.delete(path);
  }

  protected async read(service: string): Promise<ServiceRecord[]> {
    if (UNFIT.test(service)) return [];
    const records = await this.#readFolder(escaped(service));
    return mergeRecords(records.filter((record) => record.name === service));
  }

  protected async readAll(): Promise<ServiceRecord[]> {
    const folders = await this.#client.children(ZOOKEEPER_ROOT);
    return mergeRecords([...(await this.#readFolders(folders)).values()].flat());
  }

  protected disconnect(): void {
    for (const { cancel } of this.#held.values()) cancel();
    this.#held.clear();
    this.#leaving.clear();
    this.#client.close();
  }

  async #put(path: string, value: string, ttlMs: number): Promise<void> {
    try {
      await this.#write(path, value);
    } catch (error) {
      // It may be there all the same. What an earlier call registered goes at its own time.
      if (!this.#held.has(path) && !this.turns.isClosed) this.#leaving.add(path);
      throw error;
    }
    this.#held.get(path)?.cancel();
    if (!this.turns.isClosed) this.#hold(path, value, ttlMs);
  }

  async #write(path: string, value: string): Promise<void> {
    const stat = await this.#client.stat(path);
    const isOurs = stat !== null && stat.owner !== 0n && stat.owner === this.#client.session;
    if (isOurs) {
      if (this.#held.get(path)?.value === value) return;
      if (await this.#client.setData(path, Buffer.from(value))) return;
    } else if (stat !== null) {
      // A node that stays, or of a session before this one, would not go with this process.
      await this.#client.delete(path);
    }
    await this.#create(path, value);
  }

  #hold(path: string, value: string, ttlMs: number): void {
    this.#leaving.delete(path);
    const { session } = this.#client;
    const deadline = this.#scheduler.monotonic() + ttlMs;
    let cancel = () => {};
    const wait = () => {
      const left = deadline - this.#scheduler.monotonic();
      // A timer is at most 24.8 days long.
      if (left <= 0) this.#expire(path);
      else cancel = this.#scheduler.after(left, wait, false);
    };
    wait();
    this.#held.set(path, { value, session, cancel: () => cancel() });
  }

  /** It was not renewed in time: it goes, though this process lives. */
  #expire(path: string): void {
    this.#held.delete(path);
    this.#leaving.add(path);
    this.#takeAway(path);
  }

  /** Deletes a node of this session; what fails here is tried again with the next connection. */
  #takeAway(path: string): void {
    const work = async () => {
      // A renewal may have come first.
      if (!this.#leaving.has(path)) return;
      const stat = await this.#client.stat(path);
      if (stat !== null && stat.owner === this.#client.session) await this.#client.delete(path);
      this.#leaving.delete(path);
    };
    void this.turns.run(path, work).catch(() => {});
  }

  async #create(path: string, value: string): Promise<void> {
    const data = Buffer.from(value);
    const parent = path.slice(0, path.lastIndexOf('/'));
    for (let tries = 0; ; tries++) {
      try {
        if (await this.#client.create(path, data, true)) return;
        await this.#client.delete(path);
      } catch (error) {
        if (tries >= 2 || !(error instanceof RivuletError) || error.code !== 'NOT_FOUND') {
          throw error;
        }
        await this.#client.create(ZOOKEEPER_ROOT, Buffer.alloc(0), false);
        await this.#client.create(parent, Buffer.alloc(0), false);
      }
      if (tries >= 4) {
        throw new RivuletError('REGISTRY_UNAVAILABLE', `another program keeps writing ${path}`);
      }
    }
  }

  #connected(isNew: boolean): void {
    // Events between the connections are lost: everything is read again.
    this.#changed = null;
    this.#notify();
    if (!isNew) {
      for (const path of this.#leaving) this.#takeAway(path);
      return;
    }
    // What the session before had goes with it.
    this.#leaving.clear();
    for (const [path, { value, session }] of this.#held) {
      if (session === this.#client.session) continue;
      // What fails here is written by the next renewal.
      void this.turns.run(path, () => this.#restore(path, value)).catch(() => {});
    }
  }

  async #restore(path: string, value: string): Promise<void> {
    const held = this.#held.get(path);
    if (held === undefined || held.value !== value) return;
    const stat = await this.#client.stat(path);
    if (stat !== null && stat.owner === this.#client.session) return;
    if (stat !== null) await this.#client.delete(path);
    await this.#create(path, value);
    if (!this.#held.has(path)) await this.#client.delete(path);
  }

  async #readFolder(folder: string): Promise<ServiceRecord[]> {
    if (folder === '') return [];
    // ZooKeeper lists children in no order.
    const ids = (await this.#client.children(`${ZOOKEEPER_ROOT}/${folder}`)).sort();
    const found: ServiceRecord[] = [];
    for (let at = 0; at < ids.length; at += SIDE_BY_SIDE) {
      const some = ids.slice(at, at + SIDE_BY_SIDE);
      const records = await Promise.all(some.map((id) => this.#readNode(folder, id)));
      for (const record of records) if (record !== null) found.push(record);
    }
    return found;
  }

  async #readNode(folder: string, id: string): Promise<ServiceRecord | null> {
    const path = `${ZOOKEEPER_ROOT}/${folder}/${id}`;
    const data = await this.#client.data(path);
    if (data === null) return null;
    try {
      const record = decodeRecord(data.toString());
      const isHere = escaped(record.name) === folder && record.nodes.length > 0;
      if (!isHere) {
        throw new RivuletError('DECODING_FAILED', `not a record of this path: ${record.name}`);
      }
      return record;
    } catch (error) {
      this.warnings.badRecord(`the node ${path}`, error);
      return null;
    }
  }

  async #readFolders(folders: readonly string[]): Promise<Map<string, ServiceRecord[]>> {
    const found = new Map<string, ServiceRecord[]>();
    for (let at = 0; at < folders.length; at += SIDE_BY_SIDE) {
      const some = folders.slice(at, at + SIDE_BY_SIDE);
      const records = await Promise.all(some.map((folder) => this.#readFolder(folder)));
      for (const [index, folder] of some.entries()) found.set(folder, records[index] ?? []);
    }
    return found;
  }

  async #readChanges(): Promise<Snapshot<null>> {
    let changed = this.#changed;
    if (changed === null) {
      // The watch first: what changes between the two is an event.
      this.#changed = new Set();
      try {
        this.#hasEvents = await this.#client.watchBelow(ZOOKEEPER_ROOT);
        const folders = await this.#client.children(ZOOKEEPER_ROOT);
        this.#seen = new Map();
        changed = new Set(folders);
      } catch (error) {
        this.#changed = null;
        throw error;
      }
    } else this.#changed = new Set();
    try {
      for (const [folder, records] of await this.#readFolders([...changed])) {
        if (records.length === 0) this.#seen.delete(folder);
        else this.#seen.set(folder, records);
      }
    } catch (error) {
      this.#changed = null;
      throw error;
    }
    return { records: mergeRecords([...this.#seen.values()].flat()), mark: null };
  }

  async #waitForChange(signal: AbortSignal): Promise<void> {
    if (!this.#hasEvents) {
      await pause(this.#scheduler, POLL_MS, signal);
      this.#changed = null;
      return;
    }
    await new Promise<void>((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done);
        this.#notify = () => {};
        resolve();
      };
      this.#notify = done;
      signal.addEventListener('abort', done, { once: true });
      if (this.#changed === null || this.#changed.size > 0 || signal.aborted) done();
    });
  }

  #note(path: string): void {
    const folder = path.slice(ZOOKEEPER_ROOT.length + 1).split('/')[0] ?? '';
    if (folder === '') return;
    this.#changed?.add(folder);
    this.#notify();
  }
}

function pathOf(service: string, nodeId: string): string {
  return `${ZOOKEEPER_ROOT}/${escaped(service)}/${escaped(nodeId)}`;
}

function escaped(name: string): string {
  return name.replaceAll('/', '-');
}

/** The registry of `zookeeper://user:password@host:port,host:port`; `zookeepers://` is TLS. */
export function zookeeperRegistryFrom(
  rest: string,
  options: Omit<ZookeeperRegistryOptions, 'servers' | 'digest'> = {},
): ZookeeperRegistry {
  const [, digest, hosts = '', tail = ''] = /^(?:([^@/]*)@)?([^/?#]*)(.*)$/s.exec(rest) ?? [];
  const servers = (hosts === '' ? '127.0.0.1' : hosts).split(',').map((each) => {
    const host = each.trim();
    return /:\d{1,5}$/.test(host) ? host : `${host}:${DEFAULT_PORT}`;
  });
  if ((tail !== '' && tail !== '/') || !servers.every(isAddress)) {
    const text = `${shownPart(`${hosts}${tail}`, rest)} are no addresses of ZooKeeper; write zookeeper://host:port,host:port`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return new ZookeeperRegistry({
    ...options,
    servers,
    ...(digest ? { digest: decodePart(digest, 'ZooKeeper') } : {}),
  });
}

/**
 * The etcd registry, in go-micro's form: a Go service beside ours reads and writes the same keys.
 *
 * Key `/micro/registry/<service>/<node id>` with every `/` of a name as `-`; value: the record with
 * that one node; a lease of the TTL, renewed by each registration. Invariants: registrations of one
 * node run one after the other; a renewal that finds the lease or the key gone writes it again; a
 * record that cannot be read is passed over and reported once. Cost: a registration is three small
 * exchanges; a watch keeps all nodes of the prefix in memory.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { decodeRecord, encodeRecord, mergeRecords } from '../record.ts';
import type { ServiceNode, ServiceRecord } from '../registry.ts';
import { decodePart, shownPart } from '../server/address-part.ts';
import { ServerRegistry } from '../server/server-registry.ts';
import type { WarningListener } from '../warnings.ts';
import { EtcdClient, type EtcdClientOptions } from './etcd-client.ts';
import { type EtcdSnapshot, EtcdWatch, rangeEnd } from './etcd-watch.ts';

const ETCD_PREFIX = '/micro/registry/';
const DEFAULT_PORT = 2379;
const PAGE = 200;

export interface EtcdRegistryOptions extends EtcdClientOptions {
  readonly scheduler?: Scheduler;
  /** Called once per record that cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

interface Held {
  readonly lease: string;
  readonly ttl: number;
  readonly value: string;
}

export class EtcdRegistry extends ServerRegistry {
  readonly name = 'etcd';
  protected readonly follower: EtcdWatch;
  readonly #client: EtcdClient;
  readonly #held = new Map<string, Held>();

  constructor(options: EtcdRegistryOptions) {
    super('etcd', options.onWarning);
    this.#client = new EtcdClient(options);
    this.follower = new EtcdWatch({
      client: this.#client,
      scheduler: options.scheduler ?? systemScheduler,
      warnings: this.warnings,
      prefix: ETCD_PREFIX,
      decode: (key, value) => this.#decode(key, value),
      readAll: () => this.#read(ETCD_PREFIX),
      onEvent: (event) => this.watchers.notify(event),
    });
  }

  protected nodeKey(service: string, nodeId: string): string {
    return keyOf(service, nodeId);
  }

  protected prepare(single: ServiceRecord, ttlMs: number): () => Promise<void> {
    // etcd counts seconds; a shorter TTL than it keeps is made longer by etcd itself.
    const ttl = Math.max(1, Math.ceil(ttlMs / 1000));
    const key = keyOf(single.name, (single.nodes[0] as ServiceNode).id);
    const value = encodeRecord(single);
    return () => this.#put(key, value, ttl);
  }

  protected async read(service: string): Promise<ServiceRecord[]> {
    const records = await this.#records(`${ETCD_PREFIX}${escaped(service)}/`);
    return mergeRecords(records.filter((record) => record.name === service));
  }

  protected async readAll(): Promise<ServiceRecord[]> {
    return mergeRecords(await this.#records(ETCD_PREFIX));
  }

  protected disconnect(): void {
    this.#client.close();
  }

  async #put(key: string, value: string, ttl: number): Promise<void> {
    const held = this.#held.get(key);
    if (held !== undefined && held.ttl === ttl && (await this.#renewed(key, held))) {
      if (held.value === value) return;
      try {
        await this.#write(key, value, held.lease);
        this.#held.set(key, { ...held, value });
        return;
      } catch (error) {
        // The lease ended between the two calls.
        if (!isNotFound(error)) throw error;
      }
    }
    this.#held.delete(key);
    const { ID: lease } = await this.#client.call('Lease/LeaseGrant', { TTL: ttl });
    await this.#write(key, value, lease);
    this.#held.set(key, { lease, ttl, value });
    // The lease before this one held the same key, which is the new lease's now.
    if (held !== undefined) await this.#revoke(held.lease);
  }

  /** Whether the lease lives and the key still belongs to it. */
  async #renewed(key: string, held: Held): Promise<boolean> {
    if ((await this.#client.keepAlive(held.lease)) <= 0) return false;
    const request = { key: Buffer.from(key), keys_only: true };
    const { kvs } = await this.#client.call('KV/Range', request);
    return kvs[0]?.lease === held.lease;
  }

  #write(key: string, value: string, lease: string): Promise<unknown> {
    const request = { key: Buffer.from(key), value: Buffer.from(value), lease };
    return this.#client.call('KV/Put', request);
  }

  protected async remove(service: string, nodeId: string): Promise<void> {
    const key = keyOf(service, nodeId);
    const held = this.#held.get(key);
    await this.#client.call('KV/DeleteRange', { key: Buffer.from(key) });
    this.#held.delete(key);
    if (held !== undefined) await this.#revoke(held.lease);
  }

  /** A lease that is left over ends by its TTL. */
  async #revoke(lease: string): Promise<void> {
    await this.#client.call('Lease/LeaseRevoke', { ID: lease }).catch(() => {});
  }

  async #records(prefix: string): Promise<ServiceRecord[]> {
    const { pairs } = await this.#read(prefix);
    return pairs
      .map(({ key, value }) => this.#decode(key, value))
      .filter((record) => record !== null);
  }

  /** Everything with the prefix, as it was at one revision. */
  async #read(prefix: string): Promise<EtcdSnapshot> {
    const range_end = Buffer.from(rangeEnd(prefix));
    const pairs: { key: string; value: Buffer }[] = [];
    let from = Buffer.from(prefix);
    let revision = '0';
    for (;;) {
      const request = { key: from, range_end, limit: PAGE, revision };
      const { header, kvs, more } = await this.#client.call('KV/Range', request);
      if (revision === '0') revision = header?.revision ?? '0';
      for (const { key, value } of kvs) pairs.push({ key: key.toString(), value });
      const last = kvs.at(-1);
      if (!more || last === undefined) return { pairs, revision };
      from = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  #decode(key: string, value: Buffer): ServiceRecord | null {
    try {
      const record = decodeRecord(value.toString());
      if (record.nodes.length === 0) {
        throw new RivuletError('DECODING_FAILED', 'not a service record: it has no node');
      }
      if (!key.startsWith(`${ETCD_PREFIX}${escaped(record.name)}/`)) {
        const text = `not a record of this key: it is about ${record.name}`;
        throw new RivuletError('DECODING_FAILED', text);
      }
      return record;
    } catch (error) {
      this.warnings.badRecord(`the key ${key}`, error);
      return null;
    }
  }
}

/** The registry of `etcd://user:password@host:port,host:port`; `etcds://` is TLS. */
export function etcdRegistryFrom(
  rest: string,
  options: Omit<EtcdRegistryOptions, 'endpoints'> = {},
): EtcdRegistry {
  const [, user, password, hosts = '', tail = ''] =
    /^(?:([^:@/]*)(?::([^@/]*))?@)?([^/?#]*)(.*)$/s.exec(rest) ?? [];
  if (tail !== '' && tail !== '/') {
    const text = `${shownPart(tail, rest)} after the addresses of etcd means nothing; write etcd://user:password@host:port,host:port`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const endpoints = (hosts === '' ? '127.0.0.1' : hosts)
    .split(',')
    .map((each) => endpointFrom(each, rest));
  return new EtcdRegistry({
    ...options,
    endpoints,
    ...(user ? { username: decodePart(user, 'etcd') } : {}),
    ...(password ? { password: decodePart(password, 'etcd') } : {}),
  });
}

function endpointFrom(text: string, address: string): string {
  const host = text.trim();
  const port = /:(\d{1,5})$/.exec(host)?.[1];
  const isPlain = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:@[\]]+)(?::\d{1,5})?$/.test(host);
  if (!isPlain || Number(port ?? DEFAULT_PORT) < 1 || Number(port ?? DEFAULT_PORT) > 65_535) {
    const advice = 'write etcd://host:port,host:port';
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `${shownPart(text, address)} is no address of etcd: ${advice}`,
    );
  }
  return port === undefined ? `${host}:${DEFAULT_PORT}` : host;
}

/** go-micro's key of a node. */
export function keyOf(service: string, nodeId: string): string {
  return `${ETCD_PREFIX}${escaped(service)}/${escaped(nodeId)}`;
}

function escaped(name: string): string {
  return name.replaceAll('/', '-');
}

function isNotFound(error: unknown): boolean {
  return error instanceof RivuletError && error.code === 'NOT_FOUND';
}

/**
 * The Consul registry, in go-micro's form: a service of the agent with a TTL check for each node.
 *
 * Registration goes to one agent, because another agent does not know what this one holds. Invariants:
 * registrations of one node run one after the other; a node whose record is unchanged only has its
 * check passed; an agent that lost its data refuses that, with whatever status, and the node is
 * registered again; a node whose check is critical is not there, and one without a check is; every read is
 * one of the leader's data (go-micro asks any server, `stale`): a server that is behind would hide a node
 * that the watch has been told of, until its next change. Cost: a renewal is one small request; a
 * watch holds all nodes in memory and, after a change, reads only the services whose checks changed, and
 * those of go-micro that have no check.
 */
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { encodeRecord, isAddress, isServiceName, mergeRecords, splitAddress } from '../record.ts';
import type { ServiceNode, ServiceRecord } from '../registry.ts';
import { decodePart, shownPart } from '../server/address-part.ts';
import {
  type HttpReply,
  jsonOf,
  RegistryHttp,
  type RegistryHttpOptions,
  strangeReply,
} from '../server/registry-http.ts';
import { ServerRegistry } from '../server/server-registry.ts';
import { type Snapshot, SnapshotWatch } from '../server/snapshot-watch.ts';
import type { WarningListener } from '../warnings.ts';
import { decodeTags, encodeTags, hasVersion } from './consul-tags.ts';

const DEFAULT_PORT = 8500;
/** A query that waits for a change is answered after this time at the latest. */
const WAIT_S = 55;
const WAIT_SLACK_MS = 10_000;
/** Consul removes a node whose check failed this much later; a minute is its own least. */
const REMOVED_AFTER_S = 5;
const LEAST_REMOVED_AFTER_S = 65;
const NO_INDEX = '0';
const POLL_MS = 5000;
/** Services that are read at once. */
const SIDE_BY_SIDE = 16;

export interface ConsulRegistryOptions {
  /** host:port of the agent. Default 127.0.0.1:8500. */
  readonly address?: string;
  /** The ACL token. Default: `CONSUL_HTTP_TOKEN`, if set. */
  readonly token?: string;
  readonly tls?: NonNullable<RegistryHttpOptions['tls']>;
  /** How long one request may take, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
  readonly scheduler?: Scheduler;
  /** Called once per record that cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

/** Consul's indexes of the checks, and of the services: one without a check changes only the second. */
interface Marks {
  readonly checks: string;
  readonly services: string;
}

const CHECKS = '/v1/health/state/any';
const SERVICES = '/v1/catalog/services';

export class ConsulRegistry extends ServerRegistry {
  readonly name = 'consul';
  protected readonly follower: SnapshotWatch<Marks>;
  readonly #http: RegistryHttp;
  readonly #scheduler: Scheduler;
  /** What was registered of each node, as JSON and TTL. */
  readonly #held = new Map<string, string>();
  /** For the watch: each service's checks, and the records that were read with them. */
  #seen = new Map<string, { readonly checks: string; readonly records: ServiceRecord[] }>();

  constructor(options: ConsulRegistryOptions = {}) {
    super('consul', options.onWarning);
    const { address = `127.0.0.1:${DEFAULT_PORT}`, tls, timeoutMs = 5000 } = options;
    const token = options.token ?? process.env.CONSUL_HTTP_TOKEN ?? '';
    this.#http = new RegistryHttp({
      title: 'Consul',
      servers: [`${tls === undefined ? 'http' : 'https'}://${address}`],
      timeoutMs,
      ...(token === '' ? {} : { headers: { 'x-consul-token': token } }),
      ...(tls === undefined ? {} : { tls }),
    });
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.follower = new SnapshotWatch<Marks>({
      scheduler: this.#scheduler,
      warnings: this.warnings,
      read: (signal) => this.#readChanges(signal),
      changed: (mark, signal) => this.#changed(mark, signal),
      onEvent: (event) => this.watchers.notify(event),
    });
  }

  /** The agent knows a node by its id alone. */
  protected nodeKey(_service: string, nodeId: string): string {
    return nodeId;
  }

  protected prepare(single: ServiceRecord, ttlMs: number): () => Promise<void> {
    return () => this.#put(single, single.nodes[0] as ServiceNode, ttlMs);
  }

  protected async remove(_service: string, nodeId: string): Promise<void> {
    this.#held.delete(nodeId);
    const path = `/v1/agent/service/deregister/${encodeURIComponent(nodeId)}`;
    const reply = await this.#http.send('PUT', path, { takesErrors: true });
    // The agent does not know the node, which is what the caller wants: 404, before Consul 1.11 with 500.
    const isUnknown = reply.status === 404 || (reply.status === 500 && UNKNOWN.test(reply.text));
    if (!isUnknown) this.#ok(reply, 'deregistration');
  }

  protected async readAll(): Promise<ServiceRecord[]> {
    return this.#readEach(this.#namesIn(await this.#http.send('GET', SERVICES)));
  }

  /** The services of go-micro: another program's have no version among their tags. */
  #namesIn(reply: HttpReply): string[] {
    const what = 'the list of services';
    const services = this.#ok(reply, what);
    if (typeof services !== 'object' || services === null || Array.isArray(services)) {
      throw strangeReply(`Consul's reply about ${what} is no map`);
    }
    const named = Object.entries(services).filter(([name]) => isServiceName(name));
    return named.filter(([, tags]) => hasVersion(tags)).map(([name]) => name);
  }

  protected disconnect(): void {
    this.#http.close();
  }

  async #put(single: ServiceRecord, node: ServiceNode, ttlMs: number): Promise<void> {
    const facts = `${ttlMs} ${encodeRecord(single)}`;
    if (this.#held.get(node.id) === facts && (await this.#passes(node.id))) return;
    this.#held.delete(node.id);
    const { host, port } = splitAddress(node.address) as { host: string; port: number };
    const removedAfter = Math.max(LEAST_REMOVED_AFTER_S, Math.ceil(ttlMs / 1000) + REMOVED_AFTER_S);
    const body = {
      ID: node.id,
      Name: single.name,
      Tags: encodeTags(single),
      Port: port,
      Address: host,
      Check: { TTL: `${ttlMs}ms`, DeregisterCriticalServiceAfter: `${removedAfter}s` },
    };
    this.#ok(await this.#http.send('PUT', '/v1/agent/service/register', { body }), 'registration');
    if (!(await this.#passes(node.id))) {
      const text = `Consul took the node ${node.id} and does not know its check`;
      throw new RivuletError('REGISTRY_UNAVAILABLE', text);
    }
    this.#held.set(node.id, facts);
  }

  /** False where the agent does not know the check: it says so with 404, before Consul 1.11 with 500. */
  async #passes(id: string): Promise<boolean> {
    const path = `/v1/agent/check/pass/service:${encodeURIComponent(id)}`;
    return (await this.#http.send('PUT', path, { takesErrors: true })).status === 200;
  }

  protected async read(name: string, signal?: AbortSignal): Promise<ServiceRecord[]> {
    if (!isServiceName(name)) return [];
    const path = `/v1/health/service/${encodeURIComponent(name)}`;
    const reply = await this.#http.send('GET', path, signal === undefined ? {} : { signal });
    const entries = this.#listIn(reply, `the nodes of ${name}`);
    return mergeRecords(entries.flatMap((entry) => this.#recordOf(name, entry)));
  }

  async #readEach(names: readonly string[], signal?: AbortSignal): Promise<ServiceRecord[]> {
    const found: ServiceRecord[] = [];
    for (let at = 0; at < names.length; at += SIDE_BY_SIDE) {
      const some = names.slice(at, at + SIDE_BY_SIDE);
      found.push(...(await Promise.all(some.map((name) => this.read(name, signal)))).flat());
    }
    return found;
  }

  #recordOf(name: string, entry: unknown): ServiceRecord[] {
    const { Node, Service, Checks } = objectOf(entry);
    if (Array.isArray(Checks) && Checks.some((check) => objectOf(check).Status === 'critical')) {
      return [];
    }
    const service = objectOf(Service);
    const facts = decodeTags(Array.isArray(service.Tags) ? service.Tags : []);
    // Not a service of go-micro: Consul itself is one.
    if (facts === null) return [];
    const host = service.Address || objectOf(Node).Address;
    const address = `${String(host).includes(':') ? `[${host}]` : host}:${service.Port}`;
    if (typeof service.ID !== 'string' || service.ID === '' || !isAddress(address)) {
      const text = `its address is ${JSON.stringify(address.slice(0, 64))}`;
      this.warnings.badRecord(`the service ${String(service.ID)} of ${name}`, text);
      return [];
    }
    const { version, metadata, endpoints, serviceMetadata } = facts;
    const node = { id: service.ID, address, metadata };
    return [{ name, version, metadata: serviceMetadata, endpoints, nodes: [node] }];
  }

  /** All services; only those whose checks are others than at the last read are asked for. */
  async #readChanges(signal: AbortSignal): Promise<Snapshot<Marks>> {
    const replies = [CHECKS, SERVICES].map((path) => this.#http.send('GET', path, { signal }));
    const [ofChecks, ofServices] = (await Promise.all(replies)) as [HttpReply, HttpReply];
    const mark = { checks: indexOf(ofChecks), services: indexOf(ofServices) };
    const checks = checksByService(this.#listIn(ofChecks, 'the list of checks'));
    // go-micro registers without a check where it is given no TTL: any change of services may be theirs.
    for (const name of this.#namesIn(ofServices)) {
      if (!checks.has(name)) checks.set(name, `no check ${mark.services}`);
    }
    const seen = new Map<string, { readonly checks: string; readonly records: ServiceRecord[] }>();
    const changed: string[] = [];
    for (const [name, state] of checks) {
      const before = this.#seen.get(name);
      const isSame = before?.checks === state && mark.services !== NO_INDEX;
      if (before !== undefined && isSame) seen.set(name, before);
      else changed.push(name);
    }
    const found = await this.#readEach(changed, signal);
    for (const name of changed) {
      const records = found.filter((record) => record.name === name);
      seen.set(name, { checks: checks.get(name) as string, records });
    }
    this.#seen = seen;
    return { records: [...seen.values()].flatMap((each) => each.records), mark };
  }

  async #changed({ checks, services }: Marks, signal: AbortSignal): Promise<void> {
    if (checks === NO_INDEX || services === NO_INDEX) {
      // Something between this process and Consul takes its headers away: it is asked now and then.
      await pause(this.#scheduler, POLL_MS, signal);
      return;
    }
    const ending = new AbortController();
    const unwatch = onAbort(signal, () => ending.abort(signal.reason));
    const waits = [
      this.#changedFrom(CHECKS, checks, ending.signal),
      this.#changedFrom(SERVICES, services, ending.signal),
    ];
    try {
      await Promise.race(waits);
    } finally {
      unwatch();
      ending.abort();
      await Promise.allSettled(waits);
    }
  }

  async #changedFrom(path: string, index: string, signal: AbortSignal): Promise<void> {
    const timeoutMs = WAIT_S * 1000 + WAIT_SLACK_MS;
    for (;;) {
      const query = `${path}?index=${index}&wait=${WAIT_S}s`;
      const reply = await this.#http.send('GET', query, { signal, timeoutMs });
      this.#ok(reply, 'what changed');
      if (indexOf(reply) !== index) return;
    }
  }

  #listIn(reply: HttpReply, what: string): unknown[] {
    const json = this.#ok(reply, what);
    if (Array.isArray(json)) return json;
    throw strangeReply(`Consul's reply about ${what} is no list`);
  }

  #ok(reply: HttpReply, what: string): unknown {
    if (reply.status !== 200) {
      const text = `Consul refuses ${what}: ${reply.status} ${reply.text.slice(0, 200)}`;
      throw new RivuletError('REGISTRY_UNAVAILABLE', text);
    }
    return reply.text === '' ? null : jsonOf(reply, `Consul's reply about ${what}`);
  }
}

/** How Consul before 1.11 says that there is no such service. */
const UNKNOWN = /unknown service/i;

/** An index that went down, or is not there, begins again: Consul's own rule. */
function indexOf({ headers }: HttpReply): string {
  const text = String(headers['x-consul-index'] ?? NO_INDEX);
  return /^\d{1,19}$/.test(text) ? text : NO_INDEX;
}

/**
 * The state of each service's checks, and of those of the machines that it runs on: when a machine dies, its
 * agent changes no check of its services.
 */
function checksByService(checks: readonly unknown[]): Map<string, string> {
  const all = checks.map(objectOf);
  const machines = new Map<unknown, string>();
  for (const { Node, CheckID, Status, ServiceName } of all) {
    if (ServiceName) continue;
    machines.set(Node, `${machines.get(Node) ?? ''}${CheckID} ${Status}\n`);
  }
  const states = new Map<string, string>();
  for (const { Node, ServiceName, ServiceID, CheckID, Status, ModifyIndex } of all) {
    if (typeof ServiceName !== 'string' || !isServiceName(ServiceName)) continue;
    const machine = machines.get(Node) ?? '';
    const state = `${ServiceID} ${CheckID} ${Status} ${ModifyIndex}\n${machine}`;
    states.set(ServiceName, (states.get(ServiceName) ?? '') + state);
  }
  return states;
}

function objectOf(json: unknown): Record<string, unknown> {
  return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {};
}

/** The registry of `consul://token@host:port`; `consuls://` is TLS. */
export function consulRegistryFrom(
  rest: string,
  options: Omit<ConsulRegistryOptions, 'address'> = {},
): ConsulRegistry {
  const [, token, host = '', tail = ''] = /^(?:([^@/]*)@)?([^/?#]*)(.*)$/s.exec(rest) ?? [];
  const address = host === '' ? '127.0.0.1' : host;
  const full = /:\d{1,5}$/.test(address) ? address : `${address}:${DEFAULT_PORT}`;
  if ((tail !== '' && tail !== '/') || !isAddress(full)) {
    const text = `${shownPart(`${host}${tail}`, rest)} is no address of a Consul agent; write consul://host:port`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return new ConsulRegistry({
    ...options,
    address: full,
    ...(token ? { token: decodePart(token, 'Consul') } : {}),
  });
}

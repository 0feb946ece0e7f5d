/**
 * The Eureka registry, in go-micro's form, over Eureka's JSON.
 *
 * Invariants: registrations of one node run one after the other; a heartbeat that finds the node gone
 * registers it again; of several servers the next one is asked when one does not answer; the watch
 * applies what changed every `POLL_MS` and reads everything again when Eureka's own hash says that
 * something was missed, when the last read is older than Eureka surely keeps its changes, when another
 * server answers, and every `MAX_DELTAS_MS`: the hash counts instances, and knows none, so a server behind
 * a shared address that missed a change may answer with the same one. Eureka itself decides when a node that died is gone: with its defaults later
 * than the TTL. Cost: a renewal is one small request; a watch keeps all instances in memory.
 */
import { RivuletError } from '../../errors.ts';
import { pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { encodeRecord, isAddress, isServiceName, mergeRecords } from '../record.ts';
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
import {
  type EurekaForm,
  firstText,
  instanceOf,
  listFrom,
  objectFrom,
  recordOf,
} from './eureka-instance.ts';

const DEFAULT_PORT = 8080;
const DEFAULT_PATH = '/eureka/v2';
const POLL_MS = 5000;
/** A third of the time for which Eureka keeps its changes. */
const MAX_DELTA_AGE_MS = 60_000;
/** Everything is read again after this time. */
const MAX_DELTAS_MS = 300_000;

export interface EurekaRegistryOptions {
  /** `http://host:port/eureka/v2` of each server; of Spring's `http://host:8761/eureka`. */
  readonly servers?: readonly string[];
  readonly username?: string;
  readonly password?: string;
  /** `micro` (default): addresses as go-micro writes them. `plain`: as Spring reads them. */
  readonly form?: EurekaForm;
  readonly tls?: NonNullable<RegistryHttpOptions['tls']>;
  /** How long one request may take, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
  /** How often the watch asks, in milliseconds. Default 5000. */
  readonly pollMs?: number;
  readonly scheduler?: Scheduler;
  /** Called once per record that cannot be read. Default: Node's warnings. */
  readonly onWarning?: WarningListener;
}

interface Seen {
  readonly status: string;
  readonly record: ServiceRecord | null;
}

export class EurekaRegistry extends ServerRegistry {
  readonly name = 'eureka';
  protected readonly follower: SnapshotWatch<null>;
  readonly #http: RegistryHttp;
  readonly #form: EurekaForm;
  /** What was registered of each node, as JSON and TTL. */
  readonly #held = new Map<string, string>();
  /** For the watch: every instance, by application and id; null = everything has to be read. */
  #seen: Map<string, Seen> | null = null;
  /** When everything in #seen was known last, by both clocks, and which server said so. */
  #seenAt = { monotonic: 0, now: 0, server: 0 };
  /** When everything was read last, by the monotonic clock. */
  #allReadAt = 0;
  readonly #scheduler: Scheduler;

  constructor(options: EurekaRegistryOptions = {}) {
    super('eureka', options.onWarning);
    const { username, password = '', tls, pollMs = POLL_MS } = options;
    if (!(pollMs >= 1 && pollMs <= 3_600_000)) {
      const text = `pollMs must be a number of milliseconds from 1 to 3600000, not ${pollMs}`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const scheduler = options.scheduler ?? systemScheduler;
    this.#scheduler = scheduler;
    const credentials = Buffer.from(`${username}:${password}`).toString('base64');
    this.#form = options.form ?? 'micro';
    this.#http = new RegistryHttp({
      title: 'Eureka',
      servers: options.servers ?? [`http://127.0.0.1:${DEFAULT_PORT}${DEFAULT_PATH}`],
      timeoutMs: options.timeoutMs ?? 5000,
      ...(username === undefined ? {} : { headers: { authorization: `Basic ${credentials}` } }),
      ...(tls === undefined ? {} : { tls }),
    });
    this.follower = new SnapshotWatch<null>({
      scheduler,
      warnings: this.warnings,
      read: (signal) => this.#readChanges(signal),
      changed: (_, signal) => pause(scheduler, pollMs, signal),
      onEvent: (event) => this.watchers.notify(event),
    });
  }

  protected nodeKey(service: string, nodeId: string): string {
    return keyOf(service, nodeId);
  }

  protected prepare(single: ServiceRecord, ttlMs: number): () => Promise<void> {
    return () => this.#put(single, single.nodes[0] as ServiceNode, ttlMs);
  }

  protected async remove(service: string, nodeId: string): Promise<void> {
    this.#held.delete(keyOf(service, nodeId));
    const reply = await this.#http.send('DELETE', pathOf(service, nodeId));
    // 404: Eureka does not know the node, which is what the caller wants.
    if (reply.status !== 404) this.#ok(reply, 'deregistration');
  }

  protected async read(service: string): Promise<ServiceRecord[]> {
    if (!isServiceName(service)) return [];
    const reply = await this.#http.send('GET', `/apps/${encodeURIComponent(service)}`);
    if (reply.status === 404 && !HTML.test(reply.text)) return [];
    const what = `the instances of ${service}`;
    const { application } = objectFrom(this.#ok(reply, what));
    if (application === undefined) throw strangeReply(`Eureka's reply about ${what} has none`);
    const records = this.#recordsOf(listFrom(application));
    return mergeRecords(records.filter((record) => record.name === service));
  }

  protected async readAll(): Promise<ServiceRecord[]> {
    return mergeRecords(this.#recordsOf(await this.#applications('/apps')));
  }

  protected disconnect(): void {
    this.#http.close();
  }

  async #put(single: ServiceRecord, node: ServiceNode, ttlMs: number): Promise<void> {
    const key = keyOf(single.name, node.id);
    const facts = `${ttlMs} ${encodeRecord(single)}`;
    if (this.#held.get(key) === facts) {
      const reply = await this.#http.send('PUT', pathOf(single.name, node.id));
      if (reply.status === 200) return;
    }
    this.#held.delete(key);
    const body = { instance: instanceOf(single, node, ttlMs, this.#form) };
    const path = `/apps/${encodeURIComponent(single.name)}`;
    this.#ok(await this.#http.send('POST', path, { body }), 'registration');
    this.#held.set(key, facts);
  }

  async #applications(path: string, signal?: AbortSignal): Promise<unknown[]> {
    return listFrom((await this.#answer(path, signal)).application);
  }

  async #answer(path: string, signal?: AbortSignal): Promise<Record<string, unknown>> {
    const reply = await this.#http.send('GET', path, signal === undefined ? {} : { signal });
    const what = 'the list of instances';
    const { applications } = objectFrom(this.#ok(reply, what));
    if (typeof applications === 'object' && applications !== null) return objectFrom(applications);
    throw strangeReply(`Eureka's reply about ${what} has none`);
  }

  #recordsOf(applications: readonly unknown[]): ServiceRecord[] {
    return applications
      .flatMap((application) => listFrom(objectFrom(application).instance))
      .map((instance) => this.#recordOf(instance))
      .filter((record) => record !== null);
  }

  #recordOf(instance: unknown): ServiceRecord | null {
    try {
      return recordOf(instance);
    } catch (error) {
      const { app, instanceId } = objectFrom(instance);
      this.warnings.badRecord(`the instance ${String(instanceId)} of ${String(app)}`, error);
      return null;
    }
  }

  async #readChanges(signal: AbortSignal): Promise<Snapshot<null>> {
    const before = this.#isFresh() ? this.#seen : null;
    const monotonic = this.#scheduler.monotonic();
    const now = this.#scheduler.now();
    // Until all went well, the next read is of everything.
    this.#seen = null;
    let seen = before;
    if (seen !== null) {
      const delta = await this.#answer('/apps/delta', signal);
      this.#apply(seen, listFrom(delta.application));
      const isOther = this.#http.active !== this.#seenAt.server;
      if (isOther || delta.apps__hashcode !== hashOf(seen)) seen = null;
    }
    if (seen === null) {
      seen = new Map();
      this.#apply(seen, await this.#applications('/apps', signal));
      this.#allReadAt = monotonic;
    }
    this.#seen = seen;
    this.#seenAt = { monotonic, now, server: this.#http.active };
    const records = [...seen.values()].map(({ record }) => record);
    return { records: mergeRecords(records.filter((record) => record !== null)), mark: null };
  }

  /**
   * Whether a delta holds all that changed since the last read. A process that was stopped, or its machine
   * asleep, may have missed any number of them; each of the two clocks runs on in one of these.
   */
  #isFresh(): boolean {
    const { monotonic, now } = this.#seenAt;
    const passed = [this.#scheduler.monotonic() - monotonic, this.#scheduler.now() - now];
    const sinceAll = this.#scheduler.monotonic() - this.#allReadAt;
    return sinceAll < MAX_DELTAS_MS && passed.every((ms) => ms >= 0 && ms < MAX_DELTA_AGE_MS);
  }

  #apply(seen: Map<string, Seen>, applications: readonly unknown[]): void {
    for (const application of applications) {
      for (const instance of listFrom(objectFrom(application).instance)) {
        const { app, instanceId, hostName, status, actionType } = objectFrom(instance);
        // go-micro sends an empty id, and Eureka keeps such an instance under its host.
        const key = keyOf(String(app), firstText(instanceId, hostName));
        if (actionType === 'DELETED') seen.delete(key);
        else seen.set(key, { status: String(status), record: this.#recordOf(instance) });
      }
    }
  }

  #ok(reply: HttpReply, what: string): unknown {
    if (reply.status < 200 || reply.status > 299) {
      const text = `Eureka refuses ${what}: ${reply.status} ${reply.text.slice(0, 200)}`;
      throw new RivuletError('REGISTRY_UNAVAILABLE', text);
    }
    return reply.text === '' ? null : jsonOf(reply, `Eureka's reply about ${what}`);
  }
}

/** A page of another server, which has no such path. */
const HTML = /^\s*<(!doctype|html)/i;

/** Eureka's own: how many instances have each status, in the order of the statuses' names. */
function hashOf(seen: ReadonlyMap<string, Seen>): string {
  const counts = new Map<string, number>();
  for (const { status } of seen.values()) counts.set(status, (counts.get(status) ?? 0) + 1);
  return [...counts]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([status, count]) => `${status}_${count}_`)
    .join('');
}

function keyOf(app: string, id: string): string {
  return `${app.toUpperCase()}\n${id}`;
}

function pathOf(app: string, id: string): string {
  return `/apps/${encodeURIComponent(app)}/${encodeURIComponent(id)}`;
}

/**
 * The registry of `eureka://user:password@host:port,host:port/path`; `eurekas://` is TLS. Without a
 * path it is `/eureka/v2`; `?form=plain` is Spring's form.
 */
export function eurekaRegistryFrom(
  rest: string,
  options: Omit<EurekaRegistryOptions, 'servers' | 'username' | 'password'> = {},
): EurekaRegistry {
  const [, user, password, hosts = '', path = '', query = ''] =
    /^(?:([^:@/]*)(?::([^@/]*))?@)?([^/?#]*)(\/[^?#]*)?(.*)$/s.exec(rest) ?? [];
  const form = formFrom(query, rest);
  const servers = (hosts === '' ? '127.0.0.1' : hosts).split(',').map((each) => {
    const host = each.trim();
    const address = /:\d{1,5}$/.test(host) ? host : `${host}:${DEFAULT_PORT}`;
    if (!isAddress(address)) {
      const text = `${shownPart(each, rest)} is no address of Eureka; write eureka://host:port,host:port/eureka/v2`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const scheme = options.tls === undefined ? 'http' : 'https';
    return `${scheme}://${address}${(path || DEFAULT_PATH).replace(/\/+$/, '')}`;
  });
  return new EurekaRegistry({
    ...options,
    servers,
    ...(form === null ? {} : { form }),
    ...(user ? { username: decodePart(user, 'Eureka') } : {}),
    ...(password ? { password: decodePart(password, 'Eureka') } : {}),
  });
}

function formFrom(query: string, address: string): EurekaForm | null {
  if (query === '') return null;
  const [, form] = /^\?form=(micro|plain)$/.exec(query) ?? [];
  if (form === undefined) {
    const text = `${shownPart(query, address)} means nothing to Eureka's registry; ?form=plain or ?form=micro does`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  return form as EurekaForm;
}

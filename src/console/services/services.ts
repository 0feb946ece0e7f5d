/**
 * Services as the registry knows them, and calls of their endpoints.
 *
 * Invariants: a call leaves as JSON and its reply is shown as it comes; a call has a deadline; of a stream
 * at most 100 replies and 1 MiB are taken. Cost: nothing is opened before the first question.
 */
import type { Broker } from '../../broker/broker.ts';
import { RivuletError } from '../../errors.ts';
import { CallClient } from '../../gateway/handlers/call-client.ts';
import type { Registry, ServiceNode, ServiceRecord } from '../../registry/registry.ts';
import { isEndpoint } from '../../rpc/contract.ts';
import { ServiceError } from '../../rpc/service-error.ts';
import type { Selector } from '../../selector/selector.ts';
import { Nouns } from '../../service/nouns.ts';
import type { NounOptions } from '../../service/options/options.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import type { CallReply, CallRequest, ServiceDetail, ServiceRow } from '../api-types.ts';

const DEADLINE_MS = 5000;
const LONGEST_MS = 25_000;
const MOST_REPLIES = 100;
const MOST_BYTES = 1024 * 1024;

export class Services {
  readonly #nouns: Nouns;
  readonly #client: CallClient;
  readonly registryName: string;

  constructor(options: Omit<NounOptions, 'scheduler'>, registryName: string) {
    this.#nouns = new Nouns({ ...options, scheduler: systemScheduler });
    this.#client = new CallClient(this.#nouns, { name: 'console', timeoutMs: DEADLINE_MS });
    this.registryName = registryName;
  }

  /** The broker that the registry and workflows are on. */
  broker(): Promise<Broker> {
    return this.#nouns.broker();
  }

  /** How nodes are chosen; nothing is opened before the first choice. */
  get selector(): Selector {
    return this.#nouns.selector;
  }

  /** Every record, as go-micro lists them. */
  async all(): Promise<ServiceRecord[]> {
    return (await this.#registry()).listServices();
  }

  /** One request and its reply as they are. Rejects as the call does. */
  callBytes(
    service: string,
    endpoint: string,
    body: Uint8Array,
    options: { readonly timeoutMs: number; readonly address?: string },
  ): Promise<Uint8Array> {
    const contentType = 'application/json';
    return this.#client.call(service, endpoint, body, { ...options, contentType });
  }

  async list(): Promise<ServiceRow[]> {
    const registry = await this.#registry();
    const rows = new Map<string, { versions: string[]; nodes: number; endpoints: Set<string> }>();
    for (const { name, version, nodes, endpoints } of await registry.listServices()) {
      const row = rows.get(name) ?? { versions: [], nodes: 0, endpoints: new Set() };
      row.versions.push(version);
      row.nodes += nodes.length;
      for (const endpoint of endpoints) row.endpoints.add(endpoint.name);
      rows.set(name, row);
    }
    return [...rows]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { versions, nodes, endpoints }]) => ({
        name,
        versions: versions.sort(),
        nodes,
        endpoints: endpoints.size,
      }));
  }

  async detail(name: string): Promise<ServiceDetail> {
    const records = await this.records(name);
    return {
      name,
      versions: records.map(({ version, metadata, endpoints, nodes }) => ({
        version,
        metadata,
        endpoints: endpoints.map((each) => ({
          name: each.name,
          request: each.request,
          response: each.response,
          stream: each.metadata.stream === 'true',
          metadata: each.metadata,
        })),
        nodes: nodes.map(({ id, address, metadata: of }) => ({
          id,
          address,
          metadata: of,
          lastSeenAt: null,
        })),
      })),
    };
  }

  /** Rejects with NOT_FOUND. */
  async records(name: string): Promise<ServiceRecord[]> {
    const registry = await this.#registry();
    const records = await registry.getService(name);
    if (records.length > 0) return records;
    throw new RivuletError('NOT_FOUND', `the registry has no service ${JSON.stringify(name)}`);
  }

  async #registry(): Promise<Registry> {
    try {
      return await this.#nouns.registry();
    } catch (cause) {
      const isLogin = cause instanceof RivuletError && cause.code === 'AUTHENTICATION_FAILED';
      if (!isLogin) throw cause;
      // It is not the viewer who has to log in.
      const text = 'the registry in the broker needs a password that the console does not have';
      throw new RivuletError('UNAVAILABLE', text, { cause });
    }
  }

  async call(request: CallRequest): Promise<CallReply> {
    const { service, endpoint, metadata = {}, node } = request;
    const deadlineMs = Math.min(request.deadlineMs ?? DEADLINE_MS, LONGEST_MS);
    const body = Buffer.from(JSON.stringify(request.request ?? {}));
    const options = {
      metadata: { ...metadata },
      timeoutMs: deadlineMs,
      contentType: 'application/json',
      ...(node === undefined ? {} : { address: node }),
    };
    const replies: unknown[] = [];
    const startedAt = performance.now();
    const ended = (error: CallReply['error'], cut: boolean): CallReply => ({
      ok: error === null,
      replies,
      cut,
      ms: Math.round(performance.now() - startedAt),
      error,
    });
    try {
      if (request.stream !== true) {
        replies.push(replyOf(await this.#client.call(service, endpoint, body, options)));
        return ended(null, false);
      }
      let bytes = 0;
      const stream = this.#client.stream('serverStream', service, endpoint, body, options);
      for await (const reply of stream) {
        replies.push(replyOf(reply));
        bytes += reply.length;
        if (replies.length === MOST_REPLIES || bytes > MOST_BYTES) return ended(null, true);
      }
      return ended(null, false);
    } catch (error) {
      if (!(error instanceof RivuletError)) throw error;
      const message = error instanceof ServiceError ? error.detail : error.message;
      return ended({ code: error.code, message }, false);
    }
  }

  /** Removes a node from the registry; a node that lives comes back with its next registration. */
  async dropNode(service: string, id: string): Promise<void> {
    for (const record of await this.records(service)) {
      const nodes: ServiceNode[] = record.nodes.filter((node) => node.id === id);
      if (nodes.length === 0) continue;
      await (await this.#registry()).deregister({ ...record, nodes });
      return;
    }
    throw new RivuletError('NOT_FOUND', 'the registry has no such node any more');
  }

  async close(): Promise<void> {
    await this.#client.close();
    await this.#nouns.close();
  }
}

/** Throws INVALID_ARGUMENT. */
export function callRequestOf(body: unknown): CallRequest {
  const of = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const { service, endpoint, metadata, deadlineMs, node } = of;
  if (typeof service !== 'string' || service === '' || typeof endpoint !== 'string') {
    throw new RivuletError('INVALID_ARGUMENT', 'a call names a service and an endpoint');
  }
  if (!isEndpoint(endpoint)) {
    throw new RivuletError('INVALID_ARGUMENT', 'an endpoint is Struct.Method');
  }
  const isDeadline =
    deadlineMs === undefined ||
    (Number.isInteger(deadlineMs) && Number(deadlineMs) >= 1 && Number(deadlineMs) <= LONGEST_MS);
  if (!isDeadline) {
    throw new RivuletError('INVALID_ARGUMENT', `deadlineMs is 1 to ${LONGEST_MS}`);
  }
  const isMetadata =
    metadata === undefined ||
    (typeof metadata === 'object' &&
      metadata !== null &&
      Object.values(metadata).every((each) => typeof each === 'string'));
  if (!isMetadata) throw new RivuletError('INVALID_ARGUMENT', 'metadata has texts as values');
  if (node !== undefined && typeof node !== 'string') {
    throw new RivuletError('INVALID_ARGUMENT', 'node is host:port');
  }
  return of as unknown as CallRequest;
}

/** JSON as it is; anything else as text. */
function replyOf(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes).toString();
  if (text === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

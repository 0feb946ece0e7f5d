/**
 * go-micro's http broker, its default: every subscriber is a small HTTP server, found in a registry,
 * and a publish is one POST to each queue and to each broadcast subscriber.
 *
 * The wire form and the records are go-micro's, so Go services on the same topic understand them. Five
 * things differ, because go-micro loses messages there: a publish resolves when every subscriber has
 * accepted, and otherwise rejects and names the one that did not; when a node of a queue fails, another
 * node gets the message; every broadcast subscriber must accept; a handler that fails is called again;
 * node ids are unique. Nothing is stored: a message is only in its subscriber's memory.
 *
 * Address: `http://host:port` to listen on; port 0 chooses one. The registry is `client.registry`
 * (ServiceRegistry); without one, brokers of this process find each other. A broker that listens on
 * every interface is called at `client.advertise` (host or host:port), or at this machine's first
 * address.
 */
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { RivuletError } from '../../errors.ts';
import { parseAddress } from '../addresses.ts';
import type { PendingEntry, Receipt, TopicInfo } from '../broker.ts';
import { BrokerBase, type PublishPlan, type SubscriptionHandle } from '../broker-base.ts';
import type { Capabilities } from '../capabilities.ts';
import type { RawDelivery } from '../dispatch/delivery.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import type { RawMessage } from '../message/message.ts';
import type { BrokerOptions, ResolvedSubscribeOptions } from '../options/options.ts';
import type { RawCall } from '../requests/stream-call.ts';
import { fromWire, toWire, type WireMessage } from './http-message.ts';
import {
  processRegistry,
  type ServiceNode,
  type ServiceRecord,
  type ServiceRegistry,
} from './http-registry.ts';
import { HttpSubscription } from './http-subscription.ts';

const SERVICE = 'micro.http.broker';
const BROADCAST = 'ff.http.broadcast';
const TTL_MS = 60_000;
const RENEW_EVERY_MS = 30_000;
const POST_MS = 5000;
const MOST_BYTES = 32 * 1024 * 1024;

export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions>,
): HttpBroker {
  return new HttpBroker(addresses, options);
}

class HttpBroker extends BrokerBase {
  readonly name = 'http';
  readonly capabilities: Readonly<Capabilities> = {
    durability: 'none',
    delayedNack: 'emulated',
    delayedPublish: 'none',
    deadLetter: 'at-least-once',
    dedup: null,
    replayById: false,
    replayByTime: false,
    orderPerKey: false,
    strictOrder: false,
    maxInFlight: 'none',
    wildcards: false,
    requestReply: false,
    pendingList: 'none',
    attempts: 'hand-overs',
    trimmedPending: 'none',
    retriedPublish: 'at-least-once',
    extend: true,
    persistent: false,
    maxBodyBytes: MOST_BYTES,
  };
  readonly #registry: ServiceRegistry;
  readonly #subscriptions = new Map<string, HttpSubscription>();
  readonly #records = new Set<ServiceRecord>();
  /** Publishes that have not ended: a later attempt posts only to subscribers that have not accepted. */
  readonly #attempted = new WeakMap<PublishPlan, { wire: WireMessage; takenBy: Set<string> }[]>();
  #agent: Agent | null = null;
  #server: Server | null = null;
  #cancelRenewal: (() => void) | null = null;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#registry = (this.options.client?.registry as ServiceRegistry) ?? processRegistry;
  }

  get address(): string {
    const bound = this.#server?.address() as AddressInfo | null | undefined;
    return bound ? `http://${hostPort(bound)}` : (this.options.addresses[0] ?? '');
  }

  protected doPending(): Promise<PendingEntry[]> {
    return Promise.reject(cannot('pending'));
  }

  protected doReplay(): Promise<void> {
    return Promise.reject(cannot('replay'));
  }

  protected doRedrive(): Promise<number> {
    return Promise.reject(cannot('redrive'));
  }

  protected doDeleteTopic(): Promise<void> {
    return Promise.reject(cannot('deleteTopic'));
  }

  /** Topics with subscribers. Nothing is stored, so their length is 0. */
  protected async *doTopics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    const topics = new Map<string, Set<string>>();
    for (const { version, nodes } of await this.#registry.getService(SERVICE)) {
      for (const { metadata } of nodes) {
        const groups = topics.get(metadata.topic ?? '') ?? new Set();
        topics.set(metadata.topic ?? '', groups);
        if (version !== BROADCAST) groups.add(version);
      }
    }
    for (const [topic, groups] of topics) {
      const list = [...groups].map((name) => ({ name, pending: 0, lag: null }));
      yield { topic, length: 0, groups: list };
    }
  }

  protected async open(): Promise<void> {
    const { host, port } = parseAddress(this.options.addresses[0] ?? 'http://127.0.0.1:0');
    const server = createServer((incoming, response) => this.#receive(incoming, response));
    this.#server = server;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 64 });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => {
        const text = `cannot listen on ${host}: ${cause.message}`;
        reject(new RivuletError('CONNECTION_FAILED', text, { cause }));
      });
      server.listen(port ?? 0, host || '127.0.0.1', resolve);
    });
    this.#renewLater();
  }

  protected async shut(): Promise<void> {
    this.#cancelRenewal?.();
    this.#agent?.destroy();
    const server = this.#server;
    if (server === null || !server.listening) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  protected override async store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const { scheduler } = this.options;
    const before = this.#attempted.get(plan);
    const wires =
      before ??
      messages.map((message) => ({
        wire: {
          topic,
          id: scheduler.uniqueName(),
          before: 0,
          publishedAt: scheduler.now(),
          message,
        },
        takenBy: new Set<string>(),
      }));
    this.#attempted.set(plan, wires);
    for (const { wire, takenBy } of wires) await this.#spread(wire, takenBy);
    return wires.map(({ wire }) => ({ id: wire.id, duplicate: false }));
  }

  protected async startSubscription(
    topic: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    const { scheduler } = this.options;
    const id = `${topic}-${scheduler.uniqueName()}`;
    if (options.group === BROADCAST) {
      const text = `group ${BROADCAST} is go-micro's name for subscribers without a group`;
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const version = options.group ?? BROADCAST;
    const address = this.#advertised();
    const metadata = { secure: 'false', broker: 'http', topic };
    const nodes = [{ id, address, metadata }];
    const record = { name: SERVICE, version, metadata: {}, endpoints: [], nodes };
    const subscription = new HttpSubscription({
      topic,
      consume,
      options,
      scheduler,
      events: this.events,
      tracing: this.tracing,
      publish: async (to, message) => {
        const plan = { dedupId: null, delayMs: null, deliverAt: null, maxLength: null };
        await this.store(to, [message], plan);
      },
      handOver: (raw) => this.#handOver(raw, version, id),
      leave: async () => {
        this.#records.delete(record);
        this.#subscriptions.delete(id);
        try {
          await this.#registry.deregister(record);
        } catch (cause) {
          // The record expires after TTL_MS.
          const text =
            'a subscription could not be removed from the registry: its record expires by itself';
          this.events.emit('warning', { error: new RivuletError('INTERNAL', text, { cause }) });
        }
      },
    });
    this.#subscriptions.set(id, subscription);
    this.#records.add(record);
    const register = () => reached(() => this.#registry.register(record, { ttlMs: TTL_MS }));
    const { publishTimeoutMs } = this.options;
    try {
      await this.withRetry(`subscribe to ${topic}`, publishTimeoutMs, options.signal, register);
    } catch (error) {
      this.#records.delete(record);
      this.#subscriptions.delete(id);
      await subscription.close(0);
      throw error;
    }
    return subscription;
  }

  /** The address that the registry gets: one that other machines can reach, never a wildcard address. */
  #advertised(): string {
    const bound = (this.#server as Server).address() as AddressInfo;
    const chosen = this.options.client?.advertise;
    if (typeof chosen === 'string')
      return chosen.includes(':') ? chosen : `${chosen}:${bound.port}`;
    if (bound.address !== '0.0.0.0' && bound.address !== '::') return hostPort(bound);
    const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    const wanted = own.filter(({ internal }) => !internal);
    const found = wanted.find(({ family }) => family === 'IPv4') ?? wanted[0];
    if (found === undefined) return `127.0.0.1:${bound.port}`;
    return hostPort({ address: found.address, family: found.family, port: bound.port });
  }

  protected startResponder(): Promise<SubscriptionHandle> {
    return Promise.reject(cannot('respond'));
  }

  protected begin(): RawCall {
    throw cannot('request');
  }

  /**
   * Posts to one node of each queue and to every broadcast subscriber, except those in `takenBy` (ids of
   * nodes, names of queues), which have accepted. Rejects with NOT_CONNECTED where one does not accept.
   */
  async #spread(wire: WireMessage, takenBy: Set<string>): Promise<void> {
    const bytes = toWire(wire);
    const targets = new Map<string, ServiceNode[]>();
    const records = await reached(() => this.#registry.getService(SERVICE));
    for (const { version, nodes } of records) {
      for (const node of nodes) {
        if (node.metadata.topic !== wire.topic) continue;
        const target = version === BROADCAST ? `node ${node.id}` : `queue ${version}`;
        if (!takenBy.has(target)) targets.set(target, [...(targets.get(target) ?? []), node]);
      }
    }
    let missing: string | null = null;
    await Promise.all(
      [...targets].map(async ([target, nodes]) => {
        if (await this.#oneOf(nodes, bytes)) takenBy.add(target);
        else missing = target;
      }),
    );
    if (missing === null) return;
    const text = `${missing} does not accept messages of ${wire.topic}`;
    throw new RivuletError('NOT_CONNECTED', text);
  }

  async #oneOf(nodes: readonly ServiceNode[], bytes: Buffer): Promise<boolean> {
    const choice = [...nodes];
    while (choice.length > 0) {
      const at = Math.floor(this.options.scheduler.fraction() * choice.length);
      const [node] = choice.splice(at, 1) as [ServiceNode];
      if (await this.#post(node, bytes)) return true;
    }
    return false;
  }

  async #handOver(raw: RawDelivery, version: string, ownId: string): Promise<boolean> {
    const records = await this.#registry.getService(SERVICE).catch(() => []);
    const others = records
      .filter((record) => record.version === version)
      .flatMap((record) => record.nodes)
      .filter(({ id, metadata }) => id !== ownId && metadata.topic === raw.topic);
    return this.#oneOf(others, toWire({ ...raw, before: raw.attempt - 1 }));
  }

  /** Whether the node has accepted it. */
  #post({ address, id }: ServiceNode, bytes: Buffer): Promise<boolean> {
    return new Promise((resolve) => {
      const outgoing = request(
        `http://${address}/?id=${encodeURIComponent(id)}`,
        {
          method: 'POST',
          agent: this.#agent as Agent,
          timeout: POST_MS,
          headers: { 'content-type': 'application/json', 'content-length': bytes.length },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode === 200);
        },
      );
      outgoing.on('timeout', () => outgoing.destroy());
      outgoing.on('error', () => resolve(false));
      outgoing.end(bytes);
    });
  }

  #receive(incoming: IncomingMessage, response: ServerResponse): void {
    const answer = (status: number) => response.writeHead(status).end();
    if (incoming.method !== 'POST') {
      answer(405);
      return;
    }
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      // The body is base64 in JSON: less than twice its size.
      if (size > this.options.maxBodyBytes * 2 + 1024 * 1024) incoming.destroy();
      else chunks.push(chunk);
    });
    incoming.on('end', () => {
      try {
        const id = new URL(incoming.url ?? '/', 'http://x').searchParams.get('id') ?? '';
        const subscription = this.#subscriptions.get(id);
        const { scheduler } = this.options;
        const wire = fromWire(Buffer.concat(chunks), scheduler.now(), () => scheduler.uniqueName());
        const raw = { ...wire, attempt: wire.before + 1 };
        if (subscription === undefined) answer(404);
        else answer(subscription.accept(raw) ? 200 : 503);
      } catch {
        answer(400);
      }
    });
  }

  #renewLater(): void {
    this.#cancelRenewal = this.options.scheduler.after(RENEW_EVERY_MS, () => {
      for (const record of this.#records) {
        this.#registry.register(record, { ttlMs: TTL_MS }).catch((cause) => {
          const text = 'a subscription could not be renewed in the registry';
          this.events.emit('warning', { error: new RivuletError('INTERNAL', text, { cause }) });
        });
      }
      this.#renewLater();
    });
  }
}

function hostPort({ address, port, family }: AddressInfo): string {
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A failure of the registry becomes NOT_CONNECTED, so that the call is tried again. */
async function reached<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof RivuletError && !cause.retryable) throw cause;
    throw new RivuletError('NOT_CONNECTED', 'the registry cannot be reached', { cause });
  }
}

function cannot(what: string): RivuletError {
  return new RivuletError('UNSUPPORTED', `the http broker cannot do ${what}`);
}

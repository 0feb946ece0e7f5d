/**
 * `micro proxy`: any protocol in, any service out, by its name.
 *
 *   const proxy = await startProxy({ registry: 'mdns' });
 *
 * One port takes mucp (HTTP with Micro-Service and Micro-Endpoint), gRPC and our own frames. Invariants:
 * a call that has passed `maxHops` proxies is refused, so that two proxies cannot pass it to each other
 * without end; services outside of `allow` do not exist; headers that services trust are dropped, and a
 * caller has the account of its key or token; `stop` waits for calls that run. Cost: see forward.ts.
 */
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { RivuletError } from '../errors.ts';
import { Authentication, type Identity } from '../gateway/access/authentication.ts';
import { networkOf, RateLimiter } from '../gateway/access/rate-limiter.ts';
import { isOfServices } from '../gateway/forwarding.ts';
import { PROXY_LIMITS, type ProxyLimits, resolveLimits } from '../gateway/limits.ts';
import { listenAddress } from '../gateway/options.ts';
import { Directory, streamKind } from '../gateway/routing/directory.ts';
import type { ServiceNode } from '../registry/registry.ts';
import { Connections } from '../rpc/connections.ts';
import { quietLog } from '../rpc/context.ts';
import { failureOf } from '../rpc/errors-wire.ts';
import { leaveWithin } from '../service/leave.ts';
import { type Listening, listenOnAll } from '../service/listening.ts';
import { Nouns } from '../service/nouns.ts';
import { openTransports, type TransportMeans } from '../service/open-transports.ts';
import type { IncomingCall, Metadata, Transport } from '../transport/transport.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { forward, PROXY_ID, type Route } from './forward.ts';
import {
  checkProxyOptions,
  type Destination,
  isAllowed,
  type ProxyOptions,
  schemeOf,
} from './options.ts';

const HOPS = 'micro-via';
const ACCOUNT = 'micro-account';
const FROM_SERVICE = 'micro-from-service';
/** What is no claim of a caller: how often a call was tried, and which trace it belongs to. */
const CARRIED = new Set([HOPS, 'rivulet-attempt', 'micro-trace-id', 'micro-span-id']);
/** Names of the transports that take each protocol. */
const TAKEN: Readonly<Record<string, readonly string[]>> = {
  auto: ['tcp', 'grpc', 'http'],
  grpc: ['grpc'],
  mucp: ['http'],
  http: ['http'],
};

/** Rejects with INVALID_ARGUMENT for an option that cannot be obeyed, and where it cannot listen. */
export async function startProxy(options: ProxyOptions = {}): Promise<ProxyServer> {
  const destination = checkProxyOptions(options);
  const authentication = await Authentication.open(options.auth ?? {});
  const proxy = new ProxyServer(options, destination, authentication);
  await proxy.start();
  return proxy;
}

export class ProxyServer implements AsyncDisposable {
  readonly #options: ProxyOptions;
  readonly #destination: Destination;
  readonly #authentication: Authentication;
  readonly #nouns: Nouns;
  readonly #connections: Connections;
  readonly #directory: Directory;
  readonly #limiter: RateLimiter;
  readonly #limits: ProxyLimits;
  readonly #trusted: ReadonlySet<string>;
  #listening: Listening | null = null;
  #closing: Promise<void> | null = null;
  #running = 0;

  /** Use `startProxy`. */
  constructor(options: ProxyOptions, destination: Destination, authentication: Authentication) {
    const { broker, registry, transport, selector, scheduler = systemScheduler } = options;
    this.#options = options;
    const limits = resolveLimits(PROXY_LIMITS, options);
    this.#limits = limits;
    this.#limiter = new RateLimiter(limits.maxRateClients);
    this.#destination = destination;
    this.#authentication = authentication;
    this.#trusted = new Set((options.trustedMetadata ?? []).map((name) => name.toLowerCase()));
    this.#nouns = new Nouns({
      scheduler,
      ...(broker === undefined ? {} : { broker }),
      ...(registry === undefined ? {} : { registry }),
      ...(transport === undefined ? {} : { transport }),
      ...(selector === undefined ? {} : { selector }),
    });
    this.#connections = new Connections({
      // The local transport carries values, and these are bytes.
      transports: async () =>
        (await this.#nouns.transports()).filter((each) => each.name !== 'local'),
      scheduler,
      dialTimeoutMs: limits.dialTimeoutMs,
      maxChannels: limits.maxChannels,
    });
    const log = options.log ?? quietLog;
    this.#directory = new Directory({
      registry: () => this.#nouns.registry(),
      scheduler,
      refreshMs: limits.refreshMs,
      report: (text) => log.warn(text),
    });
  }

  /** host:port as bound. */
  get address(): string {
    return this.#listening?.address ?? '';
  }

  /** Calls that have not ended. */
  get running(): number {
    return this.#running;
  }

  async start(): Promise<void> {
    const {
      address = '127.0.0.1:8081',
      protocol = 'auto',
      scheduler = systemScheduler,
    } = this.#options;
    const { host, port } = listenAddress(address);
    const taken = TAKEN[protocol] as readonly string[];
    try {
      if (this.#nouns.hasBroker) await this.#nouns.broker();
      await this.#directory.start();
      const { maxMessageBytes } = this.#limits;
      const means = { scheduler, broker: null, maxMessageBytes };
      const own = await Promise.all(taken.map((name) => listeningOf(name, means)));
      this.#listening = await listenOnAll(
        own,
        {
          address: `${host.includes(':') ? `[${host}]` : host}:${port}`,
          handler: (call) => this.#take(call),
          nodeId: PROXY_ID,
          service: PROXY_ID,
        },
        scheduler,
      );
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Resolves two seconds after the last call at most; calls are given `drainTimeoutMs`. */
  stop(): Promise<void> {
    this.#closing ??= this.#stop();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    const { scheduler = systemScheduler } = this.#options;
    await this.#listening?.close(this.#limits.drainTimeoutMs);
    await leaveWithin(scheduler, [
      () => this.#directory.close(),
      () => this.#connections.close(),
      () => this.#nouns.close(),
    ]);
  }

  #take(call: IncomingCall): void {
    this.#running++;
    this.#routeOf(call)
      .then((route) => forward(call, route))
      .catch((error) => call.fail({ ...failureOf(error, PROXY_ID, null), sent: 'no' }))
      .finally(() => {
        this.#running--;
      });
  }

  async #routeOf(call: IncomingCall): Promise<Route> {
    const { maxConcurrentCalls, timeoutMs, retries } = this.#limits;
    if (this.#running > maxConcurrentCalls) {
      throw new RivuletError(
        'LIMIT_EXCEEDED',
        `the proxy runs ${maxConcurrentCalls} calls, its limit`,
      );
    }
    const identity = this.#authentication.isSetUp ? await this.#checkCaller(call) : null;
    const service =
      this.#destination !== null && 'service' in this.#destination
        ? this.#destination.service
        : call.service;
    if (service === '' && this.#destination === null) {
      throw new RivuletError('INVALID_ARGUMENT', 'service name is blank', { sent: 'no' });
    }
    if (!isAllowed(service, this.#options.allow)) {
      throw new RivuletError(
        'PERMISSION_DENIED',
        `${service} is not among the services of this proxy`,
      );
    }
    const known = this.#directory.endpoint(service, call.endpoint);
    const kind = call.kind ?? streamKind(known) ?? 'unary';
    return {
      service,
      kind,
      ...(await this.#nodesOf(service)),
      connections: this.#connections,
      metadata: this.#onward(call.metadata, identity),
      attempts: 1 + retries,
      timeoutMs: call.timeoutMs ?? (kind === 'unary' ? timeoutMs : null),
    };
  }

  async #nodesOf(service: string): Promise<Pick<Route, 'next' | 'mark'>> {
    if (this.#destination !== null && 'address' in this.#destination) {
      const { address } = this.#destination;
      const node = fixedNode(address, schemeOf(this.#options.endpoint));
      return { next: () => node, mark: () => {} };
    }
    const { selector } = this.#nouns;
    const next = await selector.select(service);
    return { next, mark: (node, outcome) => selector.mark(service, node, outcome) };
  }

  /** The same credentials as at the gateway, in the call's metadata. */
  async #checkCaller({ metadata, peer }: IncomingCall): Promise<Identity> {
    const request = new IncomingMessage(new Socket());
    for (const name of ['authorization', 'cookie', 'x-api-key']) {
      if (metadata[name] !== undefined) request.headers[name] = metadata[name];
    }
    const rule = {
      path: '',
      auth: 'required',
      scopes: [],
      rateLimit: null,
      maxBodyBytes: 0,
      timeoutMs: 1,
      bodyTimeoutMs: 1,
      webhooks: [],
    } as const;
    try {
      return await this.#authentication.check(request, rule);
    } catch (error) {
      // A caller that guesses keys is slowed down.
      const { scheduler = systemScheduler } = this.#options;
      const host = networkOf(peer.address.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
      const { perSecond = 20, burst = 10 * perSecond } = this.#options.wrongKeyLimit ?? {};
      const limit = { perSecond, burst: Math.max(1, Math.ceil(burst)) };
      try {
        this.#limiter.take(host, limit, scheduler.monotonic());
      } catch {
        const text = 'there were too many calls with a wrong key or token';
        throw new RivuletError('LIMIT_EXCEEDED', text, { sent: 'no' });
      }
      throw new RivuletError('AUTHENTICATION_FAILED', (error as Error).message, { sent: 'no' });
    }
  }

  /** Counts the proxies that a call has passed, and leaves out what its caller may not claim. */
  #onward(metadata: Metadata, identity: Identity | null): Metadata {
    const { maxHops } = this.#limits;
    const hops = Number(metadata[HOPS] ?? 0);
    if (!(hops >= 0 && hops < maxHops)) {
      throw new RivuletError('FAILED_PRECONDITION', `the call has passed ${maxHops} proxies`, {
        sent: 'no',
      });
    }
    const onward: Record<string, string> = Object.create(null);
    onward[FROM_SERVICE] = PROXY_ID;
    for (const [name, value] of Object.entries(metadata)) {
      if (!isOfServices(name) || CARRIED.has(name) || this.#trusted.has(name)) onward[name] = value;
    }
    if (identity !== null) onward[ACCOUNT] = identity.name;
    onward[HOPS] = String(hops + 1);
    return onward;
  }
}

async function listeningOf(name: string, means: TransportMeans): Promise<Transport> {
  const [transport] = await openTransports(name, means);
  return transport as Transport;
}

function fixedNode(address: string, scheme: 'grpc' | 'http' | 'mucp'): ServiceNode {
  return { id: address, address, metadata: { protocol: scheme === 'http' ? 'mucp' : scheme } };
}

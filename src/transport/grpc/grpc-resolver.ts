/**
 * Services by name for grpc-js clients that users have: `new OrderSrvClient('rivulet:///go.micro.orders')`.
 *
 *   registerGrpcResolver(registry);
 *   const client = new OrderSrvClient('rivulet:///go.micro.orders', credentials.createInsecure());
 *
 * grpc-js balances over the nodes that it is given and connects by itself. Invariants: the nodes follow
 * the registry while a client is open; a registry that cannot be reached leaves the last nodes in use;
 * only nodes that take gRPC are given. Cost: one watch per open channel.
 */
import { createRequire } from 'node:module';
import type { ChannelOptions, experimental } from '@grpc/grpc-js';
import { RivuletError } from '../../errors.ts';
import { splitAddress } from '../../registry/record.ts';
import type { Registry } from '../../registry/registry.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { speaks } from '../protocols.ts';

export interface GrpcResolverOptions {
  /** The scheme of targets. Default `rivulet`. */
  readonly scheme?: string;
  readonly scheduler?: Scheduler;
  /** The grpc-js that the clients are made with, where it is another copy than ours. */
  readonly grpc?: GrpcJs;
}

type GrpcJs = typeof import('@grpc/grpc-js');
type Target = Parameters<typeof experimental.uriToString>[0];
type Listener = experimental.ResolverListener;
type ServiceConfig = Parameters<Listener>[2];
const RETRY_MS = 1000;
/** grpc-js would use the first node only. */
const EVERY_NODE: ServiceConfig = {
  ok: true,
  value: { loadBalancingConfig: [{ round_robin: {} }], methodConfig: [] },
};

interface ResolverSetup {
  readonly registry: Registry;
  readonly scheduler: Scheduler;
  readonly grpc: GrpcJs;
  /** Null where the user gave the channel one. */
  readonly config: ServiceConfig;
}

/** For this process. A second call for the same scheme is for channels that are made after it. */
export function registerGrpcResolver(registry: Registry, options: GrpcResolverOptions = {}): void {
  const { scheme = 'rivulet', scheduler = systemScheduler } = options;
  if (!/^[a-z][a-z0-9+.-]*$/.test(scheme)) {
    const text = `scheme ${JSON.stringify(scheme.slice(0, 50))} must be lower-case letters, digits, +, . and -`;
    throw new RivuletError('INVALID_ARGUMENT', text);
  }
  const grpc = options.grpc ?? (createRequire(import.meta.url)('@grpc/grpc-js') as GrpcJs);
  grpc.experimental.registerResolver(
    scheme,
    class extends RegistryResolver {
      constructor(target: Target, listener: Listener, channelOptions: ChannelOptions) {
        const config = 'grpc.service_config' in channelOptions ? null : EVERY_NODE;
        super({ registry, scheduler, config, grpc }, nameIn(target), listener);
      }

      static getDefaultAuthority(target: Target): string {
        return nameIn(target);
      }
    },
  );
}

function nameIn({ path }: Target): string {
  return path.replace(/^\//, '');
}

class RegistryResolver implements experimental.Resolver {
  readonly #registry: Registry;
  readonly #scheduler: Scheduler;
  readonly #config: ServiceConfig;
  readonly #grpc: GrpcJs;
  readonly #service: string;
  readonly #listener: Listener;
  #watching: AbortController | null = null;
  #hasNodes = false;
  #reading: Promise<void> | null = null;
  #readAgain = false;

  constructor(
    { registry, scheduler, config, grpc }: ResolverSetup,
    service: string,
    listener: Listener,
  ) {
    this.#registry = registry;
    this.#scheduler = scheduler;
    this.#config = config;
    this.#grpc = grpc;
    this.#service = service;
    this.#listener = listener;
  }

  updateResolution(): void {
    if (this.#watching === null) {
      this.#watching = new AbortController();
      void this.#watch(this.#watching.signal);
    }
    this.#read();
  }

  destroy(): void {
    this.#watching?.abort();
    this.#watching = null;
    this.#hasNodes = false;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    try {
      for await (const _ of this.#registry.watch(this.#service, { signal })) this.#read();
    } catch {
      // The next failed connection asks for another resolution, which reads again.
    }
    if (signal.aborted || this.#watching?.signal !== signal) return;
    this.#scheduler.after(
      RETRY_MS,
      () => {
        if (!signal.aborted) void this.#watch(signal);
      },
      false,
    );
  }

  /** One read at a time; a change during it is read after it. */
  #read(): void {
    if (this.#reading !== null) {
      this.#readAgain = true;
      return;
    }
    this.#reading = this.#once().finally(() => {
      this.#reading = null;
      if (!this.#readAgain) return;
      this.#readAgain = false;
      this.#read();
    });
  }

  async #once(): Promise<void> {
    const { signal } = this.#watching ?? new AbortController();
    try {
      const records = await this.#registry.getService(this.#service);
      if (signal.aborted) return;
      const endpoints = records
        .flatMap(({ nodes }) => nodes)
        .filter((node) => speaks(node, 'grpc'))
        .flatMap(({ address }) => splitAddress(address) ?? [])
        .map((address) => ({ addresses: [address] }));
      this.#hasNodes = endpoints.length > 0;
      if (this.#hasNodes) this.#listener({ ok: true, value: endpoints }, {}, this.#config, '');
      else this.#fail(`no node of ${this.#service} that takes gRPC is in the registry`);
    } catch (error) {
      if (signal.aborted || this.#hasNodes) return;
      const why = error instanceof Error ? error.message : String(error);
      this.#fail(`the registry cannot say where ${this.#service} is: ${why}`);
    }
  }

  #fail(details: string): void {
    const { status, Metadata } = this.#grpc;
    const error = { code: status.UNAVAILABLE, details, metadata: new Metadata() };
    this.#listener({ ok: false, error }, {}, null, '');
  }
}

/**
 * The nouns of one process: broker, registry, selector, transports and codecs, opened on first use.
 *
 * Invariants: each noun is opened at most once, however many ask for it at once; a failed opening is
 * tried again by the next that asks; what was given as an instance is never closed here, what was
 * opened here is closed by `close`, once, in the order in which one needs the other; a noun does not hold
 * the call that opened it. Cost: one promise per noun.
 */
import type { Broker } from '../broker/broker.ts';
import { openBroker } from '../broker/open-broker.ts';
import { Codecs } from '../codec/by-content-type.ts';
import { RivuletError } from '../errors.ts';
import { openRegistry } from '../registry/open-registry.ts';
import type { Registry, ServiceNode } from '../registry/registry.ts';
import { RegistrySelector } from '../selector/registry-selector.ts';
import type { Outcome, SelectOptions, Selector, Strategy } from '../selector/selector.ts';
import { STRATEGY_NAMES, strategyByName } from '../selector/strategies.ts';
import type { Transport } from '../transport/transport.ts';
import { nearestName } from '../util/nearest-name.ts';
import { runOutside, type Scheduler } from '../util/time/scheduler.ts';
import {
  checkTransports,
  listeningTransports,
  openTransports,
  type TransportMeans,
} from './open-transports.ts';
import type { NounOptions } from './options/options.ts';

export interface NounsSetup extends Omit<NounOptions, 'scheduler'> {
  readonly scheduler: Scheduler;
  /** Largest message of grpc and http. Default: each one's own. */
  readonly maxMessageBytes?: number;
}

export class Nouns {
  readonly codecs: Codecs;
  /** Content type of requests whose method does not decide it; its codec may have yet to load. */
  readonly contentType: string;
  readonly selector: Selector;
  readonly #setup: NounsSetup;
  readonly #strategy: Strategy | null;
  #broker: Promise<Broker> | null = null;
  #registry: Promise<Registry> | null = null;
  #transports: Promise<Transport[]> | null = null;
  #isClosed = false;

  /** Throws INVALID_ARGUMENT or UNSUPPORTED for names that are not known; opens nothing. */
  constructor(setup: NounsSetup) {
    this.#setup = setup;
    const { codec = 'json', selector = 'random', transport = 'auto' } = setup;
    this.codecs = new Codecs(typeof codec === 'string' ? [] : [codec]);
    this.contentType =
      typeof codec === 'string' ? this.codecs.contentTypeOf(codec) : (codec.contentTypes[0] ?? '');
    checkTransports(transport);
    const isSelector = typeof selector === 'object' && 'select' in selector;
    this.#strategy = isSelector ? null : strategyOf(selector as string | Strategy);
    this.selector = isSelector
      ? keptOpen(selector)
      : new LazySelector(() => this.#openSelector(), setup.scheduler);
  }

  get hasBroker(): boolean {
    return this.#setup.broker !== undefined;
  }

  /** Rejects with FAILED_PRECONDITION where the service has none. */
  broker(): Promise<Broker> {
    const { broker, scheduler } = this.#setup;
    if (broker === undefined) {
      const text = 'no broker was given: set `broker` or MICRO_BROKER to a URL';
      return Promise.reject(new RivuletError('FAILED_PRECONDITION', text, { sent: 'no' }));
    }
    if (typeof broker !== 'string') return Promise.resolve(broker);
    this.#broker ??= this.#once(
      async () => {
        if (!this.#isFoundByRegistry) return openBroker(broker, { scheduler });
        return openBroker(broker, { scheduler, client: { registry: await this.registry() } });
      },
      (each) => each.disconnect(),
      () => {
        this.#broker = null;
      },
    );
    return this.#broker;
  }

  /** go-micro's http broker: its subscribers are nodes of a registry, which cannot be the broker itself. */
  get #isFoundByRegistry(): boolean {
    const { broker, registry } = this.#setup;
    if (typeof broker !== 'string' || !broker.startsWith('http:')) return false;
    return !(Array.isArray(registry) ? registry : [registry]).includes('broker');
  }

  registry(): Promise<Registry> {
    const { broker, scheduler } = this.#setup;
    const isAlone = broker === undefined || this.#isFoundByRegistry;
    const choice = this.#setup.registry ?? (isAlone ? 'mdns' : 'broker');
    if (typeof choice === 'object' && !Array.isArray(choice)) {
      return Promise.resolve(choice as Registry);
    }
    this.#registry ??= this.#once(
      async () => {
        const needsBroker = (Array.isArray(choice) ? choice : [choice]).includes('broker');
        const own = needsBroker && broker !== undefined ? { broker: await this.broker() } : {};
        return openRegistry(choice as string, { scheduler, ...own });
      },
      (each) => each.close(),
      () => {
        this.#registry = null;
      },
    );
    return this.#registry;
  }

  /**
   * Where calls go only over the broker: the node that represents all nodes of a service, which the
   * broker chooses among, so that no registry is asked. Null where a selector was asked for.
   */
  get anyNode(): ((service: string) => ServiceNode | Promise<ServiceNode>) | null {
    if (this.#setup.transport !== 'broker' || this.#setup.selector !== undefined) return null;
    // Set once the broker is connected and the transport's module is there: no call waits for them again.
    let makeNode: ((service: string) => ServiceNode) | null = null;
    return (service) => {
      if (makeNode !== null) return makeNode(service);
      return this.#openAnyNode().then((made) => {
        makeNode = made;
        return made(service);
      });
    };
  }

  async #openAnyNode(): Promise<(service: string) => ServiceNode> {
    const { anyNode } = await import('../rpc/broker/broker-transport.ts');
    const broker = await this.broker();
    // One object per service: what is known of a node is kept by it.
    const nodes = new Map<string, ServiceNode>();
    return (service) => {
      let node = nodes.get(service);
      if (node === undefined) {
        node = anyNode(broker, service);
        if (nodes.size >= MAX_ANY_NODES) nodes.clear();
        nodes.set(service, node);
      }
      return node;
    };
  }

  /** In order of preference. */
  transports(): Promise<Transport[]> {
    const { transport = 'auto' } = this.#setup;
    this.#transports ??= runOutside(this.#setup.scheduler, () =>
      openTransports(transport, this.#means).catch((error) => {
        this.#transports = null;
        throw error;
      }),
    );
    return this.#transports;
  }

  /** What a service of these nouns listens on. */
  async listeningTransports(): Promise<Transport[]> {
    return listeningTransports(await this.transports(), this.#means);
  }

  /** go-micro's word for how its clients should call the node. */
  get protocol(): 'grpc' | 'mucp' {
    return this.#setup.transport === 'grpc' ? 'grpc' : 'mucp';
  }

  get #means(): TransportMeans {
    const { scheduler, tls, maxMessageBytes } = this.#setup;
    return { scheduler, tls, maxMessageBytes, broker: this.hasBroker ? () => this.broker() : null };
  }

  /** `release`, and nothing is opened again. Idempotent. */
  close(): Promise<void> {
    this.#isClosed = true;
    return this.release();
  }

  /** Closes what was opened, of registry and broker first the one that needs the other; it may be opened again. */
  async release(): Promise<void> {
    const [opening, connecting] = [this.#registry, this.#broker];
    this.#registry = null;
    this.#broker = null;
    await this.selector.close();
    const registry = await opening?.catch(() => null);
    const broker = await connecting?.catch(() => null);
    if (this.#isFoundByRegistry) await broker?.disconnect();
    await registry?.close();
    await broker?.disconnect();
  }

  async #openSelector(): Promise<Selector> {
    const { scheduler } = this.#setup;
    return new RegistrySelector(await this.registry(), {
      strategy: this.#strategy as Strategy,
      scheduler,
    });
  }

  #once<T>(
    open: () => Promise<T>,
    close: (opened: T) => Promise<void>,
    failed: () => void,
  ): Promise<T> {
    return runOutside(this.#setup.scheduler, () => this.#openOnce(open, close, failed));
  }

  async #openOnce<T>(
    open: () => Promise<T>,
    close: (opened: T) => Promise<void>,
    failed: () => void,
  ): Promise<T> {
    this.#mustBeOpen();
    try {
      const opened = await open();
      // Closed meanwhile: `close` waits for this promise, and finds nothing to close.
      if (this.#isClosed) await close(opened);
      this.#mustBeOpen();
      return opened;
    } catch (error) {
      failed();
      throw error;
    }
  }

  #mustBeOpen(): void {
    if (this.#isClosed) throw new RivuletError('CLOSED', 'it was stopped', { sent: 'no' });
  }
}

const MAX_ANY_NODES = 1000;

/** The selector whose registry opens at the first call. */
class LazySelector implements Selector {
  readonly name = 'registry';
  readonly #open: () => Promise<Selector>;
  readonly #scheduler: Scheduler;
  #opening: Promise<Selector> | null = null;
  #opened: Selector | null = null;

  constructor(open: () => Promise<Selector>, scheduler: Scheduler) {
    this.#open = open;
    this.#scheduler = scheduler;
  }

  select(service: string, options?: SelectOptions): Promise<() => ServiceNode> {
    if (this.#opened !== null) return this.#opened.select(service, options);
    this.#opening ??= runOutside(this.#scheduler, () =>
      this.#open().then(
        (opened) => {
          // Closed meanwhile: the next call opens another.
          if (this.#opening !== null) this.#opened = opened;
          return opened;
        },
        (error) => {
          this.#opening = null;
          throw error;
        },
      ),
    );
    return this.#opening.then((opened) => opened.select(service, options));
  }

  selectNow(service: string, options?: SelectOptions): (() => ServiceNode) | null {
    return this.#opened?.selectNow?.(service, options) ?? null;
  }

  mark(service: string, node: ServiceNode, outcome: Outcome): void {
    this.#opened?.mark(service, node, outcome);
  }

  reset(service: string): void {
    this.#opened?.reset(service);
  }

  async close(): Promise<void> {
    const opening = this.#opening;
    this.#opening = null;
    this.#opened = null;
    const opened = await opening?.catch(() => null);
    await opened?.close();
  }
}

/** A selector that the user made is the user's to close. */
function keptOpen(selector: Selector): Selector {
  return {
    name: selector.name,
    select: (service, options) => selector.select(service, options),
    selectNow: (service, options) => selector.selectNow?.(service, options) ?? null,
    mark: (service, node, outcome) => selector.mark(service, node, outcome),
    reset: (service) => selector.reset(service),
    close: async () => {},
  };
}

function strategyOf(selector: string | Strategy): Strategy {
  if (typeof selector !== 'string') return selector;
  const strategy = strategyByName(selector);
  if (strategy !== null) return strategy;
  const near = nearestName(selector, STRATEGY_NAMES);
  const hint = near === null ? `there are ${STRATEGY_NAMES.join(', ')}` : `did you mean ${near}?`;
  const text = `selector ${JSON.stringify(selector.slice(0, 64))} is not known: ${hint}`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}

/**
 * The selector over a registry: reads nodes through a cache, filters, passes over, chooses.
 *
 * Invariants: as the contract says. The nodes of one `select` are read once; its function may be
 * called once per attempt of one call. Cost: O(nodes of the service) per call.
 */
import { RivuletError } from '../errors.ts';
import { RegistryCache, type RegistryCacheOptions } from '../registry/cache.ts';
import type { Registry, ServiceNode, ServiceRecord } from '../registry/registry.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { Outcomes } from './outcomes.ts';
import type { Candidate, Filter, Outcome, SelectOptions, Selector, Strategy } from './selector.ts';
import { random } from './strategies.ts';

export interface RegistrySelectorOptions {
  /** Default random, go-micro's. */
  readonly strategy?: Strategy;
  readonly cache?: RegistryCacheOptions;
  readonly scheduler?: Scheduler;
}

export class RegistrySelector implements Selector {
  readonly name: string;
  readonly cache: RegistryCache;
  readonly #strategy: Strategy;
  readonly #scheduler: Scheduler;
  readonly #outcomes: Outcomes;
  /** All nodes of what the cache answered. */
  readonly #nodes = new WeakMap<readonly ServiceRecord[], readonly ServiceNode[]>();

  constructor(registry: Registry, options: RegistrySelectorOptions = {}) {
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#strategy = options.strategy ?? random;
    this.name = this.#strategy.name;
    this.#outcomes = new Outcomes(this.#scheduler);
    this.cache = new RegistryCache(registry, { scheduler: this.#scheduler, ...options.cache });
  }

  async select(service: string, options: SelectOptions = {}): Promise<() => ServiceNode> {
    return this.#among(service, await this.cache.getService(service), options);
  }

  selectNow(service: string, options: SelectOptions = {}): (() => ServiceNode) | null {
    const records = this.cache.fresh(service);
    return records === null ? null : this.#among(service, records, options);
  }

  #among(
    service: string,
    records: readonly ServiceRecord[],
    options: SelectOptions,
  ): () => ServiceNode {
    const nodes = this.#nodesOf(service, records, options);
    let tried: Set<string> | null = null;
    return () => {
      const node =
        nodes.length === 1
          ? (nodes[0] as ServiceNode)
          : this.#choose(service, nodes, tried ?? NONE, options);
      if (nodes.length > 1) {
        tried ??= new Set();
        tried.add(node.id);
      }
      this.#outcomes.begin(service, node.id);
      return node;
    };
  }

  mark(service: string, node: ServiceNode, outcome: Outcome): void {
    this.#outcomes.end(service, node.id, outcome);
  }

  reset(service: string): void {
    this.#outcomes.reset(service);
    this.cache.invalidate(service);
  }

  close(): Promise<void> {
    return this.cache.close();
  }

  #nodesOf(
    service: string,
    records: readonly ServiceRecord[],
    { filters }: SelectOptions,
  ): readonly ServiceNode[] {
    if (filters !== undefined && filters.length > 0) return filtered(service, records, filters);
    // The cache makes another list whenever the service changes.
    let nodes = this.#nodes.get(records);
    if (nodes === undefined) {
      nodes = filtered(service, records, []);
      this.#nodes.set(records, nodes);
    }
    return nodes;
  }

  #choose(
    service: string,
    nodes: readonly ServiceNode[],
    tried: ReadonlySet<string>,
    options: SelectOptions,
  ): ServiceNode {
    const fresh = nodes.filter(({ id }) => !tried.has(id));
    const left = fresh.length > 0 ? fresh : nodes;
    const sound = left.filter(({ id }) => !this.#outcomes.isPassedOver(service, id));
    const candidates: Candidate[] = (sound.length > 0 ? sound : left).map((node) => ({
      node,
      inFlight: this.#outcomes.inFlight(service, node.id),
    }));
    const { key, strategy = this.#strategy } = options;
    const context = { service, key, fraction: () => this.#scheduler.fraction() };
    return strategy.choose(candidates, context).node;
  }
}

const NONE: ReadonlySet<string> = new Set();

function filtered(
  service: string,
  records: readonly ServiceRecord[],
  filters: readonly Filter[],
): readonly ServiceNode[] {
  if (!records.some(({ nodes }) => nodes.length > 0)) {
    const advice = 'is it running, and does it use the same registry?';
    throw new RivuletError('SERVICE_NOT_FOUND', `service ${service} has no node: ${advice}`);
  }
  let left = records;
  for (const filter of filters) left = filter(left);
  const nodes = left.flatMap((record) => record.nodes);
  if (nodes.length > 0) return nodes;
  const known = [...new Set(records.map(({ version }) => version))].join(', ');
  const text = `no node of ${service} passes the filters; its versions are ${known}`;
  throw new RivuletError('UNAVAILABLE', text, { sent: 'no' });
}

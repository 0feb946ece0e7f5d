/**
 * The nodes that a registry knows, with their deadlines: what memory holds of services.
 *
 * Holds: per service and version the latest description, per node its record and its deadline.
 * Invariants: a node is there until its TTL has passed since it was last put; every change is
 * reported once, expiry as a delete; a node that is put again unchanged is no event; at most
 * `maxNodes` nodes are held, and what is announced beyond them is refused, never an older one dropped.
 * Used by every registry that keeps nodes itself. Cost: O(nodes of the service) per look-up, one timer
 * in all.
 */
import type { Scheduler } from '../util/time/scheduler.ts';
import { mergeRecords, sameRecord } from './record.ts';
import type { RegistryEvent, ServiceNode, ServiceRecord } from './registry.ts';

interface Held {
  /** The record with this one node. */
  record: ServiceRecord;
  /** Monotonic milliseconds; infinite for nodes that do not expire. */
  deadline: number;
}

/** More nodes than any fleet has; without a limit any announcer could fill the memory. */
const MAX_NODES = 100_000;

export class NodeTable {
  readonly #scheduler: Scheduler;
  readonly #maxNodes: number;
  readonly #listeners = new Set<(event: RegistryEvent) => void>();
  /** Service name, then node id. */
  readonly #services = new Map<string, Map<string, Held>>();
  #cancel: (() => void) | null = null;
  #armedFor = Number.POSITIVE_INFINITY;
  #size = 0;

  constructor(scheduler: Scheduler, maxNodes = MAX_NODES) {
    this.#scheduler = scheduler;
    this.#maxNodes = maxNodes;
  }

  /** How many nodes are held. */
  get size(): number {
    return this.#size;
  }

  get maxNodes(): number {
    return this.#maxNodes;
  }

  /** Calls the listener at every change; the returned function ends that. */
  onChange(listener: (event: RegistryEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Adds or renews every node of the record; false when there was no room for one of them. */
  put(record: ServiceRecord, ttlMs: number): boolean {
    const deadline = this.#scheduler.monotonic() + ttlMs;
    let isWhole = true;
    for (const node of record.nodes) {
      const single = withNode(record, node);
      // Looked up each time: a listener may have removed the service.
      const held = this.#services.get(record.name)?.get(node.id);
      if (held === undefined) {
        if (this.#size >= this.#maxNodes) {
          isWhole = false;
          continue;
        }
        let nodes = this.#services.get(record.name);
        if (nodes === undefined) {
          nodes = new Map();
          this.#services.set(record.name, nodes);
        }
        nodes.set(node.id, { record: single, deadline });
        this.#size++;
        this.#notify({ action: 'create', service: single });
      } else {
        const changed = !sameRecord(held.record, single);
        const before = held.record;
        held.record = single;
        held.deadline = deadline;
        if (!changed) continue;
        // A node that changed its version left the old one.
        if (before.version !== single.version) this.#notify({ action: 'delete', service: before });
        const action = before.version === single.version ? 'update' : 'create';
        this.#notify({ action, service: single });
      }
    }
    if (Number.isFinite(deadline)) this.#arm(deadline);
    return isWhole;
  }

  remove(name: string, nodeId: string): void {
    const nodes = this.#services.get(name);
    const held = nodes?.get(nodeId);
    if (nodes === undefined || held === undefined) return;
    nodes.delete(nodeId);
    this.#size--;
    if (nodes.size === 0) this.#services.delete(name);
    this.#notify({ action: 'delete', service: held.record });
  }

  /** Makes the nodes of one service exactly these, as after a fresh read. */
  replace(name: string, records: readonly ServiceRecord[], ttlMs: number): void {
    const present = new Set(records.flatMap(({ nodes }) => nodes.map(({ id }) => id)));
    for (const id of [...(this.#services.get(name)?.keys() ?? [])]) {
      if (!present.has(id)) this.remove(name, id);
    }
    for (const record of records) this.put(record, ttlMs);
  }

  get(name: string): ServiceRecord[] {
    return mergeRecords(this.#alive(this.#services.get(name)));
  }

  list(): ServiceRecord[] {
    const all = [...this.#services.values()].flatMap((nodes) => [...this.#alive(nodes)]);
    return mergeRecords(all);
  }

  /** The names of the services that have nodes. */
  names(): string[] {
    return [...this.#services.keys()];
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#armedFor = Number.NEGATIVE_INFINITY;
  }

  *#alive(nodes: Map<string, Held> | undefined): Iterable<ServiceRecord> {
    if (nodes === undefined) return;
    const now = this.#scheduler.monotonic();
    for (const { record, deadline } of nodes.values()) if (deadline > now) yield record;
  }

  #notify(event: RegistryEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  #arm(deadline: number): void {
    if (deadline >= this.#armedFor) return;
    this.#cancel?.();
    this.#armedFor = deadline;
    const wait = Math.max(1, deadline - this.#scheduler.monotonic());
    // The nodes that a process knows of must not keep it from ending.
    this.#cancel = this.#scheduler.after(wait, () => this.#expire(), false);
  }

  #expire(): void {
    this.#cancel = null;
    this.#armedFor = Number.POSITIVE_INFINITY;
    const now = this.#scheduler.monotonic();
    let next = Number.POSITIVE_INFINITY;
    for (const [name, nodes] of [...this.#services]) {
      for (const [id, { deadline }] of [...nodes]) {
        if (deadline <= now) this.remove(name, id);
        else next = Math.min(next, deadline);
      }
    }
    if (Number.isFinite(next)) this.#arm(next);
  }
}

function withNode(record: ServiceRecord, node: ServiceNode): ServiceRecord {
  return record.nodes.length === 1 ? record : { ...record, nodes: [node] };
}

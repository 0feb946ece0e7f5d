/**
 * The living nodes of a broker registry, from announcements that may be old.
 *
 * Two states. Live: an announcement counts from its receipt. Behind (at the beginning, and from a cut
 * until the next marker of ours comes back): announcements are gathered, the last one of each node,
 * and applied at the marker with their age on the broker's clock. Invariants: this machine's date is
 * never compared with the broker's; while behind no node expires; nodes that were there before the
 * registry began are no event. Cost: one map entry per node.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { Announcement } from '../announcement.ts';
import { NodeTable } from '../node-table.ts';
import type { RegistryEvent, ServiceNode, ServiceRecord } from '../registry.ts';

type Change = Extract<Announcement, { action: 'register' | 'deregister' }>;

interface Gathered {
  readonly record: ServiceRecord;
  readonly node: ServiceNode;
  /** 0 for a node that left. */
  readonly ttlMs: number;
  readonly published: number;
}

/** The nodes that one topic can hold; more are not taken up. */
const MAX_NODES = 100_000;

export class BrokerNodes {
  readonly #table: NodeTable;
  readonly #ttls = new Map<string, { record: ServiceRecord; ttlMs: number }>();
  #gathered: Map<string, Gathered> | null = new Map();
  #isFirst = true;

  constructor(scheduler: Scheduler, onEvent: (event: RegistryEvent) => void) {
    this.#table = new NodeTable(scheduler);
    this.#table.onChange((event) => {
      if (event.action === 'delete') {
        for (const { id } of event.service.nodes) this.#ttls.delete(keyOf(event.service, id));
      }
      if (!this.#isFirst) onEvent(event);
    });
  }

  /** How many nodes are known. */
  get size(): number {
    return this.#ttls.size;
  }

  get(name: string): ServiceRecord[] {
    return this.#table.get(name);
  }

  list(): ServiceRecord[] {
    return this.#table.list();
  }

  apply(change: Change, published: number): void {
    const isLeaving = change.action === 'deregister';
    for (const node of change.service.nodes) {
      const record = { ...change.service, nodes: [node] };
      if (this.#gathered !== null) {
        const key = keyOf(record, node.id);
        if (!this.#gathered.has(key) && this.#gathered.size >= MAX_NODES) continue;
        const ttlMs = isLeaving ? 0 : change.ttlMs;
        this.#gathered.set(key, { record, node, ttlMs, published });
      } else if (isLeaving) this.#table.remove(record.name, node.id);
      else this.#put(record, node, change.ttlMs, change.ttlMs);
    }
  }

  /** The broker is away: no node can renew, so none expires. */
  suspend(): void {
    this.#gathered ??= new Map();
    for (const { record } of this.#ttls.values()) this.#table.put(record, Number.POSITIVE_INFINITY);
  }

  /** Everything up to `now`, on the broker's clock, has been received. */
  resume(now: number): void {
    const gathered = this.#gathered;
    if (gathered === null) return;
    this.#gathered = null;
    // What was known before a cut gets its whole TTL: it had no chance to renew.
    for (const { record, ttlMs } of [...this.#ttls.values()]) this.#table.put(record, ttlMs);
    for (const { record, node, ttlMs, published } of gathered.values()) {
      const left = ttlMs - Math.max(0, now - published);
      if (left > 0) this.#put(record, node, ttlMs, left);
      else if (ttlMs === 0) this.#table.remove(record.name, node.id);
    }
    this.#isFirst = false;
  }

  close(): void {
    this.#table.close();
  }

  #put(record: ServiceRecord, node: ServiceNode, ttlMs: number, leftMs: number): void {
    const key = keyOf(record, node.id);
    if (!this.#ttls.has(key) && this.#ttls.size >= MAX_NODES) return;
    // A change of version reports the old node's end: this entry is set after it.
    this.#table.put(record, leftMs);
    this.#ttls.set(key, { record, ttlMs });
  }
}

function keyOf(record: ServiceRecord, nodeId: string): string {
  return `${record.name}/${nodeId}`;
}

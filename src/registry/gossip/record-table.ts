/**
 * The records of a ring: which node was announced last in which form, and by which member.
 *
 * Holds: the nodes with their deadlines (node-table.ts), and for each its version, its member and its
 * JSON; for a while also what was removed, so that an older report does not bring it back. Invariants: of
 * two reports about a node the one with the higher version wins, in whatever order they come; ages are this
 * process's own, never differences of two clocks; there are at most `maxRecords` nodes with `maxBytes`, as
 * many hidden ones, and as many that were removed. Cost: one copy of each record as JSON.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import { NodeTable } from '../node-table.ts';
import { decodeRecord, encodeRecord } from '../record.ts';
import type { RegistryEvent, ServiceRecord } from '../registry.ts';

/** What a member reports of one node. */
export interface NodeReport {
  /** The record with this one node. */
  readonly record: ServiceRecord;
  /** 0 = unknown: it counts only where nothing is known of the node. */
  readonly version: bigint;
  readonly ttlMs: number;
  readonly member: string | null;
  /** It came from the member itself, not by way of another. */
  readonly isDirect: boolean;
}

/** A node that was removed. */
export interface GoneNode {
  readonly key: string;
  readonly name: string;
  readonly id: string;
  readonly version: bigint;
  /** The version of its service. */
  readonly serviceVersion: string;
}

/** A node that is known, as it is passed on. */
export interface KnownNode extends GoneNode {
  readonly member: string | null;
  readonly ttlMs: number;
  /** The record with this one node. */
  readonly json: string;
}

interface Held {
  readonly name: string;
  readonly id: string;
  readonly version: bigint;
  readonly serviceVersion: string;
  readonly member: string | null;
  readonly isOwn: boolean;
  /** Monotonic milliseconds. */
  readonly receivedAt: number;
  readonly deadline: number;
  readonly json: string;
}

interface Removed {
  /** In memory. */
  readonly bytes: number;
  readonly version: bigint;
  readonly serviceVersion: string;
  readonly until: number;
}

export interface RecordTableOptions {
  readonly scheduler: Scheduler;
  readonly maxRecords: number;
  readonly maxBytes: number;
  readonly onEvent: (event: RegistryEvent) => void;
}

/** For how long what was removed is remembered: the longest that a report of it may be on its way. */
const REMEMBER_MS = 90_000;
/** A lower version counts after this time where the member itself reports it: its clock was set back. */
const REORDER_MS = 10_000;
/** What the state of a ring has of a record beside its JSON, its name and its member, at most. */
const EXTRA_BYTES = 100;
const NANOSECONDS = 1_000_000n;

export class RecordTable {
  readonly #options: RecordTableOptions;
  readonly #nodes: NodeTable;
  readonly #held = new Map<string, Held>();
  /** Nodes of members that died, in the order in which they were hidden. */
  readonly #hidden = new Map<string, Held>();
  /** In the order in which they were removed. */
  readonly #removed = new Map<string, Removed>();
  #bytes = 0;
  #hiddenBytes = 0;
  #removedBytes = 0;
  /** The endpoints of the record for which there was no room: the other nodes of the same record are not tried. */
  #refused: ServiceRecord['endpoints'] | null = null;

  constructor(options: RecordTableOptions) {
    this.#options = options;
    this.#nodes = new NodeTable(options.scheduler, options.maxRecords);
    this.#nodes.onChange((event) => {
      if (event.action === 'delete') {
        for (const { id } of event.service.nodes) this.#forget(keyOf(event.service.name, id));
      }
      options.onEvent(event);
    });
  }

  get size(): number {
    return this.#held.size;
  }

  get(name: string): ServiceRecord[] {
    return this.#nodes.get(name);
  }

  list(): ServiceRecord[] {
    return this.#nodes.list();
  }

  /** The version that is known of a node; null where it is not known. */
  versionOf(name: string, id: string): bigint | null {
    return this.#held.get(keyOf(name, id))?.version ?? null;
  }

  /** `news` is to be passed on; `full` = there is no room for another record. */
  take(report: NodeReport): 'news' | 'old' | 'full' {
    const { name, id, key } = identityOf(report.record);
    const held = this.#held.get(key);
    if (this.#isOld(report, key, held)) return 'old';
    if (held === undefined && report.record.endpoints === this.#refused) return 'full';
    const isPut = this.#put(key, {
      name,
      id,
      version: report.version,
      member: report.member,
      isOwn: false,
      record: report.record,
      ttlMs: report.ttlMs,
    });
    if (!isPut) this.#refused = report.record.endpoints;
    return isPut ? 'news' : 'full';
  }

  /** A node of this process; null where there is no room for it. */
  announce(record: ServiceRecord, ttlMs: number, member: string): KnownNode | null {
    const { name, id, key } = identityOf(record);
    const version = this.#nextVersion(key, ttlMs);
    const isPut = this.#put(key, { name, id, version, member, isOwn: true, record, ttlMs });
    return isPut ? this.#known(key, this.#held.get(key) as Held) : null;
  }

  /** The nodes of this process with a newer version each, to be announced again. */
  announceAgain(): KnownNode[] {
    const now = this.#options.scheduler.monotonic();
    const own = [...this.#held].filter(([, { isOwn, deadline }]) => isOwn && deadline > now);
    return own.map(([key, held]) => {
      const version = this.#nextVersion(key, held.deadline - now);
      const next = { ...held, version, receivedAt: now };
      this.#held.set(key, next);
      return this.#known(key, next);
    });
  }

  /** Removes a node; null where it is not known, or known in a newer version. */
  remove(name: string, id: string, version = 0n): GoneNode | null {
    const key = keyOf(name, id);
    const held = this.#held.get(key);
    if (held !== undefined && version !== 0n && version < held.version) return null;
    const highest = held !== undefined && held.version > version ? held.version : version;
    this.#show(key);
    if (highest > 0n) this.#remember(key, highest, held?.serviceVersion ?? '');
    if (held === undefined) return null;
    this.#nodes.remove(name, id);
    return { key, name, id, version: highest, serviceVersion: held.serviceVersion };
  }

  /** What is remembered of a node that was removed; null where it is there, or nothing is remembered. */
  removed(name: string, id: string): GoneNode | null {
    const key = keyOf(name, id);
    const gone = this.#removed.get(key);
    if (gone === undefined || gone.until <= this.#options.scheduler.monotonic()) return null;
    if (this.#held.has(key)) return null;
    return { key, name, id, version: gone.version, serviceVersion: gone.serviceVersion };
  }

  /** Hides the nodes that a member announced, because it died: they come back with it, within their TTL. */
  hideOf(member: string): GoneNode[] {
    const lost = [...this.#held].filter(([, held]) => held.member === member && !held.isOwn);
    for (const [key, held] of lost) {
      this.#nodes.remove(held.name, held.id);
      this.#hide(key, held);
    }
    return lost.map(([key, held]) => this.#known(key, held));
  }

  /** A report about a node of a member that is dead: it counts when the member comes back. */
  hide({ record, version, ttlMs, member }: NodeReport): void {
    const { name, id, key } = identityOf(record);
    const before = this.#hidden.get(key);
    if (before !== undefined && version <= before.version) return;
    const receivedAt = this.#options.scheduler.monotonic();
    const deadline = receivedAt + ttlMs;
    const json = encodeRecord(record);
    const facts = { name, id, version, serviceVersion: record.version, member, isOwn: false };
    this.#hide(key, { ...facts, receivedAt, deadline, json });
  }

  /** The hidden nodes of a member that has come back, as reports about them. */
  shownOf(member: string): NodeReport[] {
    const now = this.#options.scheduler.monotonic();
    if (this.#hidden.size === 0) return [];
    const back = [...this.#hidden].filter(([, held]) => held.member === member);
    for (const [key] of back) this.#show(key);
    return back
      .filter(([, { deadline }]) => deadline > now)
      .map(([, { json, version, deadline }]) => {
        const record = decodeRecord(json);
        return { record, version, ttlMs: deadline - now, member, isDirect: false };
      });
  }

  /** Every node that is known; between two of them others may be added or removed. */
  *known(): Iterable<KnownNode> {
    const { scheduler } = this.#options;
    for (const key of [...this.#held.keys()]) {
      const held = this.#held.get(key);
      if (held !== undefined && held.deadline > scheduler.monotonic()) yield this.#known(key, held);
    }
  }

  close(): void {
    this.#nodes.close();
  }

  #isOld(report: NodeReport, key: string, held: Held | undefined): boolean {
    const now = this.#options.scheduler.monotonic();
    const removed = this.#removed.get(key);
    if (removed !== undefined && removed.until <= now) this.#unremember(key);
    else if (removed !== undefined && report.version <= removed.version) return true;
    if (held === undefined || held.deadline <= now) return false;
    if (report.version === 0n || report.version === held.version) return true;
    if (report.version > held.version) return false;
    const isSetBack = report.isDirect && held.member === report.member;
    return !isSetBack || now - held.receivedAt <= REORDER_MS;
  }

  #put(
    key: string,
    node: Pick<Held, 'name' | 'id' | 'version' | 'member' | 'isOwn'> & {
      readonly record: ServiceRecord;
      readonly ttlMs: number;
    },
  ): boolean {
    const { record, ttlMs, ...facts } = node;
    const serviceVersion = record.version;
    const json = encodeRecord(record);
    const bytes = sizeOf({ ...facts, json });
    const before = this.#held.get(key);
    const more = bytes - (before === undefined ? 0 : sizeOf(before));
    if (this.#bytes + more > this.#options.maxBytes) return false;
    if (!this.#nodes.put(record, ttlMs)) return false;
    // A change of the service's version was a delete event of the old one.
    this.#forget(key);
    const receivedAt = this.#options.scheduler.monotonic();
    this.#held.set(key, {
      ...facts,
      serviceVersion,
      json,
      receivedAt,
      deadline: receivedAt + ttlMs,
    });
    this.#bytes += bytes;
    this.#unremember(key);
    return true;
  }

  #hide(key: string, held: Held): void {
    this.#show(key);
    const bytes = sizeOf(held);
    const { scheduler, maxRecords, maxBytes } = this.#options;
    if (bytes > maxBytes) return;
    this.#hidden.set(key, held);
    this.#hiddenBytes += bytes;
    const now = scheduler.monotonic();
    for (const [oldest, { deadline }] of this.#hidden) {
      const isRoom = this.#hidden.size <= maxRecords && this.#hiddenBytes <= maxBytes;
      if (deadline > now && isRoom) break;
      this.#show(oldest);
    }
  }

  #show(key: string): void {
    const hidden = this.#hidden.get(key);
    if (hidden === undefined) return;
    this.#hidden.delete(key);
    this.#hiddenBytes -= sizeOf(hidden);
  }

  #forget(key: string): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#bytes -= sizeOf(held);
    this.#refused = null;
  }

  #remember(key: string, version: bigint, serviceVersion: string): void {
    const before = this.#removed.get(key);
    if (before !== undefined && before.version > version) version = before.version;
    this.#unremember(key);
    const { scheduler, maxRecords, maxBytes } = this.#options;
    const now = scheduler.monotonic();
    const bytes = Buffer.byteLength(key) + Buffer.byteLength(serviceVersion) + EXTRA_BYTES;
    if (bytes > maxBytes) return;
    this.#removed.set(key, { bytes, version, serviceVersion, until: now + REMEMBER_MS });
    this.#removedBytes += bytes;
    for (const [oldest, { until }] of this.#removed) {
      const isRoom = this.#removed.size <= maxRecords && this.#removedBytes <= maxBytes;
      if (until > now && isRoom) break;
      this.#unremember(oldest);
    }
  }

  #unremember(key: string): void {
    this.#removedBytes -= this.#removed.get(key)?.bytes ?? 0;
    this.#removed.delete(key);
  }

  /** Go reads a version as the time at which the node expires, by this machine's clock. */
  #nextVersion(key: string, ttlMs: number): bigint {
    const expires = BigInt(Math.round(this.#options.scheduler.now() + ttlMs)) * NANOSECONDS;
    const known = this.#held.get(key)?.version ?? 0n;
    const removed = this.#removed.get(key)?.version ?? 0n;
    const before = known > removed ? known : removed;
    return expires > before ? expires : before + 1n;
  }

  #known(key: string, held: Held): KnownNode {
    const { name, id, version, serviceVersion, member, json, deadline } = held;
    const ttlMs = Math.max(1, deadline - this.#options.scheduler.monotonic());
    return { key, name, id, version, serviceVersion, member, json, ttlMs };
  }
}

function identityOf(record: ServiceRecord): { name: string; id: string; key: string } {
  const id = record.nodes[0]?.id ?? '';
  return { name: record.name, id, key: keyOf(record.name, id) };
}

function keyOf(service: string, nodeId: string): string {
  return `${service}\n${nodeId}`;
}

/** Bytes in the state of a ring, at most. */
function sizeOf({ name, member, json }: Pick<Held, 'name' | 'member' | 'json'>): number {
  const names = JSON.stringify(name) + JSON.stringify(member);
  return Buffer.byteLength(json) + Buffer.byteLength(names) + EXTRA_BYTES;
}

/**
 * The gossip registry: processes find each other without a server, on the wire of HashiCorp's memberlist,
 * with the messages of go-micro's gossip registry.
 *
 * Each process is a member of a ring. It announces its own nodes to all members, passes on what it learns,
 * and keeps every node until its TTL. Invariants: the nodes of a member that died are removed, those of
 * one that left stay until their TTL unless it deregistered them; what this member announced is announced again
 * after others took it for dead; an empty answer while no seed answers is REGISTRY_UNAVAILABLE; nothing
 * that arrives is kept beyond the limits of options.ts. Cost: all records of the ring in memory; a look-up
 * is answered from there.
 */
import { RivuletError } from '../../errors.ts';
import { inTurns } from '../../util/time/in-turns.ts';
import { type Cancel, pause, type Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { checkRecord, checkTtl, decodeRecord, encodeRecord } from '../record.ts';
import type {
  RegisterOptions,
  Registry,
  RegistryEvent,
  ServiceRecord,
  WatchOptions,
} from '../registry.ts';
import { Warnings } from '../warnings.ts';
import { Watchers } from '../watchers.ts';
import type { Member } from './members/member-table.ts';
import { Ring } from './members/ring.ts';
import {
  type GossipRegistryOptions,
  type GossipSettings,
  gossipOptionsFrom,
  gossipSettings,
  RECORDS_SHARE,
} from './options.ts';
import { decodeRecords, encodeRecords, FOREIGN_TTL_MS, ttlOf } from './record-state.ts';
import { type GoneNode, type KnownNode, type NodeReport, RecordTable } from './record-table.ts';
import { textOf } from './wire/endpoint.ts';
import { type GossipNetwork, SocketNetwork } from './wire/network.ts';
import { decodeUpdate, encodeUpdate, type Update } from './wire/update.ts';

const RETRY_MS = 1000;
/** The longest that a record of Go is believed to be good for: its sender's clock may be an hour off. */
const MAX_FOREIGN_TTL_MS = 3600_000;
/** What was announced is announced again at most once in this time, however often others accuse this member. */
const AGAIN_MS = 1000;

export class GossipRegistry implements Registry {
  readonly name = 'gossip';
  readonly #scheduler: Scheduler;
  readonly #settings: GossipSettings;
  readonly #warnings: Warnings;
  readonly #watchers = new Watchers();
  readonly #records: RecordTable;
  readonly #ring: Ring;
  readonly #closing = new AbortController();
  #opening: Promise<void> | null = null;
  #isFull = false;
  #announcedAgainAt = Number.NEGATIVE_INFINITY;
  #cancelAgain: Cancel | null = null;
  /** The states of other members, one after the other. */
  #taking: Promise<void> = Promise.resolve();
  #states = 0;

  constructor(options: GossipRegistryOptions = {}, network: GossipNetwork = new SocketNetwork()) {
    this.#settings = gossipSettings(options);
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#warnings = new Warnings('gossip', options.onWarning);
    this.#records = new RecordTable({
      scheduler: this.#scheduler,
      maxRecords: this.#settings.maxRecords,
      maxBytes: this.#settings.maxStateBytes * RECORDS_SHARE,
      onEvent: (event) => this.#watchers.notify(event),
    });
    this.#ring = new Ring(this.#settings, this.#scheduler, network, {
      onUser: (bytes, from) => this.#onUser(bytes, from),
      localState: () => inTurns(this.#scheduler, encodeRecords(this.#records.known())),
      onState: (bytes) => this.#onState(bytes),
      onMember: (member, before) => {
        if (member.state === 'dead') this.#onDead(member);
        else if (member.state === 'alive' && before !== 'suspect') this.#onBack(member);
      },
      onReturn: () => this.#announceAgain(),
      onRefused: (where, reason) => this.#warnings.badRecord(where, new Error(reason)),
    });
  }

  /** `host:port` by which others reach this member: a seed for them. */
  async address(): Promise<string> {
    await this.#open();
    return textOf(this.#ring.self.endpoint);
  }

  /** The other members that are alive or suspected; none before the ring is open. */
  members(): { readonly name: string; readonly address: string; readonly state: string }[] {
    return this.#ring.others().map(({ name, endpoint, state }) => {
      return { name, address: textOf(endpoint), state };
    });
  }

  async register(service: ServiceRecord, { ttlMs }: RegisterOptions): Promise<void> {
    checkRecord(service);
    checkTtl(ttlMs);
    const record = structuredClone(service);
    await this.#open();
    let sent = Promise.resolve();
    for (const node of record.nodes) {
      const single = { ...record, nodes: [node] };
      const known = this.#records.announce(single, ttlMs, this.#ring.self.name);
      if (known === null) {
        const { maxRecords, maxStateBytes } = this.#settings;
        const text = `the gossip registry holds ${this.#records.size} nodes of at most ${maxRecords} (maxRecords), with ${maxStateBytes * RECORDS_SHARE} bytes at most (maxStateBytes); ${service.name} was not added`;
        throw new RivuletError('LIMIT_EXCEEDED', text);
      }
      sent = this.#announce(known);
    }
    await sent;
  }

  async deregister({ name, version, nodes }: ServiceRecord): Promise<void> {
    const ids = nodes.map(({ id }) => id);
    await this.#open();
    let sent = Promise.resolve();
    for (const id of ids) {
      const known = this.#records.versionOf(name, id);
      if (known === null) continue;
      const removed = this.#records.remove(name, id, known + 1n);
      if (removed !== null) sent = this.#withdraw({ ...removed, serviceVersion: version }, true);
    }
    await sent;
  }

  async getService(name: string): Promise<ServiceRecord[]> {
    await this.#open();
    return this.#answer(this.#records.get(name), name);
  }

  async listServices(): Promise<ServiceRecord[]> {
    await this.#open();
    return this.#answer(this.#records.list(), 'every service');
  }

  watch(name?: string, options?: WatchOptions): AsyncIterable<RegistryEvent> {
    const watcher = this.#watchers.watch(name, options);
    void this.#keepOpen();
    return watcher;
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort();
      this.#watchers.close();
      this.#records.close();
      this.#cancelAgain?.();
    }
    await this.#ring.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #answer(records: ServiceRecord[], what: string): ServiceRecord[] {
    if (records.length > 0 || !this.#ring.isCut) return records;
    const seeds = this.#settings.seeds.map(textOf).join(', ');
    const text = `no member of the gossip ring answers for ${what}; tried are ${seeds}`;
    throw new RivuletError('REGISTRY_UNAVAILABLE', text);
  }

  async #open(): Promise<void> {
    if (this.#closing.signal.aborted) throw closed();
    this.#opening ??= this.#ring.open().catch((cause) => {
      this.#opening = null;
      if (this.#closing.signal.aborted) throw closed();
      const { bind } = this.#settings;
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `the gossip registry cannot listen on ${textOf(bind)}: ${why}; choose another address (?bind=address:port)`;
      throw new RivuletError('REGISTRY_UNAVAILABLE', text, { cause });
    });
    await this.#opening;
    if (this.#closing.signal.aborted) throw closed();
  }

  /** A watch begins when the address is free. */
  async #keepOpen(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        return await this.#open();
      } catch {
        await pause(this.#scheduler, RETRY_MS, signal).catch(() => {});
      }
    }
  }

  #announce(node: KnownNode): Promise<void> {
    const { key, version, ttlMs, member, json } = node;
    const record = Buffer.from(json);
    const isOwn = member === this.#ring.self.name;
    const bytes = encodeUpdate({ action: 'create', version, ttlMs, member, record });
    return this.#ring.broadcast(key, bytes, isOwn);
  }

  /** Announces that a node is gone: go-micro finds it by service, version and id. */
  #withdraw(node: GoneNode, isOwn: boolean, isForGo = false): Promise<void> {
    const { key, name, id, version, serviceVersion } = node;
    const text = encodeRecord({
      name,
      version: serviceVersion,
      metadata: {},
      endpoints: [],
      // No client calls it there: neither go-micro nor Rivulet reads a node without an address.
      nodes: [{ id, address: '127.0.0.1:1', metadata: {} }],
    });
    const { name: member } = this.#ring.self;
    const record = Buffer.from(text);
    const update = { action: 'delete', version, ttlMs: null, member, record } as const;
    const bytes = encodeUpdate(update, isForGo);
    return this.#ring.broadcast(key, bytes, isOwn);
  }

  #announceAgain(): void {
    if (this.#closing.signal.aborted || this.#cancelAgain !== null) return;
    const now = this.#scheduler.monotonic();
    const wait = this.#announcedAgainAt + AGAIN_MS - now;
    if (wait > 0) {
      const again = () => {
        this.#cancelAgain = null;
        this.#announceAgain();
      };
      this.#cancelAgain = this.#scheduler.after(wait, again, false);
      return;
    }
    this.#announcedAgainAt = now;
    for (const node of this.#records.announceAgain()) void this.#announce(node);
  }

  #onDead({ name }: Member): void {
    const lost = this.#records.hideOf(name);
    // go-micro does not know which member had which node.
    if (!this.#ring.isOurs) for (const node of lost) void this.#withdraw(node, false, true);
  }

  #onBack({ name }: Member): void {
    for (const report of this.#records.shownOf(name)) {
      // Members of go-micro have lost it, and a message that it is gone may be waiting.
      if (this.#take(report)) this.#passOn(report);
    }
  }

  #onUser(bytes: Uint8Array, from: Member | null): void {
    if (this.#closing.signal.aborted) return;
    const where = from === null ? 'an announcement' : `an announcement of ${from.name}`;
    try {
      const update = decodeUpdate(bytes);
      if (update !== null) this.#onUpdate(update, from);
    } catch (error) {
      this.#warnings.badRecord(where, error);
    }
  }

  #onUpdate(update: Update, from: Member | null): void {
    const text = Buffer.from(update.record).toString();
    const record = decodeRecord(text);
    const member = update.member ?? from?.name ?? null;
    const isDirect = member !== null && member === from?.name;
    for (const node of record.nodes) {
      const single = { ...record, nodes: [node] };
      if (update.action === 'delete') {
        const removed = this.#records.remove(record.name, node.id, update.version);
        if (removed === null) continue;
        void this.#withdraw({ ...removed, serviceVersion: record.version }, false);
      } else {
        const { version } = update;
        const ttlMs = update.ttlMs === null ? this.#foreignTtl(version) : ttlOf(update.ttlMs);
        const report = { record: single, version, ttlMs, member, isDirect };
        if (this.#take(report)) this.#passOn(report);
      }
    }
  }

  /** How long a record of Go is good for: the TTL of its service is not part of it, only its end by another clock. */
  #foreignTtl(expires: bigint): number {
    const leftMs = Number(expires / 1_000_000n) - this.#scheduler.now();
    return Math.min(MAX_FOREIGN_TTL_MS, Math.max(FOREIGN_TTL_MS, leftMs));
  }

  /** Another member still has a node that was removed: it missed the message. */
  #correct({ record }: NodeReport): void {
    for (const { id } of record.nodes) {
      const gone = this.#records.removed(record.name, id);
      if (gone !== null) void this.#withdraw({ ...gone, serviceVersion: record.version }, false);
    }
  }

  /** True where it is news. */
  #take(report: NodeReport): boolean {
    // What others still report of a dead member's nodes is from before its death.
    const isOfDead = report.member !== null && this.#ring.get(report.member)?.state === 'dead';
    if (isOfDead && !report.isDirect) {
      this.#records.hide(report);
      return false;
    }
    const taken = this.#records.take(report);
    if (taken === 'full' && !this.#isFull) {
      this.#isFull = true;
      const text = `there is no room for ${report.record.name}: maxRecords or maxStateBytes is reached`;
      this.#warnings.badRecord('records of other members', new Error(text));
    }
    return taken === 'news';
  }

  #passOn({ record, version, ttlMs, member }: NodeReport): void {
    const json = Buffer.from(encodeRecord(record));
    const bytes = encodeUpdate({ action: 'create', version, ttlMs, member, record: json });
    void this.#ring.broadcast(`${record.name}\n${record.nodes[0]?.id}`, bytes, false);
  }

  /** One after the other, so that many together hold the event loop no longer than one. */
  async #onState(bytes: Uint8Array): Promise<void> {
    const most = this.#settings.maxStreams + this.#settings.seeds.length;
    if (this.#states >= most) {
      const text = `${most} others wait (maxStreams); it comes again with the next exchange`;
      this.#warnings.badRecord('the state of another member', new Error(text));
      return;
    }
    this.#states++;
    this.#taking = this.#taking.then(async () => {
      const taken = inTurns(this.#scheduler, this.#reports(bytes), this.#closing.signal);
      const onBad = (cause: unknown) =>
        this.#warnings.badRecord('the state of another member', cause);
      await taken.catch(onBad);
      this.#states--;
    });
    await this.#taking;
  }

  /** Takes what is in a state; yields after each record. */
  *#reports(bytes: Uint8Array): Generator<null, void> {
    const isKnown = (name: string, id: string, version: bigint) =>
      (this.#records.versionOf(name, id) ?? -1n) >= version;
    const onBad = (name: string, error: unknown) =>
      this.#warnings.badRecord(`a record of ${name} in the state of another member`, error);
    for (const report of decodeRecords(bytes, isKnown, onBad)) {
      if (report !== null && !this.#take(report)) this.#correct(report);
      yield null;
    }
  }
}

/** The registry of `gossip://key@host:port,host:port?option=value`; `gossip` alone is a new ring. */
export function gossipRegistryFrom(
  rest: string,
  options: Pick<GossipRegistryOptions, 'scheduler' | 'onWarning'> = {},
): GossipRegistry {
  return new GossipRegistry({ ...gossipOptionsFrom(rest), ...options });
}

function closed(): RivuletError {
  return new RivuletError('CLOSED', 'the registry is closed; open another one');
}

/**
 * The engine of this process as a source: what is on the server's own HTTP port.
 *
 * Lists and numbers of all topics are read from memory, in slices; everything else goes through commands
 * of the viewer (stream-source.ts), so its rights, the log and the disk are asked as for any client.
 * Invariants: nothing here changes the engine; a sweep runs only while a page was read within the
 * last 30 s. Cost: closed, one sample a second; open, one pass over the counters each second, or less often
 * (at least each 5 s) where a pass takes longer than a hundredth of that.
 */

import { AUDIT_MAX_LENGTH, AUDIT_TOPIC } from '../../broker/audit.ts';
import { encodeMessage } from '../../broker/message/entry.ts';
import type { Message } from '../../broker/message/message.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { roundedLag } from '../../consumer-groups/lag.ts';
import type { Engine } from '../../engine/engine.ts';
import type { Database } from '../../engine/keyspace/database.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import type { Stream } from '../../stream/stream.ts';
import { StreamId } from '../../stream/stream-id.ts';
import type { GroupRow, Overview, TopicDetail, TopicsPage } from '../api-types.ts';
import { entriesInMemory } from '../messages/engine-entries.ts';
import { nameText } from '../topics/names.ts';
import { SeriesSet } from '../topics/series.ts';
import { Slices } from '../topics/slices.ts';
import {
  DEAD_SUFFIX,
  rowOf,
  sweepInterval,
  type TopicFact,
  TopicTable,
} from '../topics/topic-table.ts';
import { rawMessage } from './audit-message.ts';
import { capabilitiesOf } from './capabilities.ts';
import type { RawEntry } from './commands.ts';

import { rowFromMemory, rowsFromMemory } from './engine-groups.ts';
import type { EngineHome } from './engine-home.ts';
import { NO_RATES } from './overview.ts';
import type { DeadTopic, EntryRange, TopicsQuery, Viewer } from './source.ts';
import { commandsOf, type StreamFacts, StreamSource } from './stream-source.ts';

/** From one sweep to the next; between the two, a hundred times what the last one took. */
const SWEEP_MS = { least: 950, most: 5000, timesDuration: 100 };
/** After the last look the sweeps end. */
const LOOKED_MS = 30_000;
const TROUBLES = 20;
/** Topics of which a series is kept, the last looked at. */
const MOST_SERIES = 200;
/** Lines of one topic: its rate, and a lag for each of at most this many groups. */
const MOST_LINES = 21;
const TOP = 10;
const SCAN_STEP = 64;
/** A stream with more groups than this is not asked by commands, which write them all in one turn. */
const CROWD = 100;

interface OldestPending {
  readonly topic: Buffer;
  readonly group: Buffer;
  readonly id: string;
  readonly at: number;
}

interface Counters {
  readonly published: number;
  readonly delivered: number;
  readonly settled: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly commands: number;
  readonly at: number;
}

export class EngineSource extends StreamSource {
  readonly table = new TopicTable();
  readonly #home: EngineHome;
  readonly #engine: Engine;
  readonly #database: Database;
  readonly #global = new SeriesSet(20);
  readonly #watched = new Map<string, SeriesSet>();
  readonly #troubles: { at: number; text: string }[] = [];
  #rates: Overview['rates'] = NO_RATES;
  #last: Counters | null = null;
  #loopDelayMs: number | null = null;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #sweptAt = Number.NEGATIVE_INFINITY;
  #sweepMs = SWEEP_MS.least;
  #sweeping: Promise<void> | null = null;
  /** Topics that policies of groups name for dead letters, as latin1. */
  readonly #deadLetters = new Set<string>();
  #oldest: OldestPending | null = null;
  readonly #stopTroubles: () => void;

  constructor(home: EngineHome, address: string, missing: Parameters<typeof capabilitiesOf>[1]) {
    super(home.kind, address, capabilitiesOf('entries', missing));
    this.#home = home;
    this.#engine = home.engine;
    this.#database = home.engine.databases[0]!;
    this.#stopTroubles = home.onTrouble((error) => {
      const text = error instanceof Error ? error.message : String(error);
      this.#troubles.unshift({ at: this.#engine.clock.now(), text });
      if (this.#troubles.length > TROUBLES) this.#troubles.pop();
    });
  }

  // ---- What is read while a page is open

  looked(): void {
    this.#lookedAt = this.#engine.clock.monotonic();
  }

  sample(): void {
    const engine = this.#engine;
    const traffic = this.#home.traffic();
    const now: Counters = {
      published: engine.statistics.added,
      delivered: engine.statistics.delivered,
      settled: engine.statistics.settled,
      bytesIn: traffic?.bytesIn ?? 0,
      bytesOut: traffic?.bytesOut ?? 0,
      commands: traffic?.commands ?? 0,
      at: this.#engine.clock.monotonic(),
    };
    const last = this.#last;
    this.#last = now;
    if (last === null) return;
    const seconds = (now.at - last.at) / 1000;
    this.#loopDelayMs = Math.max(0, now.at - last.at - 1000);
    const rate = (name: Exclude<keyof Counters, 'at'>): number =>
      // A statistic that was reset is below what it was.
      Math.max(0, now[name] - last[name]) / seconds;
    this.#rates = {
      published: rate('published'),
      delivered: rate('delivered'),
      settled: rate('settled'),
      bytesIn: rate('bytesIn'),
      bytesOut: rate('bytesOut'),
      commands: rate('commands'),
    };
    const at = engine.clock.now();
    this.#global.add(at, {
      ...this.#rates,
      loopDelayMs: this.#loopDelayMs,
      clients: this.#home.clients(),
    });
    if (now.at - this.#lookedAt > LOOKED_MS) return;
    this.#sampleTopics(at);
    if (now.at - this.#sweptAt >= this.#sweepMs) void this.#sweep();
  }

  /** One pass over all topics; a pass that runs is shared. */
  #sweep(): Promise<void> {
    this.#sweeping ??= this.#runSweep().finally(() => {
      this.#sweeping = null;
    });
    return this.#sweeping;
  }

  async #runSweep(): Promise<void> {
    const database = this.#database;
    const slices = new Slices();
    this.#sweptAt = this.#engine.clock.monotonic();
    this.table.begin();
    let oldest: OldestPending | null = null;
    let cursor = 0;
    const found: KeyEntry[] = [];
    do {
      cursor = database.scan(cursor, SCAN_STEP, (entry) => {
        if (entry.value.type === 'stream' && entry.value.damage === null) found.push(entry);
      });
      // Outside of the scan, because one topic may have more groups than a slice has room for.
      for (const entry of found.splice(0)) {
        const rest = slices.due();
        if (rest) await rest;
        if (entry.removed || entry.value.type !== 'stream' || entry.value.damage !== null) continue;
        const fact = this.#read(entry, entry.value);
        for (const group of [...entry.value.groups.values()]) {
          const pause = slices.due();
          if (pause) await pause;
          if (entry.removed || entry.value.damage !== null) break;
          oldest = this.#readGroup(fact, entry.value, group, oldest);
        }
        this.table.settle(fact);
      }
    } while (cursor !== 0);
    await this.table.end();
    this.#oldest = oldest;
    this.#sweepMs = sweepInterval(SWEEP_MS, this.#engine.clock.monotonic() - this.#sweptAt);
  }

  #read(entry: KeyEntry, value: StreamValue): TopicFact {
    const { stream } = value;
    const fact = this.table.see(entry.key);
    fact.length = stream.length;
    fact.groups = value.groups.size;
    fact.bytes = stream.residentBytes;
    fact.bytesOnDisk = Math.max(0, stream.nodeBytes - stream.residentBytes);
    fact.oldestAt = stream.length === 0 ? null : stream.firstId.ms;
    fact.newestAt = stream.length === 0 ? null : stream.lastId.ms;
    this.table.count(fact, Number(stream.entriesAdded), this.#engine.clock.monotonic());
    return fact;
  }

  #readGroup(
    fact: TopicFact,
    { stream }: StreamValue,
    group: ConsumerGroup,
    oldest: OldestPending | null,
  ): OldestPending | null {
    const { size } = group.pending;
    const dead = group.policy?.deadLetter;
    if (dead) this.#deadLetters.add(dead.toString('latin1'));
    fact.next.pending += size;
    const lag = roundedLag(stream, group);
    if (lag !== null && lag > fact.next.lag) fact.next.lag = lag;
    if (size === 0 || !group.pending.min(id)) return oldest;
    if (oldest !== null && id.ms >= oldest.at) return oldest;
    return { topic: fact.name, group: group.name, id: id.toString(), at: id.ms };
  }

  #sampleTopics(at: number): void {
    for (const [key, series] of this.#watched) {
      const value = this.#find(Buffer.from(key, 'latin1'));
      if (value === null) continue;
      const fact = this.table.facts.get(key);
      const values: Record<string, number | null> = { rate: this.#rateNow(key, value, fact) };
      let lines = 1;
      for (const group of value.groups.values()) {
        if (++lines > MOST_LINES) break;
        values[`lag:${nameText(group.name)}`] = roundedLag(value.stream, group);
      }
      series.add(at, values);
    }
  }

  readonly #addedBefore = new Map<string, { added: number; at: number }>();

  #rateNow(key: string, { stream }: StreamValue, fact: TopicFact | undefined): number | null {
    const now = this.#engine.clock.monotonic();
    const before = this.#addedBefore.get(key);
    const added = Number(stream.entriesAdded);
    this.#addedBefore.set(key, { added, at: now });
    if (before === undefined) return fact?.rate ?? null;
    return (Math.max(0, added - before.added) * 1000) / Math.max(1, now - before.at);
  }

  #find(topic: Buffer): StreamValue | null {
    const entry = this.#database.peekKey(topic);
    if (entry === undefined || entry.value.type !== 'stream' || entry.value.damage !== null) {
      return null;
    }
    return entry.value;
  }

  // ---- What pages ask

  async topics(viewer: Viewer, query: TopicsQuery): Promise<TopicsPage> {
    await this.#fresh();
    const sees = viewer.seesAll ? null : (name: Buffer) => viewer.sees(name);
    return this.table.page(query, sees, this.#engine.clock.now());
  }

  /** A table that is at most one sweep old. The first answer waits for the first sweep, at most 150 ms. */
  async #fresh(): Promise<void> {
    this.looked();
    if (this.#engine.clock.monotonic() - this.#sweptAt < this.#sweepMs) {
      if (this.table.complete || this.#sweeping === null) return;
    }
    const sweep = this.#sweep();
    // Facts of the last look are shown at once; the numbers follow with the live stream.
    if (this.table.complete && this.table.names.length > MANY) return;
    await Promise.race([sweep, new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS))]);
  }

  override async topic(viewer: Viewer, topic: Buffer): Promise<TopicDetail | null> {
    this.looked();
    const detail = await super.topic(viewer, topic);
    const value = detail === null ? null : this.#find(topic);
    if (detail === null || value === null) return detail;
    const key = topic.toString('latin1');
    const series = this.#watch(key);
    const { stream } = value;
    // The rows are cut where there are very many.
    const isCut = value.groups.size > detail.groupRows.length;
    return {
      ...detail,
      pending: isCut ? (this.table.facts.get(key)?.pending ?? null) : detail.pending,
      rate: this.table.facts.get(key)?.rate ?? null,
      bytes: stream.residentBytes,
      bytesOnDisk: Math.max(0, stream.nodeBytes - stream.residentBytes),
      seconds: series.seconds(),
      minutes: series.minutes(),
    };
  }

  /** From memory: XINFO STREAM would copy the first and the last entry, of up to 512 MB each. */
  protected override async streamFacts(viewer: Viewer, topic: Buffer): Promise<StreamFacts | null> {
    const value = viewer.may('XINFO', 'STREAM', topic) ? this.#find(topic) : null;
    if (value === null) return super.streamFacts(viewer, topic);
    const { stream, groups } = value;
    const isEmpty = stream.length === 0;
    const lastId = stream.lastId.toString();
    return {
      length: stream.length,
      firstId: isEmpty ? null : stream.firstId.toString(),
      lastId: isEmpty ? null : lastId,
      lastGeneratedId: lastId,
      entriesAdded: String(stream.entriesAdded),
      groups: groups.size,
    };
  }

  /** What is read waits for the disk as a reply would: XLEN is answered when all of it is safe. */
  override async entries(viewer: Viewer, topic: Buffer, range: EntryRange): Promise<RawEntry[]> {
    const name = range.newest ? 'XREVRANGE' : 'XRANGE';
    const isAllowed = viewer.may(name, topic, '-', '+') && viewer.may('XLEN', topic);
    const stream = isAllowed ? this.#readable(topic) : null;
    const found = stream === null ? null : entriesOrNull(stream, range);
    if (found === null) return super.entries(viewer, topic, range);
    await commandsOf(viewer).call('XLEN', topic);
    return found;
  }

  /** Null: the command says what it is. */
  #readable(topic: Buffer): Stream | null {
    const expireAt = this.#database.peekKey(topic)?.expireAt ?? 0;
    if (expireAt !== 0 && expireAt <= this.#engine.clock.now()) return null;
    return this.#find(topic)?.stream ?? null;
  }

  protected override async residentBytes(_: Viewer, topic: Buffer): Promise<number | null> {
    return this.#find(topic)?.stream.residentBytes ?? null;
  }

  override async groups(viewer: Viewer, topic: Buffer): Promise<GroupRow[] | null> {
    const value = this.#crowd(viewer, topic);
    return value === null ? super.groups(viewer, topic) : rowsFromMemory(value);
  }

  protected override async groupRow(
    viewer: Viewer,
    topic: Buffer,
    group: Buffer,
  ): Promise<GroupRow | null> {
    const value = this.#crowd(viewer, topic);
    if (value === null) return super.groupRow(viewer, topic, group);
    const found = value.groups.get(group.toString('latin1'));
    return found === undefined ? null : rowFromMemory(value, found);
  }

  /** A stream whose groups are read from memory: there are many, and the viewer may ask for them. */
  #crowd(viewer: Viewer, topic: Buffer): StreamValue | null {
    if (!viewer.may('XINFO', 'GROUPS', topic) || !viewer.may('XGROUP', 'GETPOLICY', topic, 'g')) {
      return null;
    }
    const value = this.#find(topic);
    return value !== null && value.groups.size > CROWD ? value : null;
  }

  #watch(key: string): SeriesSet {
    const found = this.#watched.get(key) ?? new SeriesSet(MOST_LINES);
    // The last looked at is the last to go.
    this.#watched.delete(key);
    this.#watched.set(key, found);
    if (this.#watched.size > MOST_SERIES) {
      const oldest = this.#watched.keys().next().value as string;
      this.#watched.delete(oldest);
      this.#addedBefore.delete(oldest);
    }
    return found;
  }

  async overview(viewer: Viewer): Promise<Overview> {
    await this.#fresh();
    const engine = this.#engine;
    const reason = this.#home.unready();
    // Numbers of the whole server need the right to INFO.
    const all = viewer.seesAll && viewer.may('INFO');
    const [lag, rate, bytes] = await Promise.all(
      (['lag', 'rate', 'bytes'] as const).map((sort) => this.#top(viewer, sort)),
    );
    const { totals, complete } = this.table;
    const total = (value: number): number | null => (all && complete ? value : null);
    const oldest = this.#oldest;
    const isShown = oldest !== null && viewer.sees(oldest.topic);
    return {
      at: engine.clock.now(),
      ready: reason === null,
      reason,
      uptimeMs: Math.round(this.#engine.clock.monotonic() - this.#home.startedAt),
      totals: {
        topics: total(totals.topics),
        groups: total(totals.groups),
        entries: total(totals.entries),
        pending: total(totals.pending),
        dead: total(totals.dead),
        parked: all ? this.#parked() : null,
        clients: all ? this.#home.clients() : null,
        bytes: total(totals.bytes),
      },
      rates: all ? this.#rates : NO_RATES,
      oldestPending: isShown
        ? {
            topic: nameText(oldest.topic),
            group: nameText(oldest.group),
            id: oldest.id,
            idleMs: Math.max(0, engine.clock.now() - oldest.at),
          }
        : null,
      series: all ? this.#global.seconds() : { from: 0, stepMs: 1000, values: {} },
      top: { lag: lag!, rate: rate!, bytes: bytes! },
      troubles: all ? [...this.#troubles] : [],
    };
  }

  async #top(viewer: Viewer, sort: 'lag' | 'rate' | 'bytes') {
    const sees = viewer.seesAll ? null : (name: Buffer) => viewer.sees(name);
    const query = { q: '', sort, after: null, limit: TOP, scan: false, internal: false };
    const { topics } = await this.table.page(query, sees, 0);
    return topics.filter((row) => (row[sort] ?? 0) > 0);
  }

  /** Topics by name, and those that policies of groups name. */
  async deadTopics(viewer: Viewer): Promise<DeadTopic[]> {
    await this.#fresh();
    const { dead, facts } = this.table;
    const named = [...this.#deadLetters].filter((key) => !key.endsWith(DEAD_SUFFIX));
    const found: DeadTopic[] = [];
    const slices = new Slices();
    for (const fact of [...dead, ...named.map((key) => facts.get(key))]) {
      const rest = slices.due();
      if (rest) await rest;
      if (fact === undefined || fact.length === 0 || !viewer.sees(fact.name)) continue;
      const of = fact.key.endsWith(DEAD_SUFFIX)
        ? fact.name.subarray(0, -DEAD_SUFFIX.length)
        : fact.name;
      found.push({ topic: fact.name, of, length: fact.length });
    }
    return found;
  }

  /** Parked instances of all workflows: lengths of their lists. */
  #parked(): number {
    let parked = 0;
    for (const fact of this.#parkedLists()) parked += fact.length;
    return parked;
  }

  *#parkedLists(): Generator<TopicFact> {
    const { names } = this.table;
    for (let at = lowest(names, 'wf:{'); at < names.length; at++) {
      const { key } = names[at]!;
      if (!key.startsWith('wf:{')) return;
      if (/^wf:\{[^{}]+\}:parked$/.test(key)) yield names[at]!;
    }
  }

  /** The row of one topic as of the last sweep. */
  rowOf(topic: Buffer): ReturnType<typeof rowOf> | null {
    const fact = this.table.facts.get(topic.toString('latin1'));
    return fact === undefined ? null : rowOf(fact);
  }

  async appendAudit(entry: Message): Promise<void> {
    const fields: CommandArgument[] = [];
    encodeMessage(fields, rawMessage(entry));
    await this.#home.own.call('XADD', AUDIT_TOPIC, 'MAXLEN', '~', AUDIT_MAX_LENGTH, '*', ...fields);
  }

  async close(): Promise<void> {
    this.#stopTroubles();
    this.#home.close();
    await this.#sweeping;
  }
}

/** Null: a block cannot be read, and the command says why. */
function entriesOrNull(stream: Stream, range: EntryRange): RawEntry[] | null {
  try {
    return entriesInMemory(stream, range);
  } catch {
    return null;
  }
}

const FIRST_WAIT_MS = 150;
/** Topics that are swept before a page is answered. */
const MANY = 2000;
const id = new StreamId();

function lowest(names: readonly TopicFact[], prefix: string): number {
  let [low, high] = [0, names.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (names[middle]!.key < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}

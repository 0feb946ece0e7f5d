/**
 * Any broker as a source: what the Broker contract reports (rabbitmq, nats, http), and its monitoring.
 *
 * Invariants: what is asked makes nothing: `topics`, `pending`, and the log of a broker that has one
 * (broker-log.ts); a broker without a log shows no messages, because the rest of the contract reads them
 * through groups only. Where monitoring fails, its numbers are missing and the page is there.
 * Cost: one list of topics each 10 s while a page is open.
 */
import { AUDIT_TOPIC } from '../../broker/audit.ts';
import type { Broker } from '../../broker/broker.ts';
import { decodeMessage } from '../../broker/message/entry.ts';
import type { Message, RawMessage } from '../../broker/message/message.ts';
import type { MessageLog } from '../../broker/message/message-log.ts';
import type { TopicInfo } from '../../broker/topics/topic-info.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import { RivuletError } from '../../errors.ts';
import type {
  Capabilities,
  ClientRow,
  GroupDetail,
  GroupRow,
  Overview,
  PendingPage,
  ServerFacts,
  TopicDetail,
  TopicsPage,
} from '../api-types.ts';
import { nameText } from '../topics/names.ts';
import { DEAD_SUFFIX, rowOf, type TopicFact, TopicTable } from '../topics/topic-table.ts';
import { fieldBytes, logEdges, logEntries, placeOfId } from './broker-log.ts';
import { type Ability, capabilitiesOf } from './capabilities.ts';
import type { RawEntry } from './commands.ts';
import type { GroupNumbers, Monitor, TopicNumbers } from './monitors/monitor.ts';
import { emptyOverview } from './overview.ts';
import type {
  ConsoleSource,
  DeadTopic,
  EntryRange,
  PendingQuery,
  TopicEdges,
  TopicsQuery,
  Viewer,
} from './source.ts';

const LIST_MS = 10_000;
/** The lengths of queues are read for this many topics of dead letters at a time. */
const AT_ONCE = 16;
const COUNT_MS = 2000;
const TOP = 10;

type Group = TopicInfo['groups'][number];

export class BrokerSource implements ConsoleSource {
  readonly kind: string;
  readonly address: string;
  readonly capabilities: Capabilities;
  readonly #broker: Broker;
  readonly #table = new TopicTable();
  readonly #groups = new Map<string, readonly Group[]>();
  #listedAt = Number.NEGATIVE_INFINITY;
  #listing: Promise<void> | null = null;
  readonly #monitor: Monitor | null;
  /** Letters that wait for a redrive, by their topic, where that is not the topic's length. */
  readonly #waiting = new Map<string, number>();
  #countedAt = Number.NEGATIVE_INFINITY;
  /** Why topics or monitoring could not be read last. */
  #failure: string | null = null;

  constructor(
    broker: Broker,
    missing: Readonly<Partial<Record<Ability, string>>>,
    monitor: Monitor | null = null,
  ) {
    this.#broker = broker;
    this.#monitor = monitor;
    this.kind = broker.name;
    this.address = broker.address;
    this.capabilities = abilitiesOf(broker, missing, monitor !== null);
    const { log } = broker;
    if (log?.move !== undefined) {
      this.remove = async (topic, id) => {
        const { remove } = this.#log;
        return (await remove?.call(this.#log, topic.toString(), Number(id))) ?? false;
      };
      this.move = (from, id, to, fields, variant) =>
        this.#log.move!(from.toString(), Number(id), to.toString(), messageOf(fields), variant);
    } else if (log?.waitingLetters !== undefined) {
      this.redriveOldest = (dead, limit) => {
        this.#countedAt = Number.NEGATIVE_INFINITY;
        const origin = dead.subarray(0, -DEAD_SUFFIX.length).toString();
        return this.#broker.redrive(origin, { from: dead.toString(), limit });
      };
    }
  }

  get #log(): MessageLog {
    const { log } = this.#broker;
    if (log !== undefined) return log;
    throw new RivuletError('NOT_CONNECTED', `the broker ${this.kind} is not connected`);
  }

  async overview(viewer: Viewer): Promise<Overview> {
    await this.#fresh();
    const { totals } = this.#table;
    const none = emptyOverview();
    const top = async (sort: 'lag' | 'rate' | 'bytes') => {
      const query = { q: '', sort, after: null, limit: TOP, scan: false, internal: false };
      const { topics } = await this.topics(viewer, query);
      return topics.filter((row) => (row[sort] ?? 0) > 0);
    };
    const [lag, rate, bytes] = await Promise.all([top('lag'), top('rate'), top('bytes')]);
    const summed = this.#table.names.reduce((sum, each) => sum + (each.rate ?? 0), 0);
    const knows = this.capabilities.rates;
    const monitored = await this.#monitored(({ rates }) => rates);
    return {
      ...none,
      ready: this.#failure === null,
      reason: this.#failure,
      totals: { ...none.totals, ...totals, bytes: knows ? totals.bytes : null },
      rates: { ...none.rates, published: knows ? summed : null, ...monitored },
      top: { lag, rate, bytes },
    };
  }

  async topics(viewer: Viewer, query: TopicsQuery): Promise<TopicsPage> {
    await this.#fresh();
    return this.#table.page(query, viewer.seesAll ? null : (name) => viewer.sees(name), Date.now());
  }

  async topic(viewer: Viewer, topic: Buffer): Promise<TopicDetail | null> {
    await this.#fresh();
    const fact = this.#table.facts.get(topic.toString('latin1'));
    if (fact === undefined) return null;
    const dead = this.#table.facts.get(`${fact.key}${DEAD_SUFFIX}`);
    const edges = this.capabilities.browse ? await this.edges(viewer, topic) : null;
    return {
      ...rowOf(fact),
      at: Date.now(),
      length: edges?.length ?? fact.length,
      firstId: edges?.firstId ?? null,
      lastId: edges?.lastId ?? null,
      oldestAt: edges?.firstAt ?? null,
      newestAt: edges?.lastAt ?? null,
      entriesAdded: fact.added === 0 ? null : String(fact.added),
      retention: null,
      scheduled: null,
      groupRows: (await this.groups(viewer, topic)) ?? [],
      dead: dead === undefined ? null : { topic: nameText(dead.name), length: this.#letters(dead) },
      seconds: null,
      minutes: null,
    };
  }

  async groups(_: Viewer, topic: Buffer): Promise<GroupRow[] | null> {
    await this.#fresh();
    const groups = this.#groups.get(topic.toString('latin1'));
    return groups?.map((group) => rowOfGroup(group)) ?? null;
  }

  async group(viewer: Viewer, topic: Buffer, group: Buffer): Promise<GroupDetail | null> {
    const rows = (await this.groups(viewer, topic)) ?? [];
    const row = rows.find(({ name }) => name === nameText(group));
    if (row === undefined) return null;
    const told = await this.#told(topic, group);
    const known = this.#groups.get(topic.toString('latin1'))?.find(({ name }) => name === row.name);
    return {
      ...row,
      ...(known?.redelivered === undefined ? {} : { redelivered: known.redelivered }),
      pending: told?.pending ?? row.pending,
      lag: told?.waiting ?? row.lag,
      consumers: told?.consumers ?? row.consumers,
      topic: nameText(topic),
      at: Date.now(),
      consumerRows: [],
      oldestPendingMs: null,
    };
  }

  /** The numbers of a group that monitoring has, over all processes. */
  async #told(topic: Buffer, group: Buffer): Promise<GroupNumbers | null> {
    if (this.#monitor?.group === undefined) return null;
    try {
      return await this.#monitor.group(topic.toString(), group.toString());
    } catch (error) {
      this.#failure = (error as Error).message;
      return null;
    }
  }

  async pending(
    viewer: Viewer,
    topic: Buffer,
    group: Buffer,
    { after, consumer, minIdleMs, limit }: PendingQuery,
  ): Promise<PendingPage | null> {
    const row = await this.group(viewer, topic, group);
    if (row === null) return null;
    if (this.capabilities.pending !== 'entries') {
      throw new RivuletError('UNSUPPORTED', this.capabilities.missing.pending ?? 'it is not told');
    }
    const found = await this.#broker.pending(topic.toString(), group.toString(), {
      limit: limit + 1,
      ...(after === null ? {} : { after }),
      ...(consumer === null ? {} : { consumer: consumer.toString() }),
      ...(minIdleMs > 0 ? { minIdleMs } : {}),
    });
    const shown = found.slice(0, limit);
    return {
      entries: shown.map((each) => ({ ...each, dueInMs: null, reason: null })),
      total: row.pending,
      next: found.length > limit ? shown.at(-1)!.id : null,
    };
  }

  async deadTopics(): Promise<DeadTopic[]> {
    await this.#fresh();
    await this.#countLetters();
    return this.#table.dead
      .filter((fact) => this.#letters(fact) > 0)
      .map((fact) => ({
        topic: fact.name,
        of: fact.name.subarray(0, -DEAD_SUFFIX.length),
        length: this.#letters(fact),
        isBounded: this.#waiting.has(fact.key),
      }));
  }

  /** Letters that wait, where redriven ones stay in the topic. */
  #letters({ key, length }: TopicFact): number {
    return this.#waiting.get(key) ?? length;
  }

  async edges(_: Viewer, topic: Buffer): Promise<TopicEdges | null> {
    return logEdges(this.#log, topic.toString());
  }

  async entries(_: Viewer, topic: Buffer, range: EntryRange): Promise<RawEntry[]> {
    return logEntries(this.#log, topic.toString(), range);
  }

  async idOfMessage(topic: Buffer, messageId: string): Promise<string | null> {
    return placeOfId(this.#log, topic.toString(), messageId);
  }

  async publish(topic: Buffer, fields: readonly CommandArgument[]): Promise<string> {
    return (await this.#broker.publish(topic.toString(), messageOf(fields))).id;
  }

  async deleteTopic(topic: Buffer): Promise<void> {
    await this.#broker.deleteTopic(topic.toString());
    this.#listedAt = Number.NEGATIVE_INFINITY;
  }

  readonly remove?: NonNullable<ConsoleSource['remove']>;
  readonly move?: NonNullable<ConsoleSource['move']>;
  readonly redriveOldest?: NonNullable<ConsoleSource['redriveOldest']>;

  async server(): Promise<ServerFacts> {
    return this.#needMonitor().server();
  }

  async clients(): Promise<ClientRow[]> {
    return this.#needMonitor().clients();
  }

  #needMonitor(): Monitor {
    if (this.#monitor !== null) return this.#monitor;
    throw new RivuletError('UNSUPPORTED', this.capabilities.missing.server ?? 'it is not told');
  }

  /** Empty where there is no monitoring, or it fails, which the overview says. */
  async #monitored<T extends object>(
    question: (monitor: Monitor) => (() => Promise<T>) | undefined,
  ): Promise<Partial<T>> {
    if (this.#monitor === null) return {};
    try {
      return (await question(this.#monitor)?.call(this.#monitor)) ?? {};
    } catch (error) {
      this.#failure = (error as Error).message;
      return {};
    }
  }

  async appendAudit(entry: Message): Promise<void> {
    await this.#broker.publish(AUDIT_TOPIC, entry);
  }

  async close(): Promise<void> {
    await this.#listing?.catch(() => {});
  }

  #fresh(): Promise<void> {
    if (performance.now() - this.#listedAt < LIST_MS) return Promise.resolve();
    this.#listing ??= this.#list().finally(() => {
      this.#listing = null;
    });
    return this.#listing;
  }

  async #list(): Promise<void> {
    const table = this.#table;
    table.begin();
    this.#failure = null;
    const now = performance.now();
    const numbers = await this.#numbers();
    for await (const { topic, length, added, bytes, groups } of this.#broker.topics()) {
      const fact = table.see(Buffer.from(topic));
      const told = numbers.get(topic);
      fact.length = length;
      fact.groups = groups.length;
      fact.bytes = bytes ?? told?.bytes ?? null;
      for (const group of groups) {
        fact.next.pending += group.pending;
        fact.next.lag = Math.max(fact.next.lag, group.lag ?? 0);
      }
      table.settle(fact);
      this.#groups.set(fact.key, groups);
      if (added !== undefined) table.count(fact, added, now);
      else fact.rate = told?.rate ?? null;
    }
    await table.end();
    for (const kept of [this.#groups, this.#waiting]) {
      for (const key of kept.keys()) if (!table.facts.has(key)) kept.delete(key);
    }
    this.#countedAt = Number.NEGATIVE_INFINITY;
    await this.#countLetters();
    this.#listedAt = performance.now();
  }

  async #numbers(): Promise<ReadonlyMap<string, TopicNumbers>> {
    const found = await this.#monitored(({ topics }) => topics);
    return found instanceof Map ? found : new Map();
  }

  async #countLetters(): Promise<void> {
    const { log } = this.#broker;
    if (log?.waitingLetters === undefined || performance.now() - this.#countedAt < COUNT_MS) return;
    this.#countedAt = performance.now();
    const { dead } = this.#table;
    for (let at = 0; at < dead.length; at += AT_ONCE) {
      const some = dead.slice(at, at + AT_ONCE);
      const counts = await Promise.all(
        some.map(({ name }) => log.waitingLetters!(name.toString())),
      );
      for (const [index, { key }] of some.entries()) this.#waiting.set(key, counts[index]!);
    }
  }
}

function abilitiesOf(
  broker: Broker,
  missing: Readonly<Partial<Record<Ability, string>>>,
  isMonitored: boolean,
): Capabilities {
  const { name, log } = broker;
  const { pendingList } = broker.capabilities;
  const cannot = `${name} does not tell it through its broker`;
  const monitor = MONITORS[name];
  const unmonitored = monitor === undefined ? cannot : `${monitor} tells it, and is not given`;
  const unread = `${name} reads messages through a group only, and a console makes none`;
  return capabilitiesOf(pendingList === 'entries' ? 'entries' : 'none', {
    scan: cannot,
    settle: `${name} lets only the consumer that holds a message act on it`,
    schedule: cannot,
    slowlog: cannot,
    consumers: `${name} does not name the consumers of a group`,
    ...(log === undefined
      ? {
          browse: unread,
          browseByTime: unread,
          journey: unread,
          redrive:
            'single dead letters cannot be read here; micro dead redrive moves all of a topic',
          redriveChosen: unread,
          spans: unread,
          audit: 'the audit is written, and cannot be read through this broker',
        }
      : {}),
    ...(log !== undefined && log.move === undefined
      ? { redriveChosen: `${name} gives dead letters in their order only` }
      : {}),
    ...(isMonitored ? {} : { server: unmonitored, clients: unmonitored }),
    ...(isMonitored || name === 'nats' ? {} : { rates: unmonitored }),
    ...(pendingList === 'entries' ? {} : { pending: `${name} tells only how many are pending` }),
    ...missing,
  });
}

/** The option that names a broker's monitoring. */
const MONITORS: Readonly<Record<string, string>> = {
  rabbitmq: "RabbitMQ's management API (--rabbitmq-api)",
  nats: "NATS's monitoring page (--nats-monitor)",
};

function messageOf(fields: readonly CommandArgument[]): RawMessage {
  return decodeMessage(fields.map(fieldBytes));
}

function rowOfGroup({ name, pending, lag, delivered, settled }: Group): GroupRow {
  return {
    name: nameText(Buffer.from(name)),
    consumers: null,
    pending,
    lag,
    lastDeliveredId: delivered === undefined ? '' : String(delivered),
    ...(settled === undefined ? {} : { settledUpTo: String(settled) }),
    policy: null,
  };
}

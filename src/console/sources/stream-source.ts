/**
 * A server that speaks RESP as a source: topics are its streams.
 *
 * Everything is asked by commands that change nothing (XINFO, XRANGE, XPENDING, INFO), with the viewer's
 * own rights; a refusal of the server is the answer.
 * Invariants: a read takes at most 1000 entries a command; a group, a consumer or a key is never made.
 */
import { type Reply, ReplyMap } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import type {
  Capabilities,
  ClientRow,
  GroupDetail,
  GroupPolicy,
  GroupRow,
  PendingPage,
  PendingRow,
  Retention,
  ServerFacts,
  SlowRow,
  TopicDetail,
} from '../api-types.ts';
import { nameText } from '../topics/names.ts';
import { DEAD_SUFFIX } from '../topics/topic-table.ts';
import {
  bytesOf,
  type Commands,
  entriesOf,
  factsOf,
  listOf,
  numberOf,
  orNull,
  type RawEntry,
  textOf,
} from './commands.ts';
import { clientRow, configRows, infoSections } from './server-facts.ts';
import type { EntryRange, PendingQuery, RawScheduled, TopicEdges, Viewer } from './source.ts';

/** Groups whose policy is asked with a list of groups. */
const MOST_POLICIES = 100;
/** Groups in a list: those with the longest lag. */
export const MOST_GROUPS = 1000;
const MOST_CONSUMERS = 1000;
const MOST_SLOW = 128;
const MOST_SCHEDULED = 100;

export interface StreamFacts {
  readonly length: number;
  /** Of the entries that are there. */
  readonly firstId: string | null;
  readonly lastId: string | null;
  readonly lastGeneratedId: string;
  readonly entriesAdded: string | null;
  readonly groups: number;
}

export abstract class StreamSource {
  readonly kind: string;
  readonly address: string;
  readonly capabilities: Capabilities;
  /** The server has the commands of docs/extensions.md. */
  readonly #isRivulet: boolean;

  constructor(kind: string, address: string, capabilities: Capabilities) {
    this.kind = kind;
    this.address = address;
    this.capabilities = capabilities;
    this.#isRivulet = kind !== 'redis';
  }

  async topic(viewer: Viewer, topic: Buffer): Promise<TopicDetail | null> {
    const commands = commandsOf(viewer);
    const facts = await this.streamFacts(viewer, topic);
    if (facts === null) return null;
    const [groupRows, extra, dead, bytes] = await Promise.all([
      this.groups(viewer, topic),
      this.#extra(commands, topic),
      this.#deadOf(viewer, topic),
      this.residentBytes(viewer, topic),
    ]);
    const groups = groupRows ?? [];
    const lags = groups.map(({ lag }) => lag).filter((lag) => lag !== null);
    const { length, firstId, lastId } = facts;
    return {
      at: Date.now(),
      name: nameText(topic),
      length,
      rate: null,
      lag: lags.length === 0 ? null : lags.reduce((most, lag) => Math.max(most, lag)),
      pending: groups.reduce((sum, { pending }) => sum + pending, 0),
      groups: Math.max(groups.length, facts.groups),
      bytes,
      bytesOnDisk: null,
      oldestAt: timeOfId(firstId),
      newestAt: timeOfId(lastId),
      deadOf: deadOf(topic),
      firstId,
      lastId: facts.lastGeneratedId || lastId,
      entriesAdded: facts.entriesAdded,
      retention: extra.retention,
      scheduled: extra.scheduled,
      groupRows: groups,
      dead,
      seconds: null,
      minutes: null,
    };
  }

  /** By XINFO STREAM, whose reply holds the first and the last entry whole. */
  protected async streamFacts(viewer: Viewer, topic: Buffer): Promise<StreamFacts | null> {
    const reply = await orNull(commandsOf(viewer).call('XINFO', 'STREAM', topic));
    if (reply === null) return null;
    const facts = factsOf(reply);
    return {
      length: numberOf(facts.length) ?? 0,
      firstId: edge(facts['first-entry']),
      lastId: edge(facts['last-entry']),
      lastGeneratedId: textOf(facts['last-generated-id']),
      entriesAdded: facts['entries-added'] === undefined ? null : textOf(facts['entries-added']),
      groups: numberOf(facts.groups) ?? 0,
    };
  }

  protected async residentBytes(viewer: Viewer, topic: Buffer): Promise<number | null> {
    return numberOf(await quietly(commandsOf(viewer).call('MEMORY', 'USAGE', topic)));
  }

  async #extra(commands: Commands, topic: Buffer) {
    if (!this.#isRivulet) return { retention: null, scheduled: null };
    const [settings, scheduled] = await Promise.all([
      quietly(commands.call('XCFGGET', topic)),
      quietly(commands.call('XSCHEDULE', 'LEN', topic)),
    ]);
    return {
      retention: settings === null ? null : retentionOf(factsOf(settings)),
      scheduled: numberOf(scheduled),
    };
  }

  async #deadOf(viewer: Viewer, topic: Buffer): Promise<TopicDetail['dead']> {
    const name = Buffer.concat([topic, Buffer.from(DEAD_SUFFIX)]);
    if (!viewer.sees(name)) return null;
    const length = numberOf(await quietly(commandsOf(viewer).call('XLEN', name)));
    return length === null || length === 0 ? null : { topic: nameText(name), length };
  }

  async edges(viewer: Viewer, topic: Buffer): Promise<TopicEdges | null> {
    const facts = await this.streamFacts(viewer, topic);
    if (facts === null) return null;
    const { length, firstId, lastId } = facts;
    return { length, firstId, lastId, firstAt: timeOfId(firstId), lastAt: timeOfId(lastId) };
  }

  async entries(viewer: Viewer, topic: Buffer, range: EntryRange): Promise<RawEntry[]> {
    const { from, isAfter, to, newest, limit } = range;
    const commands = commandsOf(viewer);
    const start = from === null ? (newest ? '+' : '-') : isAfter ? `(${from}` : from;
    const end = to ?? (newest ? '-' : '+');
    const name = newest ? 'XREVRANGE' : 'XRANGE';
    return entriesOf(await commands.call(name, topic, start, end, 'COUNT', limit));
  }

  async scheduled(
    viewer: Viewer,
    topic: Buffer,
  ): Promise<{ total: number; entries: RawScheduled[] }> {
    const commands = commandsOf(viewer);
    const [total, list] = await Promise.all([
      commands.call('XSCHEDULE', 'LEN', topic),
      commands.call('XSCHEDULE', 'LIST', topic, 'COUNT', MOST_SCHEDULED),
    ]);
    const entries = listOf(list).map((each) => {
      const [number, dueAt, fields] = listOf(each);
      return {
        number: textOf(number),
        dueAt: numberOf(dueAt) ?? 0,
        fields: listOf(fields).map(bytesOf),
      };
    });
    return { total: numberOf(total) ?? 0, entries };
  }

  // ---- Groups

  async groups(viewer: Viewer, topic: Buffer): Promise<GroupRow[] | null> {
    const commands = commandsOf(viewer);
    const reply = await orNull(commands.call('XINFO', 'GROUPS', topic));
    if (reply === null) return null;
    const longest = listOf(reply).map((each) => factsOf(each));
    if (longest.length > MOST_GROUPS) {
      longest.sort((a, b) => (numberOf(b.lag) ?? -1) - (numberOf(a.lag) ?? -1));
    }
    return Promise.all(
      longest.slice(0, MOST_GROUPS).map(async (facts, index) => {
        const asks = this.#isRivulet && index < MOST_POLICIES;
        return rowOf(facts, asks ? await policyOf(commands, topic, bytesOf(facts.name)) : null);
      }),
    );
  }

  async group(viewer: Viewer, topic: Buffer, group: Buffer): Promise<GroupDetail | null> {
    const commands = commandsOf(viewer);
    const [found, consumers, summary] = await Promise.all([
      this.groupRow(viewer, topic, group),
      orNull(commands.call('XINFO', 'CONSUMERS', topic, group)),
      orNull(commands.call('XPENDING', topic, group)),
    ]);
    if (found === null || consumers === null) return null;
    const first = textOf(listOf(summary ?? [])[1]);
    const rows = listOf(consumers).map(factsOf);
    return {
      ...found,
      topic: nameText(topic),
      at: Date.now(),
      consumerRows: rows.slice(0, MOST_CONSUMERS).map((facts) => ({
        name: nameText(bytesOf(facts.name)),
        pending: numberOf(facts.pending) ?? 0,
        idleMs: numberOf(facts.idle) ?? 0,
        inactiveMs: positive(numberOf(facts.inactive)),
      })),
      oldestPendingMs: first === '' ? null : Math.max(0, Date.now() - (timeOfId(first) ?? 0)),
    };
  }

  /** One row of `groups`; null: there is no such group. */
  protected async groupRow(viewer: Viewer, topic: Buffer, group: Buffer): Promise<GroupRow | null> {
    const commands = commandsOf(viewer);
    const reply = await orNull(commands.call('XINFO', 'GROUPS', topic));
    for (const each of listOf(reply ?? [])) {
      const facts = factsOf(each);
      if (!bytesOf(facts.name).equals(group)) continue;
      return rowOf(facts, this.#isRivulet ? await policyOf(commands, topic, group) : null);
    }
    return null;
  }

  async pending(
    viewer: Viewer,
    topic: Buffer,
    group: Buffer,
    { after, consumer, minIdleMs, limit }: PendingQuery,
  ): Promise<PendingPage | null> {
    const commands = commandsOf(viewer);
    const start = after === null ? '-' : `(${after}`;
    const idle = minIdleMs > 0 ? ['IDLE', minIdleMs] : [];
    const of = consumer === null ? [] : [consumer];
    const [list, summary, policy] = await Promise.all([
      orNull(commands.call('XPENDING', topic, group, ...idle, start, '+', limit + 1, ...of)),
      orNull(commands.call('XPENDING', topic, group)),
      this.#isRivulet ? policyOf(commands, topic, group) : null,
    ]);
    if (list === null) return null;
    const rows = listOf(list).map((each): PendingRow => {
      const [id, holder, idleMs, attempts] = listOf(each);
      const name = bytesOf(holder);
      const isHeld = name.length > 0;
      const waited = numberOf(idleMs) ?? 0;
      return {
        id: textOf(id),
        consumer: isHeld ? nameText(name) : '',
        idleMs: waited,
        attempts: numberOf(attempts) ?? 0,
        dueInMs: policy?.ackWaitMs == null || !isHeld ? null : policy.ackWaitMs - waited,
        reason: null,
      };
    });
    const shown = rows.slice(0, limit);
    return {
      entries: shown,
      total: numberOf(listOf(summary ?? [])[0]) ?? 0,
      next: rows.length > limit ? shown.at(-1)!.id : null,
    };
  }

  // ---- The server

  async server(viewer: Viewer): Promise<ServerFacts> {
    const commands = commandsOf(viewer);
    const info = textOf(await commands.call('INFO', 'default'));
    const config = await quietly(commands.call('CONFIG', 'GET', '*'));
    return {
      at: Date.now(),
      sections: infoSections(info),
      loopDelayMs: null,
      syncMs: null,
      config: config === null ? [] : configRows(config),
    };
  }

  async clients(viewer: Viewer): Promise<ClientRow[]> {
    const text = textOf(await commandsOf(viewer).call('CLIENT', 'LIST'));
    return text.split('\n').filter(Boolean).map(clientRow);
  }

  async slowlog(viewer: Viewer): Promise<SlowRow[]> {
    const reply = await commandsOf(viewer).call('SLOWLOG', 'GET', MOST_SLOW);
    return listOf(reply).map((each) => {
      const [id, at, micros, args, client] = listOf(each);
      return {
        id: textOf(id),
        at: (numberOf(at) ?? 0) * 1000,
        micros: numberOf(micros) ?? 0,
        command: listOf(args).map(textOf).join(' ').slice(0, 500),
        client: textOf(client),
      };
    });
  }
}

function rowOf(facts: Record<string, Reply>, policy: GroupPolicy | null): GroupRow {
  return {
    name: nameText(bytesOf(facts.name)),
    consumers: numberOf(facts.consumers) ?? 0,
    pending: numberOf(facts.pending) ?? 0,
    lag: numberOf(facts.lag),
    lastDeliveredId: textOf(facts['last-delivered-id']),
    policy,
  };
}

export function commandsOf({ commands }: Viewer): Commands {
  if (commands !== null) return commands;
  throw new RivuletError('UNSUPPORTED', 'this broker takes no commands');
}

/** Time of an id, or null where its first part is no time. */
export function timeOfId(id: string | null): number | null {
  const ms = Number(/^(\d+)-/.exec(id ?? '')?.[1] ?? Number.NaN);
  return ms >= 0 && ms <= 8.64e15 ? ms : null;
}

export function deadOf(topic: Buffer): string | null {
  const isDead =
    topic.length > DEAD_SUFFIX.length && topic.toString('latin1').endsWith(DEAD_SUFFIX);
  return isDead ? nameText(topic.subarray(0, -DEAD_SUFFIX.length)) : null;
}

/** What is nice to have: null where the viewer may not, or the server cannot. */
async function quietly<T>(reply: Promise<T>): Promise<T | null> {
  try {
    return await reply;
  } catch (error) {
    const code = error instanceof RivuletError ? error.code : '';
    if (code === 'PERMISSION_DENIED' || code === 'INVALID_ARGUMENT') return null;
    throw error;
  }
}

function edge(entry: unknown): string | null {
  return Array.isArray(entry) ? String(entry[0]) : null;
}

function positive(value: number | null): number | null {
  return value === null || value < 0 ? null : value;
}

function retentionOf(facts: Record<string, unknown>): Retention | null {
  const of = (name: string): number | null => Number(facts[name] ?? 0) || null;
  const retention = {
    maxAgeMs: of('maxage'),
    maxBytes: of('maxbytes'),
    maxLength: of('maxlen'),
  };
  return Object.values(retention).every((each) => each === null) ? null : retention;
}

async function policyOf(
  commands: Commands,
  topic: Buffer,
  group: Buffer,
): Promise<GroupPolicy | null> {
  const reply = await quietly(orNull(commands.call('XGROUP', 'GETPOLICY', topic, group)));
  if (reply === null || !(reply instanceof ReplyMap || Array.isArray(reply))) return null;
  const facts = factsOf(reply);
  const most = numberOf(facts.maxdeliveries) ?? 0;
  const [min, max] = [numberOf(facts['backoff-min']) ?? 0, numberOf(facts['backoff-max']) ?? 0];
  return {
    ackWaitMs: numberOf(facts.ackwait),
    maxDeliveries: most === 0 ? null : most,
    deadLetter: facts.deadletter == null ? null : nameText(bytesOf(facts.deadletter)),
    backoffMs: max === 0 ? [] : [min, max],
  };
}

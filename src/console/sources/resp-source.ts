/**
 * A server somewhere that speaks RESP as a source: `rivulet://`, or a Redis.
 *
 * Names are found by SCAN, 1000 keys a step with a pause between two steps; on Redis, where other data may
 * be many keys, only when a page asks for it (`scan=1`), and otherwise by the broker's own list.
 * Invariants: at most one pass runs; it reads the counters of at most 100 topics at a time; a page that
 * no page shows costs nothing. Cost on the server: a SCAN step, or 100 XINFO, each 10 ms of a pass.
 */
import { AUDIT_MAX_LENGTH, AUDIT_TOPIC } from '../../broker/audit.ts';
import type { Broker } from '../../broker/broker.ts';
import { encodeMessage } from '../../broker/message/entry.ts';
import type { Message } from '../../broker/message/message.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import type { Client } from '../../client/index.ts';
import { ReplyError } from '../../client/reply.ts';
import type { Overview, TopicsPage } from '../api-types.ts';
import { DEAD_SUFFIX, sweepInterval, TopicTable } from '../topics/topic-table.ts';
import { rawMessage } from './audit-message.ts';
import { capabilitiesOf } from './capabilities.ts';
import { bytesOf, factsOf, listOf, numberOf, textOf } from './commands.ts';
import { emptyOverview } from './overview.ts';
import type { DeadTopic, TopicsQuery, Viewer } from './source.ts';
import { StreamSource, timeOfId } from './stream-source.ts';

const PAUSE_MS = 10;
const SCANNED = 1000;
const BATCH = 100;
/** From one pass to the next; between the two, a hundred times what the last one took. */
const SWEEP_MS = { least: 950, most: 10_000, timesDuration: 100 };
const LOOKED_MS = 30_000;
const FIRST_WAIT_MS = 1000;
const TOP = 10;

export class RespSource extends StreamSource {
  readonly #client: Client;
  readonly #broker: Broker | null;
  readonly #table = new TopicTable();
  #lookedAt = Number.NEGATIVE_INFINITY;
  #sweptAt = Number.NEGATIVE_INFINITY;
  #sweepMs = SWEEP_MS.least;
  #sweeping: Promise<void> | null = null;
  #failure: Error | null = null;
  #scans = false;
  #isClosed = false;

  /** `broker`: of a Redis, whose topics it names. */
  constructor(
    kind: 'rivulet' | 'redis',
    address: string,
    client: Client,
    broker: Broker | null,
    missing: Parameters<typeof capabilitiesOf>[1],
  ) {
    super(kind, address, capabilitiesOf('entries', missing));
    this.#client = client;
    this.#broker = broker;
  }

  looked(): void {
    this.#lookedAt = performance.now();
  }

  sample(): void {
    const now = performance.now();
    if (now - this.#lookedAt > LOOKED_MS || now - this.#sweptAt < this.#sweepMs) return;
    this.#sweep().catch(() => {});
  }

  async topics(viewer: Viewer, query: TopicsQuery): Promise<TopicsPage> {
    if (query.scan && !this.#scans) {
      this.#scans = true;
      this.#sweptAt = Number.NEGATIVE_INFINITY;
    }
    await this.#fresh();
    const sees = viewer.seesAll ? null : (name: Buffer) => viewer.sees(name);
    return this.#table.page(query, sees, Date.now());
  }

  async deadTopics(viewer: Viewer): Promise<DeadTopic[]> {
    await this.#fresh();
    return this.#table.dead
      .filter(({ length, name }) => length > 0 && viewer.sees(name))
      .map(({ name, length }) => ({
        topic: name,
        of: originOf(name),
        length,
      }));
  }

  async overview(viewer: Viewer): Promise<Overview> {
    await this.#fresh();
    const { totals, complete } = this.#table;
    const sees = viewer.seesAll ? null : (name: Buffer) => viewer.sees(name);
    const top = async (sort: 'lag' | 'rate' | 'bytes') => {
      const query = { q: '', sort, after: null, limit: TOP, scan: false, internal: false };
      const { topics } = await this.#table.page(query, sees, 0);
      return topics.filter((row) => (row[sort] ?? 0) > 0);
    };
    const [lag, rate, bytes] = await Promise.all([top('lag'), top('rate'), top('bytes')]);
    const none = emptyOverview();
    const isWhole = viewer.seesAll;
    const info = await viewer.commands?.call('INFO', 'default').then(textOf, () => '');
    const fact = (name: string): number | null =>
      numberOf(new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info ?? '')?.[1]);
    const uptime = fact('uptime_in_seconds');
    return {
      ...none,
      ready: this.#client.isConnected,
      reason: this.#client.isConnected ? null : 'the broker cannot be reached',
      uptimeMs: uptime === null ? null : uptime * 1000,
      totals: {
        ...(isWhole ? totals : none.totals),
        topics: isWhole && complete ? totals.topics : null,
        parked: null,
        clients: fact('connected_clients'),
        bytes: fact('used_memory'),
      },
      rates: {
        ...none.rates,
        published: isWhole
          ? this.#table.names.reduce((sum, { rate: each }) => sum + (each ?? 0), 0)
          : null,
        commands: fact('instantaneous_ops_per_sec'),
        bytesIn: kib(fact('instantaneous_input_kbps')),
        bytesOut: kib(fact('instantaneous_output_kbps')),
      },
      top: { lag, rate, bytes },
    };
  }

  async appendAudit(entry: Message): Promise<void> {
    const fields: CommandArgument[] = [];
    encodeMessage(fields, rawMessage(entry));
    await this.#client.call('XADD', AUDIT_TOPIC, 'MAXLEN', '~', AUDIT_MAX_LENGTH, '*', ...fields);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#sweeping?.catch(() => {});
    this.#client.destroy();
  }

  async #fresh(): Promise<void> {
    this.looked();
    if (performance.now() - this.#sweptAt < this.#sweepMs && this.#table.complete) return;
    const sweep = this.#sweep();
    await Promise.race([sweep, pause(FIRST_WAIT_MS)]);
    if (!this.#table.complete && this.#failure !== null) throw this.#failure;
  }

  #sweep(): Promise<void> {
    this.#sweeping ??= this.#runSweep()
      .then(
        () => {
          this.#failure = null;
        },
        (error: Error) => {
          this.#failure = error;
          throw error;
        },
      )
      .finally(() => {
        this.#sweeping = null;
      });
    return this.#sweeping;
  }

  async #runSweep(): Promise<void> {
    this.#sweptAt = performance.now();
    this.#table.begin();
    for await (const names of this.#names()) {
      for (let at = 0; at < names.length; at += BATCH) {
        if (this.#isClosed) return;
        await this.#read(names.slice(at, at + BATCH));
        await pause(PAUSE_MS);
      }
    }
    await this.#table.end();
    this.#sweepMs = sweepInterval(SWEEP_MS, performance.now() - this.#sweptAt);
  }

  async *#names(): AsyncGenerator<Buffer[]> {
    if (this.kind === 'redis' && !this.#scans && this.#broker !== null) {
      let names: Buffer[] = [];
      for await (const { topic } of this.#broker.topics()) {
        names.push(Buffer.from(keyOf(topic)));
        if (names.length < BATCH) continue;
        yield names;
        names = [];
      }
      yield names;
      return;
    }
    let cursor = '0';
    do {
      const reply = await this.#client.call('SCAN', cursor, 'COUNT', SCANNED, 'TYPE', 'stream');
      const [next, keys] = listOf(reply);
      cursor = textOf(next);
      yield listOf(keys).map(bytesOf);
      await pause(PAUSE_MS);
    } while (cursor !== '0' && !this.#isClosed);
  }

  async #read(names: readonly Buffer[]): Promise<void> {
    const replies = await this.#client.pipeline(
      names.flatMap((name) => [
        ['XINFO', 'STREAM', name],
        ['XINFO', 'GROUPS', name],
      ]),
    );
    const now = performance.now();
    for (const [index, name] of names.entries()) {
      const [about, groups] = [replies[2 * index]!, replies[2 * index + 1]!];
      if (about instanceof ReplyError || groups instanceof ReplyError) continue;
      const facts = factsOf(about);
      const fact = this.#table.see(name);
      fact.length = numberOf(facts.length) ?? 0;
      const rows = listOf(groups).map(factsOf);
      fact.groups = rows.length;
      for (const row of rows) {
        fact.next.pending += numberOf(row.pending) ?? 0;
        fact.next.lag = Math.max(fact.next.lag, numberOf(row.lag) ?? 0);
      }
      this.#table.settle(fact);
      fact.oldestAt = timeOfEdge(facts['first-entry']);
      fact.newestAt = timeOfEdge(facts['last-entry']);
      const added = numberOf(facts['entries-added']);
      if (added !== null) this.#table.count(fact, added, now);
    }
  }
}

/** The adapter's key of a topic: `{orders}.dead` for the dead letters of `orders`. */
function keyOf(topic: string): string {
  const [, root, dead] = /^(.*?)((?:\.dead)+)$/s.exec(topic) ?? [];
  return root === undefined ? topic : `{${root}}${dead}`;
}

function originOf(dead: Buffer): Buffer {
  const of = dead.subarray(0, -DEAD_SUFFIX.length);
  const isTagged = of[0] === 123 && of.at(-1) === 125;
  return isTagged ? of.subarray(1, -1) : of;
}

function kib(value: number | null): number | null {
  return value === null ? null : value * 1024;
}

function timeOfEdge(entry: unknown): number | null {
  return Array.isArray(entry) ? timeOfId(String(entry[0])) : null;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

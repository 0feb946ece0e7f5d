/**
 * The Broker inside this process: `memory:` keeps messages as long as a broker is connected,
 * `file:DIRECTORY` stores them in a data directory of the same form as `micro server`'s.
 *
 * A topic is a stream, a group its consumer group with a policy: attempts, backoff, deadlines and dead
 * letters are the engine's work, atomic and, with a directory, durable.
 * `memory:` alone belongs to one broker; brokers with the same `memory:name` or directory share it.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scanPending } from '../../consumer-groups/claim.ts';
import { countValue } from '../../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import { roundedLag, UNKNOWN_READ } from '../../consumer-groups/lag.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { unschedule } from '../../engine/schedule/scheduled-entries.ts';
import { setPolicy } from '../../engine/streams/group-policy.ts';
import { setRetention } from '../../engine/streams/retention.ts';
import { createGroup, destroyGroup } from '../../engine/streams/stream-groups.ts';
import { RivuletError } from '../../errors.ts';
import { StreamId } from '../../stream/stream-id.ts';
import type {
  Broker,
  PendingEntry,
  PendingQuery,
  Position,
  Receipt,
  RedriveOptions,
  TopicInfo,
} from '../broker.ts';
import { BrokerBase, type PublishPlan, type SubscriptionHandle } from '../broker-base.ts';
import type { BrokerFactory } from '../broker-factory.ts';
import type { Capabilities } from '../capabilities.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import type { JournalStore } from '../journal.ts';
import type { RawMessage } from '../message/message.ts';
import type { BrokerOptions, ResolvedSubscribeOptions, StreamOptions } from '../options/options.ts';
import { afterId, readId } from '../positions.ts';
import type { LocalCaller } from '../requests/local-requests.ts';
import type { CallForm } from '../requests/requests.ts';
import { type RawResponder, Responses } from '../requests/responses.ts';
import type { StreamCall } from '../requests/stream-call.ts';
import type { LimitsTopics, TopicLimits } from '../topics/topic-limits.ts';
import { EmbeddedJournal } from './embedded-journal.ts';
import { EmbeddedPublisher, MOST_IDS } from './embedded-publisher.ts';
import { EmbeddedSubscription } from './embedded-subscription.ts';
import type { EngineHost } from './engine-host.ts';
import { keptName } from './kept-name.ts';
import { SharedEngines } from './shared-engines.ts';

const LARGEST_BODY = 512 * 1024 * 1024;
/** Dead letters sent back in one turn. */
const REDRIVE_PAGE = 100;

/** What openBroker calls. */
export const createBroker: BrokerFactory = (addresses, options) =>
  new EmbeddedBroker(addresses, options);

export class EmbeddedBroker extends BrokerBase implements LimitsTopics {
  readonly name: 'memory' | 'file';
  readonly address: string;
  #host: EngineHost | null = null;
  #unlisten: (() => void) | null = null;
  #publisher: EmbeddedPublisher | null = null;
  #caller: LocalCaller | null = null;
  #journal: EmbeddedJournal | null = null;
  #subscriptions = 0;
  /** A broker that was killed on this directory may have had the same client name. */
  readonly #unique = this.options.scheduler.uniqueName();

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    const [address] = addresses;
    if (addresses.length !== 1 || address === undefined) {
      throw new RivuletError('INVALID_ARGUMENT', 'an embedded broker has one address');
    }
    if (this.options.goMicro) {
      throw new RivuletError(
        'UNSUPPORTED',
        'go-micro services cannot read what is in this process',
      );
    }
    this.name = /^memory:/i.test(address) ? 'memory' : 'file';
    this.address = this.name === 'memory' ? address : `file:${directoryOf(address)}`;
  }

  /** The engine of a connected embedded broker, for the console; null for any other broker. */
  static hostOf(broker: Broker): EngineHost | null {
    return broker instanceof EmbeddedBroker ? broker.#connected : null;
  }

  get capabilities(): Readonly<Capabilities> {
    return {
      durability: this.name === 'file' ? 'fsync' : 'memory',
      delayedNack: 'native',
      delayedPublish: 'native',
      deadLetter: 'atomic',
      dedup: { windowMs: 1000 * Math.ceil(this.options.dedupWindowMs / 1000), maxIds: MOST_IDS },
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'native',
      wildcards: true,
      requestReply: true,
      pendingList: 'entries',
      attempts: 'hand-overs',
      trimmedPending: 'reported',
      retriedPublish: 'once',
      extend: true,
      persistent: true,
      journal: 'atomic',
      maxBodyBytes: LARGEST_BODY,
    };
  }

  override get journal(): JournalStore {
    this.#journal ??= new EmbeddedJournal(this.#connected, (key, handler, options) =>
      this.consumeKey(key, handler, options),
    );
    return this.#journal;
  }

  protected async doPending(
    topic: string,
    group: string,
    query: PendingQuery = {},
  ): Promise<PendingEntry[]> {
    this.mustBeConnected();
    const { consumer: name, minIdleMs = 0, limit = 100, after } = query;
    const start = after === undefined ? StreamId.min() : readId(after);
    if (after !== undefined && !start.increment()) return [];
    const entries = this.#connected.run(({ steady }) => {
      const found = this.#groupOf(topic, group).group;
      const rows: PendingEntry[] = [];
      // Entries that no consumer owns ('') have to be selected from all entries.
      const consumer = name ? (found.findConsumer(keptName(name)) ?? null) : null;
      if (name && consumer === null) return rows;
      const count = name === '' ? Number.MAX_SAFE_INTEGER : limit;
      const wanted = { start, end: StreamId.max(), count, consumer, minIdle: Math.ceil(minIdleMs) };
      scanPending(found, wanted, steady, (at, idleMs) => {
        const owner = found.consumerAt(at.consumer)?.name.toString() ?? '';
        if (rows.length === limit || (name === '' && owner !== '')) return;
        // Unowned entries have no idle time.
        const idle = owner === '' ? 0 : idleMs;
        if (idle < minIdleMs) return;
        const attempts = Number(countValue(at.count));
        rows.push({ id: at.id.toString(), consumer: owner, idleMs: idle, attempts });
      });
      return rows;
    });
    await this.#connected.durable();
    return entries;
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    const host = this.#connected;
    host.change(() => {
      const { database } = host;
      const place = this.#groupOf(topic, group);
      const { entry, group: before } = place;
      // Destroy and create the group: moving it alone would keep its pending entries.
      const { policy, name } = before;
      destroyGroup(database, entry, before);
      const after = afterId(from, place.lastId);
      const made = createGroup(database, entry, name, after, UNKNOWN_READ);
      setPolicy(database, entry, made, policy);
      database.signalKeyReady(entry);
      host.whenDurable(() => {});
    });
    for (const member of host.members(topic, group)) member.revokeAll('its group was moved');
    await host.durable();
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    const host = this.#connected;
    const publisher = this.#publisher as EmbeddedPublisher;
    const after = StreamId.min();
    let done = 0;
    for (let more = true; more && done < limit; ) {
      host.change(() => {
        const page = Math.min(REDRIVE_PAGE, limit - done);
        const { looked, moved } = publisher.redrive(topic, from, after, page);
        done += moved;
        more = looked === page;
      });
      await host.durable();
    }
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    const host = this.#connected;
    const names = host.run(() =>
      [...host.database.entries()]
        .filter(({ value }) => value.type === 'stream')
        .map(({ key }) => key.toString())
        .sort(),
    );
    for (const topic of names) {
      const info = host.run(() => this.#infoOf(topic));
      await host.durable();
      if (info !== null) yield info;
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    const host = this.#connected;
    host.change(() => {
      const { database } = host;
      const key = Buffer.from(topic);
      const { schedule } = database.keyspace;
      for (const each of schedule.firstOf(key, Number.POSITIVE_INFINITY, database.engine.time))
        unschedule(database, each);
      const entry = database.findKey(key);
      if (entry?.value.type === 'stream') database.remove(entry);
    });
    for (const member of host.membersOfTopic(topic)) member.revokeAll('its topic was deleted');
    await host.durable();
  }

  async limitTopic(topic: string, { maxAgeMs, maxBytes }: TopicLimits): Promise<void> {
    this.mustBeConnected();
    const host = this.#connected;
    host.change(() => {
      const entry = host.database.findKey(Buffer.from(topic));
      if (entry?.value.type !== 'stream') return;
      const limits = { maxLen: 0, maxAge: maxAgeMs, maxBytes };
      setRetention(host.database, entry, entry.value, limits);
    });
    await host.durable();
  }

  /** Deletes all topics, groups and delayed messages. */
  async flush(): Promise<void> {
    this.mustBeConnected();
    const host = this.#connected;
    host.change((engine) => engine.flushAll());
    await host.durable();
  }

  /** Bodies are in the stream when `store` returns. */
  protected override readonly keepsBodies = false;

  protected override checkId(id: string): void {
    readId(id);
  }

  protected async open(): Promise<void> {
    const { scheduler } = this.options;
    if (this.name === 'file') {
      this.#host = await SharedEngines.directory(directoryOf(this.address), scheduler, this);
    } else {
      const name = this.address.slice('memory:'.length);
      this.#host = await SharedEngines.memory(name, scheduler, this);
    }
    this.#unlisten = this.#host.warnings.listen((error) => this.events.emit('warning', { error }));
    this.#publisher = new EmbeddedPublisher(this.#host, this.options);
    this.#caller = this.#host.requests.caller();
  }

  protected async shut(): Promise<void> {
    this.#unlisten?.();
    this.#unlisten = null;
    this.#caller?.close();
    this.#caller = null;
    this.#host = null;
    await SharedEngines.release(this);
  }

  protected override storeThen(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void {
    const host = this.#connected;
    const publisher = this.#publisher as EmbeddedPublisher;
    const receipts = host.change(() => publisher.store(topic, messages, plan));
    host.whenDurable((error) => {
      if (error === null) stored(receipts);
      else failed(error);
    });
  }

  protected async startSubscription(
    pattern: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    const host = this.#connected;
    const subscription = host.change(
      () =>
        new EmbeddedSubscription({
          host,
          pattern,
          consume,
          options,
          consumer: `${this.options.clientName}/${this.#subscriptions++}-${this.#unique}`,
          events: this.events,
          tracing: this.tracing,
        }),
    );
    await host.durable();
    return subscription;
  }

  protected async startResponder(
    topic: string,
    handler: RawResponder,
    group: string,
    concurrency: number,
  ): Promise<SubscriptionHandle> {
    const { requests, scheduler } = this.#connected;
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler,
      tracing: this.tracing,
      send: async (inbox, frame) => requests.deliver(inbox, frame),
      address: () => 'local',
    });
    const leave = requests.respond(topic, group, responses);
    return {
      get inFlight() {
        return responses.inFlight;
      },
      async close(timeoutMs) {
        leave();
        await responses.close(timeoutMs);
      },
    };
  }

  protected begin(
    topic: string,
    message: RawMessage,
    options: StreamOptions,
    form: CallForm,
  ): StreamCall {
    return (this.#caller as LocalCaller).start(topic, message, options, form);
  }

  get #connected(): EngineHost {
    const host = this.#host;
    if (host === null) throw new RivuletError('CLOSED', `the ${this.name} broker is disconnected`);
    return host;
  }

  #groupOf(
    topic: string,
    name: string,
  ): { entry: KeyEntry; group: ConsumerGroup; lastId: StreamId } {
    const entry = this.#connected.database.findKey(Buffer.from(topic));
    const value = entry?.value.type === 'stream' ? entry.value : undefined;
    const group = value?.groups.get(keptName(name));
    if (entry === undefined || value === undefined || group === undefined) {
      throw new RivuletError('NOT_FOUND', `topic ${topic} has no group ${name}`);
    }
    return { entry, group, lastId: value.stream.lastId };
  }

  #infoOf(topic: string): TopicInfo | null {
    const entry = this.#connected.database.findKey(Buffer.from(topic));
    if (entry?.value.type !== 'stream') return null;
    const { stream, groups } = entry.value;
    return {
      topic,
      length: stream.length,
      groups: [...groups.values()].map((group) => ({
        name: group.name.toString(),
        pending: group.pending.size,
        lag: roundedLag(stream, group),
      })),
    };
  }
}

/** `file:./data`, `file:data`, `file:/var/data`, `file:///var/data`. */
function directoryOf(address: string): string {
  const path = address.slice('file:'.length);
  if (path === '') {
    throw new RivuletError('INVALID_ARGUMENT', 'file: needs a directory, as in file:./data');
  }
  return resolve(path.startsWith('//') ? fileURLToPath(address) : path);
}

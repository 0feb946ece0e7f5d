/**
 * The Broker inside this process: `memory:` keeps messages as long as somebody is connected,
 * `file:DIRECTORY` in a data directory, the same as `micro server`'s.
 *
 * A topic is a stream, a group its consumer group with a policy: attempts, backoff, deadlines and dead
 * letters are the engine's work, atomic and, with a directory, durable.
 * `memory:` alone is one broker's own; brokers that name the same `memory:name` or directory share it.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scanPending } from '../consumer-groups/claim.ts';
import { countValue } from '../consumer-groups/delivery-count.ts';
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import { roundedLag, UNKNOWN_READ } from '../consumer-groups/lag.ts';
import { setPolicy } from '../engine/group-policy.ts';
import type { KeyEntry } from '../engine/key-entry.ts';
import { unschedule } from '../engine/scheduled-entries.ts';
import { createGroup, destroyGroup } from '../engine/stream-groups.ts';
import { RivuletError } from '../errors.ts';
import { StreamId } from '../stream/stream-id.ts';
import type {
  PendingEntry,
  PendingQuery,
  Position,
  Receipt,
  RedriveOptions,
  Responder,
  TopicInfo,
} from './broker.ts';
import { type Attachment, BrokerBase, type PublishPlan } from './broker-base.ts';
import type { Capabilities } from './capabilities.ts';
import type { Consume } from './dispatcher.ts';
import type { EmbeddedEngine } from './embedded-engine.ts';
import { EmbeddedPublisher, MOST_IDS } from './embedded-publisher.ts';
import { EmbeddedSubscription } from './embedded-subscription.ts';
import type { LocalCaller } from './local-requests.ts';
import type { Message } from './message.ts';
import type { BrokerFactory } from './open-broker.ts';
import type { BrokerOptions, RequestOptions, ResolvedSubscribeOptions } from './options.ts';
import { afterId, readId } from './positions.ts';
import { Responses } from './responses.ts';
import { SharedEngines } from './shared-engines.ts';

const LARGEST_BODY = 512 * 1024 * 1024;
/** Dead letters sent back in one turn. */
const REDRIVE_PAGE = 100;

/** What openBroker calls. */
export const createBroker: BrokerFactory = (addresses, options) =>
  new EmbeddedBroker(addresses, options);

export class EmbeddedBroker extends BrokerBase {
  readonly name: 'memory' | 'file';
  readonly address: string;
  #shell: EmbeddedEngine | null = null;
  #publisher: EmbeddedPublisher | null = null;
  #caller: LocalCaller | null = null;
  #subscriptions = 0;
  /** Brokers of one directory may have one client name, this one and one that was killed. */
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

  get capabilities(): Readonly<Capabilities> {
    return {
      durability: this.name === 'file' ? 'fsync' : 'memory',
      delayedNack: 'native',
      delayedPublish: 'native',
      deadLetter: 'atomic',
      dedup: { windowMs: 1000 * Math.ceil(this.options.idWindowMs / 1000), maxIds: MOST_IDS },
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'native',
      wildcards: true,
      requestReply: true,
      pendingList: 'entries',
      extend: true,
      persistent: true,
      maxBodyBytes: LARGEST_BODY,
    };
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
      // Nobody's ('') are no consumer's: they are picked from all.
      const consumer = name ? (found.findConsumer(latin1(name)) ?? null) : null;
      if (name && consumer === null) return rows;
      const count = name === '' ? Number.MAX_SAFE_INTEGER : limit;
      const wanted = { start, end: StreamId.max(), count, consumer, minIdle: Math.ceil(minIdleMs) };
      scanPending(found, wanted, steady, (at, idleMs) => {
        const owner = found.consumerAt(at.consumer)?.name.toString() ?? '';
        if (rows.length === limit || (name === '' && owner !== '')) return;
        // Nobody has been idle with what nobody holds.
        const idle = owner === '' ? 0 : idleMs;
        if (idle < minIdleMs) return;
        const attempts = Number(countValue(at.count));
        rows.push({ id: at.id.toString(), consumer: owner, idleMs: idle, attempts });
      });
      return rows;
    });
    await this.#connected.safe();
    return entries;
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    const shell = this.#connected;
    shell.change(() => {
      const { database } = shell;
      const place = this.#groupOf(topic, group);
      const { entry, group: before } = place;
      // A new group in the old one's place: moving it alone would keep what is pending.
      const { policy, name } = before;
      destroyGroup(database, entry, before);
      const after = afterId(from, place.lastId);
      const made = createGroup(database, entry, name, after, UNKNOWN_READ);
      setPolicy(database, entry, made, policy);
      database.wake(entry);
      shell.whenSafe(() => {});
    });
    for (const member of shell.members(topic, group)) member.loseAll('its group was moved');
    await shell.safe();
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    const shell = this.#connected;
    const publisher = this.#publisher as EmbeddedPublisher;
    const after = StreamId.min();
    let done = 0;
    for (let more = true; more && done < limit; ) {
      shell.change(() => {
        const page = Math.min(REDRIVE_PAGE, limit - done);
        const { looked, moved } = publisher.redrive(topic, from, after, page);
        done += moved;
        more = looked === page;
      });
      await shell.safe();
    }
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    const shell = this.#connected;
    const names = shell.run(() =>
      [...shell.database.entries()]
        .filter(({ value }) => value.type === 'stream')
        .map(({ key }) => key.toString())
        .sort(),
    );
    for (const topic of names) {
      const info = shell.run(() => this.#infoOf(topic));
      await shell.safe();
      if (info !== null) yield info;
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    const shell = this.#connected;
    shell.change(() => {
      const { database } = shell;
      const key = Buffer.from(topic);
      const { schedule } = database.keyspace;
      for (const each of schedule.firstOf(key, Number.POSITIVE_INFINITY))
        unschedule(database, each);
      const entry = database.findKey(key);
      if (entry?.value.type === 'stream') database.remove(entry);
    });
    for (const member of shell.membersOfTopic(topic)) member.loseAll('its topic was deleted');
    await shell.safe();
  }

  /** Forgets everything: topics, groups, what is scheduled. */
  async flush(): Promise<void> {
    this.mustBeConnected();
    const shell = this.#connected;
    shell.change((engine) => engine.flushAll());
    await shell.safe();
  }

  /** Bodies are in the stream when `store` returns. */
  protected override readonly keepsBodies = false;

  protected override checkId(id: string): void {
    readId(id);
  }

  protected async open(): Promise<void> {
    const { scheduler } = this.options;
    if (this.name === 'file') {
      this.#shell = await SharedEngines.directory(directoryOf(this.address), scheduler, this);
    } else {
      const name = this.address.slice('memory:'.length);
      this.#shell = await SharedEngines.memory(name, scheduler, this);
    }
    this.#publisher = new EmbeddedPublisher(this.#shell, this.options);
    this.#caller = this.#shell.requests.caller();
  }

  protected async shut(): Promise<void> {
    this.#caller?.close();
    this.#caller = null;
    this.#shell = null;
    await SharedEngines.release(this);
  }

  protected async store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const shell = this.#connected;
    const publisher = this.#publisher as EmbeddedPublisher;
    const receipts = shell.change(() => publisher.store(topic, messages, plan));
    await shell.safe();
    return receipts;
  }

  protected async attach(
    pattern: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment> {
    const shell = this.#connected;
    const subscription = shell.change(
      () =>
        new EmbeddedSubscription({
          shell,
          pattern,
          consume,
          options,
          consumer: `${this.options.clientName}/${this.#subscriptions++}-${this.#unique}`,
          events: this.events,
          tracing: this.tracing,
        }),
    );
    await shell.safe();
    return subscription;
  }

  protected async attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment> {
    const { requests, scheduler } = this.#connected;
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler,
      tracing: this.tracing,
      send: async (inbox, frame) => requests.deliver(inbox, frame),
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

  protected ask(
    topic: string,
    message: Message,
    _many: boolean,
    options: RequestOptions,
  ): AsyncIterable<Message> {
    return (this.#caller as LocalCaller).ask(topic, message, options);
  }

  get #connected(): EmbeddedEngine {
    const shell = this.#shell;
    if (shell === null) throw new RivuletError('CLOSED', `the ${this.name} broker is disconnected`);
    return shell;
  }

  #groupOf(
    topic: string,
    name: string,
  ): { entry: KeyEntry; group: ConsumerGroup; lastId: StreamId } {
    const entry = this.#connected.database.findKey(Buffer.from(topic));
    const value = entry?.value.type === 'stream' ? entry.value : undefined;
    const group = value?.groups.get(latin1(name));
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

function latin1(name: string): string {
  return Buffer.from(name).toString('latin1');
}

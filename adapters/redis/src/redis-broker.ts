/**
 * The Broker contract on Redis, Valkey and Redis Cluster.
 *
 * A topic is a stream, and a group is its consumer group. README has the whole mapping. The dialect does
 * what differs between servers: delays, deadlines of single messages, dead letters and publish ids.
 */
import {
  BrokerBase,
  type BrokerOptions,
  type CallForm,
  type Capabilities,
  checkGroup,
  checkTopic,
  type DeliveryHandler,
  type JournalStore,
  type PendingEntry,
  type PendingQuery,
  type Position,
  type PublishPlan,
  type RawCall,
  type RawMessage,
  type RawResponder,
  type Receipt,
  type RedriveOptions,
  type ResolvedSubscribeOptions,
  Responses,
  RivuletError,
  readId,
  redrivenMessage,
  type StreamOptions,
  type SubscriptionHandle,
  type TopicInfo,
} from 'rivulet/adapter';
import { readAddress } from './address.ts';
import { Announcements } from './announcements.ts';
import { type Argument, type Connection, Connector, isGroupLost } from './connection.ts';
import { addCommand, type Dialect } from './dialect/dialect.ts';
import { LuaDialect, luaCapabilities } from './dialect/lua-dialect.ts';
import { RivuletDialect } from './dialect/rivulet-dialect.ts';
import { connectFirst } from './first-connection.ts';
import { RedisJournal } from './journal.ts';
import { Keys } from './keys.ts';
import { goMicroCodec, type MessageCodec, plainCodec } from './message-codec.ts';
import { RedisRequests } from './requests.ts';
import { askServer, type ServerFacts } from './server.ts';
import { compareIds, GroupTopic, toId } from './subscription/group-topic.ts';
import { checkDeadLetter, Subscription } from './subscription/subscription.ts';

/** Redis's limit on one string. */
const MAX_BYTES = 512 * 1024 * 1024;

export class RedisBroker extends BrokerBase {
  readonly name = 'redis';
  readonly #codec: MessageCodec;
  #keys: Keys;
  #announcements: Announcements | null = null;
  #connector: Connector | null = null;
  #commands: Connection | null = null;
  #facts: ServerFacts | null = null;
  #dialect: Dialect | null = null;
  #requests: RedisRequests | null = null;
  #subscriptions = 0;
  #journal: RedisJournal | null = null;
  #closing = false;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#codec = this.options.goMicro ? goMicroCodec : plainCodec;
    this.#keys = new Keys(this.options.goMicro);
    for (const address of addresses) readAddress(address);
  }

  get address(): string {
    const [address] = this.options.addresses;
    if (address !== undefined) return readAddress(address).shown;
    const { host = 'localhost', port = 6379 } =
      (this.options.client as { redis?: { options?: { host?: string; port?: number } } }).redis
        ?.options ?? {};
    return `redis://${host}:${port}`;
  }

  /** Before connect: the capabilities of the oldest server. */
  get capabilities(): Readonly<Capabilities> {
    const facts = this.#facts;
    return {
      durability: facts?.durability ?? 'memory',
      ...(this.#dialect?.capabilities ?? luaCapabilities(this.options)),
      deadLetter: 'atomic',
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'client',
      wildcards: true,
      requestReply: facts === null || !facts.cluster || facts.shardedPubSub,
      pendingList: 'entries',
      attempts: 'hand-overs',
      trimmedPending: 'reported',
      retriedPublish: 'at-least-once',
      extend: true,
      persistent: true,
      ...(facts !== null && !facts.cluster && !facts.isRivulet
        ? { journal: 'atomic' as const }
        : {}),
      maxBodyBytes: MAX_BYTES,
    };
  }

  override get journal(): JournalStore | undefined {
    if (this.capabilities.journal === undefined) return undefined;
    this.#journal ??= new RedisJournal({
      connection: () => {
        this.mustBeConnected();
        return this.#connection;
      },
      keys: () => this.#keys,
      scheduler: this.options.scheduler,
      consume: (key, handler, options) => this.consumeKey(key, handler, options),
      withRetry: (what, work) => this.#whenReached(what, work),
    });
    return this.#journal;
  }

  protected async doPending(
    topic: string,
    group: string,
    query: PendingQuery = {},
  ): Promise<PendingEntry[]> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { consumer, minIdleMs, limit = 100, after } = query;
    const args: Argument[] = [this.#keys.stream(topic), group];
    if (minIdleMs !== undefined) args.push('IDLE', Math.ceil(minIdleMs));
    args.push(after === undefined ? '-' : `(${after}`, '+', limit);
    if (consumer !== undefined && consumer !== '') args.push(consumer);
    if (consumer === '') return this.#unownedPending(topic, group, args, limit);
    return this.#pendingRows(topic, group, args);
  }

  /** The messages that no consumer owns. They are pending under several names, and are sorted here. */
  async #unownedPending(
    topic: string,
    group: string,
    args: readonly Argument[],
    limit: number,
  ): Promise<PendingEntry[]> {
    const names = [...this.#server.unowned];
    const found = await Promise.all(
      names.map((name) => this.#pendingRows(topic, group, [...args, name])),
    );
    return found
      .flat()
      .sort((a, b) => compareIds(a.id, b.id))
      .slice(0, limit);
  }

  async #pendingRows(
    topic: string,
    group: string,
    args: readonly Argument[],
  ): Promise<PendingEntry[]> {
    let rows: [Buffer, Buffer, number, number][];
    try {
      rows = (await this.#connection.call('XPENDING', ...args)) as typeof rows;
    } catch (error) {
      if (isGroupLost(error)) throw noGroup(topic, group, error);
      throw error;
    }
    return rows.map(([id, owner, idleMs, attempts]) => ({
      id: id.toString(),
      consumer: this.#server.unowned.has(owner.toString()) ? '' : owner.toString(),
      idleMs,
      attempts,
    }));
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const info = (await this.#groupsOf(topic)) ?? [];
    if (!info.some(({ name }) => name === group)) throw noGroup(topic, group);
    await this.#server.resetGroup(new GroupTopic(this.#keys, topic, group), toId(from));
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const from = options.from ?? `${topic}.dead`;
    const { limit = Number.POSITIVE_INFINITY } = options;
    const dead = this.#keys.stream(from);
    const range = (command: string, ...args: Argument[]) =>
      this.#connection.call(command, dead, ...args) as Promise<[Buffer, Buffer[]][]>;
    // Letters that come back meanwhile, because their handler fails again, are for the next redrive.
    const [last] = await range('XREVRANGE', '+', '-', 'COUNT', 1);
    if (last === undefined) return 0;
    let done = 0;
    for (let after = '-'; done < limit; ) {
      const count = Math.min(100, limit - done);
      const page = await range('XRANGE', after, last[0], 'COUNT', count);
      for (const [id, fields] of page) {
        const { topic: origin, message } = redrivenMessage(this.#codec.decode(fields));
        after = `(${id}`;
        if ((origin ?? topic) !== topic) continue;
        if (await this.#server.redrive(dead, id, topic, message)) done++;
      }
      if (page.length < count) break;
    }
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    for (const topic of await this.#server.topics()) {
      const groups = await this.#groupsOf(topic);
      if (groups === null) continue;
      const length = Number(await this.#connection.call('XLEN', this.#keys.stream(topic)));
      yield { topic, length, groups };
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const groups = (await this.#groupsOf(topic)) ?? [];
    const names = groups.map(({ name }) => name);
    await this.#server.deleteTopic(topic, names);
    this.#announcements?.forget(topic);
  }

  protected override checkId(id: string): void {
    readId(id);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const connector = new Connector(this.options);
    let commands = await connectFirst(connector, this.options, this.address, signal);
    const facts = await askServer(commands);
    if (facts.cluster && !connector.cluster) {
      commands.close();
      connector.cluster = true;
      commands = await connectFirst(connector, this.options, this.address, signal);
    }
    this.#closing = false;
    this.#connector = connector;
    this.#commands = commands;
    this.#facts = facts;
    this.#reportOutages(commands);
    this.#keys = new Keys(this.options.goMicro, facts.isRivulet);
    this.#dialect = facts.isRivulet
      ? new RivuletDialect(commands, this.#keys, this.#codec)
      : new LuaDialect(commands, this.#keys, this.#codec, this.options, this.events);
    const { scheduler } = this.options;
    this.#announcements = new Announcements(this.#dialect, scheduler, this.events);
    this.#dialect.start();
    this.#requests = new RedisRequests(connector, commands, this.options, this.events);
  }

  protected async shut(): Promise<void> {
    this.#journal?.close();
    await this.#dialect?.stop();
    await this.#announcements?.close();
    await this.#requests?.close();
    this.#closing = true;
    this.#commands?.close();
    this.#requests = null;
  }

  protected override async store(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const announced = this.#announcements?.note(topic);
    const stored = this.#storeNow(topic, messages, plan);
    // Both commands have been sent, so a later publish cannot precede them.
    if (announced !== undefined) await Promise.allSettled([announced, stored]);
    return stored;
  }

  async #storeNow(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (plan.dedupId !== null) {
      return [await this.#server.publishOnce(topic, messages[0] as RawMessage, plan)];
    }
    if (plan.delayMs !== null || plan.deliverAt !== null) {
      return this.#server.publishLater(topic, messages, plan);
    }
    const stream = this.#keys.stream(topic);
    const adds = messages.map((message) =>
      addCommand(stream, this.#codec.encode(topic, message), plan.maxLength),
    );
    const ids = await this.#connection.publish(stream, adds);
    return ids.map((id) => ({ id: (id as Buffer).toString('latin1'), duplicate: false }));
  }

  protected async startSubscription(
    pattern: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    const connector = this.#connector as Connector;
    checkDeadLetter(this.#keys, pattern, options.deadLetter, connector.cluster);
    return this.#whenReached(`subscribe to ${pattern}`, () =>
      Subscription.open({
        pattern,
        consume,
        options,
        broker: this.options,
        connector,
        commands: this.#connection,
        dialect: this.#server,
        keys: this.#keys,
        codec: this.#codec,
        events: this.events,
        tracing: this.tracing,
        number: this.#subscriptions++,
        topics: () => this.#server.topics(),
      }),
    );
  }

  protected async startResponder(
    topic: string,
    handler: RawResponder,
    group: string,
    concurrency: number,
  ): Promise<SubscriptionHandle> {
    const requests = this.#requests as RedisRequests;
    const responses: Responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => requests.reply(inbox, frame),
      address: () => requests.addressOf(responses),
    });
    const leave = await this.#whenReached(`respond on ${topic}`, () =>
      requests.respond(topic, group, responses),
    );
    return {
      get inFlight() {
        return responses.inFlight;
      },
      async close(timeoutMs) {
        await leave();
        await responses.close(timeoutMs);
        await requests.forget(responses);
      },
    };
  }

  protected begin(
    topic: string,
    message: RawMessage,
    options: StreamOptions,
    form: CallForm,
  ): RawCall {
    return (this.#requests as RedisRequests).begin(topic, message, options, form);
  }

  get #connection(): Connection {
    return this.#commands as Connection;
  }

  get #server(): Dialect {
    return this.#dialect as Dialect;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.withRetry(what, this.options.publishTimeoutMs, null, work);
  }

  #reportOutages(commands: Connection): void {
    let away = false;
    let attempt = 0;
    let cause: Error = new RivuletError('NOT_CONNECTED', 'the connection was closed');
    commands.client.on('error', (error: Error) => {
      cause = error;
    });
    commands.client.on('close', () => {
      if (this.#closing) return;
      attempt++;
      if (away) return;
      away = true;
      this.events.emit('disconnected', { cause });
    });
    commands.client.on('ready', () => {
      if (!away) return;
      away = false;
      this.events.emit('connected', { attempt });
      attempt = 0;
    });
  }

  async #groupsOf(topic: string): Promise<TopicInfo['groups'] | null> {
    let rows: unknown[][];
    try {
      rows = (await this.#connection.call(
        'XINFO',
        'GROUPS',
        this.#keys.stream(topic),
      )) as unknown[][];
    } catch (error) {
      if (/no such key|WRONGTYPE/.test((error as Error).message)) return null;
      throw error;
    }
    return rows.map((row) => {
      const fact = (name: string) => row[row.findIndex((each) => String(each) === name) + 1];
      const lag = row.some((each) => String(each) === 'lag') ? fact('lag') : null;
      return {
        name: String(fact('name')),
        pending: Number(fact('pending')),
        lag: lag === null ? null : Number(lag),
      };
    });
  }
}

function noGroup(topic: string, group: string, cause?: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}

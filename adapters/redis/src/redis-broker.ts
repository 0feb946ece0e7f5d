/**
 * The Broker contract on Redis, Valkey and Redis Cluster.
 *
 * A topic is a stream, a group its consumer group; README has the whole mapping. What differs from
 * server to server (delays, deadlines of single messages, dead letters, publish ids) is the dialect's.
 */
import {
  type Attachment,
  BrokerBase,
  type BrokerOptions,
  type Capabilities,
  type Consume,
  checkGroup,
  checkTopic,
  isOutage,
  type Message,
  type PendingEntry,
  type PendingQuery,
  type Position,
  type PublishPlan,
  type Receipt,
  type RedriveOptions,
  type RequestOptions,
  type ResolvedSubscribeOptions,
  type Responder,
  Responses,
  RivuletError,
  redrivenMessage,
  type TopicInfo,
} from 'rivulet';
import { readAddress } from './address.ts';
import { Announcements } from './announcements.ts';
import { type Argument, type Connection, Connector, isGroupLost } from './connection.ts';
import { addCommand, type Dialect } from './dialect.ts';
import { type EntryForm, goMicroForm, plainForm } from './entry.ts';
import { certificateFault } from './failures.ts';
import { compareIds, GroupTopic, toId } from './group-topic.ts';
import { Keys } from './keys.ts';
import { Native } from './native.ts';
import { RedisRequests } from './requests.ts';
import { Scripted, scriptedCapabilities } from './scripted.ts';
import { askServer, type ServerFacts } from './server.ts';
import { checkDeadLetter, Subscription } from './subscription.ts';

/** Redis's own limit on one string. */
const MOST_BYTES = 512 * 1024 * 1024;

export class RedisBroker extends BrokerBase {
  readonly name = 'redis';
  readonly #form: EntryForm;
  #keys: Keys;
  #announcements: Announcements | null = null;
  #connector: Connector | null = null;
  #commands: Connection | null = null;
  #facts: ServerFacts | null = null;
  #dialect: Dialect | null = null;
  #requests: RedisRequests | null = null;
  #subscriptions = 0;
  #closing = false;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#form = this.options.goMicro ? goMicroForm : plainForm;
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

  /** Before connect: what the oldest server can do. */
  get capabilities(): Readonly<Capabilities> {
    const facts = this.#facts;
    return {
      durability: facts?.durability ?? 'memory',
      ...(this.#dialect?.capabilities ?? scriptedCapabilities(this.options)),
      deadLetter: 'atomic',
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'client',
      wildcards: true,
      requestReply: facts === null || !facts.cluster || facts.shardedPubSub,
      pendingList: 'entries',
      extend: true,
      persistent: true,
      maxBodyBytes: MOST_BYTES,
    };
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
    if (consumer === '') return this.#pendingOfNobody(topic, group, args, limit);
    return this.#pendingRows(topic, group, args);
  }

  /** Messages that wait for their next consumer are in several names: they are put in order here. */
  async #pendingOfNobody(
    topic: string,
    group: string,
    args: readonly Argument[],
    limit: number,
  ): Promise<PendingEntry[]> {
    const names = [...this.#server.nobody];
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
      consumer: this.#server.nobody.has(owner.toString()) ? '' : owner.toString(),
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
    await this.#server.restart(new GroupTopic(this.#keys, topic, group), toId(from));
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    checkTopic(topic);
    const from = options.from ?? `${topic}.dead`;
    const { limit = Number.POSITIVE_INFINITY } = options;
    const dead = this.#keys.stream(from);
    let done = 0;
    for (let after = '-'; done < limit; ) {
      const count = Math.min(100, limit - done);
      const page = (await this.#connection.call('XRANGE', dead, after, '+', 'COUNT', count)) as [
        Buffer,
        Buffer[],
      ][];
      for (const [id, fields] of page) {
        const { topic: origin, message } = redrivenMessage(this.#form.read(fields));
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

  protected async open(signal: AbortSignal): Promise<void> {
    const connector = new Connector(this.options);
    let commands = await this.#reach(connector, signal);
    const facts = await askServer(commands);
    if (facts.cluster && !connector.cluster) {
      commands.close();
      connector.cluster = true;
      commands = await this.#reach(connector, signal);
    }
    this.#closing = false;
    this.#connector = connector;
    this.#commands = commands;
    this.#facts = facts;
    this.#reportOutages(commands);
    this.#keys = new Keys(this.options.goMicro, facts.isRivulet);
    this.#dialect = facts.isRivulet
      ? new Native(commands, this.#keys, this.#form)
      : new Scripted(commands, this.#keys, this.#form, this.options, this.events);
    const { scheduler } = this.options;
    this.#announcements = new Announcements(this.#dialect, scheduler, this.events);
    this.#dialect.start();
    this.#requests = new RedisRequests(connector, commands, this.options, this.events);
  }

  protected async shut(): Promise<void> {
    await this.#dialect?.stop();
    await this.#announcements?.close();
    await this.#requests?.close();
    this.#closing = true;
    this.#commands?.close();
    this.#requests = null;
  }

  protected async store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const announced = this.#announcements?.note(topic);
    const stored = this.#storeNow(topic, messages, plan);
    // Both are on their way, so what is published next cannot pass.
    if (announced !== undefined) await Promise.allSettled([announced, stored]);
    return stored;
  }

  async #storeNow(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (plan.id !== null) {
      return [await this.#server.publishOnce(topic, messages[0] as Message, plan)];
    }
    if (plan.delayMs !== null || plan.deliverAt !== null) {
      return this.#server.publishLater(topic, messages, plan);
    }
    const adds = messages.map((message) =>
      addCommand(this.#keys.stream(topic), this.#form.write(topic, message), plan.maxLength),
    );
    const [first] = adds as [[string, ...Argument[]]];
    const ids =
      adds.length === 1
        ? [await this.#connection.call(...first)]
        : await this.#connection.transact(adds);
    return ids.map((id) => ({ id: (id as Buffer).toString('latin1'), duplicate: false }));
  }

  protected async attach(
    pattern: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment> {
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
        form: this.#form,
        events: this.events,
        tracing: this.tracing,
        number: this.#subscriptions++,
        topics: () => this.#server.topics(),
      }),
    );
  }

  protected async attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment> {
    const requests = this.#requests as RedisRequests;
    const responses = new Responses({
      topic,
      handler,
      concurrency,
      scheduler: this.options.scheduler,
      tracing: this.tracing,
      send: (inbox, frame) => requests.reply(inbox, frame),
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
        requests.forget(responses);
      },
    };
  }

  protected ask(
    topic: string,
    message: Message,
    _many: boolean,
    options: RequestOptions,
  ): AsyncIterable<Message> {
    return (this.#requests as RedisRequests).ask(topic, message, options);
  }

  get #connection(): Connection {
    return this.#commands as Connection;
  }

  get #server(): Dialect {
    return this.#dialect as Dialect;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.patiently(what, this.options.publishTimeoutMs, null, work);
  }

  /** Connects to the first address that answers; wrong credentials are not asked for twice. */
  async #reach(connector: Connector, signal: AbortSignal): Promise<Connection> {
    let last: unknown;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const connection = connector.make('commands');
      const abort = () => connection.close();
      signal.addEventListener('abort', abort, { once: true });
      try {
        await connection.connect();
        // Without a password this is where a server that wants one says so.
        await connection.call('PING');
        await this.#checkDatabase(connector, connection);
        return connection;
      } catch (error) {
        connection.close();
        const fault = certificateFault(error) ?? certificateFault(connection.lastError);
        if (fault !== null) {
          const text = `the certificate of the Redis server is not trusted: ${fault}; give its authority as client: { tls: { ca } }`;
          throw new RivuletError('CONNECTION_FAILED', text, { cause: error });
        }
        last = error;
        if (!(error instanceof RivuletError) || error.code !== 'NOT_CONNECTED') throw error;
      } finally {
        signal.removeEventListener('abort', abort);
      }
      connector.nextAddress();
      await new Promise<void>((resolve) => {
        this.options.scheduler.after(Math.min(50 * attempt, 500), resolve);
      });
    }
    const text = `no connection to ${this.address} within ${this.options.connectTimeoutMs} ms`;
    throw new RivuletError('CONNECTION_FAILED', text, { cause: last });
  }

  /** ioredis goes on in database 0 where the server refuses the one that was asked for. */
  async #checkDatabase(connector: Connector, connection: Connection): Promise<void> {
    if (this.options.addresses.length === 0) return;
    const { database } = connector.current;
    if (database === 0) return;
    if (connector.cluster) throw noDatabase(database, 'a cluster has database 0 alone');
    try {
      await connection.call('SELECT', database);
    } catch (error) {
      if (isOutage(error)) throw error;
      throw noDatabase(database, (error as Error).message);
    }
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

function noDatabase(database: number, reason: string): RivuletError {
  const text = `the address asks for database ${database}, which the server does not have: ${reason}`;
  return new RivuletError('INVALID_ARGUMENT', text);
}

function noGroup(topic: string, group: string, cause?: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}

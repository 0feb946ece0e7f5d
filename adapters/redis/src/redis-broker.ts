/**
 * The Broker contract on Redis, Valkey and Redis Cluster.
 *
 * A topic is a stream, a group its consumer group; README has the whole mapping. What Redis has no
 * command for (delays, per-message deadlines, dead letters, publish ids) is done by scripts in the
 * topic's own slot, so each is atomic on a single server and in a cluster alike.
 */
import {
  type Attachment,
  BrokerBase,
  type BrokerOptions,
  type Capabilities,
  type Consume,
  checkGroup,
  checkTopic,
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
  withoutPassword,
} from 'rivulet';
import { type Argument, type Connection, Connector, isGroupLost } from './connection.ts';
import { type EntryForm, goMicroForm, plainForm } from './entry.ts';
import { toId } from './group-topic.ts';
import { Keys, TOPICS } from './keys.ts';
import { RedisRequests } from './requests.ts';
import { Schedule, scheduledForm } from './schedule.ts';
import { PARKED, scripts } from './scripts.ts';
import { askServer, type ServerFacts } from './server.ts';
import { checkDeadLetter, Subscription } from './subscription.ts';

/** Redis's own limit on one string. */
const MOST_BYTES = 512 * 1024 * 1024;
const NO_TIME = '';

export class RedisBroker extends BrokerBase {
  readonly name = 'redis';
  readonly #form: EntryForm;
  readonly #keys: Keys;
  readonly #announced = new Set<string>();
  #connector: Connector | null = null;
  #commands: Connection | null = null;
  #facts: ServerFacts | null = null;
  #schedule: Schedule | null = null;
  #requests: RedisRequests | null = null;
  #subscriptions = 0;

  constructor(addresses: readonly string[], options: Partial<BrokerOptions> = {}) {
    super(addresses, options);
    this.#form = this.options.goMicro ? goMicroForm : plainForm;
    this.#keys = new Keys(this.options.goMicro);
    for (const address of addresses) checkAddress(address);
  }

  get address(): string {
    const [address] = this.options.addresses;
    if (address !== undefined) return withoutPassword(address);
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
      delayedNack: 'emulated',
      delayedPublish: 'emulated',
      deadLetter: 'atomic',
      dedup: { windowMs: this.options.idWindowMs, maxIds: Number.MAX_SAFE_INTEGER },
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

  async pending(topic: string, group: string, query: PendingQuery = {}): Promise<PendingEntry[]> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const { consumer, minIdleMs, limit = 100, after } = query;
    const args: Argument[] = [this.#keys.stream(topic), group];
    if (minIdleMs !== undefined) args.push('IDLE', Math.ceil(minIdleMs));
    args.push(after === undefined ? '-' : `(${after}`, '+', limit);
    if (consumer !== undefined) args.push(consumer === '' ? PARKED : consumer);
    let rows: [Buffer, Buffer, number, number][];
    try {
      rows = (await this.#connection.call('XPENDING', ...args)) as typeof rows;
    } catch (error) {
      if (isGroupLost(error)) throw noGroup(topic, group, error);
      throw error;
    }
    return rows.map(([id, owner, idleMs, attempts]) => ({
      id: id.toString(),
      consumer: owner.toString() === PARKED ? '' : owner.toString(),
      idleMs,
      attempts,
    }));
  }

  async replay(topic: string, group: string, from: Position): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    checkGroup(group);
    const stream = this.#keys.stream(topic);
    const info = (await this.#groupsOf(topic)) ?? [];
    if (!info.some(({ name }) => name === group)) throw noGroup(topic, group);
    // A new group in the old one's place: SETID alone would keep what is pending.
    await this.#connection.transact([
      ['XGROUP', 'DESTROY', stream, group],
      ['XGROUP', 'CREATE', stream, group, toId(from)],
      ['DEL', this.#keys.deadlines(topic, group)],
    ]);
  }

  async redrive(topic: string, options: RedriveOptions = {}): Promise<number> {
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
        const target = origin ?? topic;
        after = `(${id}`;
        if (target !== topic) continue;
        done += Number(
          await this.#connection.run(
            scripts.redrive,
            dead,
            this.#keys.stream(target),
            id,
            ...this.#form.write(target, message),
          ),
        );
      }
      if (page.length < count) break;
    }
    return done;
  }

  async *topics(): AsyncIterable<TopicInfo> {
    this.mustBeConnected();
    for (const topic of await this.#allTopics()) {
      const groups = await this.#groupsOf(topic);
      if (groups === null) continue;
      const length = Number(await this.#connection.call('XLEN', this.#keys.stream(topic)));
      yield { topic, length, groups };
    }
  }

  async deleteTopic(topic: string): Promise<void> {
    this.mustBeConnected();
    checkTopic(topic);
    const groups = (await this.#groupsOf(topic)) ?? [];
    await this.#connection.call(
      'DEL',
      this.#keys.stream(topic),
      this.#keys.schedule(topic),
      ...groups.flatMap(({ name }) => [
        this.#keys.deadlines(topic, name),
        this.#keys.leader(topic, name),
      ]),
    );
    await this.#connection.call('SREM', TOPICS, topic);
    this.#announced.delete(topic);
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
    this.#connector = connector;
    this.#commands = commands;
    this.#facts = facts;
    this.#reportOutages(commands);
    this.#schedule = new Schedule(commands, this.#keys, this.options, this.events);
    this.#schedule.start();
    this.#requests = new RedisRequests(connector, commands, this.options);
  }

  protected async shut(): Promise<void> {
    await this.#schedule?.stop();
    await this.#requests?.close();
    this.#commands?.close();
    this.#schedule = null;
    this.#requests = null;
  }

  protected async store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    if (!this.#announced.has(topic)) {
      await this.#connection.call('SADD', TOPICS, topic);
      this.#announced.add(topic);
    }
    if (plan.id !== null) return [await this.#storeOnce(topic, messages[0] as Message, plan)];
    if (plan.delayMs !== null || plan.deliverAt !== null) {
      return this.#storeLater(topic, messages, plan);
    }
    const adds = messages.map((message) => this.#add(topic, message, plan.maxLength));
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
        keys: this.#keys,
        form: this.#form,
        events: this.events,
        tracing: this.tracing,
        number: this.#subscriptions++,
        topics: () => this.#allTopics(),
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
        return connection;
      } catch (error) {
        connection.close();
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

  #reportOutages(commands: Connection): void {
    let away = false;
    let attempt = 0;
    let cause: Error = new RivuletError('NOT_CONNECTED', 'the connection was closed');
    commands.client.on('error', (error: Error) => {
      cause = error;
    });
    commands.client.on('close', () => {
      if (this.#schedule === null) return;
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

  #add(topic: string, message: Message, maxLength: number | null): [string, ...Argument[]] {
    const stream = this.#keys.stream(topic);
    const fields = this.#form.write(topic, message);
    return maxLength === null
      ? ['XADD', stream, '*', ...fields]
      : ['XADD', stream, 'MAXLEN', '~', maxLength, '*', ...fields];
  }

  async #storeOnce(topic: string, message: Message, plan: PublishPlan): Promise<Receipt> {
    const fields = this.#form.write(topic, message);
    const delayed = plan.delayMs !== null || plan.deliverAt !== null;
    const { form } = scheduledForm(fields, plan.maxLength);
    if (delayed) await this.#schedule?.announce(topic);
    const [id, before] = (await this.#connection.run(
      scripts.publishOnce,
      this.#keys.stream(topic),
      this.#keys.publishId(topic, plan.id as string),
      this.#keys.schedule(topic),
      Math.ceil(this.options.idWindowMs),
      plan.maxLength ?? 0,
      plan.delayMs ?? NO_TIME,
      plan.deliverAt ?? NO_TIME,
      delayed ? form : NO_TIME,
      ...fields,
    )) as [Buffer, number];
    if (delayed) this.#schedule?.expect(this.#waitOf(plan));
    return { id: id.toString(), duplicate: before === 1 };
  }

  async #storeLater(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    const forms = messages.map((message) =>
      scheduledForm(this.#form.write(topic, message), plan.maxLength),
    );
    await this.#schedule?.announce(topic);
    await this.#connection.run(
      scripts.schedule,
      this.#keys.schedule(topic),
      plan.delayMs ?? NO_TIME,
      plan.deliverAt ?? NO_TIME,
      ...forms.map(({ form }) => form),
    );
    this.#schedule?.expect(this.#waitOf(plan));
    return forms.map(({ name }) => ({ id: name, duplicate: false }));
  }

  #waitOf({ delayMs, deliverAt }: PublishPlan): number {
    return delayMs ?? (deliverAt ?? 0) - this.options.scheduler.now();
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

  /** Those published to through this adapter, and streams of others that may be topics. */
  async #allTopics(): Promise<string[]> {
    const names = (await this.#connection.call('SMEMBERS', TOPICS)) as Buffer[];
    return names.map(String).sort();
  }
}

function noGroup(topic: string, group: string, cause?: unknown): RivuletError {
  return new RivuletError('NOT_FOUND', `topic ${topic} has no group ${group}`, { cause });
}

function checkAddress(address: string): void {
  try {
    const { protocol } = new URL(address);
    if (protocol === 'redis:' || protocol === 'rediss:') return;
  } catch {
    // Said below.
  }
  const text = `${JSON.stringify(withoutPassword(address))} is no redis:// or rediss:// URL`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}

/**
 * The Broker contract on `micro server`: `rivulet://host:7488`.
 *
 * A topic is a stream, a group its consumer group. What a subscription asks for (deadline, attempts,
 * backoff, dead letter) is its group's policy, so the server does it, whether this process lives or
 * not. A publish carries a number of its own (IDMP), so that one whose connection was cut may be
 * sent again without coming twice.
 */
import type { CommandArgument } from '../client/command-encoder.ts';
import { type Reply, ReplyMap } from '../client/reply.ts';
import { RivuletError } from '../errors.ts';
import { withoutPassword } from './addresses.ts';
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
import { messageOf, pushFields } from './entry.ts';
import { type Message, redrivenMessage } from './message.ts';
import type { BrokerOptions, RequestOptions, ResolvedSubscribeOptions } from './options.ts';
import { readId } from './positions.ts';
import { type Command, RemoteLink } from './remote-link.ts';
import { ID_WINDOW_MS, MOST_PUBLISH_IDS, RemotePublisher } from './remote-publisher.ts';
import { isGroupLost } from './remote-reader.ts';
import { RemoteRequests } from './remote-requests.ts';
import { RemoteResponder } from './remote-responder.ts';
import { RemoteStreamWatch } from './remote-stream-watch.ts';
import { RemoteSubscription } from './remote-subscription.ts';
import { toId } from './remote-topic.ts';

const REDRIVE = 'redrive';
const PAGE = 100;
const SCANNED = 1000;
/** Redis's own limit on one string. */
const MOST_BYTES = 512 * 1024 * 1024;

/** `rivulet:` and, with TLS, `rivulets:`. */
export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions>,
): RemoteBroker {
  return new RemoteBroker(addresses, options);
}

export class RemoteBroker extends BrokerBase {
  readonly name = 'rivulet';
  readonly #publisher = new RemotePublisher(this.options.scheduler.uniqueName());
  #link: RemoteLink | null = null;
  #requests: RemoteRequests | null = null;
  #subscriptions = 0;
  #listing: Promise<string[]> | null = null;
  #watch: RemoteStreamWatch | null = null;
  #durability: Capabilities['durability'] = 'fsync';

  get address(): string {
    return withoutPassword(this.options.addresses[0] ?? '');
  }

  /** Before connect: what a server does by default. */
  get capabilities(): Readonly<Capabilities> {
    return {
      durability: this.#durability,
      delayedNack: 'native',
      delayedPublish: 'native',
      deadLetter: 'atomic',
      dedup: { windowMs: ID_WINDOW_MS, maxIds: MOST_PUBLISH_IDS },
      replayById: true,
      replayByTime: true,
      orderPerKey: true,
      strictOrder: true,
      maxInFlight: 'client',
      wildcards: true,
      requestReply: true,
      pendingList: 'entries',
      extend: true,
      persistent: true,
      maxBodyBytes: MOST_BYTES,
    };
  }

  override async request(
    topic: string,
    message: Message,
    options?: RequestOptions,
  ): Promise<Message> {
    const traced = this.prepareRequest(topic, message, options);
    return (this.#requests as RemoteRequests).one(topic, traced, options);
  }

  protected async doPending(
    topic: string,
    group: string,
    query: PendingQuery = {},
  ): Promise<PendingEntry[]> {
    this.mustBeConnected();
    const { consumer, minIdleMs, limit = 100, after } = query;
    const command: CommandArgument[] = ['XPENDING', topic, group];
    if (minIdleMs !== undefined) command.push('IDLE', Math.ceil(minIdleMs));
    command.push(after === undefined ? '-' : `(${after}`, '+', limit);
    if (consumer !== undefined) command.push(consumer);
    const rows = await this.#ofGroup(topic, group, command);
    return (rows as [Buffer, Buffer, number, number][]).map(([id, owner, idleMs, attempts]) => ({
      id: id.toString(),
      consumer: owner.toString(),
      idleMs,
      attempts,
    }));
  }

  protected async doReplay(topic: string, group: string, from: Position): Promise<void> {
    const policy = await this.#ofGroup(topic, group, ['XGROUP', 'GETPOLICY', topic, group]);
    // A new group in the old one's place: SETID alone would keep what is pending.
    const commands: Command[] = [
      ['XGROUP', 'DESTROY', topic, group],
      ['XGROUP', 'CREATE', topic, group, toId(from)],
    ];
    if (policy instanceof ReplyMap) commands.push(policyAgain(topic, group, policy));
    await this.#connected.transaction(commands);
  }

  protected async doRedrive(topic: string, options: RedriveOptions = {}): Promise<number> {
    this.mustBeConnected();
    const { from = `${topic}.dead`, limit = Number.POSITIVE_INFINITY } = options;
    let done = 0;
    for (let after = '-'; done < limit; ) {
      const page = (await this.#connected.call('XRANGE', from, after, '+', 'COUNT', PAGE)) as [
        Buffer,
        Buffer[],
      ][];
      for (const [id, fields] of page) {
        after = `(${id}`;
        if (done >= limit) break;
        const { topic: origin, message } = redrivenMessage(messageOf(fields));
        if ((origin ?? topic) !== topic) continue;
        // Two who redrive at once add it once: its id among the dead is its number.
        const add: CommandArgument[] = ['XADD', topic, 'IDMP', REDRIVE, `${from} ${id}`, '*'];
        pushFields(add, message);
        const [, removed] = await this.#connected.transaction([add, ['XDEL', from, id]]);
        done += removed as number;
      }
      if (page.length < PAGE) break;
    }
    return done;
  }

  protected async *doTopics(): AsyncIterable<TopicInfo> {
    for (const topic of await this.#allTopics()) {
      const [length, groups] = await this.#connected.pipeline([
        ['XLEN', topic],
        ['XINFO', 'GROUPS', topic],
      ]);
      if (!Array.isArray(groups)) continue;
      yield {
        topic,
        length: Number(length),
        groups: (groups as ReplyMap[]).map((facts) => {
          const lag = facts.get('lag');
          return {
            name: String(facts.get('name')),
            pending: Number(facts.get('pending')),
            lag: typeof lag === 'number' ? lag : null,
          };
        }),
      };
    }
  }

  protected async doDeleteTopic(topic: string): Promise<void> {
    const link = this.#connected;
    for (;;) {
      const waiting = (await link.call('XSCHEDULE', 'LIST', topic, 'COUNT', SCANNED)) as [Buffer][];
      if (waiting.length === 0) break;
      await link.call('XSCHEDULE', 'CANCEL', topic, ...waiting.map(([name]) => name));
    }
    await link.call('DEL', topic);
  }

  protected override checkId(id: string): void {
    readId(id);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const link = new RemoteLink(this.options, {
      lost: (cause) => this.events.emit('disconnected', { cause }),
      back: (attempt) => this.events.emit('connected', { attempt }),
    });
    this.#link = link;
    await link.open(signal);
    await this.#askServer(link);
    this.#requests = new RemoteRequests(link, this.options);
  }

  protected async shut(): Promise<void> {
    this.#requests?.close(new RivuletError('CLOSED', 'the rivulet broker is disconnected'));
    await this.#watch?.close();
    this.#watch = null;
    await this.#link?.close();
    this.#requests = null;
    this.#link = null;
  }

  protected store(
    topic: string,
    messages: readonly Message[],
    plan: PublishPlan,
  ): Promise<Receipt[]> {
    return this.#publisher.store(this.#connected, topic, messages, plan);
  }

  protected attach(
    pattern: string,
    consume: Consume,
    options: ResolvedSubscribeOptions,
  ): Promise<Attachment> {
    return this.#whenReached(`subscribe to ${pattern}`, () =>
      RemoteSubscription.open({
        pattern,
        consume,
        options,
        broker: this.options,
        link: this.#connected,
        events: this.events,
        tracing: this.tracing,
        number: this.#subscriptions++,
        topics: () => this.#allTopics(),
        watch: () => this.#streams,
      }),
    );
  }

  protected attachResponder(
    topic: string,
    handler: Responder,
    group: string,
    concurrency: number,
  ): Promise<Attachment> {
    return this.#whenReached(`respond on ${topic}`, () =>
      RemoteResponder.open({
        topic,
        handler,
        group,
        concurrency,
        link: this.#connected,
        broker: this.options,
        events: this.events,
        tracing: this.tracing,
      }),
    );
  }

  protected ask(
    topic: string,
    message: Message,
    _many: boolean,
    options: RequestOptions,
  ): AsyncIterable<Message> {
    return (this.#requests as RemoteRequests).many(topic, message, options);
  }

  get #connected(): RemoteLink {
    return this.#link as RemoteLink;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.patiently(what, this.options.publishTimeoutMs, null, work);
  }

  async #askServer(link: RemoteLink): Promise<void> {
    const info = String(await link.call('INFO', 'server'));
    if (!info.includes('rivulet_version')) {
      throw new RivuletError(
        'SERVER_TOO_OLD',
        `${this.address} is no Rivulet server; for Redis use redis:// and @rivulet/redis`,
      );
    }
    const settings = await link.call('CONFIG', 'GET', 'append*').catch(() => null);
    const setting = (name: string) =>
      settings instanceof ReplyMap ? String(settings.get(name)) : null;
    if (setting('appendonly') === 'no') this.#durability = 'memory';
    else if (setting('appendfsync') !== 'always' && settings !== null) this.#durability = 'os';
  }

  async #ofGroup(topic: string, group: string, command: Command): Promise<Reply> {
    try {
      return await this.#connected.call(...command);
    } catch (error) {
      if (!isGroupLost(error)) throw error;
      const text = `topic ${topic} has no group ${group}`;
      throw new RivuletError('NOT_FOUND', text, { cause: error });
    }
  }

  /** For all subscriptions with wildcards. */
  get #streams(): RemoteStreamWatch {
    this.#watch ??= new RemoteStreamWatch(this.#connected, this.options);
    return this.#watch;
  }

  /** One listing at a time, whoever asks: every subscription with wildcards does, now and then. */
  #allTopics(): Promise<string[]> {
    this.#listing ??= this.#listTopics().finally(() => {
      this.#listing = null;
    });
    return this.#listing;
  }

  async #listTopics(): Promise<string[]> {
    const topics: string[] = [];
    for (let cursor = '0'; ; ) {
      const page = await this.#connected.call('SCAN', cursor, 'TYPE', 'stream', 'COUNT', SCANNED);
      const [next, keys] = page as [Buffer, Buffer[]];
      for (const key of keys) topics.push(key.toString());
      cursor = next.toString();
      if (cursor === '0') return [...new Set(topics)].sort();
    }
  }
}

/** The command that gives a group the policy that GETPOLICY told. */
function policyAgain(topic: string, group: string, policy: ReplyMap): Command {
  const number = (name: string) => Number(policy.get(name));
  const dead = policy.get('deadletter');
  const rests = number('backoff-max') > 0;
  return [
    ...['XGROUP', 'SETPOLICY', topic, group, 'ACKWAIT', number('ackwait')],
    ...['MAXDELIVERIES', number('maxdeliveries')],
    ...(rests
      ? ['BACKOFF', number('backoff-min'), number('backoff-max'), number('backoff-factor')]
      : ['NOBACKOFF']),
    ...(rests && number('backoff-jitter') === 1 ? ['JITTER'] : []),
    ...(dead instanceof Buffer ? ['DEADLETTER', dead] : ['NODEADLETTER']),
  ];
}

/**
 * The Broker contract on `micro server`: `rivulet://host:7488`.
 *
 * A topic is a stream, a group its consumer group. The deadline, attempts, backoff and dead letter of a
 * subscription are the policy of its group: the server applies them even when this process has ended.
 * A publish carries a unique number (IDMP), so that one whose connection was lost can be sent again
 * and is stored once.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import { type Reply, ReplyMap } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import { withoutPassword } from '../addresses.ts';
import type {
  PendingEntry,
  PendingQuery,
  Position,
  Receipt,
  RedriveOptions,
  TopicInfo,
} from '../broker.ts';
import { BrokerBase, type PublishPlan, type SubscriptionHandle } from '../broker-base.ts';
import type { Capabilities } from '../capabilities.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import type { JournalStore } from '../journal.ts';
import { decodeMessage, encodeMessage } from '../message/entry.ts';
import { type RawMessage, redrivenMessage } from '../message/message.ts';
import type {
  BrokerOptions,
  RequestOptions,
  ResolvedSubscribeOptions,
  StreamOptions,
} from '../options/options.ts';
import { readId } from '../positions.ts';
import type { CallForm } from '../requests/requests.ts';
import type { RawResponder } from '../requests/responses.ts';
import type { StreamCall } from '../requests/stream-call.ts';
import type { LimitsTopics, TopicLimits } from '../topics/topic-limits.ts';
import { type Command, RemoteClient } from './remote-client.ts';
import { RemoteJournal } from './remote-journal.ts';
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

class RemoteBroker extends BrokerBase implements LimitsTopics {
  readonly name = 'rivulet';
  readonly #publisher = new RemotePublisher(this.options.scheduler.uniqueName());
  #client: RemoteClient | null = null;
  #requests: RemoteRequests | null = null;
  #subscriptions = 0;
  #listing: Promise<string[]> | null = null;
  #watch: RemoteStreamWatch | null = null;
  #journal: RemoteJournal | null = null;
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
      attempts: 'hand-overs',
      trimmedPending: 'reported',
      retriedPublish: 'once',
      extend: true,
      persistent: true,
      journal: 'atomic',
      maxBodyBytes: MOST_BYTES,
    };
  }

  override get journal(): JournalStore {
    this.#journal ??= new RemoteJournal({
      client: () => {
        this.mustBeConnected();
        return this.#connected;
      },
      broker: this.options,
      consume: (key, handler, options) => this.consumeKey(key, handler, options),
      withRetry: (what, work) => this.#whenReached(what, work),
    });
    return this.#journal;
  }

  protected override askOne(
    topic: string,
    message: RawMessage,
    options?: RequestOptions,
  ): Promise<RawMessage> {
    return (this.#requests as RemoteRequests).one(topic, message, options);
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
    // Destroy and create the group: SETID alone would keep its pending entries.
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
        const { topic: origin, message } = redrivenMessage(decodeMessage(fields));
        if ((origin ?? topic) !== topic) continue;
        // Two redrives at once store it once: its id in the dead-letter topic is its number.
        const add: CommandArgument[] = ['XADD', topic, 'IDMP', REDRIVE, `${from} ${id}`, '*'];
        encodeMessage(add, message);
        // Not one transaction: EXEC would delete the letter although its copy was refused.
        await this.#connected.call(...(add as [string, ...CommandArgument[]]));
        done += (await this.#connected.call('XDEL', from, id)) as number;
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
    const client = this.#connected;
    for (;;) {
      const waiting = (await client.call('XSCHEDULE', 'LIST', topic, 'COUNT', SCANNED)) as [
        Buffer,
      ][];
      if (waiting.length === 0) break;
      await client.call('XSCHEDULE', 'CANCEL', topic, ...waiting.map(([name]) => name));
    }
    await client.call('DEL', topic);
  }

  async limitTopic(topic: string, { maxAgeMs, maxBytes }: TopicLimits): Promise<void> {
    this.mustBeConnected();
    await this.#connected.call('XCFGSET', topic, 'MAXAGE', maxAgeMs, 'MAXBYTES', maxBytes);
  }

  protected override checkId(id: string): void {
    readId(id);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const client = new RemoteClient(this.options, {
      onDisconnect: (cause) => this.events.emit('disconnected', { cause }),
      onReconnect: (attempt) => this.events.emit('connected', { attempt }),
    });
    this.#client = client;
    await client.open(signal);
    await this.#askServer(client);
    this.#requests = new RemoteRequests(client, this.options);
  }

  protected async shut(): Promise<void> {
    this.#requests?.close(new RivuletError('CLOSED', 'the rivulet broker is disconnected'));
    await this.#watch?.close();
    this.#watch = null;
    await this.#journal?.close();
    await this.#client?.close();
    this.#requests = null;
    this.#client = null;
  }

  protected override storeThen(
    topic: string,
    messages: readonly RawMessage[],
    plan: PublishPlan,
    stored: (receipts: Receipt[]) => void,
    failed: (error: unknown) => void,
  ): void {
    this.#publisher.store(this.#connected, topic, messages, plan, stored, failed);
  }

  protected startSubscription(
    pattern: string,
    consume: DeliveryHandler,
    options: ResolvedSubscribeOptions,
  ): Promise<SubscriptionHandle> {
    return this.#whenReached(`subscribe to ${pattern}`, () =>
      RemoteSubscription.open({
        pattern,
        consume,
        options,
        broker: this.options,
        client: this.#connected,
        events: this.events,
        tracing: this.tracing,
        number: this.#subscriptions++,
        topics: () => this.#allTopics(),
        watch: () => this.#streams,
      }),
    );
  }

  protected startResponder(
    topic: string,
    handler: RawResponder,
    group: string,
    concurrency: number,
  ): Promise<SubscriptionHandle> {
    return this.#whenReached(`respond on ${topic}`, () =>
      RemoteResponder.open({
        topic,
        handler,
        group,
        concurrency,
        client: this.#connected,
        broker: this.options,
        events: this.events,
        tracing: this.tracing,
      }),
    );
  }

  protected begin(
    topic: string,
    message: RawMessage,
    options: StreamOptions,
    form: CallForm,
  ): StreamCall {
    return (this.#requests as RemoteRequests).start(topic, message, options, form);
  }

  get #connected(): RemoteClient {
    return this.#client as RemoteClient;
  }

  #whenReached<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.withRetry(what, this.options.publishTimeoutMs, null, work);
  }

  async #askServer(client: RemoteClient): Promise<void> {
    const info = String(await client.call('INFO', 'server'));
    if (!info.includes('rivulet_version')) {
      throw new RivuletError(
        'SERVER_TOO_OLD',
        `${this.address} is not a Rivulet server: for Redis use redis:// and @rivulet/redis`,
      );
    }
    const settings = await client.call('CONFIG', 'GET', 'append*').catch(() => null);
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

  /** Subscriptions with wildcards list the topics repeatedly: callers share one running listing. */
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

/** The command that sets the policy that GETPOLICY returned. */
function policyAgain(topic: string, group: string, policy: ReplyMap): Command {
  const number = (name: string) => Number(policy.get(name));
  const dead = policy.get('deadletter');
  const hasBackoff = number('backoff-max') > 0;
  return [
    ...['XGROUP', 'SETPOLICY', topic, group, 'ACKWAIT', number('ackwait')],
    ...['MAXDELIVERIES', number('maxdeliveries')],
    ...(hasBackoff
      ? ['BACKOFF', number('backoff-min'), number('backoff-max'), number('backoff-factor')]
      : ['NOBACKOFF']),
    ...(hasBackoff && number('backoff-jitter') === 1 ? ['JITTER'] : []),
    ...(dead instanceof Buffer ? ['DEADLETTER', dead] : ['NODEADLETTER']),
  ];
}

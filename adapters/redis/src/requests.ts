/**
 * Request and reply over publish/subscribe.
 *
 * Every responder listens on a channel of its own: `rivulet:rpc:{topic}:group:instance`. A caller
 * knows the channels of a topic (asked at most once a second), sends to one instance of every group,
 * and PUBLISH says whether it was heard; if nobody heard, it asks again who is there, and
 * NO_RESPONDERS follows at once. Replies go to the caller's inbox in the same way, so a responder
 * learns that a caller is gone. In a cluster the sharded commands are used: only they count hearers.
 * Invariants: a request leaves only while its inbox is listened to; a frame that is too large for a
 * channel is stored for a minute and announced there; what another program sends is ignored.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  type Events,
  isOutage,
  type Message,
  type RequestOptions,
  Requests,
  type Responses,
  RivuletError,
  replyHeaders,
} from 'rivulet';
import type { Connection, Connector } from './connection.ts';
import { fromFrame, toFrame } from './entry.ts';
import { toRivulet } from './failures.ts';
import { Listener } from './listener.ts';

const PREFIX = 'rivulet:rpc:';
const CANCEL = 'cancel';
const KNOWN_FOR_MS = 1000;
const DEFAULT_TIMEOUT_MS = 10_000;
/**
 * Redis ends a listener that lets 32 MiB gather (client-output-buffer-limit pubsub), and everything
 * that waits on its connection. A larger frame is stored, and a short one says where.
 */
const LARGEST_FRAME = 32 * 1024;
const STORED_FOR_MS = 60_000;
const STORED_AT = 'rivulet-stored-at';

interface Known {
  readonly until: number;
  /** Channels by group. */
  readonly groups: Promise<Map<string, string[]>>;
}

export class RedisRequests {
  readonly #connector: Connector;
  readonly #commands: Connection;
  readonly #broker: BrokerOptions;
  readonly #events: Events<BrokerEvents>;
  readonly #requests: Requests;
  readonly #responders = new Map<string, Responses>();
  readonly #known = new Map<string, Known>();
  readonly #name: string;
  readonly #inbox: string;
  readonly #listener: Listener;
  #stored = 0;

  constructor(
    connector: Connector,
    commands: Connection,
    broker: BrokerOptions,
    events: Events<BrokerEvents>,
  ) {
    this.#connector = connector;
    this.#commands = commands;
    this.#broker = broker;
    this.#events = events;
    this.#requests = new Requests(broker.scheduler);
    this.#name = `${broker.clientName}/${broker.scheduler.uniqueName()}`;
    this.#inbox = `rivulet:inbox:{${this.#name}}`;
    this.#listener = new Listener({
      connector,
      receive: (channel, frame) => void this.#receive(channel, frame),
      lost: (error) => this.#requests.failAll(error),
    });
  }

  async *ask(topic: string, message: Message, options: RequestOptions): AsyncIterable<Message> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal = null } = options;
    const { scheduler } = this.#broker;
    const began = scheduler.monotonic();
    // Before: a reply to a request that leaves earlier would find nobody to hear it.
    await this.#listener.listens(this.#inbox, timeoutMs, signal, scheduler);
    const sentTo: string[] = [];
    const left = Math.max(1, timeoutMs - (scheduler.monotonic() - began));
    const request = this.#requests.start(topic, { ...options, timeoutMs: left }, (id) => {
      const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
      const frame = { headers, body: EMPTY };
      for (const channel of sentTo)
        void this.#send(channel, this.#addressed(frame)).catch(() => {});
    });
    const headers = { ...message.headers, [replyHeaders.request]: request.id };
    this.#ask(topic, this.#addressed({ ...message, headers }), sentTo).catch((error) =>
      request.fail(toRivulet(error)),
    );
    yield* request.replies;
  }

  async respond(topic: string, group: string, responses: Responses): Promise<() => Promise<void>> {
    const instance = this.#broker.scheduler.uniqueName();
    const channel = `${PREFIX}{${topic}}:${encodeURIComponent(group)}:${instance}`;
    this.#responders.set(channel, responses);
    await this.#listener.add(channel);
    return () => this.#listener.remove(channel);
  }

  /** Forgets a responder whose handlers have ended. */
  forget(responses: Responses): void {
    for (const [channel, each] of this.#responders) {
      if (each === responses) this.#responders.delete(channel);
    }
  }

  /** A reply that cannot be sent as it is becomes an error for its caller, and a warning here. */
  async reply(inbox: string, frame: Message): Promise<boolean> {
    try {
      return await this.#send(inbox, frame);
    } catch (error) {
      const known = toRivulet(error);
      if (isOutage(known) || known.code === 'CLOSED') throw known;
      const text = `a reply of ${frame.body.length} bytes could not be sent: ${known.message}`;
      this.#events.emit('warning', { error: new RivuletError(known.code, text, { cause: error }) });
      const headers = {
        [replyHeaders.kind]: 'error',
        [replyHeaders.code]: known.code,
        [replyHeaders.text]: text,
        [replyHeaders.request]: frame.headers[replyHeaders.request] ?? '',
      };
      await this.#send(inbox, { headers, body: EMPTY });
      // The caller has its answer: a handler that streams need not go on.
      return false;
    }
  }

  failAll(error: RivuletError): void {
    this.#requests.failAll(error);
  }

  async close(): Promise<void> {
    this.#requests.failAll(new RivuletError('CLOSED', 'the redis broker is disconnected'));
    await this.#listener.close();
  }

  #addressed(message: Message): Message {
    return { ...message, headers: { ...message.headers, [replyHeaders.replyTo]: this.#inbox } };
  }

  /** To one instance of every group. An instance that does not hear is gone: another is tried. */
  async #ask(topic: string, message: Message, sentTo: string[]): Promise<void> {
    for (let round = 0; round < 2; round++) {
      const groups = await this.#instances(topic, round > 0);
      for (const channels of groups.values()) {
        const choice = [...channels];
        while (choice.length > 0) {
          const at = Math.floor(this.#broker.scheduler.fraction() * choice.length);
          const [channel] = choice.splice(at, 1) as [string];
          if (!(await this.#send(channel, message))) continue;
          sentTo.push(channel);
          break;
        }
      }
      if (sentTo.length > 0) return;
    }
    throw new RivuletError('NO_RESPONDERS', `nobody answers on ${topic}`);
  }

  async #instances(topic: string, anew: boolean): Promise<Map<string, string[]>> {
    const now = this.#broker.scheduler.monotonic();
    const known = this.#known.get(topic);
    if (known !== undefined && !anew && now < known.until) return known.groups;
    const groups = this.#findInstances(topic);
    this.#known.set(topic, { until: now + KNOWN_FOR_MS, groups });
    groups.catch(() => this.#known.delete(topic));
    return groups;
  }

  async #findInstances(topic: string): Promise<Map<string, string[]>> {
    const prefix = `${PREFIX}{${topic}}:`;
    const pattern = `${prefix.replace(/[[\]?*^\\]/g, '\\$&')}*`;
    const how = this.#connector.cluster ? 'SHARDCHANNELS' : 'CHANNELS';
    const replies = await Promise.all(
      this.#commands
        .masters()
        .map((node) => node.call('PUBSUB', how, pattern) as Promise<string[]>),
    );
    const groups = new Map<string, string[]>();
    for (const channel of replies.flat()) {
      const group = channel.slice(prefix.length, channel.lastIndexOf(':'));
      const channels = groups.get(group);
      if (channels === undefined) groups.set(group, [channel]);
      else channels.push(channel);
    }
    return groups;
  }

  async #send(channel: string, message: Message): Promise<boolean> {
    const frame = toFrame(message);
    if (frame.length <= LARGEST_FRAME) return this.#publish(channel, frame);
    const key = `rivulet:frame:{${this.#name}}:${this.#stored++}`;
    await this.#commands.call('SET', key, frame, 'PX', STORED_FOR_MS);
    const isHeard = await this.#publish(
      channel,
      toFrame({ headers: { [STORED_AT]: key }, body: EMPTY }),
    );
    if (!isHeard) await this.#commands.call('DEL', key);
    return isHeard;
  }

  async #publish(channel: string, frame: Buffer): Promise<boolean> {
    const command = this.#connector.cluster ? 'SPUBLISH' : 'PUBLISH';
    return Number(await this.#commands.call(command, channel, frame)) > 0;
  }

  async #receive(channel: string, frame: Buffer): Promise<void> {
    let message = fromFrame(frame);
    const storedAt = message?.headers[STORED_AT];
    if (storedAt !== undefined) message = await this.#fetch(storedAt);
    if (message === null) return;
    if (channel === this.#inbox) {
      this.#requests.receive(message);
      return;
    }
    const responses = this.#responders.get(channel);
    if (message.headers[replyHeaders.kind] === CANCEL) {
      const { [replyHeaders.replyTo]: inbox = '', [replyHeaders.request]: id = '' } =
        message.headers;
      responses?.cancel(inbox, id);
    } else {
      responses?.receive(message);
    }
  }

  async #fetch(key: string): Promise<Message | null> {
    try {
      const frame = (await this.#commands.call('GETDEL', key)) as Buffer | null;
      return frame === null ? null : fromFrame(frame);
    } catch (error) {
      this.#events.emit('warning', { error: toRivulet(error) });
      return null;
    }
  }
}

const EMPTY = new Uint8Array(0);

/**
 * Request and reply over publish/subscribe.
 *
 * Every responder listens on a channel of its own: `rivulet:rpc:{topic}:group:instance`. A caller
 * knows the channels of a topic (asked at most once a second), sends to one instance of every group,
 * and PUBLISH says whether it was heard; if nobody heard, it asks again who is there, and
 * NO_RESPONDERS follows at once. Replies go to the caller's inbox in the same way, so a responder
 * learns that a caller is gone. In a cluster the sharded commands are used: only they count hearers.
 */

import type { Redis } from 'ioredis';
import {
  type BrokerOptions,
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

const PREFIX = 'rivulet:rpc:';
const CANCEL = 'cancel';
const KNOWN_FOR_MS = 1000;

interface Known {
  readonly until: number;
  /** Channels by group. */
  readonly groups: Promise<Map<string, string[]>>;
}

export class RedisRequests {
  readonly #connector: Connector;
  readonly #commands: Connection;
  readonly #broker: BrokerOptions;
  readonly #requests: Requests;
  readonly #responders = new Map<string, Responses>();
  readonly #known = new Map<string, Known>();
  readonly #inbox: string;
  /** Listens to the inbox and to responders' channels; made when it is first needed. */
  #listening: Promise<Connection> | null = null;
  #closed = false;

  constructor(connector: Connector, commands: Connection, broker: BrokerOptions) {
    this.#connector = connector;
    this.#commands = commands;
    this.#broker = broker;
    this.#requests = new Requests(broker.scheduler);
    this.#inbox = `rivulet:inbox:{${broker.clientName}/${broker.scheduler.uniqueName()}}`;
  }

  async *ask(topic: string, message: Message, options: RequestOptions): AsyncIterable<Message> {
    await this.#listen();
    const sentTo: string[] = [];
    const request = this.#requests.start(topic, options, (id) => {
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
    const listener = await this.#listen();
    await this.#subscribe(listener, channel);
    return async () => {
      await this.#unsubscribe(listener, channel);
    };
  }

  /** Forgets a responder whose handlers have ended. */
  forget(responses: Responses): void {
    for (const [channel, each] of this.#responders) {
      if (each === responses) this.#responders.delete(channel);
    }
  }

  reply(inbox: string, frame: Message): Promise<boolean> {
    return this.#send(inbox, frame);
  }

  failAll(error: RivuletError): void {
    this.#requests.failAll(error);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#requests.failAll(new RivuletError('CLOSED', 'the redis broker is disconnected'));
    const listener = await this.#listening?.catch(() => null);
    listener?.close();
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
    const command = this.#connector.cluster ? 'SPUBLISH' : 'PUBLISH';
    return Number(await this.#commands.call(command, channel, toFrame(message))) > 0;
  }

  #listen(): Promise<Connection> {
    if (this.#listening === null) {
      this.#listening = this.#openListener();
      this.#listening.catch(() => {
        this.#listening = null;
      });
    }
    return this.#listening;
  }

  async #openListener(): Promise<Connection> {
    const listener = this.#connector.make('requests');
    await listener.connect();
    const event = this.#connector.cluster ? 'smessageBuffer' : 'messageBuffer';
    listener.client.on(event, (channel: Buffer, frame: Buffer) => {
      this.#receive(channel.toString(), frame);
    });
    listener.client.on('close', () => {
      if (this.#closed) return;
      const text = 'the connection that replies come on was lost';
      this.#requests.failAll(new RivuletError('NOT_CONNECTED', text));
    });
    await this.#subscribe(listener, this.#inbox);
    return listener;
  }

  #receive(channel: string, frame: Buffer): void {
    const message = fromFrame(frame);
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

  async #subscribe(listener: Connection, channel: string): Promise<void> {
    const client = listener.client as Redis;
    try {
      await (this.#connector.cluster ? client.ssubscribe(channel) : client.subscribe(channel));
    } catch (error) {
      throw toRivulet(error);
    }
  }

  async #unsubscribe(listener: Connection, channel: string): Promise<void> {
    const client = listener.client as Redis;
    // Without a connection nobody is subscribed.
    if (!listener.ready) return;
    await (this.#connector.cluster
      ? client.sunsubscribe(channel)
      : client.unsubscribe(channel)
    ).catch(() => {});
  }
}

const EMPTY = new Uint8Array(0);

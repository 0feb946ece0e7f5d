/**
 * Request and reply over publish/subscribe.
 *
 * Every responder subscribes to its own channel `rivulet:rpc:{topic}:group:instance`. A caller lists the
 * channels of a topic at most once a second and publishes to one of them. PUBLISH returns how many
 * clients received it; if none did, the caller lists the channels again, then fails with NO_RESPONDERS.
 * Replies go to the caller's inbox in the same way, which shows a responder that its caller is gone. In
 * a cluster the sharded commands are used, because only they count receivers.
 * Invariants: a request is sent only while its inbox is subscribed. A frame above 32 KiB is stored for a
 * minute, and its key is published. What another program publishes is ignored.
 * Cost: two commands per request; one connection per process for replies.
 */
import {
  type BrokerEvents,
  type BrokerOptions,
  type CallerWire,
  type CallForm,
  type Events,
  isOutage,
  notSent,
  type RawCall,
  type RawMessage,
  Requests,
  type Responses,
  RivuletError,
  replyHeaders,
  type StartedCall,
  type StreamOptions,
} from 'rivulet/adapter';
import type { Connection, Connector } from './connection.ts';
import { toRivulet } from './errors.ts';
import { Listener } from './listener.ts';
import { fromFrame, toFrame } from './message-codec.ts';

const PREFIX = 'rivulet:rpc:';
const CANCEL = 'cancel';
const KNOWN_FOR_MS = 1000;
const DEFAULT_TIMEOUT_MS = 10_000;
/**
 * Redis closes a subscriber's connection when 32 MiB wait for it (client-output-buffer-limit pubsub), and
 * with it every other call. A larger frame is stored, and a short one names its key.
 */
const LARGEST_FRAME = 32 * 1024;
const STORED_FOR_MS = 60_000;
const STORED_AT = 'rivulet-stored-at';
/** The keys of stored frames. */
const FRAME_KEY = /^rivulet:frame:\{.*\}:\d+$/s;

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
  readonly #addresses = new WeakMap<Responses, string>();
  #number = 0;
  /** The group of a topic that receives the next request. */
  #turn = 0;

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

  /** Begins a request or call. An error fails the call that is returned. */
  begin(topic: string, message: RawMessage, options: StreamOptions, form: CallForm): RawCall {
    const sentTo: string[] = [];
    const wire: CallerWire = {
      cancel: (id) => this.#cancel(sentTo, id),
      send: (address, frame) => this.#send(address, this.#addressed(frame)),
    };
    const started = this.#requests.start(topic, options, wire, form);
    const { call, headers, id } = started;
    if (call.over) return call;
    const request = this.#addressed({ ...message, headers: { ...message.headers, ...headers } });
    this.#leave(topic, request, options, sentTo, started).then(
      () => {
        // The call ended while it was sent: the instance that received it is notified now.
        if (call.over && sentTo.length > 0) this.#cancel(sentTo, id);
      },
      (error) => started.fail(error),
    );
    return call;
  }

  async respond(topic: string, group: string, responses: Responses): Promise<() => Promise<void>> {
    const instance = this.#broker.scheduler.uniqueName();
    const channel = `${PREFIX}{${topic}}:${encodeURIComponent(group)}:${instance}`;
    const address = this.addressOf(responses);
    this.#responders.set(channel, responses);
    this.#responders.set(address, responses);
    await this.#listener.add(address);
    await this.#listener.add(channel);
    return () => this.#listener.remove(channel);
  }

  /** The channel for the frames of one responder's calls. */
  addressOf(responses: Responses): string {
    let address = this.#addresses.get(responses);
    if (address === undefined) {
      address = `rivulet:calls:{${this.#name}}:${this.#number++}`;
      this.#addresses.set(responses, address);
    }
    return address;
  }

  /** Forgets a responder whose handlers have ended. */
  async forget(responses: Responses): Promise<void> {
    for (const [channel, each] of this.#responders) {
      if (each === responses) this.#responders.delete(channel);
    }
    await this.#listener.remove(this.addressOf(responses));
  }

  /** A reply that cannot be sent as it is becomes an error for its caller, and a warning here. */
  async reply(inbox: string, frame: RawMessage): Promise<boolean> {
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

  #addressed(message: RawMessage): RawMessage {
    return { ...message, headers: { ...message.headers, [replyHeaders.replyTo]: this.#inbox } };
  }

  #cancel(sentTo: readonly string[], id: string): void {
    const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
    const frame = this.#addressed({ headers, body: EMPTY });
    for (const channel of sentTo) void this.#send(channel, frame).catch(() => {});
  }

  /** Rejects with `sent: 'no'` for what has failed before the request was published. */
  async #leave(
    topic: string,
    request: RawMessage,
    { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: StreamOptions,
    sentTo: string[],
    { call, departed }: StartedCall,
  ): Promise<void> {
    try {
      // Before: a reply to a request that leaves earlier would find no listener.
      const { scheduler } = this.#broker;
      await this.#listener.listens(this.#inbox, timeoutMs, signal ?? null, scheduler);
      await this.#instances(topic, false);
    } catch (error) {
      throw notSent(toRivulet(error));
    }
    if (call.over) return;
    departed();
    try {
      await this.#ask(topic, request, sentTo);
    } catch (error) {
      throw toRivulet(error);
    }
  }

  /** Sends to one instance; groups take turns. If it did not receive it, the next one is tried. */
  async #ask(topic: string, message: RawMessage, sentTo: string[]): Promise<void> {
    for (let round = 0; round < 2; round++) {
      const groups = [...(await this.#instances(topic, round > 0)).values()];
      const first = this.#turn++;
      for (let at = 0; at < groups.length; at++) {
        const choice = [...(groups[(first + at) % groups.length] as string[])];
        while (choice.length > 0) {
          const chosen = Math.floor(this.#broker.scheduler.fraction() * choice.length);
          const [channel] = choice.splice(chosen, 1) as [string];
          if (!(await this.#send(channel, message))) continue;
          sentTo.push(channel);
          return;
        }
      }
    }
    throw new RivuletError('NO_RESPONDERS', `no responder is subscribed to ${topic}`);
  }

  async #instances(topic: string, again: boolean): Promise<Map<string, string[]>> {
    const now = this.#broker.scheduler.monotonic();
    const known = this.#known.get(topic);
    if (known !== undefined && !again && now < known.until) return known.groups;
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

  async #send(channel: string, message: RawMessage): Promise<boolean> {
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
    // Any program may publish here: it must not make this client read and delete another key.
    if (storedAt !== undefined && message?.body.length === 0 && FRAME_KEY.test(storedAt)) {
      message = await this.#fetch(storedAt);
    }
    if (message === null) return;
    if (channel === this.#inbox) {
      this.#requests.receive(message);
      return;
    }
    this.#responders.get(channel)?.receive(message);
  }

  async #fetch(key: string): Promise<RawMessage | null> {
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

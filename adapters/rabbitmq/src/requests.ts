/**
 * Request and reply: queues that are there only as long as somebody is behind them.
 *
 * The responders of one group share a queue that goes with the last of them, so a request that
 * nobody can take comes back at once (`mandatory`): NO_RESPONDERS. A request is acknowledged when it
 * is answered: if its responder dies, the broker hands it to another one, who does not run it again
 * but tells the caller RESPONDER_LOST; where there is no other, the caller notices the silence.
 * Replies go to the caller's own queue in the same way, so a responder learns that a caller is gone.
 */
import type { Message as AmqpMessage, Channel, ConsumeMessage } from 'amqplib';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  type Message,
  pause,
  type RequestOptions,
  Requests,
  type Responses,
  RivuletError,
  replyHeaders,
} from 'rivulet';
import { toRivulet } from './failures.ts';
import { read, write } from './form.ts';
import type { Link, LinkChannel } from './link.ts';
import { CANCELS, REQUESTS, requestQueueOf } from './names.ts';
import type { Publisher } from './publisher.ts';
import type { Topology } from './topology.ts';

const CANCEL = 'cancel';
const EMPTY = new Uint8Array(0);

export class AmqpRequests {
  readonly #link: Link;
  readonly #topology: Topology;
  readonly #requests: Requests;
  readonly #failing = new Map<string, (error: RivuletError) => void>();
  readonly #inbox: string;
  #calling: Promise<LinkChannel<Channel>> | null = null;

  constructor(link: Link, topology: Topology, broker: BrokerOptions) {
    this.#link = link;
    this.#topology = topology;
    this.#requests = new Requests(broker.scheduler);
    this.#inbox = `rivulet.inbox.${broker.scheduler.uniqueName()}`;
    link.onLost((error) => this.#requests.failAll(error));
  }

  async *ask(topic: string, message: Message, options: RequestOptions): AsyncIterable<Message> {
    const open = await this.#call();
    const request = this.#requests.start(topic, options, (id) => {
      const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
      this.#publish(open, CANCELS, topic, { headers, body: EMPTY }, id, options);
    });
    const headers = { ...message.headers, [replyHeaders.request]: request.id };
    this.#failing.set(request.id, request.fail);
    try {
      this.#publish(open, REQUESTS, topic, { ...message, headers }, request.id, options);
      yield* request.replies;
    } finally {
      this.#failing.delete(request.id);
    }
  }

  async close(): Promise<void> {
    this.#requests.failAll(new RivuletError('CLOSED', 'the rabbitmq broker is disconnected'));
    const open = await this.#calling?.catch(() => null);
    await open?.close();
  }

  #publish(
    open: LinkChannel<Channel>,
    exchange: string,
    topic: string,
    message: Message,
    id: string,
    { timeoutMs = 10_000 }: RequestOptions,
  ): void {
    if (!open.open) {
      this.#failing.get(id)?.(
        new RivuletError('NOT_CONNECTED', 'the channel of requests was lost'),
      );
      return;
    }
    const headers = { ...message.headers, [replyHeaders.replyTo]: this.#inbox };
    const properties = write({ ...message, headers }, id);
    open.channel.publish(exchange, topic, Buffer.from(message.body), {
      ...properties,
      persistent: false,
      // Nobody wants to answer what nobody waits for.
      expiration: String(Math.ceil(timeoutMs)),
      mandatory: exchange === REQUESTS,
    });
  }

  #call(): Promise<LinkChannel<Channel>> {
    this.#calling ??= this.#openInbox().catch((error) => {
      this.#calling = null;
      throw error;
    });
    return this.#calling;
  }

  async #openInbox(): Promise<LinkChannel<Channel>> {
    await this.#topology.base();
    const open = await this.#link.channel();
    const { channel } = open;
    channel.on('return', ({ properties, fields }: AmqpMessage) => {
      const error = new RivuletError('NO_RESPONDERS', `nobody answers on ${fields.routingKey}`);
      this.#failing.get(properties.messageId)?.(error);
    });
    void open.ended.then(() => {
      this.#calling = null;
      const text = 'the channel that replies come on was lost';
      this.#requests.failAll(new RivuletError('NOT_CONNECTED', text));
    });
    await channel.assertQueue(this.#inbox, { exclusive: true, durable: false, autoDelete: true });
    await channel.consume(
      this.#inbox,
      (frame) => {
        if (frame === null) void open.close();
        else this.#requests.receive(read(frame).message);
      },
      { noAck: true },
    );
    return open;
  }
}

export interface ResponderSetup {
  readonly topic: string;
  readonly group: string;
  readonly concurrency: number;
  readonly link: Link;
  readonly topology: Topology;
  readonly publisher: Publisher;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
}

/** One responder's channel: takes requests, and makes itself anew when it is lost. */
export class ResponderLink {
  readonly #setup: ResponderSetup;
  readonly #stop = new AbortController();
  readonly #taken = new Map<string, { on: LinkChannel<Channel>; message: ConsumeMessage }>();
  #responses: Responses | null = null;
  #open: LinkChannel<Channel> | null = null;
  #tags: string[] = [];
  #running: Promise<void> | null = null;

  constructor(setup: ResponderSetup) {
    this.#setup = setup;
  }

  async start(responses: Responses): Promise<void> {
    this.#responses = responses;
    await this.#listen();
    this.#running = this.#run();
  }

  /** A frame to a caller; false when the caller is gone. */
  async send(inbox: string, frame: Message): Promise<boolean> {
    const id = frame.headers[replyHeaders.request] ?? '';
    const kind = frame.headers[replyHeaders.kind];
    const properties = { ...write(frame, id), persistent: false };
    let there = false;
    try {
      there = await this.#setup.publisher.send('', inbox, frame.body, properties);
    } finally {
      if (!there || kind === undefined || kind === 'end' || kind === 'error') this.#done(inbox, id);
    }
    return there;
  }

  /** Takes no more requests; those that are being answered go on. */
  async stopTaking(): Promise<void> {
    this.#stop.abort();
    const open = this.#open;
    if (!open?.open) return;
    for (const tag of this.#tags) await open.channel.cancel(tag).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#open?.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { broker, link, events } = this.#setup;
    for (let failures = 0; ; failures++) {
      await this.#open?.ended;
      this.#taken.clear();
      if (this.#stop.signal.aborted) return;
      const wait = backoffMs(broker.reconnect, failures, broker.scheduler.fraction());
      await pause(broker.scheduler, wait, this.#stop.signal).catch(() => {});
      try {
        if (!link.connected) {
          await pause(broker.scheduler, 50, this.#stop.signal);
          failures--;
          continue;
        }
        await this.#listen();
        failures = -1;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#open = null;
        events.emit('warning', { error: toRivulet(error) });
      }
    }
  }

  async #listen(): Promise<void> {
    const { topic, group, concurrency, link, topology } = this.#setup;
    await topology.base();
    const open = await link.channel();
    try {
      const { channel } = open;
      const queue = requestQueueOf(topic, group);
      await channel.prefetch(Math.min(concurrency, 65_535));
      const own = await channel.assertQueue('', { exclusive: true, durable: false });
      await channel.bindQueue(own.queue, CANCELS, topic);
      const cancels = await channel.consume(own.queue, (message) => this.#cancel(message), {
        noAck: true,
      });
      await channel.assertQueue(queue, { durable: false, autoDelete: true });
      const requests = await channel.consume(queue, (message) => {
        if (message === null) void open.close();
        else this.#receive(open, message);
      });
      // Bound last: whoever reaches the queue finds a consumer there.
      await channel.bindQueue(queue, REQUESTS, topic);
      this.#tags = [requests.consumerTag, cancels.consumerTag];
    } catch (error) {
      await open.close();
      throw toRivulet(error);
    }
    this.#open = open;
  }

  #receive(on: LinkChannel<Channel>, message: ConsumeMessage): void {
    const request = read(message).message;
    const { [replyHeaders.replyTo]: inbox = '', [replyHeaders.request]: id = '' } = request.headers;
    this.#taken.set(`${inbox} ${id}`, { on, message });
    if (!message.fields.redelivered) {
      this.#responses?.receive(request);
      return;
    }
    const headers = {
      [replyHeaders.request]: id,
      [replyHeaders.kind]: 'error',
      [replyHeaders.code]: 'RESPONDER_LOST',
      [replyHeaders.text]: `the responder on ${this.#setup.topic} died over the request`,
    };
    void this.send(inbox, { headers, body: EMPTY }).catch(() => {});
  }

  #cancel(message: ConsumeMessage | null): void {
    if (message === null) return;
    const { headers } = read(message).message;
    const { [replyHeaders.replyTo]: inbox = '', [replyHeaders.request]: id = '' } = headers;
    if (!this.#taken.has(`${inbox} ${id}`)) return;
    this.#responses?.cancel(inbox, id);
    this.#done(inbox, id);
  }

  #done(inbox: string, id: string): void {
    const taken = this.#taken.get(`${inbox} ${id}`);
    if (taken === undefined) return;
    this.#taken.delete(`${inbox} ${id}`);
    if (taken.on.open) taken.on.channel.ack(taken.message);
  }
}

/**
 * The responder's side of request and reply: one channel that receives requests.
 *
 * A request is acknowledged when it is answered. If its responder dies, RabbitMQ delivers the request to
 * another one, which does not run it again but answers RESPONDER_LOST. If there is no other, the caller
 * notices the silence. A reply that is routed to no queue shows that the caller is gone.
 * Invariants: the channel is opened again when it is lost; at most `concurrency` requests are
 * unacknowledged. Cost: one channel and one queue per responder.
 */
import type { Channel, ConsumeMessage } from 'amqplib';
import {
  type BrokerEvents,
  type BrokerOptions,
  backoffMs,
  type Events,
  pause,
  type RawMessage,
  type Responses,
  replyHeaders,
} from 'rivulet/adapter';
import { toRivulet } from './errors.ts';
import type { Link, LinkChannel } from './link.ts';
import { decode } from './message-codec.ts';
import { CANCELS, REQUESTS, requestQueueOf } from './names.ts';
import type { Destination, FramePublisher } from './publishing/frame-publisher.ts';
import { CANCEL } from './requests.ts';
import type { Topology } from './topology.ts';

const EMPTY = new Uint8Array(0);

export interface ResponderSetup {
  readonly topic: string;
  readonly concurrency: number;
  readonly link: Link;
  readonly topology: Topology;
  readonly frames: FramePublisher;
  readonly broker: BrokerOptions;
  readonly events: Events<BrokerEvents>;
}

/** One responder's subscription to the requests of a topic. */
export class ResponderLink {
  readonly #setup: ResponderSetup;
  readonly #stop = new AbortController();
  readonly #taken = new Map<string, { on: LinkChannel<Channel>; message: ConsumeMessage }>();
  #responses: Responses | null = null;
  #open: LinkChannel<Channel> | null = null;
  #tag: string | null = null;
  #address = '';
  #running: Promise<void> | null = null;

  constructor(setup: ResponderSetup) {
    this.#setup = setup;
  }

  async start(responses: Responses): Promise<void> {
    this.#responses = responses;
    await this.#listen();
    this.#running = this.#run();
  }

  /** Sends a frame to a caller. Resolves to false if the caller is gone. */
  async send(inbox: string, frame: RawMessage): Promise<boolean> {
    const id = frame.headers[replyHeaders.request] ?? '';
    const kind = frame.headers[replyHeaders.kind];
    let isReceived = false;
    try {
      const to = { exchange: '', routingKey: inbox, id };
      isReceived = await this.#send(frame, to);
    } finally {
      const isLast = kind === undefined || kind === 'end' || kind === 'error';
      if (!isReceived || isLast) this.#done(inbox, id);
    }
    return isReceived;
  }

  /** A reply that is too large for the server becomes an error for its caller, and a warning here. */
  async #send(frame: RawMessage, to: Destination): Promise<boolean> {
    const { frames, events } = this.#setup;
    try {
      return await frames.send(frame, to);
    } catch (error) {
      const refused = toRivulet(error);
      if (refused.code !== 'BODY_TOO_LARGE') throw refused;
      events.emit('warning', { error: refused });
      const headers = {
        [replyHeaders.request]: to.id,
        [replyHeaders.kind]: 'error',
        [replyHeaders.code]: refused.code,
        [replyHeaders.text]: `the reply is too large: ${refused.message}`,
      };
      await frames.send({ headers, body: EMPTY }, to);
      return false;
    }
  }

  /** Receives no more requests; those that are being answered continue. */
  async stopTaking(): Promise<void> {
    this.#stop.abort();
    const open = this.#open;
    if (!open?.open || this.#tag === null) return;
    await open.channel.cancel(this.#tag).catch(() => {});
  }

  /** Its own queue, which receives cancels and the frames of calls that it has begun. */
  get address(): string {
    return this.#address;
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
    const { topic, concurrency, link, topology } = this.#setup;
    await topology.base();
    const open = await link.channel();
    try {
      const { channel } = open;
      const queue = requestQueueOf(topic);
      await channel.prefetch(Math.min(concurrency, 65_535));
      const own = await channel.assertQueue('', {
        exclusive: true,
        durable: false,
        autoDelete: true,
      });
      await channel.bindQueue(own.queue, CANCELS, topic);
      this.#address = own.queue;
      await channel.consume(own.queue, (message) => this.#continue(message), { noAck: true });
      await channel.assertQueue(queue, { durable: false, autoDelete: true });
      const requests = await channel.consume(queue, (message) => {
        if (message === null) void open.close();
        else this.#receive(open, message);
      });
      // Bound last, so that a request is only routed to a queue with a consumer.
      await channel.bindQueue(queue, REQUESTS, topic);
      this.#tag = requests.consumerTag;
    } catch (error) {
      await open.close();
      throw toRivulet(error);
    }
    this.#open = open;
  }

  #receive(on: LinkChannel<Channel>, message: ConsumeMessage): void {
    const request = decode(message).message;
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
      [replyHeaders.text]: `the responder on ${this.#setup.topic} died while it handled the request`,
    };
    void this.send(inbox, { headers, body: EMPTY }).catch(() => {});
  }

  /** Receives a frame of a call that has begun. */
  #continue(received: ConsumeMessage | null): void {
    if (received === null) return;
    const frame = decode(received).message;
    const {
      [replyHeaders.replyTo]: inbox = '',
      [replyHeaders.request]: id = '',
      [replyHeaders.kind]: kind,
    } = frame.headers;
    if (kind !== CANCEL) {
      this.#responses?.receive(frame);
      return;
    }
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

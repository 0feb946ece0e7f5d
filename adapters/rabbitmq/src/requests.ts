/**
 * The caller's side of request and reply, on queues that exist only while a responder consumes them.
 *
 * All responders of a topic share one queue, which is deleted with its last consumer. So a request
 * reaches one of them, and RabbitMQ returns a request that none can receive (`mandatory`): it fails
 * with NO_RESPONDERS at once. Replies come to the caller's own queue, in the same way.
 * Invariants: a request that cannot be sent fails alone; a request is sent only while replies can be
 * received. Cost: one queue and one channel per process for replies.
 */
import type { Channel } from 'amqplib';
import {
  type BrokerOptions,
  type CallerWire,
  type CallForm,
  notSent,
  type RawCall,
  type RawMessage,
  Requests,
  RivuletError,
  replyHeaders,
  type StreamOptions,
} from 'rivulet/adapter';
import { toRivulet } from './errors.ts';
import type { Link, LinkChannel } from './link.ts';
import { decode } from './message-codec.ts';
import { CANCELS, REQUESTS } from './names.ts';
import type { FramePublisher } from './publishing/frame-publisher.ts';
import type { Topology } from './topology.ts';

export const CANCEL = 'cancel';
const EMPTY = new Uint8Array(0);
const DEFAULT_TIMEOUT_MS = 10_000;

export class AmqpRequests {
  readonly #link: Link;
  readonly #topology: Topology;
  readonly #frames: FramePublisher;
  readonly #requests: Requests;
  readonly #inbox: string;
  #opening: Promise<LinkChannel<Channel>> | null = null;

  constructor(link: Link, topology: Topology, frames: FramePublisher, broker: BrokerOptions) {
    this.#link = link;
    this.#topology = topology;
    this.#frames = frames;
    this.#requests = new Requests(broker.scheduler);
    this.#inbox = `rivulet.inbox.${broker.scheduler.uniqueName()}`;
    link.onLost((error) => this.#requests.failAll(error));
  }

  /** Begins a request or call. An error fails the call that is returned. */
  begin(topic: string, message: RawMessage, options: StreamOptions, form: CallForm): RawCall {
    const wire: CallerWire = {
      cancel: (id) => {
        const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
        const to = { exchange: CANCELS, routingKey: topic, id };
        // A responder that does not receive it notices that the caller is gone when it replies.
        this.#frames.send(this.#addressed({ headers, body: EMPTY }), to).catch(() => {});
      },
      send: (address, frame) => {
        const id = frame.headers[replyHeaders.request] ?? '';
        const to = { exchange: '', routingKey: address, id };
        return this.#frames.send(this.#addressed(frame), to).catch((error) => {
          fail(toRivulet(error));
          return true;
        });
      },
    };
    const { id, call, headers, departed, fail } = this.#requests.start(topic, options, wire, form);
    if (call.over) return call;
    const { timeoutMs = form === 'stream' ? null : DEFAULT_TIMEOUT_MS } = options;
    const request = { ...message, headers: { ...message.headers, ...headers } };
    const begin = async () => {
      try {
        await this.#openInbox();
      } catch (error) {
        throw notSent(toRivulet(error));
      }
      if (call.over) return;
      const to = { exchange: REQUESTS, routingKey: topic, id, expiresMs: timeoutMs };
      const sending = this.#frames.send(this.#addressed(request), to);
      departed();
      try {
        if (await sending) return;
      } catch (error) {
        const known = toRivulet(error);
        throw known.code === 'BODY_TOO_LARGE' ? notSent(known) : known;
      }
      throw new RivuletError('NO_RESPONDERS', `no responder is subscribed to ${topic}`);
    };
    begin().catch(fail);
    return call;
  }

  async close(): Promise<void> {
    this.#requests.failAll(new RivuletError('CLOSED', 'the rabbitmq broker is disconnected'));
    const open = await this.#opening?.catch(() => null);
    await open?.close();
  }

  #addressed(message: RawMessage): RawMessage {
    return { ...message, headers: { ...message.headers, [replyHeaders.replyTo]: this.#inbox } };
  }

  #openInbox(): Promise<LinkChannel<Channel>> {
    this.#opening ??= this.#link
      .try(() => this.#makeInbox())
      .catch((error) => {
        this.#opening = null;
        throw error;
      });
    return this.#opening;
  }

  async #makeInbox(): Promise<LinkChannel<Channel>> {
    await this.#topology.base();
    const open = await this.#link.channel();
    const { channel } = open;
    void open.ended.then(() => {
      this.#opening = null;
      const text = 'the channel that replies come on was lost';
      this.#requests.failAll(new RivuletError('NOT_CONNECTED', text));
    });
    await channel.assertQueue(this.#inbox, { exclusive: true, durable: false, autoDelete: true });
    await channel.consume(
      this.#inbox,
      (frame) => {
        if (frame === null) void open.close();
        else this.#requests.receive(decode(frame).message);
      },
      { noAck: true },
    );
    return open;
  }
}

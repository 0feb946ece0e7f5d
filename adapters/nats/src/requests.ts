/**
 * Request and reply on core NATS, which stores nothing and reports subjects without a subscriber.
 *
 * A request has an inbox as its reply subject. If no responder is subscribed, the server sends 503 there
 * at once. A reply has one too: a 503 there shows the responder that its caller is gone.
 * Invariants: `respond` resolves once every node of a cluster knows of the responder. A reply that is
 * too large for the server fails its request at once, and is a warning at its responder.
 * Cost: one subscription per process for replies; three per responder.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  type CallerWire,
  type CallForm,
  type Events,
  notSent,
  type RawCall,
  type RawMessage,
  Requests,
  type Responses,
  RivuletError,
  replyHeaders,
  type StreamOptions,
} from 'rivulet/adapter';
import { toRivulet } from './errors.ts';
import type { Link } from './link.ts';
import { plainCodec } from './message-codec.ts';
import { cancelSubject, inboxSubject, readySubject, requestSubject } from './names.ts';

const CANCEL = 'cancel';
const EMPTY = new Uint8Array(0);
const NO_RESPONDERS = 503;
/** The queue group of all responders of a topic. */
const QUEUE = 'responders';

export class NatsRequests {
  readonly #link: Link;
  readonly #requests: Requests;
  readonly #inbox: string;
  readonly #failing = new Map<string, (error: RivuletError) => void>();
  /** The inboxes that the server reported as gone, until a frame comes from them. */
  readonly #gone = new Set<string>();
  #subscription: Subscription | null = null;
  readonly #unwatch: () => void;
  readonly #events: Events<BrokerEvents>;
  #responder = 0;
  /** Responders by the last word of their address. */
  readonly #responders = new Map<string, Responses>();
  #addresses = 0;

  constructor(link: Link, broker: BrokerOptions, events: Events<BrokerEvents>) {
    this.#link = link;
    this.#events = events;
    this.#requests = new Requests(broker.scheduler);
    this.#inbox = inboxSubject(broker.scheduler.uniqueName());
    this.#unwatch = link.onLost((error) => this.#requests.failAll(error));
  }

  /** Begins a request or call. An error fails the call that is returned. */
  begin(topic: string, message: RawMessage, options: StreamOptions, form: CallForm): RawCall {
    const wire: CallerWire = {
      cancel: (id) => this.#cancel(topic, id),
      send: (address, frame) => this.#sendTo(address, frame),
    };
    const { id, call, headers, departed, fail } = this.#requests.start(topic, options, wire, form);
    if (call.over) return call;
    this.#failing.set(id, (error) =>
      fail(
        error.code === 'NO_RESPONDERS'
          ? new RivuletError('NO_RESPONDERS', `no responder is subscribed to ${topic}`, {
              cause: error,
            })
          : error,
      ),
    );
    call.onEnd(() => this.#failing.delete(id));
    try {
      this.#listen();
      const request = { ...message, headers: { ...message.headers, ...headers } };
      this.#publish(requestSubject(topic), request, `${this.#inbox}.q.${id}`);
      departed();
    } catch (error) {
      // It was not sent.
      fail(notSent(toRivulet(error)) as RivuletError);
    }
    return call;
  }

  /** If the responder is gone, the server reports that at the inbox. */
  #sendTo(address: string, frame: RawMessage): boolean {
    try {
      const id = frame.headers[replyHeaders.request] ?? '';
      this.#publish(address, frame, `${this.#inbox}.l.${id}`);
    } catch (error) {
      // Without a connection all calls fail. A frame that is too large fails this call alone.
      const known = toRivulet(error);
      if (known.code !== 'BODY_TOO_LARGE') return true;
      this.#failing.get(frame.headers[replyHeaders.request] ?? '')?.(known);
    }
    return true;
  }

  #cancel(topic: string, id: string): void {
    const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
    try {
      this.#publish(cancelSubject(topic), { headers, body: EMPTY });
    } catch {
      // Without a connection the responder notices by itself.
    }
  }

  /** A subject for the frames of one responder's calls. */
  newAddress(): string {
    return `${this.#inbox}.s.${this.#addresses++}`;
  }

  /**
   * Receives the requests of a topic; resolves to a function that ends that. All responders of a topic,
   * of any group, share one queue group: a request goes to one of them.
   */
  async respond(
    topic: string,
    address: string,
    responses: Responses,
  ): Promise<() => Promise<void>> {
    const { nc } = this.#link;
    this.#listen();
    const number = address.slice(address.lastIndexOf('.') + 1);
    this.#responders.set(number, responses);
    const requests = nc.subscribe(requestSubject(topic), {
      queue: QUEUE,
      callback: (error, message) => {
        if (error === null) this.#hand(responses, message);
      },
    });
    const cancels = nc.subscribe(cancelSubject(topic), {
      callback: (error, message) => {
        if (error !== null) return;
        const { headers } = plainCodec.decode(message.data, message.headers);
        responses.cancel(headers[replyHeaders.replyTo] ?? '', headers[replyHeaders.request] ?? '');
      },
    });
    const ready = `${readySubject(this.#inbox)}.${this.#responder++}`;
    const known = nc.subscribe(ready, {
      callback: (_, message) => {
        if (message.reply) nc.publish(message.reply);
      },
    });
    await this.#link.try(() => nc.flush());
    // A node learns of subscriptions in their order: if it knows the last one, it knows all.
    await this.#link.knownEverywhere(ready).finally(() => known.unsubscribe());
    return async () => {
      try {
        requests.unsubscribe();
        cancels.unsubscribe();
        if (this.#link.connected) await nc.flush();
      } catch {
        // The connection is closed, and with it every subscription.
      }
    };
  }

  /** All calls of this responder have ended. */
  forget(address: string): void {
    this.#responders.delete(address.slice(address.lastIndexOf('.') + 1));
  }

  /** Sends a frame to a caller. Resolves to false once the server has reported the caller as gone. */
  async reply(inbox: string, frame: RawMessage): Promise<boolean> {
    if (this.#gone.has(inbox)) return false;
    const reply = `${this.#inbox}.g.${inbox.split('.').at(-1)}`;
    try {
      this.#publish(`${inbox}.r`, frame, reply);
    } catch (error) {
      const known = toRivulet(error);
      if (known.code !== 'BODY_TOO_LARGE') throw known;
      const most = this.#link.maxPayload;
      const text = `a reply with a body of ${frame.body.length} bytes exceeds the server's max_payload of ${most} bytes: send it in several replies`;
      const refused = new RivuletError('BODY_TOO_LARGE', text);
      this.#events.emit('warning', { error: refused });
      const request = frame.headers[replyHeaders.request] ?? '';
      const headers = {
        [replyHeaders.kind]: 'error',
        [replyHeaders.code]: refused.code,
        [replyHeaders.text]: text,
        [replyHeaders.request]: request,
      };
      this.#publish(`${inbox}.r`, { headers, body: EMPTY }, reply);
      // The caller's request has failed: a handler that streams can stop.
      return false;
    }
    return true;
  }

  close(): void {
    this.#unwatch();
    this.#requests.failAll(new RivuletError('CLOSED', 'the nats broker is disconnected'));
    try {
      this.#subscription?.unsubscribe();
    } catch {
      // Closed already.
    }
  }

  #publish(subject: string, message: RawMessage, reply?: string): void {
    const headers = { ...message.headers, [replyHeaders.replyTo]: this.#inbox };
    const addressed = subject.endsWith('.r') ? message : { ...message, headers };
    const { payload, headers: encoded } = plainCodec.encode(addressed);
    this.#link.nc.publish(subject, payload, {
      headers: encoded,
      ...(reply === undefined ? {} : { reply }),
    });
  }

  /** Receives a frame from a caller. A caller that was gone has reconnected. */
  #hand(responses: Responses, message: Msg): void {
    const frame = plainCodec.decode(message.data, message.headers);
    this.#gone.delete(frame.headers[replyHeaders.replyTo] ?? '');
    responses.receive(frame);
  }

  #listen(): void {
    if (this.#subscription !== null && !this.#subscription.isClosed()) return;
    this.#subscription = this.#link.nc.subscribe(`${this.#inbox}.>`, {
      callback: (error, message) => {
        if (error === null) this.#receive(message);
      },
    });
  }

  #receive(message: Msg): void {
    const [kind, id = ''] = message.subject.slice(this.#inbox.length + 1).split('.');
    if (kind === 'r') {
      this.#requests.receive(plainCodec.decode(message.data, message.headers));
    } else if (kind === 's') {
      const responses = this.#responders.get(id);
      if (responses !== undefined) this.#hand(responses, message);
    } else if (message.headers?.code === NO_RESPONDERS) {
      if (kind === 'q') {
        this.#failing.get(id)?.(new RivuletError('NO_RESPONDERS', 'no responder is subscribed'));
      } else if (kind === 'l') {
        this.#failing.get(id)?.(new RivuletError('RESPONDER_LOST', 'the responder is gone'));
      } else if (kind === 'g') {
        if (this.#gone.size > 10_000) this.#gone.clear();
        this.#gone.add(inboxSubject(id));
      }
    }
  }
}

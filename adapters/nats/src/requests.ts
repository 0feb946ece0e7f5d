/**
 * Request and reply on core NATS: nothing is stored, and the server says when nobody listens.
 *
 * A request carries an inbox as its reply subject; where no responder is, the server answers 503
 * there at once. Replies carry one too: a 503 on it tells a responder that its caller is gone.
 * Invariants: `respond` resolves once every node of a cluster knows of the responder. A reply that is
 * too large for the server is an error for its caller at once and a warning for its responder.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import {
  type BrokerEvents,
  type BrokerOptions,
  type Events,
  type Message,
  type RequestOptions,
  Requests,
  type Responses,
  RivuletError,
  replyHeaders,
} from 'rivulet';
import { toRivulet } from './failures.ts';
import { plainForm } from './form.ts';
import type { Link } from './link.ts';
import { cancelSubject, inboxSubject, readySubject, requestSubject } from './names.ts';

const CANCEL = 'cancel';
const EMPTY = new Uint8Array(0);
const NO_RESPONDERS = 503;

export class NatsRequests {
  readonly #link: Link;
  readonly #requests: Requests;
  readonly #inbox: string;
  readonly #failing = new Map<string, (error: RivuletError) => void>();
  /** Callers that the server no longer knows, until nobody answers them any more. */
  readonly #gone = new Set<string>();
  #subscription: Subscription | null = null;
  readonly #unwatch: () => void;
  readonly #events: Events<BrokerEvents>;
  #responder = 0;

  constructor(link: Link, broker: BrokerOptions, events: Events<BrokerEvents>) {
    this.#link = link;
    this.#events = events;
    this.#requests = new Requests(broker.scheduler);
    this.#inbox = inboxSubject(broker.scheduler.uniqueName());
    this.#unwatch = link.onLost((error) => this.#requests.failAll(error));
  }

  async *ask(topic: string, message: Message, options: RequestOptions): AsyncIterable<Message> {
    this.#listen();
    const request = this.#requests.start(topic, options, (id) => {
      const headers = { [replyHeaders.kind]: CANCEL, [replyHeaders.request]: id };
      try {
        this.#publish(cancelSubject(topic), { headers, body: EMPTY });
      } catch {
        // Without a connection the responder notices by itself.
      }
    });
    this.#failing.set(request.id, request.fail);
    const headers = { ...message.headers, [replyHeaders.request]: request.id };
    try {
      this.#publish(
        requestSubject(topic),
        { ...message, headers },
        `${this.#inbox}.q.${request.id}`,
      );
    } catch (error) {
      request.fail(toRivulet(error));
    }
    try {
      yield* request.replies;
    } catch (error) {
      if (error instanceof RivuletError && error.code === 'NO_RESPONDERS') {
        throw new RivuletError('NO_RESPONDERS', `nobody answers on ${topic}`, { cause: error });
      }
      throw error;
    } finally {
      this.#failing.delete(request.id);
    }
  }

  /** Takes requests of a topic; resolves to the function that takes no more. */
  async respond(topic: string, group: string, responses: Responses): Promise<() => Promise<void>> {
    const { nc } = this.#link;
    this.#listen();
    const requests = nc.subscribe(requestSubject(topic), {
      queue: group,
      callback: (error, message) => {
        if (error === null) responses.receive(plainForm.read(message.data, message.headers));
      },
    });
    const cancels = nc.subscribe(cancelSubject(topic), {
      callback: (error, message) => {
        if (error !== null) return;
        const { headers } = plainForm.read(message.data, message.headers);
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
    // Nodes hear of subscriptions in their order: one that knows of the last knows of those before.
    await this.#link.knownEverywhere(ready).finally(() => known.unsubscribe());
    return async () => {
      try {
        requests.unsubscribe();
        cancels.unsubscribe();
        if (this.#link.connected) await nc.flush();
      } catch {
        // The connection is closed: nobody is subscribed.
      }
    };
  }

  /** A frame to a caller; false once the server has said that the caller is gone. */
  async reply(inbox: string, frame: Message): Promise<boolean> {
    if (this.#gone.has(inbox)) return false;
    const reply = `${this.#inbox}.g.${inbox.split('.').at(-1)}`;
    try {
      this.#publish(`${inbox}.r`, frame, reply);
    } catch (error) {
      const known = toRivulet(error);
      if (known.code !== 'BODY_TOO_LARGE') throw known;
      const most = this.#link.maxPayload;
      const text = `a reply of ${frame.body.length} bytes with its headers is more than the ${most} bytes (max_payload) that the server takes: send it in several replies`;
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
      // The caller has its answer: a handler that streams need not go on.
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

  #publish(subject: string, message: Message, reply?: string): void {
    const headers = { ...message.headers, [replyHeaders.replyTo]: this.#inbox };
    const addressed = subject.endsWith('.r') ? message : { ...message, headers };
    const { payload, headers: written } = plainForm.write(addressed);
    this.#link.nc.publish(subject, payload, {
      headers: written,
      ...(reply === undefined ? {} : { reply }),
    });
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
      this.#requests.receive(plainForm.read(message.data, message.headers));
    } else if (message.headers?.code === NO_RESPONDERS) {
      if (kind === 'q') {
        this.#failing.get(id)?.(new RivuletError('NO_RESPONDERS', 'nobody answers'));
      } else if (kind === 'g') {
        if (this.#gone.size > 10_000) this.#gone.clear();
        this.#gone.add(inboxSubject(id));
      }
    }
  }
}

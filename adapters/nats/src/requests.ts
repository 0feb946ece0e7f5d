/**
 * Request and reply on core NATS: nothing is stored, and the server says when nobody listens.
 *
 * A request carries an inbox as its reply subject; where no responder is, the server answers 503
 * there at once. Replies carry one too: a 503 on it tells a responder that its caller is gone.
 */
import type { Msg, Subscription } from '@nats-io/transport-node';
import {
  type BrokerOptions,
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
import { cancelSubject, inboxSubject, requestSubject } from './names.ts';

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

  constructor(link: Link, broker: BrokerOptions) {
    this.#link = link;
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
    await this.#link.try(() => nc.flush());
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
    this.#publish(`${inbox}.r`, frame, `${this.#inbox}.g.${inbox.split('.').at(-1)}`);
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

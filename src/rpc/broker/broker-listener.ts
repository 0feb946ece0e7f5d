/**
 * Calls over the broker: the side of the node that runs the handlers.
 *
 * Holds: the calls that have not ended. A node answers on the topic of its service, which all nodes
 * share, and on a topic that only it has. Invariants: each call is handed to the handler once and answered
 * once; after `close` no call is taken, and none is left. Bound: `MAX_CALLS` at once on each topic,
 * further ones wait at the broker. Cost: one object and one promise a call.
 */
import type { Broker, Responder, ResponderContext, Subscriber } from '../../broker/broker.ts';
import type { Message } from '../../broker/message/message.ts';
import type { ReceivedMessage } from '../../broker/message/received-message.ts';
import { onCallAborted } from '../../broker/requests/own-replies.ts';
import { RivuletError } from '../../errors.ts';
import type {
  CallFailure,
  CallHandler,
  IncomingCall,
  Listener,
  Metadata,
  MethodKind,
  Reply,
  ReplyHead,
} from '../../transport/transport.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { BrokerReplies } from './broker-replies.ts';
import {
  readRequest,
  topicOf,
  writeFailure,
  writeFailureAtEnd,
  writeReply,
} from './broker-wire.ts';

const MAX_CALLS = 10_000;

export interface BrokerListenerSetup {
  readonly broker: Broker;
  readonly service: string;
  readonly nodeId: string;
  readonly handler: CallHandler;
  readonly scheduler: Scheduler;
  readonly metadata: Readonly<Record<string, string>>;
}

export class BrokerListener implements Listener {
  readonly address: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly #setup: BrokerListenerSetup;
  readonly #calls = new Set<BrokerServerCall>();
  #responders: Subscriber[] = [];
  #whenIdle: (() => void) | null = null;

  private constructor(setup: BrokerListenerSetup) {
    this.#setup = setup;
    this.address = setup.broker.address;
    this.metadata = setup.metadata;
  }

  static async open(setup: BrokerListenerSetup): Promise<BrokerListener> {
    const listener = new BrokerListener(setup);
    const { broker, service, nodeId } = setup;
    const respond: Responder = (message, context) => listener.#take(message, context);
    try {
      for (const topic of new Set([topicOf(service, null), topicOf(service, nodeId)])) {
        const options = { group: 'rpc', concurrency: MAX_CALLS };
        listener.#responders.push(await broker.respond(topic, respond, options));
      }
    } catch (error) {
      await listener.close();
      throw error;
    }
    return listener;
  }

  async close(drainMs = 0): Promise<void> {
    const left = this.#responders.splice(0).map((responder) => responder.unsubscribe());
    if (this.#calls.size > 0 && drainMs > 0) {
      await new Promise<void>((resolve) => {
        const stop = this.#setup.scheduler.after(drainMs, resolve);
        this.#whenIdle = () => {
          stop();
          resolve();
        };
      });
    }
    for (const call of [...this.#calls]) call.stop();
    await Promise.all(left);
  }

  /** One reply as a promise, several as an iterable. */
  #take(message: ReceivedMessage, context: ResponderContext): ReturnType<Responder> {
    const call = new BrokerServerCall(message, context, this.#setup.broker.address, () => {
      this.#calls.delete(call);
      if (this.#calls.size === 0) this.#whenIdle?.();
    });
    this.#calls.add(call);
    this.#setup.handler(call);
    return call.answer;
  }
}

class BrokerServerCall implements IncomingCall {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly timeoutMs: number | null;
  readonly peer: { readonly address: string };
  readonly body: Uint8Array | null;
  readonly answer: Promise<Message> | BrokerReplies;
  readonly #context: ResponderContext;
  readonly #ended: () => void;
  readonly #replies: BrokerReplies | null = null;
  #resolve: (reply: Message) => void = () => {};
  #head: ReplyHead | null = null;
  #isOver = false;

  constructor(
    message: ReceivedMessage,
    context: ResponderContext,
    address: string,
    ended: () => void,
  ) {
    const head = readRequest(message);
    this.service = head.service;
    this.endpoint = head.endpoint;
    this.kind = head.kind;
    this.contentType = head.contentType;
    this.metadata = head.metadata;
    this.timeoutMs = head.timeoutMs;
    this.body = head.kind === 'unary' || head.kind === 'serverStream' ? message.body : null;
    this.peer = { address };
    this.#context = context;
    this.#ended = ended;
    if (head.kind === 'serverStream' || head.kind === 'bidi') {
      this.#replies = new BrokerReplies(() => this.#left(gone()));
      this.answer = this.#replies;
    } else {
      this.answer = new Promise((resolve) => {
        this.#resolve = resolve;
      });
    }
  }

  get messages(): AsyncIterableIterator<Uint8Array> {
    return this.body === null ? bodies(this.#context.messages) : once(this.body);
  }

  onCancel(listener: (reason: RivuletError) => void): void {
    onCallAborted(this.#context, (cause) => {
      if (this.#isOver) return;
      const reason = gone(cause);
      // The handler's promise must not keep the responder.
      this.#left(reason);
      listener(reason);
    });
  }

  reply(reply: Reply): void {
    this.#finish(writeReply(reply));
  }

  /** Leaves with the first message. */
  head(head: ReplyHead): void {
    this.#head ??= head;
  }

  send(body: Uint8Array): Promise<void> {
    if (this.#replies === null || this.#isOver) {
      const text = this.#isOver
        ? `the call of ${this.endpoint} has ended`
        : `${this.endpoint}: the caller takes one reply`;
      return Promise.reject(new RivuletError(this.#isOver ? 'CLOSED' : 'UNSUPPORTED', text));
    }
    const head = this.#head;
    this.#head = null;
    return this.#replies.send(head === null ? { body } : writeReply({ ...head, body }));
  }

  end(trailers: Metadata): void {
    if (this.#isOver) return;
    if (this.#replies === null) {
      const detail = `${this.endpoint} ended without a reply`;
      this.fail({ code: 'PROTOCOL', id: 'go.micro.server', status: 500, detail });
      return;
    }
    this.#isOver = true;
    // A head that no message carried is not lost.
    this.#replies.end({ ...this.#head?.metadata, ...trailers });
    this.#ended();
  }

  fail(failure: CallFailure): void {
    if (this.#isOver) return;
    if (this.#replies === null) {
      this.#finish(writeFailure(failure));
      return;
    }
    this.#isOver = true;
    this.#replies.end(writeFailureAtEnd(failure));
    this.#ended();
  }

  /** Ends what runs longer than the listener waits. */
  stop(): void {
    const detail = 'the node has stopped';
    this.fail({ code: 'RESPONDER_LOST', id: 'go.micro.server', status: 502, detail });
  }

  #left(reason: RivuletError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#replies?.fail(reason);
    this.#resolve(NOTHING);
    this.#ended();
  }

  #finish(reply: Message): void {
    if (this.#isOver) return;
    this.#isOver = true;
    // A handler that answers a stream with one reply ends it with that.
    if (this.#replies === null) this.#resolve(reply);
    else {
      this.#replies.send(reply).catch(() => {});
      this.#replies.end({});
    }
    this.#ended();
  }
}

function gone(cause?: unknown): RivuletError {
  return new RivuletError('ABORTED', 'the caller cancelled the call, or is gone', { cause });
}

async function* once(body: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield body;
}

async function* bodies(
  messages: AsyncIterable<ReceivedMessage>,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const { body } of messages) yield body;
}

const NOTHING: Message = { body: new Uint8Array(0) };

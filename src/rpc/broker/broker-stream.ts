/**
 * A call with streams over the broker, as its caller sees it.
 *
 * Invariants: the head is known when the first message has come, read or not; a failure that the peer
 * says is thrown after the messages that came before it. Holds: the first message until it is read.
 * Cost: one object per message.
 */
import type { BrokerCall } from '../../broker/broker.ts';
import type { ReceivedMessage } from '../../broker/message/received-message.ts';
import type { RivuletError } from '../../errors.ts';
import { type Call, CallError, type Metadata, type ReplyHead } from '../../transport/transport.ts';
import { metadataOf, readFailure, WIRE } from './broker-wire.ts';

export interface BrokerStreamSetup {
  readonly contentType: string;
  /** A failure as the caller receives it. */
  readonly explained: (error: unknown) => unknown;
  readonly ended: () => void;
}

export class BrokerStream implements Call {
  readonly head: Promise<ReplyHead>;
  readonly trailers: Promise<Metadata>;
  readonly messages: AsyncIterableIterator<Uint8Array>;
  readonly #call: BrokerCall;

  constructor(call: BrokerCall, setup: BrokerStreamSetup) {
    this.#call = call;
    const messages = new Bodies(call, setup);
    this.messages = messages;
    this.head = messages.first.then((first) => headOf(first, setup.contentType));
    this.trailers = call.trailers.then(
      (headers) => {
        const failure = readFailure(headers, EMPTY);
        if (failure !== null) throw new CallError(failure);
        return metadataOf(headers);
      },
      (error) => {
        throw setup.explained(error);
      },
    );
    // Callers that read only the messages learn of the failure there.
    this.head.catch(() => {});
    this.trailers.then(setup.ended, setup.ended);
  }

  send(body: Uint8Array): Promise<void> {
    return this.#call.send({ body });
  }

  end(): void {
    this.#call.end();
  }

  cancel(reason?: RivuletError): void {
    this.#call.cancel(reason);
  }
}

/** The bodies of the replies. The first is asked for at once, so that the head is known. */
class Bodies implements AsyncIterableIterator<Uint8Array> {
  readonly first: Promise<IteratorResult<ReceivedMessage>>;
  readonly #call: BrokerCall;
  readonly #setup: BrokerStreamSetup;
  #isFirstRead = false;

  constructor(call: BrokerCall, setup: BrokerStreamSetup) {
    this.#call = call;
    this.#setup = setup;
    this.first = call.messages.next();
    this.first.catch(() => {});
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    let result: IteratorResult<ReceivedMessage>;
    try {
      result = await (this.#isFirstRead ? this.#call.messages.next() : this.first);
    } catch (error) {
      throw this.#setup.explained(error);
    } finally {
      this.#isFirstRead = true;
    }
    const { done, value } = result;
    const headers = done ? await this.#call.trailers : value.headers;
    const failure = readFailure(headers, done ? EMPTY : value.body);
    if (failure !== null) throw new CallError(failure);
    return done ? { done: true, value: undefined } : { done: false, value: value.body };
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    this.#isFirstRead = true;
    await this.#call.messages.return?.();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

function headOf(first: IteratorResult<ReceivedMessage>, contentType: string): ReplyHead {
  const headers = first.done ? {} : (first.value as ReceivedMessage).headers;
  return { contentType: headers[WIRE.contentType] ?? contentType, metadata: metadataOf(headers) };
}

const EMPTY = new Uint8Array(0);

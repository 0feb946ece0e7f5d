/**
 * The application's view of a call with streams, around an implementation's RawCall.
 *
 * Invariant: messages that are sent are checked and copied into RawMessages; messages that are received
 * can be read as text or JSON. Cost: one object per message.
 */
import type { RivuletError } from '../../errors.ts';
import type { BrokerCall } from '../broker.ts';
import type { Message, RawMessage } from '../message/message.ts';
import { Received, type ReceivedMessage } from '../message/received-message.ts';
import type { RawCall } from './stream-call.ts';

export class OwnCall implements BrokerCall {
  readonly messages: AsyncIterableIterator<ReceivedMessage>;
  readonly #call: RawCall;
  readonly #own: (message: Message) => RawMessage;

  constructor(topic: string, call: RawCall, own: (message: Message) => RawMessage) {
    this.#call = call;
    this.#own = own;
    this.messages = new ReceivedMessages(topic, call.messages);
  }

  get trailers(): Promise<Readonly<Record<string, string>>> {
    return this.#call.trailers;
  }

  async send(message: Message): Promise<void> {
    await this.#call.send(this.#own(message));
  }

  end(): void {
    this.#call.end();
  }

  cancel(reason?: RivuletError): void {
    this.#call.cancel(reason);
  }
}

/** RawMessages as ReceivedMessages. */
export class ReceivedMessages implements AsyncIterableIterator<ReceivedMessage> {
  readonly #origin: { readonly topic: string };
  readonly #messages: AsyncIterator<RawMessage>;

  constructor(topic: string, messages: AsyncIterator<RawMessage>) {
    this.#origin = { topic };
    this.#messages = messages;
  }

  async next(): Promise<IteratorResult<ReceivedMessage>> {
    const { done, value } = await this.#messages.next();
    if (done) return { done: true, value: undefined };
    return { done: false, value: new Received(value, this.#origin) };
  }

  async return(): Promise<IteratorResult<ReceivedMessage>> {
    await this.#messages.return?.();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

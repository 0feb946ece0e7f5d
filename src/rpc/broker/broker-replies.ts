/**
 * What a handler sends, as the iterable that a responder of the broker gives.
 *
 * Invariants: messages are taken in order; a send resolves when the message has left and the next may
 * follow, which is when the next is asked for. Bound: `MAX_WAITING` messages of a handler that awaits
 * nothing. Cost: one promise per message.
 */
import type { Message } from '../../broker/message/message.ts';
import { RivuletError } from '../../errors.ts';

const MAX_WAITING = 1024;

interface Sent {
  readonly message: Message;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

type Headers = Readonly<Record<string, string>>;
type Taken = IteratorResult<Message, { readonly headers: Headers }>;

export class BrokerReplies
  implements AsyncIterableIterator<Message, { readonly headers: Headers }>
{
  readonly #onLeave: () => void;
  #waiting: Sent[] = [];
  /** The one that has been taken last. */
  #leaving: Sent | null = null;
  #taker: ((taken: Taken) => void) | null = null;
  #trailers: Headers | null = null;
  #error: Error | null = null;

  /** `onLeave`: the broker asks for no more, because the caller is gone. */
  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  send(message: Message): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#waiting.length >= MAX_WAITING) {
      const text = 'too many messages wait to be sent; await send() before the next one';
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message, resolve, reject });
      this.#give();
    });
  }

  /** What was sent leaves first. */
  end(trailers: Headers): void {
    this.#trailers ??= trailers;
    this.#give();
  }

  /** The caller is gone: nothing leaves any more. */
  fail(error: Error): void {
    if (this.#error !== null) return;
    this.#error = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#leaving?.reject(error);
    this.#leaving = null;
    this.#trailers ??= {};
    this.#give();
  }

  next(): Promise<Taken> {
    this.#leaving?.resolve();
    this.#leaving = null;
    return new Promise((resolve) => {
      this.#taker = resolve;
      this.#give();
    });
  }

  return(): Promise<Taken> {
    this.#onLeave();
    return Promise.resolve({ done: true, value: { headers: {} } });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #give(): void {
    const taker = this.#taker;
    if (taker === null) return;
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#taker = null;
      this.#leaving = next;
      taker({ done: false, value: next.message });
    } else if (this.#trailers !== null) {
      this.#taker = null;
      taker({ done: true, value: { headers: this.#trailers } });
    }
  }
}

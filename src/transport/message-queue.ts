/**
 * The receiving end of a stream: messages that came and were not read yet.
 *
 * Invariants: messages are read in order, each once; what came before an end or an error is read
 * before it; bytes are counted from the arrival of a message until its reader asks for the next one,
 * so a reader that holds a message also holds its credit. Bound: `limit` bytes plus one message; a
 * peer that sends more is reported to `onOverrun`. Cost: one promise per message that is awaited.
 */
import { RivuletError } from '../errors.ts';

/** What a message costs beside its body, so that empty messages are bounded too. */
export const MESSAGE_OVERHEAD = 64;

export interface MessageQueueOptions {
  readonly limit: number;
  /** The reader has finished with so many bytes. */
  readonly onConsumed: (bytes: number) => void;
  /** The reader left before the end. */
  readonly onLeave: () => void;
}

export class MessageQueue implements AsyncIterableIterator<Uint8Array> {
  readonly #options: MessageQueueOptions;
  #messages: Uint8Array[] = [];
  #next = 0;
  #bytes = 0;
  /** Cost of the message that the reader has at present. */
  #reading = 0;
  #waiting: {
    resolve: (result: IteratorResult<Uint8Array>) => void;
    reject: (error: Error) => void;
  } | null = null;
  #ended = false;
  #error: Error | null = null;

  constructor(options: MessageQueueOptions) {
    this.#options = options;
  }

  /** Bytes that came and are not read, with the overhead of each message. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Throws PROTOCOL when the peer sent more than the limit allows. */
  push(body: Uint8Array): void {
    if (this.#ended) {
      // The reader has left: nothing is held, and the sender may go on until it learns of it.
      this.#options.onConsumed(body.length + MESSAGE_OVERHEAD);
      return;
    }
    if (this.#bytes >= this.#options.limit) {
      throw new RivuletError('PROTOCOL', 'the peer sent more than its credit allows');
    }
    this.#bytes += body.length + MESSAGE_OVERHEAD;
    const waiting = this.#waiting;
    if (waiting === null) {
      this.#messages.push(body);
      return;
    }
    this.#waiting = null;
    this.#reading = body.length + MESSAGE_OVERHEAD;
    waiting.resolve({ done: false, value: body });
  }

  end(): void {
    this.#finish(null);
  }

  /** The reader throws the error after the messages that came before it. */
  fail(error: Error): void {
    this.#finish(error);
  }

  /** As `fail`, dropping what was not read: the call was cancelled. */
  abort(error: Error): void {
    this.#messages = [];
    this.#next = 0;
    this.#error = error;
    this.#ended = true;
    this.#settle();
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    this.#release();
    if (this.#next < this.#messages.length) {
      const body = this.#messages[this.#next++] as Uint8Array;
      if (this.#next === this.#messages.length) {
        this.#messages = [];
        this.#next = 0;
      } else if (this.#next >= 1024) {
        this.#messages = this.#messages.slice(this.#next);
        this.#next = 0;
      }
      this.#reading = body.length + MESSAGE_OVERHEAD;
      return Promise.resolve({ done: false, value: body });
    }
    if (this.#error !== null) {
      const error = this.#error;
      this.#error = null;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    if (this.#waiting !== null) {
      const text = 'a stream is read by one reader, one message at a time';
      return Promise.reject(new RivuletError('INVALID_ARGUMENT', text));
    }
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    const early = !this.#ended || this.#next < this.#messages.length;
    this.#messages = [];
    this.#next = 0;
    this.#error = null;
    this.#release();
    if (!this.#ended) {
      this.#ended = true;
      this.#settle();
    }
    if (early) this.#options.onLeave();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #release(): void {
    if (this.#reading === 0) return;
    const bytes = this.#reading;
    this.#reading = 0;
    this.#bytes -= bytes;
    this.#options.onConsumed(bytes);
  }

  #finish(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (this.#next >= this.#messages.length) this.#settle();
  }

  #settle(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    this.#waiting = null;
    if (this.#error === null) waiting.resolve({ done: true, value: undefined });
    else {
      const error = this.#error;
      this.#error = null;
      waiting.reject(error);
    }
  }
}

/**
 * The sending end of a stream: how many bytes the peer still takes.
 *
 * Invariants: a message may be sent while the credit is above 0, and costs its body and a fixed
 * overhead, so what is under way is bounded by the window plus one message; senders wait in order.
 * Cost: nothing while there is credit.
 */
import { MESSAGE_OVERHEAD } from './message-queue.ts';

interface Waiting {
  readonly body: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class SendWindow {
  readonly #write: (body: Uint8Array) => void;
  #credit: number;
  #waiting: Waiting[] = [];
  #whenEmpty: (() => void) | null = null;
  #error: Error | null = null;
  readonly #maxWaiting: number;

  constructor(credit: number, write: (body: Uint8Array) => void, maxWaiting = 1024) {
    this.#credit = credit;
    this.#write = write;
    this.#maxWaiting = maxWaiting;
  }

  /**
   * Writes the message as soon as there is credit. Resolves when the next message may be sent, so a
   * caller that awaits it holds one message at a time. Rejects when the stream has ended, or when
   * more than `maxWaiting` messages wait because the caller awaits nothing.
   */
  send(body: Uint8Array, tooMany: () => Error): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#credit > 0 && this.#waiting.length === 0) {
      this.#spend(body);
      return this.#credit > 0 ? READY : this.#next();
    }
    if (this.#waiting.length >= this.#maxWaiting) return Promise.reject(tooMany());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ body, resolve, reject });
    });
  }

  grant(bytes: number): void {
    this.#credit += bytes;
    while (this.#credit > 0) {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) break;
      if (waiting.body !== MARKER) this.#spend(waiting.body);
      waiting.resolve();
    }
    if (this.#waiting.length === 0) this.#empty();
  }

  /** Calls back once everything that was sent has been written: when an END may follow. */
  whenEmpty(callback: () => void): void {
    this.#whenEmpty = callback;
    if (this.#waiting.length === 0) this.#empty();
  }

  fail(error: Error): void {
    if (this.#error !== null) return;
    this.#error = error;
    this.#whenEmpty = null;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
  }

  /** A place in the queue without a message: resolves when there is credit again. */
  #next(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ body: MARKER, resolve, reject });
    });
  }

  #spend(body: Uint8Array): void {
    this.#credit -= body.length + MESSAGE_OVERHEAD;
    this.#write(body);
  }

  #empty(): void {
    const callback = this.#whenEmpty;
    this.#whenEmpty = null;
    callback?.();
  }
}

/** Stands in the queue for a sender that waits for credit and has nothing to write. */
const MARKER = new Uint8Array(0);
const READY = Promise.resolve();

/**
 * The sending end of a stream: how many bytes the peer still takes.
 *
 * Invariants: an item may be sent while the credit is above 0, and spends its cost, so the bytes
 * that the peer has not granted are at most the window plus one item; senders wait in order. Bound: `maxWaiting` items.
 * Cost: nothing while there is credit.
 */
import { READY } from './ready.ts';

interface Waiting<T> {
  /** Null for a sender that waits for credit and has nothing to write. */
  readonly item: { readonly value: T; readonly cost: number } | null;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class SendWindow<T> {
  readonly #write: (item: T) => void;
  #credit: number;
  readonly #waiting: Waiting<T>[] = [];
  #whenEmpty: (() => void) | null = null;
  #error: Error | null = null;
  readonly #maxWaiting: number;

  constructor(credit: number, write: (item: T) => void, maxWaiting = 1024) {
    this.#credit = credit;
    this.#write = write;
    this.#maxWaiting = maxWaiting;
  }

  get credit(): number {
    return this.#credit;
  }

  /**
   * Writes the item as soon as there is credit. Resolves when the next one may be sent (READY: now), so a sender
   * that awaits it holds one item at a time. Rejects when the stream has ended, or when more than
   * `maxWaiting` wait because the sender awaits nothing.
   */
  send(value: T, cost: number, tooMany: () => Error): Promise<void> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#credit > 0 && this.#waiting.length === 0) {
      this.#credit -= cost;
      this.#write(value);
      return this.#credit > 0 ? READY : this.#wait(null);
    }
    if (this.#waiting.length >= this.#maxWaiting) return Promise.reject(tooMany());
    return this.#wait({ value, cost });
  }

  grant(bytes: number): void {
    this.#credit += bytes;
    while (this.#credit > 0) {
      const waiting = this.#waiting.shift();
      if (waiting === undefined) break;
      if (waiting.item !== null) {
        this.#credit -= waiting.item.cost;
        this.#write(waiting.item.value);
      }
      waiting.resolve();
    }
    if (this.#waiting.length === 0) this.#empty();
  }

  /** Calls back once everything that was sent has been written, so that an END may follow. */
  whenEmpty(callback: () => void): void {
    this.#whenEmpty = callback;
    if (this.#waiting.every(({ item }) => item === null)) this.#empty();
  }

  fail(error: Error): void {
    if (this.#error !== null) return;
    this.#error = error;
    this.#whenEmpty = null;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
  }

  #wait(item: Waiting<T>['item']): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
    });
  }

  #empty(): void {
    const callback = this.#whenEmpty;
    this.#whenEmpty = null;
    callback?.();
  }
}

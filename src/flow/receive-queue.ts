/**
 * The receiving end of a stream: items that came and were not read yet, counted in bytes.
 *
 * Invariants: items are read in order, each once; what came before an end or an error is read before
 * it; bytes are counted from the arrival of an item until its reader asks for the next one, so a
 * reader that holds an item also holds its credit. Bound: `limit` bytes plus one item; a peer that
 * sends more breaks the protocol. Cost: one promise per item that is awaited, none per item that is taken.
 */
import { RivuletError } from '../errors.ts';

/** What an item costs beside its bytes, so that empty ones are bounded too. */
export const ITEM_OVERHEAD = 64;

export interface ReceiveQueueOptions {
  readonly limit: number;
  /** The reader has consumed `bytes` bytes. */
  readonly onConsumed: (bytes: number) => void;
  /** The reader left before the end. */
  readonly onLeave: () => void;
}

interface Reader<T> {
  resolve(result: IteratorResult<T>): void;
  reject(error: Error): void;
}

export class ReceiveQueue<T> implements AsyncIterableIterator<T> {
  readonly #options: ReceiveQueueOptions;
  /** Bytes that may lie unread before a further item breaks the protocol. */
  limit: number;
  #items: T[] = [];
  #costs: number[] = [];
  #next = 0;
  #bytes = 0;
  /** Cost of the item that the reader has at present. */
  #reading = 0;
  #reader: Reader<T> | null = null;
  #ended = false;
  #error: Error | null = null;

  constructor(options: ReceiveQueueOptions) {
    this.#options = options;
    this.limit = options.limit;
  }

  /** Bytes that came and are not read, with the overhead of each item. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Items that came and are not read. */
  get size(): number {
    return this.#items.length - this.#next;
  }

  /** A reader waits: it gets the next item at once. */
  protected get isAwaited(): boolean {
    return this.#reader !== null;
  }

  /** `cost` is in bytes, overhead included. Throws PROTOCOL when more came than the limit allows. */
  push(item: T, cost: number): void {
    if (this.#ended) {
      // The reader has left: nothing is held, and the sender may go on until it learns of it.
      this.#options.onConsumed(cost);
      return;
    }
    if (this.#bytes >= this.limit) {
      throw new RivuletError('PROTOCOL', 'the peer sent more than its credit allows');
    }
    this.#bytes += cost;
    const reader = this.#reader;
    if (reader === null) {
      this.#items.push(item);
      this.#costs.push(cost);
      return;
    }
    this.#reader = null;
    this.#reading = cost;
    reader.resolve({ done: false, value: item });
  }

  end(): void {
    this.#finish(null);
  }

  /** The reader throws the error after the items that came before it. */
  fail(error: Error): void {
    this.#finish(error);
  }

  /** As `fail`, dropping what was not read: the stream was cancelled. */
  abort(error: Error): void {
    this.#drop();
    this.#error = error;
    this.#ended = true;
    this.#settle();
  }

  /** As `next`, without a promise: an item that has come, or undefined where the reader has to wait. */
  take(): T | undefined {
    this.#release();
    return this.#next < this.#items.length ? this.#shift() : undefined;
  }

  next(): Promise<IteratorResult<T>> {
    this.#release();
    if (this.#next < this.#items.length) {
      return Promise.resolve({ done: false, value: this.#shift() });
    }
    if (this.#error !== null) {
      const error = this.#error;
      this.#error = null;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    if (this.#reader !== null) {
      const text = 'a stream is read by one reader, one message at a time';
      return Promise.reject(new RivuletError('INVALID_ARGUMENT', text));
    }
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<T>> {
    const early = !this.#ended || this.#next < this.#items.length;
    this.#drop();
    this.#error = null;
    this.#release();
    if (!this.#ended) {
      this.#ended = true;
      this.#settle();
    }
    if (early) this.#options.onLeave();
    // What it left unread is not held any more: the sender may go on until it learns of it.
    const left = this.#bytes;
    this.#bytes = 0;
    if (left > 0) this.#options.onConsumed(left);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #shift(): T {
    const value = this.#items[this.#next] as T;
    this.#reading = this.#costs[this.#next++] as number;
    if (this.#next === this.#items.length) {
      this.#drop();
    } else if (this.#next >= 1024) {
      this.#items = this.#items.slice(this.#next);
      this.#costs = this.#costs.slice(this.#next);
      this.#next = 0;
    }
    return value;
  }

  #drop(): void {
    this.#items = [];
    this.#costs = [];
    this.#next = 0;
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
    if (this.#next >= this.#items.length) this.#settle();
  }

  #settle(): void {
    const reader = this.#reader;
    if (reader === null) return;
    this.#reader = null;
    if (this.#error === null) reader.resolve({ done: true, value: undefined });
    else {
      const error = this.#error;
      this.#error = null;
      reader.reject(error);
    }
  }
}

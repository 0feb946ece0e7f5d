/**
 * A stream between two parties of one process: bounded, in order, one reader.
 *
 * Invariants: `push` resolves when the next item may be pushed; what came before an end or an error
 * is read before it; a reader that leaves is reported once. Bound: `WINDOW_ITEMS` unread items.
 */
import { RivuletError } from '../../errors.ts';
import { READY } from '../../flow/ready.ts';

const WINDOW_ITEMS = 64;
const MAX_WAITING = 1024;

interface Reader<T> {
  resolve(result: IteratorResult<T>): void;
  reject(error: Error): void;
}

export class ValueQueue<T> implements AsyncIterableIterator<T> {
  readonly #onLeave: () => void;
  #items: T[] = [];
  #reader: Reader<T> | null = null;
  #writers: (() => void)[] = [];
  #ended = false;
  #error: Error | null = null;

  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  push(item: T): Promise<void> {
    if (this.#ended) {
      return Promise.reject(this.#error ?? new RivuletError('CLOSED', 'the stream has ended'));
    }
    const reader = this.#reader;
    if (reader !== null) {
      this.#reader = null;
      reader.resolve({ done: false, value: item });
      return READY;
    }
    if (this.#items.length >= WINDOW_ITEMS + MAX_WAITING) {
      const text = 'too many messages wait to be read; await send() before the next one';
      return Promise.reject(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    this.#items.push(item);
    if (this.#items.length < WINDOW_ITEMS) return READY;
    return new Promise((resolve) => this.#writers.push(resolve));
  }

  end(): void {
    this.#finish(null);
  }

  fail(error: Error): void {
    this.#finish(error);
  }

  /** As `fail`, dropping what was not read. */
  abort(error: Error): void {
    this.#items = [];
    this.#ended = true;
    this.#error = error;
    this.#settle();
    this.#release();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#items.length > 0) {
      const value = this.#items.shift() as T;
      if (this.#items.length < WINDOW_ITEMS / 2) this.#release();
      return Promise.resolve({ done: false, value });
    }
    if (this.#error !== null) return Promise.reject(this.#error);
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
    const early = !this.#ended;
    this.#items = [];
    this.#error = null;
    this.#ended = true;
    this.#settle();
    this.#release();
    if (early) this.#onLeave();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (this.#items.length === 0) this.#settle();
    this.#release();
  }

  #settle(): void {
    const reader = this.#reader;
    if (reader === null) return;
    this.#reader = null;
    if (this.#error === null) reader.resolve({ done: true, value: undefined });
    else reader.reject(this.#error);
  }

  #release(): void {
    for (const writer of this.#writers.splice(0)) writer();
  }
}

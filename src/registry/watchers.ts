/**
 * The watchers of a registry: each an async iterator with a bounded queue of events.
 *
 * Invariants: every watcher receives every event of its service in order; a watcher that does not
 * read falls behind by at most `MAX_QUEUED` events, after which its iterator ends with
 * LIMIT_EXCEEDED instead of holding more memory. Cost: one queue entry per watcher and event.
 */
import { RivuletError } from '../errors.ts';
import type { RegistryEvent, WatchOptions } from './registry.ts';

const MAX_QUEUED = 10_000;

export class Watchers {
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  get size(): number {
    return this.#watchers.size;
  }

  /** Begins to watch at the call, not at the first read, so that no event is missed in between. */
  watch(
    name: string | undefined,
    options: WatchOptions = {},
  ): AsyncIterableIterator<RegistryEvent> {
    const watcher = new Watcher(name, () => this.#watchers.delete(watcher));
    if (this.#closed || options.signal?.aborted) {
      watcher.end();
      return watcher;
    }
    this.#watchers.add(watcher);
    const end = () => watcher.end();
    options.signal?.addEventListener('abort', end, { once: true });
    watcher.ended = () => options.signal?.removeEventListener('abort', end);
    return watcher;
  }

  notify(event: RegistryEvent): void {
    for (const watcher of [...this.#watchers]) {
      if (watcher.service === undefined || watcher.service === event.service.name) {
        watcher.push(event);
      }
    }
  }

  /** Ends every watch; with an error, each iterator throws it after the events before it. */
  close(error?: Error): void {
    this.#closed = true;
    this.end(error);
  }

  /** Ends the watches that are there; others may begin. */
  end(error?: Error): void {
    for (const watcher of [...this.#watchers]) watcher.end(error);
  }
}

class Watcher implements AsyncIterableIterator<RegistryEvent> {
  readonly service: string | undefined;
  ended: () => void = () => {};
  readonly #forget: () => void;
  readonly #queue: RegistryEvent[] = [];
  readonly #waiting: {
    resolve: (result: IteratorResult<RegistryEvent>) => void;
    reject: (error: Error) => void;
  }[] = [];
  #over = false;
  #error: Error | null = null;

  constructor(service: string | undefined, forget: () => void) {
    this.service = service;
    this.#forget = forget;
  }

  push(event: RegistryEvent): void {
    if (this.#over) return;
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) waiting.resolve({ done: false, value: event });
    else if (this.#queue.length >= MAX_QUEUED) {
      this.#queue.length = 0;
      const text = `a watcher left ${MAX_QUEUED} events unread; read the services again and watch again`;
      this.end(new RivuletError('LIMIT_EXCEEDED', text));
    } else this.#queue.push(event);
  }

  end(error?: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error ?? null;
    this.#forget();
    this.ended();
    for (const waiting of this.#waiting.splice(0)) {
      if (this.#error === null) waiting.resolve({ done: true, value: undefined });
      else {
        waiting.reject(this.#error);
        this.#error = null;
      }
    }
  }

  next(): Promise<IteratorResult<RegistryEvent>> {
    const event = this.#queue.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#error !== null) {
      const error = this.#error;
      this.#error = null;
      return Promise.reject(error);
    }
    if (this.#over) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
    });
  }

  return(): Promise<IteratorResult<RegistryEvent>> {
    this.#queue.length = 0;
    this.#error = null;
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/**
 * The stream of a call that has one request: that message, then the end.
 *
 * Cost: one object, made only for a handler that reads a stream.
 */
export class OneMessage implements AsyncIterableIterator<Uint8Array> {
  #message: Uint8Array | null;

  constructor(message: Uint8Array | null) {
    this.#message = message;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const value = this.#message;
    this.#message = null;
    return Promise.resolve(
      value === null ? { done: true, value: undefined } : { done: false, value },
    );
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    this.#message = null;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

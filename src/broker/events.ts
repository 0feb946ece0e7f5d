/**
 * A typed emitter, as small as can be.
 *
 * A listener that throws does not disturb the others or the one who reports: its error surfaces as
 * an uncaught one of the process, as an EventEmitter's would, one microtask later.
 */
export class Events<Details extends object> {
  readonly #listeners = new Map<keyof Details, Set<(detail: never) => void>>();

  /** Returns the function that removes the listener again. */
  on<K extends keyof Details>(event: K, listener: (detail: Details[K]) => void): () => void {
    let listeners = this.#listeners.get(event);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(event, listeners);
    }
    // A wrapper of its own, so that one function added twice is removed once per removal.
    const entry = (detail: never) => listener(detail);
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  emit<K extends keyof Details>(event: K, detail: Details[K]): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(detail as never);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

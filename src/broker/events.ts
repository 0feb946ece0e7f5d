/**
 * A typed emitter, as small as can be.
 *
 * A listener that throws affects neither the other listeners nor the emitter: its error is thrown in a
 * microtask, as an uncaught exception of the process.
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
    // Wrapped, so that a function that was added twice is removed once per removal.
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

/**
 * Waiting for a signal that many wait for.
 *
 * `addEventListener` looks through all listeners of the signal, so a thousand calls under one signal
 * would look a million times, and Node warns of a leak at eleven. Holds: per signal one listener and
 * the set of waiters. Invariant: the listener is there while there is a waiter. Cost: O(1).
 */
const watched = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back once when the signal aborts, at once if it has; the returned function ends the wait. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  if (signal.aborted) {
    callback();
    return () => {};
  }
  let waiting = watched.get(signal);
  if (waiting === undefined) {
    const all = new Set<() => void>();
    const aborted = () => {
      watched.delete(signal);
      for (const each of all) each();
    };
    waiting = all;
    watched.set(signal, all);
    listeners.set(all, aborted);
    signal.addEventListener('abort', aborted, { once: true });
  }
  const own = waiting;
  // A new function, so that one callback may wait twice.
  const entry = () => callback();
  own.add(entry);
  return () => {
    if (!own.delete(entry) || own.size > 0 || watched.get(signal) !== own) return;
    watched.delete(signal);
    signal.removeEventListener('abort', listeners.get(own) as () => void);
  };
}

/** A signal that aborts with the first of others, until `end`. */
export interface FirstAbort {
  readonly signal: AbortSignal;
  /** To be called when the work under the signal has ended: the others may live for long. */
  readonly end: () => void;
}

/**
 * In place of `AbortSignal.any` where one of the signals outlives the work: Node 20 keeps a part of each signal
 * that was made so for as long as the longest of them lives.
 */
export function firstAbort(...signals: readonly AbortSignal[]): FirstAbort {
  const first = new AbortController();
  const ends = signals.map((each) => onAbort(each, () => first.abort(each.reason)));
  return {
    signal: first.signal,
    end: () => {
      for (const end of ends) end();
    },
  };
}

const listeners = new WeakMap<Set<() => void>, () => void>();

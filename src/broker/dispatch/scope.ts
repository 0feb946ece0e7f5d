/**
 * What code inherits from the call or message that it serves: deadline, end, trace, and the handlers that
 * it runs in.
 *
 * Invariant: there is one store for all of it, because each AsyncLocalStorage in use makes every promise
 * of the process cost more on Node 20. Cost: one object and one run of the store per call that is served.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

type Headers = Readonly<Record<string, string>>;

export interface Scope {
  /** Monotonic milliseconds; infinite without a deadline. */
  readonly deadline: number;
  /** Ends when the call that is served ends early; null outside of a call. */
  signal(): AbortSignal | null;
  /** The trace headers of what is served; null without a trace. */
  readonly trace: Headers | null;
  /** The innermost handler that the code was called from; see subscribers/handler-context.ts. */
  readonly handler: HandlerFrame | null;
}

/** A handler that was called, and the one that it was called from. */
export interface HandlerFrame {
  readonly owner: object;
  /** Tells whether it has returned. */
  readonly work: { readonly inHandler: boolean };
  readonly outer: HandlerFrame | null;
}

const storage = new AsyncLocalStorage<Scope>();

export function currentScope(): Scope | undefined {
  return storage.getStore();
}

export function runInScope<T, Args extends unknown[]>(
  scope: Scope,
  run: (...args: Args) => T,
  ...args: Args
): T {
  return storage.run(scope, run, ...args);
}

/**
 * Gives the running function, and what it goes on with after each `await`, the current scope with this
 * handler. It has no end: the frame says itself when its handler has returned.
 */
export function enterHandler(handler: HandlerFrame): void {
  storage.enterWith({ ...withTrace(currentScope()?.trace ?? null), handler });
}

/** The current scope with another trace. */
export function withTrace(trace: Headers | null): Scope {
  const outer = currentScope();
  return {
    deadline: outer?.deadline ?? Number.POSITIVE_INFINITY,
    signal: () => outer?.signal() ?? null,
    trace,
    handler: outer?.handler ?? null,
  };
}

/**
 * What code inherits from the call or message that it serves: deadline, end, trace, and the handlers that
 * it runs in.
 *
 * Invariants: there is one store for all of it. Before Node 24 a store that is in use puts a hook on every
 * promise of the process, which costs two to three times as much as the promise. So the store is switched
 * off when no handler runs, unless a scope was entered whose end is not reported (a call, a trace, a
 * loop). What is lost then says nothing: a handler that has returned, no deadline, no trace.
 * Cost: one object and one run of the store per call that is served; one microtask for each turn of the
 * event loop in which the last handler returns.
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

/** What a handler was called for. */
export interface HandlerWork {
  /** The handler has been called and has not returned. */
  readonly inHandler: boolean;
}

/** As `HandlerWork`, of a handler that is called, and does not ask for its work. */
export interface CalledWork extends HandlerWork {
  /** Set while the handler goes on after its call: the code that clears `inHandler` calls it, once. */
  whenOut: (() => void) | null;
}

/** A handler that was called, and the one that it was called from. */
export interface HandlerFrame {
  readonly owner: object;
  readonly work: HandlerWork;
  readonly outer: HandlerFrame | null;
}

const storage = new AsyncLocalStorage<Scope>();

/** Node 24 and later keep stores without hooks. */
const HOOKS_PROMISES = Number(process.versions.node.split('.')[0]) < 24;

/** The store stays in use: it costs nothing, or a scope without a reported end was entered. */
let isLasting = !HOOKS_PROMISES;
/** Handlers that have not returned, while the store may be switched off. */
let running = 0;
let isOffAsked = false;

export function currentScope(): Scope | undefined {
  return storage.getStore();
}

export function runInScope<T, Args extends unknown[]>(
  scope: Scope,
  run: (...args: Args) => T,
  ...args: Args
): T {
  isLasting = true;
  return storage.run(scope, run, ...args);
}

/**
 * Gives the running function, and what it goes on with after each `await`, the current scope with this
 * handler. It has no end: the frame says itself when its handler has returned.
 */
export function enterHandler(handler: HandlerFrame): void {
  isLasting = true;
  storage.enterWith({ ...withTrace(currentScope()?.trace ?? null), handler });
}

/** As `runInScope`, for a handler whose `work` tells when it has returned. */
export function callInScope<Item, T>(
  scope: Scope,
  work: CalledWork,
  handler: (item: Item) => T,
  item: Item,
): T {
  // The call of an iterator's next step, for one, belongs to a handler that is counted.
  if (isLasting || work.whenOut !== null) return storage.run(scope, handler, item);
  running++;
  let goesOn = false;
  try {
    const result = storage.run(scope, handler, item);
    goesOn = endsLater(result);
    if (goesOn) work.whenOut = handlerEnded;
    return result;
  } finally {
    if (!goesOn) handlerEnded();
  }
}

/** A promise or a stream. */
function endsLater(result: unknown): boolean {
  const later = result as Partial<PromiseLike<unknown> & AsyncIterable<unknown>> | null | undefined;
  return typeof later?.then === 'function' || later?.[Symbol.asyncIterator] !== undefined;
}

function handlerEnded(): void {
  running--;
  if (running > 0 || isOffAsked || isLasting) return;
  isOffAsked = true;
  // After the turn: many handlers may return one after the other in it.
  queueMicrotask(() => {
    isOffAsked = false;
    if (running === 0 && !isLasting) storage.disable();
  });
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

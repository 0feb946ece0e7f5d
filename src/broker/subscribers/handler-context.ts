/**
 * Which handlers the running code was called from.
 *
 * A handler that awaits its own subscriber's `unsubscribe`, or its broker's `disconnect`, would wait
 * for itself. The chain of handlers is part of the scope (dispatch/scope.ts).
 * Invariants: a handler that has returned is in no chain, so what it leaves behind (a timer, a
 * connection, a subscription) waits for a close as any other code does. A handler inherits nothing else
 * from the code in whose turn its message arrived: not its deadline, its end, or its trace.
 * Cost: one object for each call of a handler.
 */
import {
  type CalledWork,
  callInScope,
  currentScope,
  enterHandler,
  type HandlerFrame,
  type HandlerWork,
  type Scope,
} from '../dispatch/scope.ts';

export type { HandlerWork };

/** Runs handlers on behalf of one owner. */
export class HandlerContext {
  readonly #owner: object;

  constructor(owner: object) {
    this.#owner = owner;
  }

  /**
   * Calls `handler` with `item`. `trace`: it has the trace of the running code, which is its message's.
   */
  run<Item, T>(
    work: CalledWork,
    handler: (item: Item) => T,
    item: Item,
    trace: 'keep' | 'drop' = 'keep',
  ): T {
    const around = currentScope();
    const outer = running(around?.handler ?? null);
    const kept = trace === 'keep' ? (around?.trace ?? null) : null;
    return callInScope(new HandlerScope(this.#owner, work, outer, kept), work, handler, item);
  }
}

/** The scope of one call of a handler, and its frame. */
class HandlerScope implements Scope, HandlerFrame {
  readonly owner: object;
  readonly work: HandlerWork;
  readonly outer: HandlerFrame | null;
  readonly trace: Scope['trace'];

  constructor(owner: object, work: HandlerWork, outer: HandlerFrame | null, trace: Scope['trace']) {
    this.owner = owner;
    this.work = work;
    this.outer = outer;
    this.trace = trace;
  }

  get deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  signal(): null {
    return null;
  }

  get handler(): HandlerFrame {
    return this;
  }
}

/**
 * Makes the running function part of a handler until `work` says that it has returned: no code of the
 * broker calls the body of a loop. Cost: one object for a loop, none for its later bodies.
 */
export function enterBody(owner: object, work: HandlerWork): void {
  const around = currentScope()?.handler ?? null;
  for (let frame = around; frame !== null; frame = frame.outer) if (frame.work === work) return;
  enterHandler({ owner, work, outer: running(around) });
}

/** Whether the running code was called from a handler whose owner `accepts` accepts. */
export function isInHandler(accepts: (owner: object) => boolean): boolean {
  let frame = currentScope()?.handler ?? null;
  for (; frame !== null; frame = frame.outer) {
    if (frame.work.inHandler && accepts(frame.owner)) return true;
  }
  return false;
}

/** The innermost of these handlers that has not returned. */
function running(innermost: HandlerFrame | null): HandlerFrame | null {
  let frame = innermost;
  while (frame !== null && !frame.work.inHandler) frame = frame.outer;
  return frame;
}

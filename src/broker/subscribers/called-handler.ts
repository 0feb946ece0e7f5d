/**
 * A handler that a caller gave: checked, and called in the scope of its subscriber.
 */
import { shown } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import type { DeliveryHandler } from '../dispatch/delivery-handler.ts';
import type { CalledWork } from '../dispatch/scope.ts';
import { HandlerContext } from './handler-context.ts';
import type { Delivery } from './subscriber.ts';

/** Options, where a caller may give a handler in their place. */
export function isOptions(value: unknown): value is { readonly batch?: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function checkHandler(handler: unknown): asserts handler is (item: unknown) => unknown {
  if (typeof handler === 'function') return;
  throw new RivuletError('INVALID_ARGUMENT', `the handler is a function, not ${shown(handler)}`);
}

/** Calls `handler` on behalf of `owner`, with one delivery or with a batch. */
export function calledHandler(
  handler: (item: unknown) => unknown,
  inBatches: boolean,
  owner: object,
): DeliveryHandler {
  const context = new HandlerContext(owner);
  return inBatches
    ? { batch: (items) => context.run(workOfAll(items), handler, items, 'drop') }
    : { each: (item) => context.run(workOf(item), handler, item) };
}

/** The dispatcher's deliveries tell whether their handler has returned. */
const workOf = (delivery: Delivery | undefined) => delivery as unknown as CalledWork;

/** A batch has no single message that the handler works for. */
const workOfAll = ([first]: readonly Delivery[]): CalledWork => ({
  get inHandler() {
    return workOf(first).inHandler;
  },
  get whenOut() {
    return workOf(first).whenOut;
  },
  set whenOut(ended) {
    workOf(first).whenOut = ended;
  },
});

/**
 * What led to an instance or a signal: the message or the call that the running code serves, unless the
 * caller names another one. So the journey of a message leads to the instances that it started.
 *
 * Invariant: nothing is guessed: a batch has no single message, and a task of a workflow is no message.
 */
import { currentScope } from '../broker/dispatch/scope.ts';
import type { Cause } from './journal/records.ts';

/** Undefined outside of handlers and calls. `given` is what the caller says. */
export function causeOf(given: Cause | undefined): Cause | undefined {
  const { topic, id, traceparent } = given ?? causeHere();
  const cause = {
    ...(typeof topic === 'string' ? { topic } : {}),
    ...(typeof id === 'string' ? { id } : {}),
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
  };
  return Object.keys(cause).length === 0 ? undefined : cause;
}

function causeHere(): { topic?: unknown; id?: unknown; traceparent?: unknown } {
  const scope = currentScope();
  if (scope === undefined) return {};
  // The work of a handler of single messages is its delivery.
  const { topic, id } = (scope.handler?.work ?? {}) as { topic?: unknown; id?: unknown };
  const isMessage = typeof topic === 'string' && !topic.startsWith('wf:{');
  return { ...(isMessage ? { topic, id } : {}), traceparent: scope.trace?.traceparent };
}

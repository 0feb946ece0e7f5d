/**
 * Wrappers: code around every call, at the client and at the server, and around every message.
 *
 * A wrapper is given the call and `next`, and returns what `next` returned or something in its place.
 * Invariant: the first of a list is the outermost: it sees a call first and its outcome last.
 * Cost: none where there is no wrapper.
 */
import type { Delivery } from '../broker/broker.ts';
import type { MethodKind } from '../transport/transport.ts';
import type { CallContext } from './context.ts';
import type { Metadata } from './metadata.ts';

/** A call that leaves this process. Requests and replies are values, streams are async iterables. */
export interface ClientCall {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly request: unknown;
  /** May be changed before `next`. */
  readonly metadata: Metadata;
}

export type ClientWrapper = (call: ClientCall, next: () => unknown) => unknown;
export type ServerWrapper = (
  request: unknown,
  context: CallContext,
  next: (request: unknown) => unknown,
) => unknown;
export type SubscriberWrapper = (delivery: Delivery, next: () => unknown) => unknown;

/** `run` inside every wrapper, the first outermost. */
export function wrapClient(
  wrappers: readonly ClientWrapper[],
  call: ClientCall,
  run: () => unknown,
): unknown {
  let next = run;
  for (let index = wrappers.length - 1; index >= 0; index--) {
    const wrapper = wrappers[index] as ClientWrapper;
    const inner = next;
    next = () => wrapper(call, inner);
  }
  return next();
}

export function wrapServer(
  wrappers: readonly ServerWrapper[],
  context: CallContext,
  run: (request: unknown) => unknown,
): (request: unknown) => unknown {
  let next = run;
  for (let index = wrappers.length - 1; index >= 0; index--) {
    const wrapper = wrappers[index] as ServerWrapper;
    const inner = next;
    next = (request) => wrapper(request, context, inner);
  }
  return next;
}

export function wrapSubscriber(
  wrappers: readonly SubscriberWrapper[],
  delivery: Delivery,
  run: () => unknown,
): unknown {
  let next = run;
  for (let index = wrappers.length - 1; index >= 0; index--) {
    const wrapper = wrappers[index] as SubscriberWrapper;
    const inner = next;
    next = () => wrapper(delivery, inner);
  }
  return next();
}

/**
 * One call, passed on: from the transport that received it to the node that runs its handler.
 *
 * Invariants: bodies are not read; deadline, cancellation, metadata, errors and their data are carried in
 * both directions; a call with one reply goes to another node only where the first provably ran nothing;
 * each node that was chosen is marked once. Cost: one frame in, one frame out.
 */
import { RivuletError } from '../errors.ts';
import type { ServiceNode } from '../registry/registry.ts';
import type { Connections } from '../rpc/connections.ts';
import { failureOf } from '../rpc/errors-wire.ts';
import { OK, outcomeOf } from '../rpc/outcome.ts';
import type { Outcome } from '../selector/selector.ts';
import {
  CallError,
  type Channel,
  type IncomingCall,
  type Metadata,
  type MethodKind,
  type OutgoingCall,
} from '../transport/transport.ts';

export const PROXY_ID = 'go.micro.proxy';

export interface Route {
  readonly service: string;
  readonly kind: MethodKind;
  /** The function that gives a node for each attempt. */
  readonly next: () => ServiceNode;
  readonly mark: (node: ServiceNode, outcome: Outcome) => void;
  readonly connections: Connections;
  readonly metadata: Metadata;
  /** Milliseconds; null for a stream without a deadline. */
  readonly timeoutMs: number | null;
  /** Nodes that a call with one reply may be sent to, one after the other. */
  readonly attempts: number;
}

/** Ends the incoming call, whatever happens. Never rejects. */
export async function forward(call: IncomingCall, route: Route): Promise<void> {
  const cancelled = new AbortController();
  call.onCancel((reason) => cancelled.abort(reason));
  try {
    if (route.kind === 'unary') await forwardUnary(call, route, cancelled.signal);
    else await forwardStream(call, route, cancelled.signal);
  } catch (error) {
    if (cancelled.signal.aborted) return;
    call.fail(error instanceof CallError ? error.failure : { ...failureOf(error, PROXY_ID, null) });
  }
}

async function forwardUnary(call: IncomingCall, route: Route, signal: AbortSignal): Promise<void> {
  const body = call.body ?? (await firstOf(call.messages));
  for (let attempt = 1; ; attempt++) {
    try {
      const reply = await onChannel(route, (channel) =>
        channel.request(outgoing(call, route, signal, body)),
      );
      call.reply(reply);
      return;
    } catch (error) {
      const mayRepeat = error instanceof RivuletError && error.sent === 'no' && error.retryable;
      if (attempt >= route.attempts || !mayRepeat || signal.aborted) throw error;
    }
  }
}

async function forwardStream(call: IncomingCall, route: Route, signal: AbortSignal): Promise<void> {
  await onChannel(route, async (channel) => {
    const isServerStream = route.kind === 'serverStream';
    const body = isServerStream ? (call.body ?? (await firstOf(call.messages))) : null;
    const out = channel.call(outgoing(call, route, signal, body));
    // The caller's messages go on while replies come back.
    const sending = isServerStream ? null : sendAll(call, out);
    sending?.catch(() => {});
    try {
      const head = await out.head;
      let isFirst = true;
      for await (const message of out.messages) {
        if (route.kind === 'clientStream') {
          call.reply({ contentType: head.contentType, metadata: head.metadata, body: message });
          return;
        }
        if (isFirst) call.head(head);
        isFirst = false;
        await call.send(message);
      }
      if (route.kind === 'clientStream') {
        throw new RivuletError('PROTOCOL', `${route.service} ended without a reply`);
      }
      call.end(await out.trailers);
    } catch (error) {
      out.cancel();
      throw error;
    }
  });
}

async function sendAll(
  call: IncomingCall,
  out: { send(body: Uint8Array): Promise<void>; end(): void },
): Promise<void> {
  for await (const message of call.messages) await out.send(message);
  out.end();
}

async function onChannel<T>(route: Route, work: (channel: Channel) => Promise<T>): Promise<T> {
  const node = route.next();
  let outcome: Outcome = OK;
  try {
    const { channel } = await route.connections.to(node);
    return await work(channel);
  } catch (error) {
    outcome = outcomeOf(error);
    throw error;
  } finally {
    route.mark(node, outcome);
  }
}

function outgoing(
  call: IncomingCall,
  { service, kind, metadata, timeoutMs }: Route,
  signal: AbortSignal,
  body: Uint8Array | null,
): OutgoingCall {
  const { endpoint, contentType } = call;
  return { service, endpoint, kind, contentType, metadata, timeoutMs, signal, body };
}

async function firstOf(messages: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  for await (const message of messages) return message;
  return new Uint8Array(0);
}

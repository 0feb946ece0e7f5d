/**
 * What the tests of every transport share: a listener with handlers by endpoint, a channel to it, and
 * helpers that await what a transport does.
 */
import type { ServiceNode } from '../../src/registry/registry.ts';
import type { TlsOptions } from '../../src/transport/tls.ts';
import {
  type Channel,
  type IncomingCall,
  type Listener,
  type MethodKind,
  NO_METADATA,
  type OutgoingCall,
  type ServedMethod,
  type Transport,
} from '../../src/transport/transport.ts';
import { until } from '../helpers/until.ts';

export interface Wire extends AsyncDisposable {
  readonly listener: Listener;
  readonly node: ServiceNode;
  readonly channel: Channel;
  /** Calls in the order in which they reached the handler. */
  readonly calls: IncomingCall[];
  /** Resolves with the n-th call, counted from 0. */
  called(index: number): Promise<IncomingCall>;
  readonly gone: Promise<void>;
}

export interface WireOptions {
  readonly token?: string;
  readonly tls?: TlsOptions;
  readonly methods?: Readonly<Record<string, ServedMethod>>;
}

const KIND_OF: Readonly<Record<string, MethodKind>> = {
  'Test.Echo': 'unary',
  'Test.Hang': 'unary',
  'Test.Count': 'serverStream',
  'Test.Flood': 'serverStream',
  'Test.Sum': 'clientStream',
  'Test.Chat': 'bidi',
  'Test.Deaf': 'bidi',
};

/** How the endpoints of the tests answer; what is not here stays open until it is cancelled. */
const HANDLERS: Readonly<Record<string, (call: IncomingCall) => unknown>> = {
  'Test.Echo': (call) =>
    call.reply({
      contentType: call.contentType,
      metadata: { 'x-got': call.metadata['x-sent'] ?? '' },
      body: call.body as Uint8Array,
    }),
  async 'Test.Count'(call) {
    call.head({ contentType: call.contentType, metadata: { 'x-head': 'first' } });
    const count = Number(Buffer.from(call.body as Uint8Array).toString());
    for (let n = 0; n < count; n++) await call.send(Buffer.from(String(n)));
    call.end({ 'x-trailer': 'last' });
  },
  async 'Test.Sum'(call) {
    let sum = 0;
    for await (const message of call.messages) sum += Number(Buffer.from(message).toString());
    call.reply({
      contentType: call.contentType,
      metadata: NO_METADATA,
      body: Buffer.from(String(sum)),
    });
  },
  async 'Test.Chat'(call) {
    for await (const message of call.messages) {
      await call.send(Buffer.from(Buffer.from(message).toString().toUpperCase()));
    }
    call.end(NO_METADATA);
  },
};

export async function openWire(transport: Transport, options: WireOptions = {}): Promise<Wire> {
  const calls: IncomingCall[] = [];
  const listener = await transport.listen({
    address: '127.0.0.1:0',
    nodeId: 'node-1',
    token: options.token ?? 'secret',
    tls: options.tls,
    methods: (endpoint) => {
      const kind = KIND_OF[endpoint];
      return options.methods?.[endpoint] ?? (kind === undefined ? null : { kind, isProto: false });
    },
    handler(call) {
      calls.push(call);
      if (KIND_OF[call.endpoint] === undefined) {
        const detail = `no endpoint ${call.endpoint}`;
        const failure = { code: 'METHOD_NOT_FOUND', id: 'test', status: 404, detail } as const;
        call.fail({ ...failure, sent: 'no' });
        return;
      }
      // A handler ends early when its caller leaves: that is what the tests look at, not an error.
      Promise.resolve(HANDLERS[call.endpoint]?.(call)).catch(() => {});
    },
  });
  const node = { id: 'node-1', address: listener.address, metadata: { ...listener.metadata } };
  let left = () => {};
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  const channel = await transport.dial(node, { onGone: left });
  return {
    listener,
    node,
    channel,
    calls,
    gone,
    async called(index) {
      await until(() => calls.length > index);
      return calls[index] as IncomingCall;
    },
    async [Symbol.asyncDispose]() {
      await channel.close();
      await listener.close();
    },
  };
}

export function outgoing(
  endpoint: string,
  body: string | Uint8Array | null,
  more: Partial<OutgoingCall> = {},
): OutgoingCall {
  return {
    service: 'test.service',
    endpoint,
    kind: KIND_OF[endpoint] ?? 'unary',
    contentType: 'application/octet-stream',
    metadata: NO_METADATA,
    timeoutMs: 10_000,
    signal: null,
    body: typeof body === 'string' ? Buffer.from(body) : body,
    ...more,
  };
}

/** The reason for which the server's side of a call was cancelled. */
export function cancelled(call: IncomingCall): Promise<Error> {
  return new Promise((resolve) => call.onCancel(resolve));
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

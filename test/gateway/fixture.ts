/** A gateway with a broker and services of this process, reached over TCP as those of others are. */
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { Gateway } from '../../src/gateway/gateway.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import type { GatewayOptions } from '../../src/gateway/options.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { bidi, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { errorType } from '../../src/rpc/service-error.ts';
import { createService, type Service } from '../../src/service/service.ts';

export const NotFound = errorType({ status: 404, detail: 'there is no such order' });

const Learning = contract('go.micro.api.learning', {
  Learning: {
    Hi: unary<unknown, unknown>(),
    Nothing: unary<unknown, unknown>(),
    Fails: unary({ errors: { NotFound } }),
    Throws: unary<unknown, unknown>(),
    Slow: unary<unknown, unknown>(),
    Count: serverStream<{ to: number }, unknown>(),
    Breaks: serverStream<unknown, unknown>(),
    Chat: bidi<unknown, unknown>(),
    Get: unary<unknown, unknown>({
      metadata: {
        handler: 'rpc',
        method: 'GET,POST',
        path: '/orders/{id},/orders/{id}/lines/{line.number}',
      },
    }),
    Latest: unary<unknown, unknown>({
      metadata: { handler: 'rpc', method: 'GET', path: '/orders/latest' },
    }),
    Put: unary<unknown, unknown>({
      metadata: { handler: 'rpc', method: 'PUT', path: '/orders/{id}', body: 'order' },
    }),
    Raw: unary<unknown, unknown>({
      metadata: { handler: 'api', path: '^/raw/[a-z]+$', host: 'raw.example.com' },
    }),
  },
  Greeter: { Hi: unary<unknown, unknown>() },
});
const LearningV2 = contract('go.micro.api.v2.learning', {
  Learning: { Hi: unary<unknown, unknown>() },
});

export interface GatewayFixture extends AsyncDisposable {
  readonly gateway: Gateway;
  readonly url: string;
  readonly broker: Broker;
  readonly registry: MemoryRegistry;
  /** Calls of `Slow` that were cancelled. */
  readonly cancelled: string[];
}

export async function gatewayFixture(options: GatewayOptions = {}): Promise<GatewayFixture> {
  const registry = new MemoryRegistry();
  const broker = await openBroker('memory:');
  const cancelled: string[] = [];
  const quiet = { registry, transport: 'tcp', environment: false as const, args: false as const };
  const services: Service[] = [
    createService(quiet).handle(Learning, {
      Learning: {
        Hi: (request, { metadata }) => ({
          msg: 'hi',
          request,
          host: metadata.get('host'),
          tenant: metadata.get('x-tenant') ?? null,
          spoof: metadata.get('micro-from-service'),
          trace: metadata.get('traceparent'),
        }),
        Nothing: () => undefined,
        Fails: () => {
          throw new Learning.Learning.Fails.errors.NotFound();
        },
        Throws: () => {
          throw new Error('out of paper');
        },
        Slow: (_request, { signal, metadata }) =>
          new Promise((resolve) => {
            signal.addEventListener('abort', () => {
              cancelled.push(metadata.get('x-name') ?? '');
              resolve({});
            });
          }),
        async *Count({ to }) {
          for (let number = 1; number <= to; number++) yield { number };
        },
        async *Breaks() {
          yield { number: 1 };
          throw new Error('broken in the middle');
        },
        async *Chat(requests) {
          for await (const request of requests) yield { echo: request };
        },
        Get: (request) => ({ by: 'Get', request }),
        Latest: () => ({ by: 'Latest' }),
        Put: (request) => ({ by: 'Put', request }),
        Raw: (request) => ({
          statusCode: 201,
          header: { 'X-Seen': { key: 'X-Seen', values: ['yes'] } },
          body: JSON.stringify(request),
        }),
      },
      Greeter: { Hi: () => ({ msg: 'hi from Greeter' }) },
    }),
    createService(quiet).handle(LearningV2, { Learning: { Hi: () => ({ msg: 'hi from v2' }) } }),
  ];
  for (const service of services) await service.start();
  const gateway = await startGateway({ address: ':0', registry, broker, ...options });
  return {
    gateway,
    url: gateway.url,
    broker,
    registry,
    cancelled,
    async [Symbol.asyncDispose]() {
      await gateway.stop();
      for (const service of services) await service.stop();
      await broker.disconnect();
    },
  };
}

/** The answer with its body as JSON, where it is JSON. */
export async function ask(url: string, init: RequestInit = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(20_000), ...init });
  const text = await response.text();
  const isJson = (response.headers.get('content-type') ?? '').includes('json');
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson && text !== '' && !text.includes('\n') ? JSON.parse(text) : null,
  };
}

/** A POST of JSON. */
export function post(body: unknown, headers: Record<string, string> = {}): RequestInit {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...headers },
  };
}

/** The proxy: mucp, gRPC and our frames in, services out by name; clients of other languages among them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { startProxy } from '../../src/proxy/proxy.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { Client } from '../../src/rpc/client.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { errorType } from '../../src/rpc/service-error.ts';
import { RegistrySelector } from '../../src/selector/registry-selector.ts';
import { strategyByName } from '../../src/selector/strategies.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { GrpcTransport } from '../../src/transport/grpc/grpc.ts';
import { MucpTransport } from '../../src/transport/mucp/mucp.ts';
import { TcpTransport } from '../../src/transport/tcp/tcp.ts';
import { runTool } from '../helpers/children.ts';
import { PYTHON } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';

const NotFound = errorType<{ id: number }>({ status: 404, detail: 'there is no such order' });
const NAME = 'go.micro.api.orderservice';
interface Order {
  readonly id: number;
  readonly tenant: string | null;
  readonly via: string | null;
}

const Orders = contract(NAME, {
  OrderSrv: {
    GetOrder: unary<{ id: number }, Order, { NotFound: typeof NotFound }>({ errors: { NotFound } }),
    Count: serverStream<{ to: number }, { number: number }>(),
    Sum: clientStream<{ n: number }, { sum: number }>(),
    Echo: bidi<{ n: number }, { n: number }>(),
    Slow: unary<{ name: string }, unknown>(),
  },
});
const outside = { environment: false, args: false } as const;

let service: Service;
let registry: MemoryRegistry;
const cancelled: string[] = [];
before(async () => {
  registry = new MemoryRegistry();
  service = createService({ registry, transport: 'tcp', ...outside });
  service.handle(Orders, {
    OrderSrv: {
      GetOrder: ({ id }, { metadata }) => {
        if (id === 404) throw new Orders.OrderSrv.GetOrder.errors.NotFound({ id });
        return {
          id,
          tenant: metadata.get('x-tenant') ?? null,
          via: metadata.get('micro-via') ?? null,
          ...(metadata.has('x-show') ? { shown: metadata.toJSON() } : {}),
        };
      },
      async *Count({ to }) {
        for (let number = 1; number <= to; number++) yield { number };
      },
      async Sum(requests) {
        let sum = 0;
        for await (const { n } of requests) sum += n;
        return { sum };
      },
      async *Echo(requests) {
        for await (const request of requests) yield request;
      },
      Slow: ({ name }, { signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            cancelled.push(name);
            resolve({});
          });
        }),
    },
  });
  await service.start();
});
after(() => service.stop());

/** A client that sends every call to one address by one transport. */
function clientTo(transport: TcpTransport | GrpcTransport | MucpTransport) {
  return new Client({
    selector: new RegistrySelector(new MemoryRegistry(), { strategy: strategyByName('random')! }),
    transports: [transport],
  });
}

async function* items(count: number) {
  for (let n = 1; n <= count; n++) yield { n };
}

for (const [name, make] of [
  ['our frames', () => new TcpTransport({})],
  ['gRPC', () => new GrpcTransport()],
  ['mucp', () => new MucpTransport({})],
] as const) {
  test(`${name}: calls, errors with their data, metadata and deadlines pass through`, async () => {
    await using proxy = await startProxy({ address: ':0', registry });
    const client = clientTo(make());
    const { address } = proxy;
    const orders = client.of(Orders).OrderSrv;
    const reply = await orders.GetOrder({ id: 7 }, { address, metadata: { 'x-tenant': 'blue' } });
    assert.deepEqual(reply, { id: 7, tenant: 'blue', via: '1' });
    await assert.rejects(orders.GetOrder({ id: 404 }, { address }), { status: 404 });
    await assert.rejects(client.call(NAME, 'OrderSrv.None', {}, { address }), (error: Error) =>
      /no endpoint/.test(error.message),
    );
    await assert.rejects(client.call('nobody', 'A.B', {}, { address }));
    await assert.rejects(orders.Slow({ name: 'late' }, { address, timeoutMs: 300 }), {
      code: 'TIMEOUT',
    });
    await client.close();
  });
}

for (const [name, make] of [
  ['our frames', () => new TcpTransport({})],
  ['gRPC', () => new GrpcTransport()],
] as const) {
  test(`${name}: streams in each direction pass through, and a client that leaves cancels`, async () => {
    await using proxy = await startProxy({ address: ':0', registry });
    const client = clientTo(make());
    const { address } = proxy;
    const orders = client.of(Orders).OrderSrv;
    const counted: number[] = [];
    for await (const { number } of orders.Count({ to: 500 }, { address })) counted.push(number);
    assert.equal(counted.length, 500);
    for await (const _ of orders.Count({ to: 0 }, { address })) assert.fail('it has no reply');
    assert.deepEqual(await orders.Sum(items(100), { address }), { sum: 5050 });
    const echoed: number[] = [];
    for await (const { n } of orders.Echo(items(200), { address })) echoed.push(n);
    assert.deepEqual([echoed.length, echoed[199]], [200, 200]);
    const leaving = new AbortController();
    const call = orders.Slow({ name }, { address, timeoutMs: 20_000, signal: leaving.signal });
    setTimeout(() => leaving.abort(), 300);
    await assert.rejects(call);
    await until(() => cancelled.includes(name));
    await until(() => proxy.running === 0);
    await client.close();
  });
}

test('a client with nothing but HTTP calls by name, and names that are none are refused', async () => {
  await using proxy = await startProxy({ address: ':0', registry });
  const send = (headers: Record<string, string>, body = '{"id":1}') =>
    fetch(`http://${proxy.address}/`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', ...headers },
    });
  const headers = { 'Micro-Service': NAME, 'Micro-Endpoint': 'OrderSrv.GetOrder' };
  const answer = await send(headers);
  assert.deepEqual(await answer.json(), { id: 1, tenant: null, via: '1' });
  // mucp carries errors in a header, as go-micro's own servers do.
  const errorOf = async (response: Response) => {
    await response.text();
    return JSON.parse(response.headers.get('micro-error') ?? '{"code":0}');
  };
  const blank = await errorOf(await send({ 'Micro-Endpoint': 'OrderSrv.GetOrder' }));
  assert.deepEqual([blank.code, blank.detail], [400, 'service name is blank']);
  for (const evil of ['../etc', 'a b', 'a/b', '*', 'x'.repeat(300)]) {
    const refused = await send({ ...headers, 'Micro-Service': evil });
    const isError = refused.status >= 400 || (await errorOf(refused)).code >= 400;
    assert.ok(isError, `${evil}: ${refused.status}`);
  }
});

test('a Python client with its HTTP library, and one with grpcio, call the order service', async (t) => {
  if (spawnSync(PYTHON, ['-c', 'pass']).status !== 0) return t.skip('python3 is not installed');
  await using proxy = await startProxy({ address: ':0', registry });
  const plain = `
import http.client, json, sys
c = http.client.HTTPConnection(sys.argv[1])
c.request('POST', '/', json.dumps({'id': 5}), {'Content-Type': 'application/json',
  'Micro-Service': '${NAME}', 'Micro-Endpoint': 'OrderSrv.GetOrder', 'X-Tenant': 'python'})
r = c.getresponse()
print(r.status, r.read().decode())
`;
  const http = await runTool(PYTHON, ['-c', plain, proxy.address]);
  assert.equal(http.stdout, '200 {"id":5,"tenant":"python","via":"1"}\n', http.stderr);
  if (spawnSync(PYTHON, ['-c', 'import grpc']).status !== 0) {
    t.diagnostic('grpcio is not installed: the gRPC half of this test is left out');
    return;
  }
  const grpc = `
import grpc, json, sys
channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary('/${NAME}.OrderSrv/GetOrder',
  request_serializer=lambda v: json.dumps(v).encode(), response_deserializer=json.loads)
print(json.dumps(call({'id': 6}, metadata=[('x-tenant', 'grpcio')], timeout=10)))
`;
  const answered = await runTool(PYTHON, ['-c', grpc, proxy.address]);
  assert.equal(answered.code, 0, answered.stderr);
});

test('only allowed services are reached, and only by callers that may', async () => {
  await using proxy = await startProxy({
    address: ':0',
    registry,
    allow: ['go.micro.srv.*'],
    auth: { keys: [{ name: 'a', key: 'key' }] },
  });
  const client = clientTo(new TcpTransport({}));
  const { address } = proxy;
  await assert.rejects(client.call(NAME, 'OrderSrv.GetOrder', { id: 1 }, { address }), {
    code: 'AUTHENTICATION_FAILED',
  });
  const metadata = { 'x-api-key': 'key' };
  await assert.rejects(client.call(NAME, 'OrderSrv.GetOrder', { id: 1 }, { address, metadata }), {
    code: 'PERMISSION_DENIED',
  });
  await client.close();
});

const CLAIMS = {
  'micro-account': 'evil',
  micro_account: 'evil',
  'x-micro-account': 'evil',
  'micro-from-service': 'evil',
  'micro-namespace': 'evil',
  'rivulet-code': 'evil',
};

for (const [name, make] of [
  ['our frames', () => new TcpTransport({})],
  ['gRPC', () => new GrpcTransport()],
  ['mucp', () => new MucpTransport({})],
] as const) {
  test(`${name}: a caller cannot claim an account or another service's name`, async () => {
    await using open = await startProxy({ address: ':0', registry });
    await using locked = await startProxy({
      address: ':0',
      registry,
      auth: { keys: [{ name: 'ann', key: 'key' }] },
    });
    await using trusting = await startProxy({
      address: ':0',
      registry,
      trustedMetadata: ['Micro-Account'],
    });
    const client = clientTo(make());
    const shown = async ({ address }: { address: string }, more: Record<string, string> = {}) => {
      const metadata = { ...CLAIMS, 'x-show': '1', 'rivulet-attempt': '2', ...more };
      const options = { address, metadata };
      const reply = await client.call<{ shown: Record<string, string> }>(
        NAME,
        'OrderSrv.GetOrder',
        { id: 1 },
        options,
      );
      return reply.shown;
    };
    const first = await shown(open);
    assert.ok(!JSON.stringify(first).includes('evil'), JSON.stringify(first));
    assert.equal(first['micro-from-service'], 'go.micro.proxy');
    assert.equal(first['rivulet-attempt'], '2');
    const known = await shown(locked, { 'x-api-key': 'key' });
    assert.equal(known['micro-account'], 'ann');
    assert.equal((await shown(trusting))['micro-account'], 'evil');
    await client.close();
  });
}

test('guessing keys is slowed down', async () => {
  await using proxy = await startProxy({
    address: ':0',
    registry,
    auth: { keys: [{ name: 'a', key: 'key' }] },
    wrongKeyLimit: { perSecond: 0.001, burst: 20 },
  });
  const client = clientTo(new TcpTransport({}));
  const { address } = proxy;
  const call = (key: string) =>
    client
      .call(NAME, 'OrderSrv.GetOrder', { id: 1 }, { address, metadata: { 'x-api-key': key } })
      .then(
        () => 'ok',
        (error: { code: string }) => error.code,
      );
  const codes = new Set(await Promise.all(Array.from({ length: 30 }, (_, i) => call(`k${i}`))));
  assert.deepEqual([...codes].sort(), ['AUTHENTICATION_FAILED', 'LIMIT_EXCEEDED']);
  assert.equal(await call('key'), 'ok');
  await client.close();
});

test('proxies pass on to each other, and a circle of them ends', async () => {
  await using inner = await startProxy({ address: ':0', registry });
  await using outer = await startProxy({
    address: ':0',
    registry: 'memory',
    endpoint: `grpc://${inner.address}`,
  });
  const client = clientTo(new TcpTransport({}));
  const call = (address: string) =>
    client.call<{ via: string }>(NAME, 'OrderSrv.GetOrder', { id: 1 }, { address });
  assert.equal((await call(outer.address)).via, '2');
  const { freePort } = await import('../helpers/free-port.ts');
  const port = await freePort();
  await using circle = await startProxy({
    address: `127.0.0.1:${port}`,
    registry: 'memory',
    endpoint: `http://127.0.0.1:${port}`,
  });
  await assert.rejects(call(circle.address), /8 proxies/);
  await client.close();
});

test('a content type that HTTP cannot carry leaves no caller without an answer', async () => {
  const odd = await new TcpTransport().listen({
    address: '127.0.0.1:0',
    nodeId: 'odd-1',
    handler: (call) =>
      call.reply({ contentType: 'a\nb\u0100', metadata: {}, body: Buffer.from('{"id":7}') }),
  });
  const nodes = [{ id: 'odd-1', address: odd.address, metadata: odd.metadata }];
  const record = { name: 'odd', version: '1', metadata: {}, endpoints: [], nodes };
  const own = new MemoryRegistry();
  await own.register(record, { ttlMs: 60_000 });
  await using proxy = await startProxy({ address: ':0', registry: own });
  const answer = await fetch(`http://${proxy.address}/`, {
    method: 'POST',
    body: '{}',
    headers: { 'micro-service': 'odd', 'micro-endpoint': 'A.B' },
    signal: AbortSignal.timeout(10_000),
  });
  assert.deepEqual(await answer.json(), { id: 7 });
  await odd.close();
});

test('options that cannot be obeyed stop the start', async () => {
  for (const options of [
    { protocol: 'soap' as never },
    { endpoint: 'a b' },
    { allow: ['go.*.srv'] },
    { timeoutMs: Number.NaN },
    { maxConcurrentCalls: 0 },
    { retries: -1 },
    { maxHops: 0 },
    { trustedMetadata: 'micro-account' as never },
    { address: 'nowhere' },
    { colour: 'red' } as never,
  ]) {
    await assert.rejects(startProxy({ address: ':0', registry, ...options }), {
      code: 'INVALID_ARGUMENT',
    });
  }
});

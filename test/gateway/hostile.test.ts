/** Clients, services and servers that mean harm: what they send stays theirs, and ends nothing else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { readBody } from '../../src/gateway/exchange.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { Directory } from '../../src/gateway/routing/directory.ts';
import { compilePath } from '../../src/gateway/routing/path-template.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { RegistrySelector } from '../../src/selector/registry-selector.ts';
import { createService } from '../../src/service/service.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { until } from '../helpers/until.ts';
import { ask, type GatewayFixture, gatewayFixture, post } from './fixture.ts';

/** Sends bytes as they are; gives what comes until the connection ends. */
function exchange(fixture: GatewayFixture, text: string) {
  const socket = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  let answer = '';
  return new Promise<string>((resolve) => {
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer));
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
    });
    socket.write(text, 'latin1');
  });
}

/** An HTTP server in the registry, reached at `/shop`, and what it was asked. */
async function shop(answer: (url: string) => string | null) {
  const seen: { line: string; headers: NodeJS.Dict<string | string[]> }[] = [];
  const server = createServer((request, response) => {
    seen.push({ line: `${request.method} ${request.url}`, headers: request.headers });
    const text = answer(request.url ?? '');
    request.resume();
    if (text !== null) request.once('end', () => response.end(text));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const fixture = await gatewayFixture({ handler: 'web', type: 'web', timeoutMs: 5000 });
  const { port } = server.address() as AddressInfo;
  const nodes = [{ id: 'shop-1', address: `127.0.0.1:${port}`, metadata: {} }];
  const record = { name: 'go.micro.web.shop', version: '1', metadata: {}, endpoints: [], nodes };
  await fixture.registry.register(record, { ttlMs: 60_000 });
  return {
    fixture,
    seen,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
    },
  };
}

test('no other way of writing a path leads past its rule', async () => {
  await using fixture = await gatewayFixture({
    auth: { keys: [{ name: 'a', key: 'a' }] },
    rules: [
      { path: '/learning/hi', auth: 'required' },
      { path: '/learning/greeter', auth: 'required' },
      { path: '/v2/learning', auth: 'required' },
      { path: '/orders', scopes: ['read'] },
      { path: '/orders/latest', auth: 'none' },
    ],
  });
  for (const [path, status] of [
    ['/learning/hi', 401],
    ['//learning/hi', 401],
    ['/%6cearning/hi', 401],
    ['/learning//%68i/', 401],
    ['/learning/Hi', 401],
    ['/learning/learning/hi', 401],
    ['/learning/Learning/Hi', 401],
    ['/learning/Greeter/hi', 401],
    ['/v2.learning/learning/hi', 401],
    ['/v2/learning/hi', 401],
    ['/orders/1', 401],
    ['/learning/learning/get', 401],
    ['/orders/latest', 200],
    ['/learning/nothing', 204],
  ] as const) {
    const line = (await exchange(fixture, requestOf(path))).split('\r\n')[0];
    assert.ok(line?.includes(` ${status} `), `${path}: ${line}`);
  }
  const events = { handler: 'event' as const, auth: { keys: [{ name: 'a', key: 'a' }] } };
  await using published = await gatewayFixture({
    ...events,
    rules: [{ path: '/v1/hooks/push', auth: 'required' }],
  });
  for (const path of ['//v1/hooks/push', '/v1.hooks/push', '/v1/hooks/%70ush', '/v1.hooks/push.']) {
    const line = (await exchange(published, requestOf(path))).split('\r\n')[0];
    assert.match(line ?? '', / 40[01] /, path);
  }
});

function requestOf(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
}

test('a client that breaks the rules of WebSocket ends its own connection only', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'] });
  for (const path of ['/learning/learning/chat', '/_/topics/news']) {
    const socket = new WebSocket(`ws://${fixture.gateway.address}${path}`);
    socket.on('error', () => {});
    await once(socket, 'open');
    const closed = once(socket, 'close');
    const raw = (socket as unknown as { _socket: NodeJS.WritableStream })._socket;
    raw.write(Buffer.from([0xff, 0x00, 0x01, 0x02]));
    await closed;
  }
  await until(() => fixture.gateway.running === 0);
  assert.equal((await ask(`${fixture.url}/learning/hi`)).status, 200);
});

test('a handshake that is none holds no subscription', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'], maxSubscriptions: 2 });
  for (let i = 0; i < 5; i++) {
    const text = `GET /_/topics/news HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
    assert.match(await exchange(fixture, text), /^HTTP\/1\.1 400 /);
  }
  await until(() => fixture.gateway.running === 0);
  assert.match((await ask(`${fixture.url}/_/metrics`)).text, /micro_api_subscriptions 0/);
});

test('a body is never taken for the next request of a server behind', async () => {
  await using behind = await shop((url) => url);
  const inner = 'GET /admin HTTP/1.1\r\nHost: y\r\n\r\n';
  for (const method of ['GET', 'DELETE', 'OPTIONS']) {
    const head = `${method} /shop/open HTTP/1.1\r\nHost: x\r\nConnection: close, content-length\r\n`;
    await exchange(behind.fixture, `${head}Content-Length: ${inner.length}\r\n\r\n${inner}`);
  }
  assert.deepEqual(
    behind.seen.map(({ line }) => line),
    ['GET /open', 'DELETE /open', 'OPTIONS /open'],
  );
});

test('an upgrade that the server behind does not take is an answer, and no way past the rules', async () => {
  await using behind = await shop((url) => url);
  const head = 'GET /shop/open HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n';
  const answer = await exchange(behind.fixture, `${head}GET /admin HTTP/1.1\r\nHost: y\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n\/open$/);
  assert.deepEqual(
    behind.seen.map(({ line }) => line),
    ['GET /open'],
  );
});

test('a server behind gets no header that services take from each other', async () => {
  await using behind = await shop((url) => url);
  await ask(`${behind.fixture.url}/shop/x`, {
    headers: { 'Micro-Account': 'root', 'X-Micro-Endpoint': 'Admin.Drop', 'Rivulet-Code': 'x' },
  });
  const names = Object.keys(behind.seen[0]?.headers ?? {});
  assert.deepEqual(
    names.filter((name) => /micro|rivulet/.test(name)),
    ['x-micro-web-base-path'],
  );
});

test('clients that leave say nothing of the node they waited for', async (t) => {
  await using behind = await shop((url) => (url === '/slow' ? null : url));
  const { fixture, seen } = behind;
  const outcomes: string[] = [];
  const { mark } = RegistrySelector.prototype;
  t.mock.method(
    RegistrySelector.prototype,
    'mark',
    function (this: RegistrySelector, ...[service, node, outcome]: Parameters<typeof mark>) {
      outcomes.push(outcome.result);
      mark.call(this, service, node, outcome);
    },
  );
  for (let i = 0; i < 3; i++) {
    const asked = get(`${fixture.url}/shop/slow`, { agent: false });
    asked.on('error', () => {});
    await until(() => seen.length === i + 1);
    asked.destroy();
  }
  await until(() => fixture.gateway.running === 0);
  await ask(`${fixture.url}/shop/x`);
  assert.deepEqual(outcomes, ['none', 'none', 'none', 'ok']);
});

test('nested and long JSON is merged in one pass', async () => {
  await using fixture = await gatewayFixture();
  const at = `${fixture.url}/learning/hi?q=1`;
  const depth = 200_000;
  const began = process.cpuUsage();
  const deep = await ask(at, post(`${'{"a":'.repeat(depth)}"x"${'}'.repeat(depth)}`));
  assert.notEqual(deep.status, 504);
  // Of this process alone, and ten times what it takes: a second pass for each level takes minutes.
  const { user } = process.cpuUsage(began);
  assert.ok(user < 10_000_000, `${user} us of processor time`);
  const long = await ask(at, post({ text: 'é"\\'.repeat(1_500_000), list: [[1], { a: null }] }));
  assert.equal(long.status, 200);
  assert.deepEqual(long.json.request.list, [[1], { a: null }]);
  assert.equal(long.json.request.text.length, 4_500_000);
  const kept = await ask(
    `${at}&a.b=1&a.c=2&d=3`,
    post('{ "a" : {"b":null,"e":[ 1 ]}, "d": {"f":null} }'),
  );
  assert.deepEqual(kept.json.request, { q: 1, a: { c: 2, e: [1] }, d: {} });
  assert.equal((await ask(`${at}&${'a.'.repeat(500)}a=1`, post({}))).status, 400);
});

test('a body in pieces of one byte takes little more memory than its bytes', async () => {
  const pieces = 200_000;
  let received = 0;
  let body: Promise<Buffer> | null = null;
  const server = createServer((request, response) => {
    body = readBody(request, 2 * pieces, 60_000);
    request.on('data', () => received++);
    void body.then(() => response.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  const some = Array.from({ length: 1000 }, (_, i) => `1\r\n${i % 10}\r\n`).join('');
  for (let sent = 0; sent < pieces; sent += 1000) {
    await new Promise((resolve) => socket.write(some, resolve));
    if (sent === 0) globalThis.gc?.();
  }
  const before = process.memoryUsage().heapUsed;
  await until(() => received === pieces);
  globalThis.gc?.();
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 5_000_000, `${grown} bytes`);
  socket.write(`400\r\n${'y'.repeat(1024)}\r\n0\r\n\r\n`);
  await once(socket, 'data');
  const text = String(await body);
  assert.equal(text, '0123456789'.repeat(pieces / 10) + 'y'.repeat(1024));
  socket.destroy();
  server.close();
});

test('no header is left out, however many come before it', async () => {
  await using fixture = await gatewayFixture();
  const many = 'a:\r\n'.repeat(2500);
  const head = `GET /learning/hi HTTP/1.1\r\nHost: x\r\n${many}X-Tenant: blue\r\nConnection: close\r\n\r\n`;
  assert.match(await exchange(fixture, head), /"tenant":"blue"/);
});

test('a topic beyond ASCII is stored and answered', async () => {
  await using fixture = await gatewayFixture({ handler: 'event' });
  const answer = await ask(`${fixture.url}/%D0%B4%D0%B0/x`, post({}));
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('micro-topic'), 'go.micro.api.%D0%B4%D0%B0');
});

test('no client can use up the Idempotency-Key of another one', async () => {
  await using fixture = await gatewayFixture({
    handler: 'event',
    auth: { keys: ['ann', 'ann:x'].map((name) => ({ name, key: name })) },
  });
  const send = (key: string, id: string) =>
    ask(`${fixture.url}/pay/x`, post({}, { 'idempotency-key': id, 'x-api-key': key }));
  const anybody = await ask(`${fixture.url}/pay/x`, post({}, { 'idempotency-key': 'ann:x:1' }));
  for (const answer of [anybody, await send('ann', 'x:1'), await send('ann:x', '1')]) {
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('idempotency-replayed'), null);
  }
  assert.equal((await send('ann', 'x:1')).headers.get('idempotency-replayed'), 'true');
});

test('an answer of a service that HTTP cannot carry is the service’s error', async () => {
  const errors: unknown[] = [];
  const log = { debug() {}, info() {}, warn() {}, error: (fields: unknown) => errors.push(fields) };
  await using fixture = await gatewayFixture({ log });
  let reply: unknown = {};
  const Odd = contract('go.micro.api.odd', {
    Odd: { Raw: unary<unknown, unknown>({ metadata: { handler: 'api', path: '/odd' } }) },
  });
  const quiet = { transport: 'tcp', environment: false as const, args: false as const };
  const service = createService({ registry: fixture.registry, ...quiet });
  service.handle(Odd, { Odd: { Raw: () => reply } });
  await service.start();
  const status = async () => (await ask(`${fixture.url}/odd`)).status;
  await until(async () => (await status()) !== 404);
  for (const [given, expected] of [
    [null, 502],
    [[], 502],
    [{ header: { 'a b': { values: ['x'] } } }, 502],
    [{ header: { a: { values: ['\n'] } } }, 502],
    [{ header: { Trailer: { values: ['x'] }, Upgrade: { values: ['h2c'] } } }, 200],
    [{ header: { a: { values: 'x' } }, body: '{}' }, 200],
    [{ header: { 'Content-Type': { values: ['text/plain'] } }, body: { a: 1 } }, 200],
  ] as const) {
    reply = given;
    assert.equal(await status(), expected, JSON.stringify(given));
  }
  await service.stop();
  assert.deepEqual(errors, []);
});

test('hosts that are none fail no document', async () => {
  await using fixture = await gatewayFixture({ mcp: true });
  for (const path of ['/_/asyncapi.json', '/_/openapi.json']) {
    const text = `GET ${path} HTTP/1.1\r\nHost: [[:::x\r\nConnection: close\r\n\r\n`;
    assert.match(await exchange(fixture, text), /^HTTP\/1\.1 200 /);
  }
  const text = `POST /_/mcp HTTP/1.1\r\nHost: a:99999\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}`;
  assert.match(await exchange(fixture, text), /^HTTP\/1\.1 4\d\d /);
});

test('while the keys of tokens cannot be read, a token is not called wrong', async () => {
  await using fixture = await gatewayFixture({
    authDefault: 'required',
    auth: { jwt: { jwksUrl: 'http://127.0.0.1:1/keys' } },
  });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = `${part({ alg: 'RS256' })}.${part({ sub: 'a', exp: 9_999_999_999 })}.AAAA`;
  const answer = await ask(`${fixture.url}/learning/hi`, {
    headers: { authorization: `Bearer ${token}` },
  });
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get('retry-after'), '2');
});

test('a rule may give its bodies more time than the others have', async () => {
  await using fixture = await gatewayFixture({
    bodyTimeoutMs: 100,
    headersTimeoutMs: 200,
    rules: [{ path: '/learning/hi', bodyTimeoutMs: 10_000 }],
  });
  const socket = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  socket.write('POST /learning/hi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{');
  setTimeout(() => socket.write('}'), 1500);
  const [chunk] = await once(socket, 'data');
  assert.match(String(chunk), /^HTTP\/1\.1 200 /);
  socket.destroy();
});

test('options of a wrong form stop the start and show what is wrong', async () => {
  await using taken = await gatewayFixture();
  const start = (options: object) =>
    startGateway({ address: ':0', registry: 'memory', ...options });
  for (const options of [
    { rateLimit: { perSecond: 0 } },
    { rateLimit: { perSecond: Number.NaN } },
    { rateLimit: 5 },
    { rateLimit: null },
    { topics: 'news' },
    { cors: 'https://a.example' },
    { tls: { cert: '/none', key: '/none' } },
    { auth: { jwt: { jwksUrl: 'none' } } },
    { auth: { jwt: { publicKey: 'none' } } },
    { auth: { keys: 'none' } },
    { auth: { keys: [{ name: 'a', key: 'a', scopes: 'admin' }] } },
    { rules: {} },
    { rules: [{ path: '/a', scopes: 'admin' }] },
    { rules: [{ path: '/a', scopes: ['admin'], auth: 'none' }] },
    { rules: [{ path: '/a', webhook: null }] },
    { contracts: 5 },
  ]) {
    await assert.rejects(start(options), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options));
  }
  await assert.rejects(start({ address: taken.gateway.address }), { code: 'CONNECTION_FAILED' });
});

test('no expression of a route makes a path slow', () => {
  for (const source of [
    '^/((a+))+$',
    '^/(a|a)*$',
    '^/(a|aa)+x$',
    '^/((a?){30}){30}$',
    '/{a=**}/{b=**}/x',
  ]) {
    assert.throws(() => compilePath(source), { code: 'INVALID_ARGUMENT' }, source);
  }
  for (const source of ['^/(a|b)/[a-z+]+$', '^/(?:v1|v2)?/x.*$', '^/\\(a+\\)*$', '/x/{a=**}:do']) {
    compilePath(source);
  }
});

test('an older list of services never replaces a newer one', async () => {
  const record = {
    name: 'a',
    version: '1',
    metadata: {},
    nodes: [{ id: 'a-1', address: '127.0.0.1:1', metadata: {} }],
    endpoints: [{ name: 'A.B', metadata: {}, request: null, response: null }],
  } as unknown as ServiceRecord;
  let release: (list: ServiceRecord[]) => void = () => {};
  const changes: (() => void)[] = [];
  let readings = 0;
  const registry = {
    listServices: async () => {
      readings++;
      if (readings === 3) return new Promise<ServiceRecord[]>((resolve) => (release = resolve));
      return readings > 3 ? [record] : [];
    },
    getService: async () => [],
    async *watch(_name: undefined, { signal }: { signal: AbortSignal }) {
      signal.addEventListener('abort', () => changes.shift()?.());
      for (;;) {
        await new Promise<void>((resolve) => changes.push(resolve));
        if (signal.aborted) return;
        yield {};
      }
    },
  } as unknown as Registry;
  const directory = new Directory({
    registry: async () => registry,
    scheduler: systemScheduler,
    refreshMs: 600_000,
    report: () => {},
  });
  await directory.start();
  for (const count of [3, 4]) {
    await until(() => changes.length > 0);
    changes.shift()?.();
    await until(() => readings === count);
  }
  await until(() => directory.endpoint('a', 'A.B') !== null);
  release([]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.notEqual(directory.endpoint('a', 'A.B'), null);
  await directory.close();
});

test('a stop does not wait for a client that keeps its connection after the answer', async () => {
  await using fixture = await gatewayFixture({ drainTimeoutMs: 20_000 });
  const socket = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  socket.write('POST /learning/hi HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{');
  await until(() => fixture.gateway.running === 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const began = performance.now();
  const stopped = fixture.gateway.stop();
  setTimeout(() => socket.write('}'), 100);
  assert.match(String((await once(socket, 'data'))[0]), /^HTTP\/1\.1 200 /);
  await stopped;
  assert.ok(performance.now() - began < 10_000, `${performance.now() - began} ms`);
  socket.destroy();
});

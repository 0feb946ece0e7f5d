/** Found by attack: ways past a rule, bodies that would be changed, and peers that break in the middle. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get } from 'node:http';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Ajv } from 'ajv';
import { WebSocket } from 'ws';
import { bidi, contract } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';
import { ask, type GatewayFixture, gatewayFixture, post } from './fixture.ts';

const require = createRequire(import.meta.url);
const outside = { transport: 'tcp', environment: false, args: false } as const;

test('a tool is under the rules of every path that reaches its endpoint', async () => {
  await using fixture = await gatewayFixture({
    mcp: true,
    auth: { keys: [{ name: 'agent', key: 'agent-key' }] },
    // The shorter way of writing /learning/learning/hi.
    rules: [{ path: '/learning/hi', scopes: ['admin'], maxBodyBytes: 10 }],
  });
  const headers = { 'x-api-key': 'agent-key' };
  assert.equal((await ask(`${fixture.url}/learning/learning/hi`, { headers })).status, 403);
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${fixture.url}/_/mcp`), {
      requestInit: { headers },
    }),
  );
  const { content } = await client.callTool({ name: 'learning_Learning_Hi', arguments: {} });
  assert.equal(JSON.parse((content as { text: string }[])[0]!.text).code, 403);
  await client.close();
});

test('where the rules of two ways of writing a path differ, both hold', async () => {
  const webhook = { kind: 'github' as const, secrets: ['secret'] };
  await using fixture = await gatewayFixture({
    handler: 'event',
    rules: [
      { path: '/v1/hooks', webhook, maxBodyBytes: 100 },
      { path: '/v1.hooks', rateLimit: { perSecond: 1000 } },
    ],
  });
  const body = '{"a":1}';
  const signature = `sha256=${createHmac('sha256', 'secret').update(body).digest('hex')}`;
  for (const path of ['/v1/hooks/push', '/v1.hooks/push', '//v1/hooks/push', '/%761/hooks/push']) {
    const at = `${fixture.url}${path}`;
    assert.equal((await ask(at, post(body))).status, 401, path);
    const signed = { 'x-hub-signature-256': signature };
    assert.equal((await ask(at, post(body, signed))).status, 200, path);
    assert.equal((await ask(at, post(`"${'x'.repeat(200)}"`))).status, 413, path);
  }
});

test('a webhook’s signature is checked whatever handles its path', async () => {
  const rules = [
    { path: '/learning', webhook: { kind: 'github' as const, secrets: ['secret'] } },
    { path: '/shop', webhook: { kind: 'github' as const, secrets: ['secret'] } },
  ];
  await using calls = await gatewayFixture({ rules });
  const body = '{"a":1}';
  const signature = `sha256=${createHmac('sha256', 'secret').update(body).digest('hex')}`;
  const at = `${calls.url}/learning/hi`;
  assert.equal((await ask(at, post(body))).status, 401);
  assert.equal((await ask(at, post(body, { 'x-hub-signature-256': signature }))).status, 200);
  await using passed = await gatewayFixture({ rules, handler: 'http' });
  assert.equal((await ask(`${passed.url}/shop`, post(body))).status, 403);
});

test('a body that would be changed as text is refused, and none is stored', async () => {
  await using fixture = await gatewayFixture({ handler: 'event' });
  const at = `${fixture.url}/user/login`;
  const binary = { method: 'POST', body: Buffer.from([0x7b, 0xff, 0xfe, 0x7d]) };
  assert.equal((await ask(at, binary)).status, 415);
  assert.equal((await ask(at, post('{}', { 'content-encoding': 'gzip' }))).status, 415);
  let topics = 0;
  for await (const _ of fixture.broker.topics()) topics++;
  assert.equal(topics, 0);
});

test('topics called as the members of a prototype are in the document', async () => {
  await using fixture = await gatewayFixture({ topics: ['__proto__', 'constructor', 'toString'] });
  const { text } = await ask(`${fixture.url}/_/asyncapi.json`);
  const json = JSON.parse(text);
  assert.deepEqual(
    Object.values(json.channels as Record<string, { address: string }>).map(
      ({ address }) => address,
    ),
    ['__proto__', 'constructor', 'toString'],
  );
  const schema = require('@asyncapi/specs/schemas/3.0.0-without-$id.json');
  const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);
  assert.ok(validate(json), JSON.stringify(validate.errors?.slice(0, 3)));
});

const Slow = contract('go.micro.api.slow', { Slow: { Chat: bidi<unknown, unknown>() } });

async function slowService() {
  const fixture = await gatewayFixture({
    pingMs: 40,
    rules: [{ path: '/slow', maxBodyBytes: 10_000 }],
  });
  let go = () => {};
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  const calls = { begun: 0, cancelled: 0 };
  const service = createService({ registry: fixture.registry, ...outside });
  service.handle(Slow, {
    Slow: {
      async *Chat(requests, { signal }) {
        calls.begun++;
        const cancelled = once(signal, 'abort').then(() => calls.cancelled++);
        await Promise.race([held, cancelled]);
        let count = 0;
        for await (const _ of requests) count++;
        yield { count };
      },
    },
  });
  await service.start();
  await until(async () => (await ask(`${fixture.url}/_/services`)).text.includes('slow'));
  const socket = new WebSocket(`ws://${fixture.gateway.address}/slow/slow/chat`);
  await once(socket, 'open');
  return {
    fixture,
    socket,
    go,
    calls,
    async [Symbol.asyncDispose]() {
      socket.terminate();
      await service.stop();
      await fixture[Symbol.asyncDispose]();
    },
  };
}

test('a client whose messages the service does not take yet is not taken for dead', async () => {
  await using slow = await slowService();
  const { socket } = slow;
  const total = 20_000;
  for (let i = 0; i < total; i++) socket.send('{"padding":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}');
  socket.send('{"end":true}');
  const closed = once(socket, 'close').then(([code]) => assert.fail(`closed with ${code}`));
  closed.catch(() => {});
  // Ten intervals in which no ping can be answered: the answers wait behind the messages.
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 400))]);
  slow.go();
  const [reply] = (await Promise.race([once(socket, 'message'), closed])) as [Buffer];
  assert.deepEqual(JSON.parse(String(reply)), { count: total });
});

test('the call of a client that died ends, also where the service takes none of its messages', async () => {
  await using slow = await slowService();
  const { socket } = slow;
  // More than both systems keep of a connection: what is left here says that the gateway reads no more.
  for (let i = 0; i < 5000; i++) socket.send(`{"padding":"${'x'.repeat(9900)}"}`);
  await until(async () => {
    const left = socket.bufferedAmount;
    await new Promise((resolve) => setTimeout(resolve, 100));
    // Answers to pings are added meanwhile.
    return slow.calls.begun === 1 && left > 1_000_000 && socket.bufferedAmount >= left;
  }, 'the gateway reads no more');
  socket.terminate();
  await until(() => slow.calls.cancelled === 1, 'the call is cancelled');
});

test('a message of a socket is no longer than the rule of its path allows', async () => {
  await using slow = await slowService();
  slow.go();
  slow.socket.send('x'.repeat(10_001));
  assert.equal((await once(slow.socket, 'close'))[0], 1009);
});

test('a gateway that stops takes no further sockets', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'], drainTimeoutMs: 5000 });
  const { connect } = await import('node:net');
  const socket = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  await once(socket, 'connect');
  // The connection is there before the port is closed.
  socket.write('GET /_/healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'data');
  const stopped = fixture.gateway.stop();
  socket.write(
    'GET /learning/learning/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  await once(socket, 'close');
  assert.match(text, /^HTTP\/1\.1 503 /);
  await stopped;
});

test('addresses where clouds keep secrets are not passed to, in no way of writing them', async () => {
  await using fixture = await gatewayFixture({ handler: 'http', timeoutMs: 2000 });
  const addresses = [
    '169.254.169.254:80',
    '[::ffff:169.254.169.254]:80',
    '[::ffff:a9fe:a9fe]:80',
    '2852039166:80',
    '[fe80::1]:80',
    '[fd00:ec2::254]:80',
    '100.100.100.200:80',
    '168.63.129.16:80',
  ];
  for (const [index, address] of addresses.entries()) {
    const name = `go.micro.api.evil${index}`;
    const nodes = [{ id: `evil-${index}`, address, metadata: {} }];
    const record = { name, version: '1', metadata: {}, endpoints: [], nodes };
    await fixture.registry.register(record, { ttlMs: 60_000 });
    const { status, text } = await ask(`${fixture.url}/evil${index}`);
    assert.equal(status, 502, address);
    assert.match(text, /not passed to/, address);
  }
});

test('a cookie does not count for what another site loads, without an Origin either', async () => {
  await using fixture = await gatewayFixture({
    authDefault: 'required',
    auth: { keys: [{ name: 'ann', key: 'key' }] },
  });
  const { hostname, port } = new URL(fixture.url);
  const status = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      const cookie = { cookie: 'micro-token=key', ...headers };
      get({ hostname, port, path: '/learning/hi', headers: cookie, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).on('error', reject);
    });
  assert.equal(await status({}), 200);
  assert.equal(await status({ 'sec-fetch-site': 'same-origin' }), 200);
  assert.equal(await status({ 'sec-fetch-site': 'none' }), 200, 'typed by the user');
  for (const site of ['cross-site', 'same-site']) {
    assert.equal(await status({ 'sec-fetch-site': site }), 401, site);
  }
  assert.equal(await status({ origin: 'https://evil.example' }), 401);
});

test('a connection that a server closes as a request leaves on it fails no request that may be repeated', async () => {
  const served = new WeakMap<Socket, number>();
  let closed = 0;
  const shop = createServer((request, response) => {
    const count = (served.get(request.socket) ?? 0) + 1;
    served.set(request.socket, count);
    // As a server does whose keep-alive time is over at this moment.
    if (count > 1) {
      closed++;
      request.socket.resetAndDestroy();
    } else response.end('here');
  });
  shop.listen(0, '127.0.0.1');
  await once(shop, 'listening');
  await using fixture = await gatewayFixture({ handler: 'http' });
  const { port } = shop.address() as AddressInfo;
  const nodes = [{ id: 'shop-1', address: `127.0.0.1:${port}`, metadata: {} }];
  const record = { version: '1', metadata: {}, endpoints: [], nodes };
  await fixture.registry.register({ name: 'go.micro.api.shop', ...record }, { ttlMs: 60_000 });
  for (const method of ['GET', 'GET', 'DELETE', 'PUT']) {
    const { status, text } = await ask(`${fixture.url}/shop`, { method });
    assert.deepEqual([status, text], [200, 'here'], method);
  }
  assert.equal(closed, 3);
  // What may not be repeated is reported.
  assert.equal((await ask(`${fixture.url}/shop`, post({}))).status, 502);
  shop.close();
});

test('pages of another origin open no WebSocket of the gateway unless cors allows them', async () => {
  const opens = async (fixture: GatewayFixture, path: string, headers: Record<string, string>) => {
    const socket = new WebSocket(`ws://${fixture.gateway.address}${path}`, { headers });
    const kind = await new Promise<string>((resolve) => {
      socket.on('open', () => resolve('open'));
      socket.on('error', (error) => resolve(String(error)));
    });
    socket.terminate();
    return kind;
  };
  await using closed = await gatewayFixture({ topics: ['news'] });
  await using some = await gatewayFixture({ topics: ['news'], cors: ['https://shop.example'] });
  await using every = await gatewayFixture({ topics: ['news'], cors: ['*'] });
  await using behind = await gatewayFixture({ topics: ['news'], trustProxy: true });
  const evil = { origin: 'https://evil.example' };
  for (const path of ['/_/topics/news', '/learning/chat']) {
    assert.match(await opens(closed, path, evil), /403/);
    assert.match(String(await opens(closed, path, { origin: 'null' })), /403/);
    assert.equal(await opens(closed, path, {}), 'open', 'no browser');
    const own = { origin: `http://${closed.gateway.address}` };
    assert.equal(await opens(closed, path, own), 'open');
    assert.match(String(await opens(some, path, evil)), /403/);
    assert.equal(await opens(some, path, { origin: 'https://shop.example' }), 'open');
    assert.equal(await opens(every, path, evil), 'open');
    const forwarded = { ...evil, 'x-forwarded-host': 'evil.example' };
    assert.match(String(await opens(closed, path, forwarded)), /403/);
    assert.equal(await opens(behind, path, forwarded), 'open');
  }
});

test('an answer that has no body by its status is passed on, whatever length it names', async () => {
  await using fixture = await gatewayFixture({ handler: 'web', type: 'web' });
  const answers = [
    '304 Not Modified\r\nETag: "a"\r\nContent-Length: 500',
    '204 No Content\r\nContent-Length: 5',
  ];
  const behind = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(`HTTP/1.1 ${answers.shift()}\r\n\r\n`));
  });
  behind.listen(0, '127.0.0.1');
  await once(behind, 'listening');
  const address = `127.0.0.1:${(behind.address() as AddressInfo).port}`;
  const node = { id: 'shop-1', address, metadata: {} };
  const record = {
    name: 'go.micro.web.shop',
    version: '1',
    metadata: {},
    endpoints: [],
    nodes: [node],
  };
  await fixture.registry.register(record, { ttlMs: 600_000 });
  const first = await fetch(`${fixture.url}/shop/a`, { headers: { 'if-none-match': '"a"' } });
  assert.deepEqual([first.status, first.headers.get('etag')], [304, '"a"']);
  const second = await fetch(`${fixture.url}/shop/a`, { method: 'DELETE' });
  assert.deepEqual([second.status, second.headers.get('content-length')], [204, null]);
  behind.close();
});

test('parameters in a path lead past no rule and out of no folder', async () => {
  await using fixture = await gatewayFixture({
    auth: { keys: [{ name: 'ann', key: 'key' }] },
    handler: 'http',
    rules: [
      { path: '/shop', maxBodyBytes: 5 },
      { path: '/shop/admin', auth: 'required' },
    ],
  });
  for (const [path, status] of [
    ['/shop/..;/admin', 400],
    ['/shop/..;x=1/admin', 400],
    ['/shop/.;/admin', 400],
    ['/shop/%2e%2e;/admin', 400],
    ['/shop/..%3b/admin', 400],
    ['/shop/admin;x', 401],
    ['/shop;a/admin', 401],
    ['/shop/admin;x=1;y/users', 401],
    ['/shop/adm%3bx', 404],
    ['/shop/%61dmin%3Bx', 401],
  ] as const) {
    assert.equal(
      (await ask(`${fixture.url.replace(/\/$/, '')}`.concat(path))).status,
      status,
      path,
    );
  }
});

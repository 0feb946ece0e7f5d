/**
 * `micro web`: go-micro's addresses, and web apps behind the console's port, by raw HTTP from clients that
 * mean harm. The apps are HTTP servers of the test; nothing but what they may get reaches them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { AUDIT_TOPIC } from '../../src/broker/audit.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { appOfHost, appOfPath } from '../../src/console/apps/app-names.ts';
import { type ServeConsoleOptions, serveConsole } from '../../src/console/serve.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { errorType } from '../../src/rpc/service-error.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';
import { askAt } from './fixture.ts';

const Teapot = errorType({ status: 418, detail: 'this is a teapot' });
const Greeter = contract('go.micro.srv.greeter', {
  Say: {
    Hello: unary<{ name?: string }, unknown>(),
    Pour: unary({ errors: { Teapot } }),
    Never: unary<unknown, unknown>(),
  },
});

interface Seen {
  readonly line: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

async function webFixture(options: Partial<ServeConsoleOptions> = {}) {
  const seen: Seen[] = [];
  const backend = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url = '', headers } = request;
      seen.push({ line: `${method} ${url}`, headers, body: Buffer.concat(chunks).toString() });
      if (url === '/late') return;
      if (url === '/dies') response.destroy();
      else {
        response.setHeader('set-cookie', ['a=1', 'rivulet_console_8082=stolen; Path=/']);
        response.setHeader('service-worker-allowed', '/');
        response.setHeader('connection', 'close, x-hop');
        response.setHeader('x-hop', '1');
        response.end(`page ${url}`);
      }
    });
  });
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(sockets, 'listening');
  sockets.on('connection', (socket) => socket.on('message', (text) => socket.send(`got ${text}`)));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const { port } = backend.address() as AddressInfo;
  const registry = new MemoryRegistry();
  const broker = await openBroker('memory:');
  const add = (name: string, address: string) => {
    const nodes = [{ id: `${name}-1`, address, metadata: {} }];
    const record = { name, version: '1', metadata: {}, endpoints: [], nodes };
    return registry.register(record, { ttlMs: 60_000 });
  };
  await add('go.micro.web.shop', `127.0.0.1:${port}`);
  await add('go.micro.web.chat', `127.0.0.1:${(sockets.address() as AddressInfo).port}`);
  await add('go.micro.web.gone', '127.0.0.1:1');
  const quiet = { registry, transport: 'tcp', environment: false as const, args: false as const };
  const service = createService(quiet).handle(Greeter, {
    Say: {
      Hello: ({ name }) => ({ msg: `Hello ${name}` }),
      Pour: () => {
        throw new Greeter.Say.Pour.errors.Teapot();
      },
      Never: () => new Promise(() => {}),
    },
  });
  await service.start();
  const running = await serveConsole({ broker, registry, port: 0, ...options });
  return {
    seen,
    broker,
    registry,
    service,
    running,
    port: running.port,
    add,
    ask: (path: string, rest: Parameters<typeof askAt>[2] = {}) => askAt(running.port, path, rest),
    /** Sends bytes as they are; gives what comes until the connection ends. */
    raw(text: string): Promise<string> {
      const socket = connect(running.port, '127.0.0.1');
      let answer = '';
      return new Promise((resolve) => {
        socket.on('error', () => {});
        socket.on('close', () => resolve(answer));
        socket.on('data', (chunk) => {
          answer += chunk.toString('latin1');
        });
        socket.write(text, 'latin1');
      });
    },
    async [Symbol.asyncDispose]() {
      await running.close();
      await service.stop();
      for (const socket of sockets.clients) socket.terminate();
      sockets.close();
      backend.closeAllConnections();
      backend.close();
      await broker.disconnect();
    },
  };
}

const json = { 'content-type': 'application/json' };

test('go-micro’s addresses give JSON to programs and lead people to the console', async () => {
  await using web = await webFixture();
  for (const [path, to] of [
    ['/', '/console/'],
    ['/services', '/console/services'],
    ['/service/go.micro.srv.greeter', '/console/services/go.micro.srv.greeter'],
    ['/client', '/console/services'],
  ] as const) {
    const { status, headers } = await web.ask(path);
    assert.deepEqual([status, headers.location], [302, to], path);
  }
  assert.equal((await web.ask('/favicon.ico')).status, 204);
  const services = await web.ask('/services', { headers: json });
  assert.deepEqual(
    services
      .json()
      .services.map(({ name }: { name: string }) => name)
      .sort(),
    ['go.micro.srv.greeter', 'go.micro.web.chat', 'go.micro.web.gone', 'go.micro.web.shop'],
  );
  const one = await web.ask('/service/go.micro.srv.greeter', { headers: json });
  assert.equal(one.json().services[0].endpoints[0].name, 'Say.Hello');
  assert.equal((await web.ask('/service/none', { headers: json })).status, 404);
  assert.equal((await web.ask('/service/%', { headers: json })).status, 404);
  for (const path of ['/services', '/client', '/service/x']) {
    assert.equal((await web.ask(path, { method: 'POST', body: {} })).status, 405, path);
  }
});

test('/rpc calls with the status of the error, no digit lost, and each call is in the audit', async () => {
  await using web = await webFixture();
  const rpc = (body: unknown, headers: Record<string, string> = {}) =>
    web.ask('/rpc', { method: 'POST', body, headers });
  const hello = { service: 'go.micro.srv.greeter', endpoint: 'Say.Hello' };
  const said = await rpc({ ...hello, request: { name: 'ann' } });
  assert.deepEqual([said.status, said.text], [200, '{"msg":"Hello ann"}']);
  const { service, endpoint: method } = hello;
  const texts = await rpc({ service, method, request: '{"name":12345678901234567890}' });
  assert.match(texts.text, /^\{"msg":"Hello 1234567890123456/);
  const poured = await rpc({ service, endpoint: 'Say.Pour' });
  assert.deepEqual([poured.status, poured.json().detail], [418, 'this is a teapot']);
  assert.equal((await rpc({ service: 'none', endpoint: 'A.B' })).status, 404);
  assert.equal((await rpc({ service, endpoint: 'Say.Never' }, { timeout: '0.2' })).status, 408);
  assert.equal((await rpc({ service })).status, 400);
  // An admin names any address; nothing listens on this one.
  assert.equal((await rpc({ ...hello, address: '127.0.0.1:1' })).status, 503);
  assert.equal((await rpc({ service, endpoint: '__proto__' })).status, 400);
  assert.equal((await web.ask('/rpc')).status, 405);
  const phases: string[] = [];
  const subscriber = await web.broker.subscribe(
    AUDIT_TOPIC,
    (delivery) => phases.push(`${delivery.json().target} ${delivery.json().phase}`),
    { from: 'earliest' },
  );
  await until(() => phases.length >= 10);
  await subscriber.unsubscribe();
  assert.deepEqual(phases.slice(0, 2), [
    'go.micro.srv.greeter Say.Hello intent',
    'go.micro.srv.greeter Say.Hello done',
  ]);
});

test('/rpc takes no form, no request of another site and no other host', async () => {
  await using web = await webFixture();
  const body = { service: 'go.micro.srv.greeter', endpoint: 'Say.Hello' };
  for (const [headers, status] of [
    [{ 'content-type': 'application/x-www-form-urlencoded' }, 400],
    [{ 'content-type': 'text/plain' }, 400],
    [{ ...json, origin: 'http://evil.example' }, 403],
    [{ ...json, 'sec-fetch-site': 'cross-site' }, 403],
    [{ ...json, 'sec-fetch-site': 'same-site' }, 403],
    [{ ...json, cookie: 'a=1' }, 403],
    [{ ...json, host: 'evil.example' }, 421],
  ] as [Record<string, string>, number][]) {
    const { status: got, headers: answered } = await web.ask('/rpc', {
      method: 'POST',
      headers,
      body,
    });
    assert.equal(got, status, JSON.stringify(headers));
    assert.equal(answered['access-control-allow-origin'], undefined);
  }
});

test('on a console that changes nothing /rpc calls nothing but Debug', async () => {
  await using web = await webFixture({ apps: 'path' });
  const rpc = (endpoint: string, rest: object = {}) =>
    web.ask('/rpc', {
      method: 'POST',
      body: { service: 'go.micro.srv.greeter', endpoint, ...rest },
    });
  assert.equal((await rpc('Say.Hello')).status, 403);
  assert.equal((await rpc('Debug.Health')).status, 200);
  const records = await web.registry.getService('go.micro.srv.greeter');
  const own = records[0]?.nodes[0]?.address;
  assert.equal((await rpc('Debug.Health', { address: own })).status, 200);
  assert.equal((await rpc('Debug.Health', { address: '127.0.0.1:1' })).status, 403);
  assert.equal((await rpc('Debug.Health', { address: { a: 1 } })).status, 400);
});

test('without --apps no app is reached, by whatever address', async () => {
  await using web = await webFixture();
  assert.equal((await web.ask('/shop/')).status, 404);
  assert.equal((await web.ask('/', { headers: { host: 'shop.localhost' } })).status, 421);
  assert.equal(web.seen.length, 0);
});

test('an app gets its requests by its path, and the answer comes back as it is', async () => {
  await using web = await webFixture({ apps: 'path' });
  const got = await web.ask('/shop/cart?a=%2F&b', { headers: { 'x-own': '1' } });
  assert.deepEqual([got.status, got.text], [200, 'page /cart?a=%2F&b']);
  await web.ask('/shop');
  const sent = await web.ask('/shop/send', { method: 'PUT', body: { a: 1 } });
  assert.equal(sent.status, 200);
  assert.deepEqual(
    web.seen.map(({ line, body }) => [line, body]),
    [
      ['GET /cart?a=%2F&b', ''],
      ['GET /', ''],
      ['PUT /send', '{"a":1}'],
    ],
  );
  const { headers } = web.seen[0] ?? assert.fail();
  assert.equal(headers['x-own'], '1');
  assert.equal(headers['x-micro-web-base-path'], '/shop');
  assert.match(String(headers['x-forwarded-for']), /127\.0\.0\.1$/);
  assert.match(String(headers.host), /^127\.0\.0\.1:\d+$/);
  const page = await web.ask('/');
  assert.match(page.text, /<a href="\/shop\/">shop<\/a>/);
  assert.equal((await web.ask('/console/')).status, 200);
});

test('with subdomains each app has an origin of its own, and the console is on none of them', async () => {
  await using web = await webFixture({ apps: 'subdomain', consoleHost: ['example.com'] });
  for (const host of ['shop.localhost', 'shop.localhost:99', 'SHOP.example.com']) {
    const { status, text } = await web.ask('/cart', { headers: { host } });
    assert.deepEqual([status, text], [200, 'page /cart'], host);
  }
  assert.equal(web.seen[0]?.headers['x-micro-web-base-path'], undefined);
  for (const [host, path, status] of [
    ['shop.localhost', '/console/', 421],
    ['shop.localhost', '/console/api/v1/', 421],
    ['shop.evil.example', '/cart', 421],
    ['a.shop.localhost', '/cart', 421],
    ['shop.localhost.', '/cart', 421],
    ['none.localhost', '/cart', 404],
    ['gone.localhost', '/cart', 502],
    ['localhost', '/shop/', 404],
    ['console.localhost', '/', 421],
  ] as const) {
    assert.equal((await web.ask(path, { headers: { host } })).status, status, `${host} ${path}`);
  }
  const page = await web.ask('/', { headers: { host: `localhost:${web.port}` } });
  assert.match(page.text, new RegExp(`<a href="http://shop\\.localhost:${web.port}/">shop</a>`));
});

test('the session of the console reaches no app, and no app sets it or takes other pages', async () => {
  await using web = await webFixture({ apps: 'path' });
  const cookie = `a=1; rivulet_console_${web.port}=secret; __Host-rivulet_console_1=secret; b=2`;
  const { headers } = await web.ask('/shop/', { headers: { cookie } });
  await web.ask('/shop/', { headers: { cookie: `rivulet_console_${web.port}=secret` } });
  assert.equal(web.seen[0]?.headers.cookie, 'a=1; b=2');
  assert.equal(web.seen[1]?.headers.cookie, undefined);
  assert.deepEqual(headers['set-cookie'], ['a=1']);
  assert.equal(headers['service-worker-allowed'], undefined);
  assert.equal(headers['x-hop'], undefined);
});

test('an app that is not there is 404, one that cannot be reached or dies is 502, a late one is 504', async () => {
  await using web = await webFixture({ apps: 'path', appTimeoutMs: 1000 });
  assert.equal((await web.ask('/none/')).status, 404);
  assert.equal((await web.ask('/gone/')).status, 502);
  assert.equal((await web.ask('/shop/dies')).status, 502);
  assert.equal((await web.ask('/shop/late')).status, 504);
  assert.equal((await web.ask('/shop/')).status, 200);
});

test('no request is passed to a link-local address, however it is written', async () => {
  await using web = await webFixture({ apps: 'path' });
  const addresses = [
    '169.254.169.254:80',
    '[::ffff:169.254.169.254]:80',
    '[::ffff:a9fe:a9fe]:80',
    '[fe80::1]:80',
    '[febf::1]:80',
    '2852039166:80',
    '0xa9fea9fe:80',
    '169.254.43518:80',
  ];
  for (const [i, address] of addresses.entries()) {
    await web.add(`go.micro.web.meta${i}`, address);
    const { status, text } = await web.ask(`/meta${i}/latest`);
    assert.equal(status, 502, address);
    assert.match(text, /requests are not passed to/, address);
  }
});

test('no other way of writing a path or a request leads to an app', async () => {
  await using web = await webFixture({ apps: 'path' });
  for (const path of [
    '//shop/',
    '/%73hop/',
    '/shop%2f',
    '/./shop/',
    '/sh_op/',
    '/-shop/',
    '/.shop/',
  ]) {
    const line = (await web.raw(requestOf(path))).split('\r\n')[0];
    assert.match(line ?? '', / 404 /, path);
  }
  const absolute = await web.raw(requestOf(`http://127.0.0.1:${web.port}/shop/`));
  assert.match(absolute, /^HTTP\/1\.1 404 /);
  for (const text of [
    'GET /shop/ HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n',
    'GET /shop/ HTTP/1.1\r\nConnection: close\r\n\r\n',
    'POST /shop/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n',
    'POST /shop/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab',
    'GET /shop/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    'GET /shop/ HTTP/1.1\r\nHost: localhost@evil\r\nConnection: close\r\n\r\n',
  ]) {
    assert.match(await web.raw(text), /^HTTP\/1\.1 4(00|21) /, text);
  }
  assert.deepEqual(web.seen, []);
});

function requestOf(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
}

test('a body is never taken for the next request of an app', async () => {
  await using web = await webFixture({ apps: 'path' });
  const inner = 'GET /admin HTTP/1.1\r\nHost: y\r\n\r\n';
  for (const method of ['GET', 'DELETE', 'OPTIONS']) {
    const head = `${method} /shop/open HTTP/1.1\r\nHost: localhost\r\nConnection: close, content-length\r\n`;
    await web.raw(`${head}Content-Length: ${inner.length}\r\n\r\n${inner}`);
  }
  assert.deepEqual(
    web.seen.map(({ line }) => line),
    ['GET /open', 'DELETE /open', 'OPTIONS /open'],
  );
});

test('an app gets no header that services take from each other', async () => {
  await using web = await webFixture({ apps: 'path' });
  await web.ask('/shop/', {
    headers: {
      'Micro-Account': 'root',
      'X-Micro-Web-Base-Path': '/x',
      'Rivulet-Code': 'x',
      TE: 'x',
    },
  });
  const { headers } = web.seen[0] ?? assert.fail();
  const names = Object.keys(headers).filter((name) => /micro|rivulet|^te$/.test(name));
  assert.deepEqual(names, ['x-micro-web-base-path']);
  assert.equal(headers['x-micro-web-base-path'], '/shop');
});

test('a WebSocket is spliced once the app has agreed, and an app that does not is no way past', async () => {
  await using web = await webFixture({ apps: 'path' });
  const socket = new WebSocket(`ws://127.0.0.1:${web.port}/chat/room`);
  await once(socket, 'open');
  socket.send('a');
  assert.equal(String((await once(socket, 'message'))[0]), 'got a');
  const closed = once(socket, 'close');
  socket.close();
  await closed;
  const head =
    'GET /shop/open HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n';
  const answer = await web.raw(`${head}GET /admin HTTP/1.1\r\nHost: y\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*page \/open$/);
  assert.doesNotMatch(answer, /stolen|x-hop|service-worker/i);
  for (const [path, host] of [
    ['/console/', 'localhost'],
    ['/none/', 'localhost'],
    ['/chat/room', 'evil.example'],
    ['//chat/room', 'localhost'],
  ]) {
    const text = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
    assert.match(await web.raw(text), /^HTTP\/1\.1 404 /, path);
  }
  assert.deepEqual(
    web.seen.map(({ line }) => line),
    ['GET /open'],
  );
});

test('an upgrade that is refused ends its connection, also where its client does not end its side', async () => {
  await using web = await webFixture({ apps: 'path' });
  const socket = connect({ host: '127.0.0.1', port: web.port, allowHalfOpen: true });
  socket.on('error', () => {}).resume();
  socket.write(
    'GET /none/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  );
  await once(socket, 'end');
  const writing = setInterval(() => socket.write('x'), 50);
  await until(() => socket.closed, 'the connection is closed');
  clearInterval(writing);
});

test('a console that closes ends the connections that were upgraded', async () => {
  await using web = await webFixture({ apps: 'path' });
  const socket = new WebSocket(`ws://127.0.0.1:${web.port}/chat/room`);
  await once(socket, 'open');
  const closed = once(socket, 'close');
  await web.running.close();
  await closed;
});

test('names of apps are compared as they are written', () => {
  for (const [path, name] of [
    ['/shop', 'shop'],
    ['/shop?a', 'shop'],
    ['/a-b/c', 'a-b'],
    ['/a--b/', null],
    ['/rpc/x', null],
    ['/console', null],
    ['/', null],
    [`/${'a'.repeat(64)}/`, null],
  ] as const) {
    assert.equal(appOfPath(path), name, path);
  }
  assert.equal(appOfHost('1.2.3.4:80'), null);
  assert.equal(appOfHost('localhost'), null);
  assert.deepEqual(appOfHost('shop.a.example:80'), { name: 'shop', parent: 'a.example:80' });
});

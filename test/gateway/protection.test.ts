/** Who may come, how often, and how the gateway ends: keys, tokens, rules, limits, CORS, TLS, drain. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { SignJWT } from 'jose';
import { WebSocket } from 'ws';
import { startGateway } from '../../src/gateway/gateway.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { ask, gatewayFixture, post } from './fixture.ts';

const SECRET = 'a secret of at least thirty-two bytes';
const key = new TextEncoder().encode(SECRET);

function token(claims: Record<string, unknown>, expires: string | number = '1h', alg = 'HS256') {
  return new SignJWT(claims).setProtectedHeader({ alg }).setExpirationTime(expires).sign(key);
}

test('keys and tokens let their owners in, by rule and scope', async () => {
  await using fixture = await gatewayFixture({
    authDefault: 'required',
    auth: {
      keys: [
        { name: 'shop', key: 'shop-key', scopes: ['read'] },
        { name: 'hashed', key: `sha256:${createHash('sha256').update('other').digest('hex')}` },
      ],
      jwt: { secret: SECRET, issuer: 'us', audience: 'api' },
    },
    rules: [
      { path: '/learning/greeter', auth: 'none' },
      { path: '/learning/nothing', scopes: ['write'] },
      { path: '/_/healthz', auth: 'none' },
    ],
    topics: ['news'],
    mcp: true,
    cors: ['https://shop.example'],
  });
  const good = { sub: 'ann', iss: 'us', aud: 'api' };
  const bearer = async (claims: Record<string, unknown>, expires?: string | number) => ({
    authorization: `Bearer ${await token(claims, expires)}`,
  });
  const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"ann","iss":"us","aud":"api","exp":9999999999}').toString('base64url')}.`;
  const cases: [string, Record<string, string>, number][] = [
    ['/learning/hi', {}, 401],
    ['/learning/hi', { 'x-api-key': 'shop-key' }, 200],
    ['/learning/hi', { 'x-api-key': 'other' }, 200],
    ['/learning/hi', { 'x-api-key': 'wrong' }, 401],
    ['/learning/hi', { authorization: 'Bearer shop-key' }, 200],
    ['/learning/hi', { authorization: 'Basic eDp5' }, 401],
    ['/learning/hi', await bearer(good), 200],
    ['/learning/hi', { cookie: `x=1; micro-token=${await token(good)}` }, 200],
    [
      '/learning/hi',
      { cookie: `micro-token=${await token(good)}`, origin: 'https://evil.example' },
      401,
    ],
    [
      '/learning/hi',
      { cookie: `micro-token=${await token(good)}`, origin: 'https://shop.example' },
      200,
    ],
    ['/learning/hi', await bearer(good, Math.floor(Date.now() / 1000) - 10), 401],
    ['/learning/hi', await bearer({ ...good, iss: 'them' }), 401],
    ['/learning/hi', await bearer({ ...good, aud: 'other' }), 401],
    ['/learning/hi', { authorization: `Bearer ${none}` }, 401],
    ['/learning/greeter/hi', {}, 200],
    ['/learning/greeterx/hi', {}, 401],
    ['/learning/nothing', { 'x-api-key': 'shop-key' }, 403],
    ['/learning/nothing', await bearer({ ...good, scope: 'read write' }), 204],
    ['/_/healthz', {}, 200],
    ['/_/metrics', {}, 401],
    ['/_/mcp', {}, 401],
    ['/_/openapi.json', {}, 401],
    ['/_/topics/news', {}, 401],
    ['/', {}, 401],
  ];
  for (const [path, headers, status] of cases) {
    const answer = await ask(`${fixture.url}${path}`, { headers });
    assert.equal(answer.status, status, `${path} ${Object.keys(headers)} ${answer.text}`);
    if (status === 401) assert.match(answer.headers.get('www-authenticate') ?? '', /Bearer/);
    assert.ok(!answer.text.includes('shop-key'));
  }
  const refused = new WebSocket(`ws://${fixture.gateway.address}/_/topics/news`);
  assert.match(String((await once(refused, 'error'))[0]), /401/);
});

test('HTTPS serves with the given certificate, and only to clients of the given authority', {
  skip: missingOpenssl,
}, async () => {
  await using home = temporaryDirectory('tls');
  const made = makeCertificates(home.path);
  await using open = await gatewayFixture({ tls: { cert: made.cert, key: made.key } });
  const { Agent, request } = await import('undici');
  const get = async (url: string, connect: object) => {
    const dispatcher = new Agent({ connect: { ca: made.caText, ...connect } });
    const { statusCode, body } = await request(`${url}/learning/hi`, { dispatcher });
    await body.dump();
    await dispatcher.close();
    return statusCode;
  };
  assert.equal(await get(open.url, {}), 200);
  await assert.rejects(get(open.url, { ca: made.otherCaText }));
  await using closed = await gatewayFixture({
    tls: { cert: made.cert, key: made.key, clientCa: made.ca },
  });
  await assert.rejects(get(closed.url, {}));
  const own = { cert: readFileSync(made.cert), key: readFileSync(made.key) };
  assert.equal(await get(closed.url, own), 200);
});

test('guessing keys is slowed down', async () => {
  await using fixture = await gatewayFixture({
    authDefault: 'required',
    auth: { keys: [{ name: 'a', key: 'a' }] },
    wrongKeyLimit: { perSecond: 0.001, burst: 20 },
  });
  const statuses = new Set<number>();
  for (let i = 0; i < 30; i++) {
    const headers = { 'x-api-key': `guess ${i}` };
    statuses.add((await fetch(`${fixture.url}/learning/hi`, { headers })).status);
  }
  assert.deepEqual([...statuses].sort(), [401, 429]);
  assert.equal(
    (await ask(`${fixture.url}/learning/hi`, { headers: { 'x-api-key': 'a' } })).status,
    200,
  );
});

test('options that would leave a door open stop the start', async () => {
  const start = (options: Parameters<typeof startGateway>[0]) =>
    startGateway({ address: ':0', registry: 'memory', ...options });
  for (const options of [
    { authDefault: 'required' as const },
    { auth: { jwt: { secret: 'short' } } },
    { auth: { jwt: {} } },
    { auth: { jwt: { publicKey: 'x', algorithms: ['HS256'] } } },
    { rules: [{ path: 'orders' }] },
    { rules: [{ path: '/a', webhook: { kind: 'github' as const, secrets: [] } }] },
    ...['whsec_', '!!!', 'whsec_a', 'not base64 at all, but long enough'].map((secret) => ({
      rules: [{ path: '/a', webhook: { kind: 'standard' as const, secrets: [secret] } }],
    })),
    { rules: [{ path: '/a', rateLimit: { perSecond: Number.NaN } }] },
    { rules: [{ path: '/a', timeoutMs: 2 ** 31 }] },
    { maxBodyBytes: -1 },
    { timeoutMs: 0 },
    { handler: 'soap' as never },
    { resolver: 'dns' as never },
    { namespace: 'go micro' },
    { address: 'nowhere' },
    { colour: 'red' } as never,
  ]) {
    await assert.rejects(start(options), { code: 'INVALID_ARGUMENT' }, JSON.stringify(options));
  }
});

test('a client that sends too much waits, and another one does not', async () => {
  await using fixture = await gatewayFixture({
    auth: { keys: ['a', 'b'].map((name) => ({ name, key: name })) },
    rateLimit: { perSecond: 0.5, burst: 3 },
    rules: [{ path: '/learning/greeter', rateLimit: { perSecond: 1000 } }],
  });
  const send = (name: string, path = '/learning/hi') =>
    ask(`${fixture.url}${path}`, { headers: { 'x-api-key': name } });
  const statuses: number[] = [];
  for (let i = 0; i < 5; i++) statuses.push((await send('a')).status);
  assert.deepEqual(statuses, [200, 200, 200, 429, 429]);
  assert.equal((await send('a')).headers.get('retry-after'), '2');
  assert.equal((await send('b')).status, 200);
  assert.equal((await send('a', '/learning/greeter/hi')).status, 200);
});

test('pages of named origins may call with credentials, of every origin without', async () => {
  await using named = await gatewayFixture({ cors: ['https://shop.example'] });
  const preflight = (origin: string) =>
    ask(`${named.url}/learning/hi`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST' },
    });
  const good = await preflight('https://shop.example');
  assert.equal(good.status, 204);
  assert.equal(good.headers.get('access-control-allow-origin'), 'https://shop.example');
  assert.equal(good.headers.get('access-control-allow-credentials'), 'true');
  const bad = await preflight('https://evil.example');
  assert.equal(bad.headers.get('access-control-allow-origin'), null);
  await using every = await gatewayFixture({ cors: ['*'] });
  const answer = await ask(
    `${every.url}/learning/hi`,
    post({}, { origin: 'https://evil.example' }),
  );
  assert.equal(answer.headers.get('access-control-allow-origin'), '*');
  assert.equal(answer.headers.get('access-control-allow-credentials'), null);
});

test('http and web handlers pass requests on, and report a backend that dies', async () => {
  const seen: string[] = [];
  const backend = createServer((request, response) => {
    seen.push(
      `${request.method} ${request.url} ${request.headers['x-micro-web-base-path'] ?? '-'}`,
    );
    if (request.url?.endsWith('/dies')) {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
      setImmediate(() => request.socket.destroy());
    } else if (request.url?.endsWith('/early')) request.socket.destroy();
    else if (!request.url?.endsWith('/never')) {
      response.setHeader('x-secret-hop', 'a');
      response.setHeader('connection', 'x-secret-hop');
      request.pipe(response);
    }
  });
  backend.on('upgrade', (request, socket) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n${request.url}\n`,
    );
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => {
    backend.listen(0, '127.0.0.1', resolve);
  });
  const { port } = backend.address() as AddressInfo;
  await using fixture = await gatewayFixture({
    handler: 'web',
    type: 'web',
    timeoutMs: 1000,
    drainTimeoutMs: 300,
  });
  const node = { id: 'shop-1', address: `127.0.0.1:${port}`, metadata: {} };
  const record = { name: 'go.micro.web.shop', version: '1', metadata: {}, endpoints: [] };
  await fixture.registry.register({ ...record, nodes: [node] }, { ttlMs: 60_000 });
  const at = (path: string) => `${fixture.url}/shop${path}`;
  const echoed = await ask(at('/a%20b?x=1'), { method: 'PUT', body: 'x'.repeat(500_000) });
  assert.equal(echoed.text.length, 500_000);
  assert.equal(echoed.headers.get('x-secret-hop'), null);
  assert.equal(seen.at(-1), 'PUT /a%20b?x=1 /shop');
  assert.equal((await ask(at(''))).status, 200);
  assert.equal(seen.at(-1), 'GET / /shop');
  await assert.rejects(ask(at('/dies')), 'a cut answer must not look whole');
  assert.equal((await ask(at('/early'))).status, 502);
  assert.equal((await ask(at('/never'))).status, 504);
  assert.equal((await ask(`${fixture.url}/none/x`)).status, 404);
  const { request: httpRequest } = await import('node:http');
  const upgrading = httpRequest(at('/socket'), {
    headers: { connection: 'Upgrade', upgrade: 'raw' },
  });
  upgrading.end();
  const [, socket, head] = await once(upgrading, 'upgrade');
  socket.write('ping');
  let text = String(head);
  for await (const chunk of socket) {
    text += chunk;
    if (text.includes('ping')) break;
  }
  assert.equal(text, '/socket\nping');
  const kept = httpRequest(at('/socket'), { headers: { connection: 'Upgrade', upgrade: 'raw' } });
  kept.end();
  const [, open] = await once(kept, 'upgrade');
  const cut = once(open, 'close');
  open.on('error', () => {}).resume();
  // An upgraded connection would keep the gateway for ever.
  await fixture.gateway.stop();
  await cut;
  backend.closeAllConnections();
  backend.close();
});

test('under load a stop fails no request, and streams end', async () => {
  await using fixture = await gatewayFixture({ topics: ['news'], drainTimeoutMs: 5000 });
  const { Agent, request } = await import('undici');
  const agent = new Agent({ connections: 20, pipelining: 1 });
  const stream = await fetch(`${fixture.url}/_/topics/news`);
  let failed = 0;
  let answered = 0;
  let isOver = false;
  const workers = Array.from({ length: 20 }, async () => {
    while (!isOver) {
      try {
        const { statusCode, body } = await request(`${fixture.url}/learning/hi`, {
          dispatcher: agent,
        });
        await body.dump();
        answered++;
        if (statusCode !== 200) failed++;
      } catch (error) {
        // A new connection after the port was closed is not a failed request.
        if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') return;
        failed++;
        return;
      }
    }
  });
  await until(() => answered >= 200);
  await fixture.gateway.stop();
  isOver = true;
  await Promise.all(workers);
  assert.equal(failed, 0, `${failed} of ${answered + failed}`);
  assert.equal(await stream.text(), 'retry: 2000\n\n');
  await agent.close();
});

test('metrics count by handler and status, and lines show no query', async () => {
  const lines: Record<string, unknown>[] = [];
  const info = (fields: object | string) => lines.push(fields as Record<string, unknown>);
  const log = { debug() {}, info, warn() {}, error() {} };
  await using fixture = await gatewayFixture({ accessLog: true, log });
  await ask(`${fixture.url}/learning/hi?token=secret`);
  await ask(`${fixture.url}/learning/fails`, post({}));
  const { text } = await ask(`${fixture.url}/_/metrics`);
  assert.match(text, /micro_api_requests_total{handler="rpc",method="GET",status="2xx"} 1/);
  assert.match(text, /micro_api_requests_total{handler="none",method="POST",status="4xx"} 1/);
  assert.equal(lines[0]?.path, '/learning/hi');
  assert.ok(!JSON.stringify(lines).includes('secret'));
});

test('a cache keeps the answers to pages of different origins apart', async () => {
  const cors = ['https://shop.example'];
  await using fixture = await gatewayFixture({ cors });
  await using passing = await gatewayFixture({ cors, handler: 'http' });
  const shop = createServer((_request, response) => {
    response.writeHead(200, { vary: 'Accept-Encoding', 'content-type': 'text/plain' });
    response.end('shop');
  }).listen(0, '127.0.0.1');
  await once(shop, 'listening');
  const address = `127.0.0.1:${(shop.address() as AddressInfo).port}`;
  const nodes = [{ id: 'shop-1', address, metadata: {} }];
  const record = { version: '1', metadata: {}, endpoints: [], nodes };
  await passing.registry.register({ name: 'go.micro.api.shop', ...record }, { ttlMs: 600_000 });
  for (const origin of [null, 'https://shop.example', 'https://other.example', 'null']) {
    const headers: Record<string, string> = origin === null ? {} : { origin };
    const own = await ask(`${fixture.url}/learning/hi`, { headers });
    assert.equal(own.headers.get('vary'), 'Origin', `own answer to ${origin}`);
    const passed = await ask(`${passing.url}/shop`, { headers });
    assert.equal(passed.text, 'shop');
    assert.equal(passed.headers.get('vary'), 'Origin, Accept-Encoding', `that to ${origin}`);
  }
  shop.close();
});

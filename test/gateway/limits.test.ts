/** Every limit: said by the page, set by an option and by a flag, and kept. */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Command } from 'commander';
import { WebSocket } from 'ws';
import { apiCommand } from '../../src/cli/commands/api.ts';
import { proxyCommand } from '../../src/cli/commands/proxy.ts';
import { addLimits, flagOf, limitsFrom, shown } from '../../src/cli/limit-flags.ts';
import { networkOf, RateLimiter } from '../../src/gateway/access/rate-limiter.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { GATEWAY_LIMITS, type Limit, PROXY_LIMITS } from '../../src/gateway/limits.ts';
import { startProxy } from '../../src/proxy/proxy.ts';
import { MICRO, micro } from '../cli/micro.ts';
import { ended, startChild } from '../helpers/children.ts';
import { closed } from '../helpers/closed.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { repositoryRoot } from '../house/source-file.ts';
import { ask, gatewayFixture, post } from './fixture.ts';

const page = readFileSync(join(repositoryRoot, 'docs', 'api.md'), 'utf8');

test('the page says each limit, its flag and its default', () => {
  for (const limits of [GATEWAY_LIMITS, PROXY_LIMITS]) {
    for (const [name, limit] of Object.entries(limits)) {
      const row = `| \`${name}\` | \`${flagOf(name)}\` | ${shown(name, limit.default)} | ${limit.says} |`;
      assert.ok(page.includes(`${row}\n`), row);
    }
  }
});

test('each limit has a flag, whose value becomes the option of the same name', async () => {
  for (const [make, limits] of [
    [apiCommand, GATEWAY_LIMITS],
    [proxyCommand, PROXY_LIMITS],
  ] as const) {
    const help = make().helpInformation();
    assert.match(help, /\nLimits:\n/);
    const command = new Command();
    addLimits(command, limits);
    const args = Object.keys(limits).flatMap((name) => [
      flagOf(name),
      name.endsWith('Ms') ? '7s' : name === 'maxHeaderBytes' ? '2048' : '7',
    ]);
    command.parse(args, { from: 'user' });
    const found = limitsFrom(command.opts(), limits);
    for (const name of Object.keys(limits)) {
      assert.ok(help.includes(`${flagOf(name)} <`), name);
      const expected = name.endsWith('Ms') ? 7000 : name === 'maxHeaderBytes' ? 2048 : 7;
      assert.equal(found[name], expected, name);
    }
    assert.deepEqual(limitsFrom({}, limits), {}, 'what is not given is left to file and default');
  }
});

test('a limit that cannot be obeyed is refused by flag and option', async () => {
  const start = (name: string, value: unknown) =>
    startGateway({ address: ':0', registry: 'memory', [name]: value as number });
  for (const [name, { row }] of Object.entries(GATEWAY_LIMITS) as [string, Limit][]) {
    await assert.rejects(start(name, row.min - 1), { code: 'INVALID_ARGUMENT' }, name);
    await assert.rejects(start(name, 'x'), { code: 'INVALID_ARGUMENT' }, name);
  }
  for (const [name, { row }] of Object.entries(PROXY_LIMITS) as [string, Limit][]) {
    const wrong = startProxy({ address: ':0', registry: 'memory', [name]: row.min - 1 });
    await assert.rejects(wrong, { code: 'INVALID_ARGUMENT' }, name);
  }
  for (const [flag, value] of [
    ['--max-requests', '0'],
    ['--timeout', 'soon'],
    ['--wrong-key-limit', '1:2:3'],
    ['--max-batch', '-1'],
  ] as const) {
    assert.equal((await micro(['api', flag, value])).code, 2, flag);
  }
});

test('flags win over the file, and both over the default', async () => {
  await using home = temporaryDirectory('limits');
  const file = join(home.path, 'api.json');
  writeFileSync(file, JSON.stringify({ registry: 'memory', maxBodyBytes: 10, maxFields: 3 }));
  const args = ['--address', '127.0.0.1:0', '--config', file, '--max-body-bytes', '20'];
  const child = startChild(process.execPath, [MICRO, 'api', '--handler', 'rpc', ...args], {
    env: { PATH: process.env.PATH, XDG_CONFIG_HOME: home.path },
  });
  const [line] = await once(child.stdout!, 'data');
  const [, url] = /(http:\/\/[\d.:]+)/.exec(String(line)) ?? [];
  const status = async (path: string, body?: string) =>
    (await ask(`${url}${path}`, body === undefined ? {} : post(body))).status;
  assert.equal(await status('/a/b', '{"abcdef":12345}'), 404, 'within the flag’s 20 bytes');
  assert.equal(await status('/a/b', '{"abcdef":123456789}'), 404);
  assert.equal(await status('/a/b', '{"abcdef":1234567890}'), 413);
  assert.equal(await status('/a/b?a=1&b=2&c=3'), 404, 'within the file’s three fields');
  assert.equal(await status('/a/b?a=1&b=2&c=3&d=4'), 400);
  child.kill('SIGTERM');
  assert.equal(await ended(child), 0);
});

test('fields of a query, of a form and of its names are counted before they are read', async () => {
  await using fixture = await gatewayFixture({ maxFields: 3, handler: 'meta' });
  const form = (body: string, path = '/learning/hi') =>
    ask(`${fixture.url}${path}`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
  assert.equal((await form('a=1&b=2&b=3')).status, 200);
  assert.equal((await form('a=1&b=2&b=3&c=4')).status, 400);
  assert.equal((await ask(`${fixture.url}/learning/hi?a&b&c`)).status, 200);
  assert.equal((await ask(`${fixture.url}/learning/hi?a&b&c&d`)).status, 400);
  await using api = await gatewayFixture({ handler: 'api' });
  const answer = await ask(`${api.url}/learning/hi`, {
    method: 'POST',
    body: Array.from({ length: 100_000 }, (_, i) => `a${i}`).join('&'),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  assert.equal(answer.status, 400);
  await using events = await gatewayFixture({ handler: 'event', maxFields: 3 });
  assert.equal((await ask(`${events.url}/user/login?a&b&c&d`)).status, 400);
});

test('requests beyond the limit are told to come again, those of one connection too', async () => {
  await using fixture = await gatewayFixture({ maxRequests: 3, timeoutMs: 60_000 });
  const [, port] = fixture.gateway.address.split(':');
  const socket = connect(Number(port), '127.0.0.1');
  const slow = 'GET /learning/slow HTTP/1.1\r\nHost: x\r\n\r\n';
  socket.write(slow.repeat(3));
  await until(() => fixture.gateway.running >= 3);
  const refused = await ask(`${fixture.url}/learning/hi`);
  assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '1']);
  socket.destroy();
  await until(() => fixture.gateway.running === 0);
  assert.equal((await ask(`${fixture.url}/learning/hi`)).status, 200);
});

test('an idle connection of a client, and one to a server behind, end when their time is over', async () => {
  const shop = createServer((_request, response) => response.end('here'));
  shop.listen(0, '127.0.0.1');
  await once(shop, 'listening');
  await using fixture = await gatewayFixture({
    handler: 'http',
    keepAliveMs: 300,
    backendIdleMs: 200,
  });
  const { port } = shop.address() as AddressInfo;
  const nodes = [{ id: 'shop-1', address: `127.0.0.1:${port}`, metadata: {} }];
  const record = { version: '1', metadata: {}, endpoints: [], nodes };
  await fixture.registry.register({ name: 'go.micro.api.shop', ...record }, { ttlMs: 60_000 });
  const connected = once(shop, 'connection');
  const client = connect(Number(fixture.gateway.address.split(':')[1]), '127.0.0.1');
  client.write('GET /shop HTTP/1.1\r\nHost: x\r\n\r\n');
  client.resume();
  const clientClosed = closed(client);
  const [behind] = await connected;
  await Promise.all([clientClosed, closed(behind as Socket)]);
  shop.close();
});

test('a client that takes nothing of a long answer is disconnected', async () => {
  await using fixture = await gatewayFixture({ stalledMs: 300, timeoutMs: 60_000 });
  const [, port] = fixture.gateway.address.split(':');
  const socket = connect(Number(port), '127.0.0.1').pause();
  socket.on('error', () => {});
  socket.write('GET /learning/count?to=100000000 HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => fixture.gateway.running > 0);
  await until(() => fixture.gateway.running === 0);
  socket.destroy();
});

/** The server's end of the connection by which the next request comes, once it has come. */
function nextRequest(): () => Socket | null {
  const name = 'http.server.request.start';
  let socket: Socket | null = null;
  const take = (message: unknown) => {
    unsubscribe(name, take);
    socket = (message as { socket: Socket }).socket;
  };
  subscribe(name, take);
  return () => socket;
}

test('a client that takes nothing of an answer that is there whole is disconnected', async () => {
  await using fixture = await gatewayFixture({ stalledMs: 300 });
  const [, port] = fixture.gateway.address.split(':');
  const socket = connect(Number(port), '127.0.0.1').pause();
  socket.on('error', () => {});
  const serverSide = nextRequest();
  // More than both systems keep of a connection.
  const body = JSON.stringify({ text: 'x'.repeat(12_000_000) });
  const head = `POST /learning/hi HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`;
  socket.write(`${head}\r\n\r\n${body}`);
  await until(() => serverSide()?.destroyed === true, 'the connection is still there');
  // A client that reads gets all of it.
  const read = await ask(`${fixture.url}/learning/hi`, post(body));
  assert.equal(read.json.request.text.length, 12_000_000);
  socket.destroy();
});

test('of two clients that read the past the one that takes nothing is ended', async () => {
  await using fixture = await gatewayFixture({
    topics: ['news'],
    slowReaderMs: 3000,
    stalledMs: 600_000,
  });
  const body = Buffer.alloc(50_000, 'x');
  for (let i = 0; i < 400; i++) await fixture.broker.publish('news', { body });
  const [, port] = fixture.gateway.address.split(':');
  const read = () => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /_/topics/news?from=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
    return socket;
  };
  const idle = read().pause();
  let got = 0;
  const quick = read();
  quick.on('data', (chunk) => {
    got += chunk.length;
  });
  await until(() => got >= 400 * 50_000);
  await until(() => fixture.gateway.running <= 1);
  idle.destroy();
  quick.destroy();
});

test('messages of a socket beyond the limit wait in the connection, and all come in order', async () => {
  await using fixture = await gatewayFixture({ maxQueuedRequests: 1 });
  const socket = new WebSocket(`${fixture.url.replace('http', 'ws')}/learning/chat`);
  await once(socket, 'open');
  const numbers: number[] = [];
  socket.on('message', (data) => numbers.push(JSON.parse(String(data)).echo.number));
  for (let i = 0; i < 50; i++) socket.send(JSON.stringify({ number: i }));
  await until(() => numbers.length >= 50);
  assert.deepEqual(
    numbers,
    Array.from({ length: 50 }, (_, i) => i),
  );
  socket.close();
});

test('the client whose rate was counted longest ago is forgotten at the limit', () => {
  const limiter = new RateLimiter(1);
  const once = { perSecond: 1, burst: 1 };
  limiter.take('a', once, 0);
  assert.throws(() => limiter.take('a', once, 0), { status: 429 });
  limiter.take('b', once, 0);
  limiter.take('a', once, 0);
});

test('the addresses of one IPv6 network are one client', () => {
  assert.equal(networkOf('2001:db8:1:2::1'), networkOf('2001:db8:1:2:ffff::9'));
  assert.equal(networkOf('2001:db8:1:2:3:4:5:6'), networkOf('2001:0db8:0001:0002::'));
  assert.notEqual(networkOf('2001:db8:1:2::1'), networkOf('2001:db8:1:3::1'));
  assert.equal(networkOf('fe80::1%eth0'), 'fe80:0:0:0::/64');
  assert.equal(networkOf('::1'), '0:0:0:0::/64');
  for (const same of ['192.0.2.1', '::ffff:192.0.2.1', '']) assert.equal(networkOf(same), same);
});

/** What a client cannot say: who it is to services, and what only a proxy in front may say of it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import type { GatewayOptions } from '../../src/gateway/options.ts';
import { bidi, contract, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';
import { gatewayFixture } from './fixture.ts';

const Seen = contract('go.micro.api.seen', {
  Seen: {
    All: unary<unknown, Record<string, string>>(),
    Raw: unary<unknown, unknown>({ metadata: { handler: 'api', path: '/raw' } }),
    Chat: bidi<unknown, Record<string, string>>(),
  },
});

/** Names that services, and servers that make variables of headers, read as a name that they trust. */
const CLAIMS = [
  'Micro-Account',
  'MICRO_ACCOUNT',
  'X-Micro-Account',
  'X_Micro_Account',
  'Micro-From-Service',
  'Micro-Namespace',
  'Micro-Anything',
  'Rivulet-Attempt',
  'rivulet_attempt',
  'X-Rivulet-Code',
];
const OF_PROXIES = [
  'X-Forwarded-For',
  'X_Forwarded_For',
  'X-Forwarded-Proto',
  'X-Forwarded-Host',
  'X-Real-IP',
  'True-Client-IP',
  'Forwarded',
];
const claimed = Object.fromEntries([...CLAIMS, ...OF_PROXIES].map((name) => [name, 'evil']));

async function seen(options: GatewayOptions = {}) {
  const fixture = await gatewayFixture({
    auth: { keys: [{ name: 'ann', key: 'key' }] },
    rules: [{ path: '/_', rateLimit: { perSecond: 1000 } }],
    ...options,
  });
  const service = createService({
    registry: fixture.registry,
    transport: 'tcp',
    environment: false,
    args: false,
  });
  service.handle(Seen, {
    Seen: {
      All: (_request, { metadata }) => metadata.toJSON(),
      Raw: (given) => ({ body: JSON.stringify(given) }),
      async *Chat(requests, { metadata }) {
        for await (const _ of requests) yield metadata.toJSON();
      },
    },
  });
  await service.start();
  const shop = createServer((incoming, response) => {
    incoming.resume();
    response.end(JSON.stringify(incoming.headers));
  });
  shop.listen(0, '127.0.0.1');
  await once(shop, 'listening');
  const { port } = shop.address() as AddressInfo;
  const nodes = [{ id: 'shop-1', address: `127.0.0.1:${port}`, metadata: {} }];
  const record = { version: '1', metadata: {}, endpoints: [], nodes };
  await fixture.registry.register({ name: 'go.micro.api.shop', ...record }, { ttlMs: 60_000 });
  await until(async () => (await listed(fixture.url)).includes('seen'));
  return {
    fixture,
    async [Symbol.asyncDispose]() {
      await service.stop();
      await fixture[Symbol.asyncDispose]();
      shop.close();
    },
  };
}

/** The services that the gateway knows of; these tests set no limit for the page. */
async function listed(url: string): Promise<string> {
  return (await fetch(`${url}/_/services`)).text();
}

/** The body of a POST whose headers are sent in these letters. */
async function send(url: string, headers: Record<string, string>): Promise<string> {
  const asked = request(url, { method: 'POST', headers, agent: false });
  asked.end('{}');
  const [response] = await once(asked, 'response');
  let text = '';
  for await (const chunk of response) text += chunk;
  return text;
}

test('no way in carries what services take from each other, or what a proxy would say', async () => {
  await using web = await seen({ handler: 'http' });
  await using events = await seen({ handler: 'event' });
  await using calls = await seen();
  const { url, gateway } = calls.fixture;
  const socket = new WebSocket(`ws://${gateway.address}/seen/seen/chat`, { headers: claimed });
  await once(socket, 'open');
  socket.send('{}');
  const [chatted] = await once(socket, 'message');
  socket.close();
  const delivered = new Promise<string>((resolve) => {
    void events.fixture.broker.subscribe(
      'go.micro.api.user',
      ({ message }) => resolve(JSON.stringify([message.headers, String(message.body)])),
      { from: 'earliest' },
    );
  });
  await send(`${events.fixture.url}/user/login`, claimed);
  for (const [way, text] of Object.entries({
    call: await send(`${url}/seen/seen/all`, claimed),
    socket: String(chatted),
    api: await send(`${url}/raw`, claimed),
    event: await delivered,
    http: await send(`${web.fixture.url}/shop`, claimed),
  })) {
    assert.doesNotMatch(text, /evil/, way);
  }
});

test('an account is that of the key, whatever the client says', async () => {
  await using calls = await seen();
  const headers = { ...claimed, 'X-API-Key': 'key' };
  const metadata = JSON.parse(await send(`${calls.fixture.url}/seen/seen/all`, headers));
  assert.equal(metadata['micro-account'], 'ann');
  assert.equal(metadata['micro-from-service'], 'go.micro.api');
  assert.equal(metadata['x-forwarded-for'], '127.0.0.1');
});

test('what a proxy in front says goes on where it is trusted, with its own address behind', async () => {
  await using web = await seen({ handler: 'http', trustProxy: true });
  const headers = { 'X-Forwarded-For': '192.0.2.1, 192.0.2.2', 'X-Forwarded-Proto': 'https' };
  const behind = JSON.parse(await send(`${web.fixture.url}/shop`, headers));
  assert.equal(behind['x-forwarded-for'], '192.0.2.1, 192.0.2.2, 127.0.0.1');
  assert.equal(behind['x-forwarded-proto'], 'https');
});

test('a client behind a trusted proxy is the last one that the proxy names', async () => {
  await using calls = await seen({ trustProxy: true, rateLimit: { perSecond: 1, burst: 1 } });
  const status = async (forwarded: string) =>
    (
      await fetch(`${calls.fixture.url}/seen/seen/all`, {
        headers: { 'x-forwarded-for': forwarded },
      })
    ).status;
  assert.equal(await status('198.51.100.7'), 200);
  assert.equal(
    await status('203.0.113.9, 198.51.100.7'),
    429,
    'the first name is the client’s own',
  );
  assert.equal(await status('198.51.100.8'), 200);
  await using direct = await seen({ rateLimit: { perSecond: 1, burst: 1 } });
  const spoofed = async (forwarded: string) =>
    (
      await fetch(`${direct.fixture.url}/seen/seen/all`, {
        headers: { 'x-forwarded-for': forwarded },
      })
    ).status;
  const statuses = [await spoofed('1.1.1.1'), await spoofed('2.2.2.2'), await spoofed('3.3.3.3')];
  assert.ok(statuses.includes(429), String(statuses));
});

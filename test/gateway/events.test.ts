/** Events over HTTP: stored before the answer, once for each key, and what the services receive. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { Delivery } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';
import { ask, type GatewayFixture, gatewayFixture, post } from './fixture.ts';

const SECRET = `whsec_${Buffer.from('a secret of the sender').toString('base64')}`;
let fixture: GatewayFixture;
before(async () => {
  fixture = await gatewayFixture({
    handler: 'event',
    type: 'evt',
    events: { maxBatch: 3 },
    rules: [
      { path: '/hooks/standard', webhook: { kind: 'standard', secrets: [SECRET] } },
      { path: '/hooks/github', webhook: { kind: 'github', secrets: ['old', 'new'] } },
      { path: '/hooks/stripe', webhook: { kind: 'stripe', secrets: ['s'] } },
    ],
  });
});
after(() => fixture[Symbol.asyncDispose]());

const at = (path: string) => `${fixture.url}${path}`;

/** Everything that a topic holds. */
async function stored(topic: string): Promise<Delivery[]> {
  const deliveries: Delivery[] = [];
  let length = 0;
  for await (const info of fixture.broker.topics()) if (info.topic === topic) length = info.length;
  if (length === 0) return [];
  await new Promise<void>((resolve) => {
    const handler = (delivery: Delivery) => {
      deliveries.push(delivery);
      if (deliveries.length === length) resolve();
    };
    void fixture.broker.subscribe(topic, handler, { from: 'earliest' });
  });
  return deliveries;
}

function eventOf({ message }: Delivery) {
  return JSON.parse(Buffer.from(message.body as Uint8Array).toString());
}

test('POST /user/login is an event "login" in the topic of the user', async () => {
  const body = '{"name":"ann"}';
  const headers = { 'X-Tenant': 'blue', Authorization: 'Bearer secret', Cookie: 'a=secret' };
  const answer = await ask(at('/user/login'), post(body, headers));
  assert.deepEqual([answer.status, answer.text], [200, '']);
  const [delivery] = await stored('go.micro.evt.user');
  const event = eventOf(delivery!);
  assert.deepEqual([event.name, event.data], ['login', body]);
  assert.match(event.id, /^go\.micro\.evt\.user-login-[0-9a-f-]{36}$/);
  assert.ok(Math.abs(event.timestamp - Date.now() / 1000) < 60);
  assert.deepEqual(event.header['X-Tenant'], { key: 'X-Tenant', values: ['blue'] });
  assert.equal(delivery!.message.headers!['Micro-Topic'], 'go.micro.evt.user');
  assert.equal(delivery!.message.headers!['X-Tenant'], 'blue');
  assert.ok(!JSON.stringify([event, delivery!.message.headers]).includes('secret'));
  assert.equal(answer.headers.get('micro-message-id'), delivery!.id);
});

test('GET gives the query as data, and Accept asks for the receipts', async () => {
  const answer = await ask(at('/visits?page=1&page=2'), {
    headers: { accept: 'application/json' },
  });
  assert.equal(answer.json.topic, 'go.micro.evt.visits');
  const [delivery] = await stored('go.micro.evt.visits');
  assert.equal(eventOf(delivery!).data, '{"page":["1","2"]}');
});

test('one Idempotency-Key is one event, and another body under it is 422', async () => {
  const send = (body: string) => ask(at('/paid/order'), post(body, { 'Idempotency-Key': 'k1' }));
  const all = await Promise.all(Array.from({ length: 5 }, () => send('{"id":1}')));
  assert.ok(all.every(({ status }) => status === 200));
  const replayed = all.filter(({ headers }) => headers.get('idempotency-replayed') === 'true');
  assert.equal(replayed.length, 4);
  assert.equal((await stored('go.micro.evt.paid')).length, 1);
  assert.equal((await send('{"id":2}')).status, 422);
  assert.equal(
    (await ask(at('/paid/order'), post('{}', { 'Idempotency-Key': 'a b' }))).status,
    400,
  );
});

test('a batch is an event for each line, once with a key', async () => {
  const headers = { 'content-type': 'application/x-ndjson', accept: 'application/json' };
  const send = (body: string, key?: string) =>
    ask(at('/many/seen'), {
      method: 'POST',
      body,
      headers: { ...headers, ...(key === undefined ? {} : { 'idempotency-key': key }) },
    });
  const answer = await send('{"i":1}\n{"i":2}\r\n\n{"i":3}\n', 'batch');
  assert.equal(answer.json.messages.length, 3);
  const again = await send('{"i":1}\n{"i":2}\r\n\n{"i":3}\n', 'batch');
  assert.ok(again.json.messages.every(({ duplicate }: { duplicate: boolean }) => duplicate));
  const data = (await stored('go.micro.evt.many')).map((delivery) => eventOf(delivery).data);
  assert.deepEqual(data.sort(), ['{"i":1}', '{"i":2}', '{"i":3}']);
  assert.equal((await send('1\n2\n3\n4')).status, 413);
  assert.equal((await send('\n\n')).status, 400);
});

test('a webhook is an event only with the signature of its sender, and once', async () => {
  const body = '{"id":"evt_1","type":"paid"}';
  const now = Math.floor(Date.now() / 1000);
  const hex = (secret: string, text: string) =>
    createHmac('sha256', secret).update(text).digest('hex');
  const standard = (time: number, id = 'msg_1') => ({
    'webhook-id': id,
    'webhook-timestamp': String(time),
    'webhook-signature': `v1,bad v1,${createHmac('sha256', 'a secret of the sender')
      .update(`${id}.${time}.${body}`)
      .digest('base64')}`,
  });
  const github = (secret: string) => ({
    'x-hub-signature-256': `sha256=${hex(secret, body)}`,
    'x-github-delivery': 'd1',
  });
  const stripe = (time: number) => ({
    'stripe-signature': `t=${time},v1=00,v1=${hex('s', `${time}.${body}`)}`,
  });
  const cases: [string, Record<string, string>, number][] = [
    ['/hooks/standard', standard(now), 200],
    ['/hooks/standard', standard(now), 200],
    ['/hooks/standard', standard(now - 3600), 401],
    ['/hooks/standard', { ...standard(now), 'webhook-id': 'msg_2' }, 401],
    ['/hooks/standard', {}, 401],
    ['/hooks/github', github('new'), 200],
    ['/hooks/github', github('old'), 200],
    ['/hooks/github', github('wrong'), 401],
    ['/hooks/stripe', stripe(now), 200],
    ['/hooks/stripe', stripe(now + 3600), 401],
    ['/hooks/stripe', { 'stripe-signature': 'nonsense' }, 401],
  ];
  for (const [path, headers, status] of cases) {
    const answer = await ask(at(path), post(body, headers));
    assert.equal(answer.status, status, `${path} ${JSON.stringify(headers)} ${answer.text}`);
  }
  const names = (await stored('go.micro.evt.hooks')).map((delivery) => eventOf(delivery).name);
  assert.deepEqual(names.sort(), ['github', 'standard', 'stripe']);
});

test('a topic that no broker could take is 400', async () => {
  for (const path of ['/a*/b', '/a%20b', '/a/..%2fb', '/..%2f..%2fetc']) {
    assert.equal((await ask(at(path), post('{}'))).status, 400, path);
  }
});

test('protobuf events are go.api.Event', async () => {
  await using gateway = await startGateway({
    address: ':0',
    handler: 'event',
    registry: fixture.registry,
    broker: fixture.broker,
    events: { codec: 'protobuf', names: 'documented' },
  });
  await ask(`${gateway.url}/pb`, post('{"a":1}', { 'x-a': 'b' }));
  const [delivery] = await stored('go.micro.api.pb');
  assert.equal(delivery!.message.headers!['Content-Type'], 'application/protobuf');
  const { parse } = (await import('protobufjs')).default;
  const Event = parse(
    'syntax="proto3";message Pair{string key=1;repeated string values=2;}' +
      'message Event{string name=1;string id=2;int64 timestamp=3;map<string,Pair> header=4;string data=5;}',
  ).root.lookupType('Event');
  const event = Event.toObject(Event.decode(delivery!.message.body as Uint8Array), {
    longs: Number,
  });
  assert.deepEqual([event.name, event.data], ['pb', '{"a":1}']);
  assert.deepEqual(event.header['X-A'], { key: 'X-A', values: ['b'] });
  assert.ok(Math.abs(event.timestamp - Date.now() / 1000) < 60);
});

test('while the broker is away the answer is 503 with Retry-After, and nothing is lost after it', async () => {
  const server = await startRivulet();
  const url = `rivulet://127.0.0.1:${server.port}`;
  await using broker = await openBroker(url, { publishTimeoutMs: 5000 });
  await using gateway = await startGateway({
    address: ':0',
    handler: 'event',
    registry: new MemoryRegistry(),
    broker,
  });
  const send = (id: number) => ask(`${gateway.url}/user/login`, post({ id }));
  assert.equal((await send(1)).status, 200);
  await server.stop('SIGKILL');
  const away = await send(2);
  assert.equal(away.status, 503);
  assert.match(away.headers.get('retry-after') ?? '', /^\d+$/);
  await using back = await startRivulet({
    directory: server.directory,
    args: ['--port', String(server.port)],
  });
  await until(async () => (await send(3)).status === 200);
  await using reader = await openBroker(`rivulet://127.0.0.1:${back.port}`);
  const ids: number[] = [];
  await new Promise<void>((resolve) => {
    const handler = (delivery: Delivery) => {
      ids.push(JSON.parse(eventOf(delivery).data).id);
      if (ids.includes(3)) resolve();
    };
    void reader.subscribe('go.micro.api.user', handler, { from: 'earliest', group: 'late' });
  });
  assert.ok(ids.includes(1));
  await server[Symbol.asyncDispose]();
});

for (const codec of ['json', 'protobuf'] as const) {
  test(`another body under a key that another gateway took is 422 (${codec})`, async () => {
    await using server = await startRivulet({ args: ['--appendfsync', 'no'] });
    const broker = `rivulet://127.0.0.1:${server.port}`;
    const options = { handler: 'event', events: { codec }, registry: 'memory', broker } as const;
    await using first = await startGateway({ address: ':0', ...options });
    await using second = await startGateway({ address: ':0', ...options });
    const send = (url: string, body: string, type = 'application/json') =>
      ask(`${url}/paid/order`, {
        method: 'POST',
        body,
        headers: { 'content-type': type, 'idempotency-key': `k-${type}` },
      });
    assert.equal((await send(first.url, '{"id":1}')).status, 200);
    const same = await send(second.url, '{"id":1}');
    assert.deepEqual([same.status, same.headers.get('idempotency-replayed')], [200, 'true']);
    await using third = await startGateway({ address: ':0', ...options });
    assert.equal((await send(third.url, '{"id":2}')).status, 422);
    const lines = 'application/x-ndjson';
    assert.equal((await send(first.url, '1\n2\n', lines)).status, 200);
    assert.equal((await send(third.url, '1\n3\n', lines)).status, 422);
    assert.equal((await send(second.url, '1\n2\n', lines)).status, 200);
    // A gateway that refused a wrong body takes the right one.
    assert.equal((await send(third.url, '1\n2\n', lines)).status, 200);
    const key = { 'idempotency-key': 'k-name' };
    const of = (url: string, name: string) => ask(`${url}/paid/${name}`, post('{}', key));
    assert.equal((await of(first.url, 'order')).status, 200);
    assert.equal((await of(second.url, 'refund')).status, 422, 'the event has another name');
    const one = { 'idempotency-key': 'k-lines' };
    const text = (url: string, body: string, type: string) =>
      ask(`${url}/paid/x`, { method: 'POST', body, headers: { ...one, 'content-type': type } });
    assert.equal((await text(first.url, '1\n2', lines)).status, 200);
    assert.equal((await text(second.url, '1\n2', 'text/plain')).status, 422, 'one event, not two');
  });
}

test('another event under a used key is refused, whichever part of it is another one', async () => {
  const key = (value: string) => ({ 'idempotency-key': value });
  const get = (path: string) => ask(at(path), { headers: key('k-get') });
  assert.equal((await get('/clicks/a?page=1')).status, 200);
  assert.equal((await get('/clicks/a?page=2')).status, 422, 'of a GET the query is the data');
  assert.equal((await get('/clicks/a?page=1')).headers.get('idempotency-replayed'), 'true');
  assert.equal((await ask(at('/clicks/login'), post('{}', key('k-name')))).status, 200);
  assert.equal((await ask(at('/clicks/logout'), post('{}', key('k-name')))).status, 422);
  const names = (await stored('go.micro.evt.clicks')).map((delivery) => eventOf(delivery).name);
  assert.deepEqual(names, ['a', 'login']);
});

test('a key whose event was not stored is free for another body', async () => {
  await using broker = await openBroker('memory:', { maxBodyBytes: 2000 });
  await using own = await gatewayFixture({ handler: 'event', broker });
  const send = (body: string) =>
    ask(`${own.url}/paid/order`, post(body, { 'idempotency-key': 'k' }));
  assert.equal((await send('x'.repeat(3000))).status, 413);
  assert.equal((await send('{}')).status, 200);
  assert.equal((await send('x')).status, 422);
});

test('a webhook that is repeated with a changed body is the same event', async () => {
  const send = (body: string) => {
    const time = String(Math.floor(Date.now() / 1000));
    const signature = createHmac('sha256', 's').update(`${time}.${body}`).digest('hex');
    const headers = { 'stripe-signature': `t=${time},v1=${signature}` };
    return ask(at('/hooks/stripe'), post(body, headers));
  };
  assert.equal((await send('{"id":"evt_again","pending_webhooks":2}')).status, 200);
  const again = await send('{"id":"evt_again","pending_webhooks":1}');
  assert.deepEqual([again.status, again.headers.get('idempotency-replayed')], [200, 'true']);
});

/** Topics over server-sent events and WebSocket: live, resumed, slow, many. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import type { Delivery, Handler, Subscriber } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { FaultyProxy } from '../../src/conformance/faulty-proxy.ts';
import { TopicReader } from '../../src/gateway/topics/topic-reader.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { inbox, until } from '../helpers/until.ts';
import { ask, type GatewayFixture, gatewayFixture } from './fixture.ts';

let fixture: GatewayFixture;
before(async () => {
  fixture = await gatewayFixture({ topics: ['news.>', 'prices'] });
});
after(() => fixture[Symbol.asyncDispose]());

async function publish(topic: string, text: string): Promise<string> {
  return (await fixture.broker.publish(topic, { headers: {}, body: Buffer.from(text) })).id;
}

/** An event stream as a client reads it: events with ids, until it is closed. */
function events(path: string, headers = '', address = fixture.gateway.address) {
  const [, port] = address.split(':');
  const socket = connect(Number(port), '127.0.0.1');
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n${headers}\r\n`);
  const text = textOf(socket);
  const read = () =>
    [...text().matchAll(/id: (\S+)\ndata: (.*)\n/g)].map(([, id, data]) => ({
      id: id!,
      data: data!,
    }));
  return {
    socket,
    open: () => until(() => text().includes('retry:'), text),
    until: (part: string) => until(() => text().includes(part), text),
    take: async (count: number) => {
      await until(() => read().length >= count, text);
      return read();
    },
    text,
  };
}

/** All that a connection has received: what is looked for may lie across the end of a chunk. */
function textOf(socket: Socket): () => string {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => {});
  return () => text;
}

/** How often a word has come, over the ends of chunks; only the end of the last one is kept. */
function countOf(socket: Socket, word: string): () => number {
  let end = '';
  let count = 0;
  socket.on('data', (chunk) => {
    const text = end + chunk.toString('latin1');
    count += text.split(word).length - 1;
    end = text.slice(-word.length + 1);
  });
  socket.on('error', () => {});
  return () => count;
}

test('a client that comes back with Last-Event-ID misses nothing and gets nothing twice', async () => {
  const first = events('/_/topics/news.today');
  await first.open();
  const ids = [await publish('news.today', 'a'), await publish('news.today', 'b')];
  assert.deepEqual(await first.take(2), [
    { id: ids[0], data: 'a' },
    { id: ids[1], data: 'b' },
  ]);
  const other = events('/_/topics/news.today');
  await other.open();
  first.socket.destroy();
  await publish('news.today', 'c');
  // Among the recent ones of the shared subscription.
  const second = events('/_/topics/news.today', `Last-Event-ID: ${ids[0]}\r\n`);
  await publish('news.today', 'd');
  assert.deepEqual(
    (await second.take(3)).map(({ data }) => data),
    ['b', 'c', 'd'],
  );
  second.socket.destroy();
  other.socket.destroy();
  await until(() => fixture.gateway.running === 0);
  // Not shared any more: read from the broker.
  const third = events('/_/topics/news.today', `Last-Event-ID: ${ids[1]}\r\n`);
  assert.deepEqual(
    (await third.take(2)).map(({ data }) => data),
    ['c', 'd'],
  );
  third.socket.destroy();
  const all = events('/_/topics/news.today?from=earliest');
  assert.equal((await all.take(4)).length, 4);
  all.socket.destroy();
});

test('data of several lines, and bytes that are no text, are one event each', async () => {
  const reader = events('/_/topics/prices');
  await reader.open();
  await publish('prices', 'one\ntwo\r\nid: 9\rthree');
  await fixture.broker.publish('prices', { headers: {}, body: Buffer.from([255, 0]) });
  await reader.take(2);
  assert.match(reader.text(), /data: one\ndata: two\ndata: id: 9\ndata: three\n\n/);
  assert.match(reader.text(), /data: {"bodyBase64":"\/wA="}\n\n/);
  reader.socket.destroy();
});

test('a WebSocket gets the messages with their ids, keys and headers', async () => {
  const socket = new WebSocket(`ws://${fixture.gateway.address}/_/topics/news.ws`);
  const messages = inbox(socket, 'message');
  await once(socket, 'open');
  const headers = { a: 'b' };
  const { id } = await fixture.broker.publish('news.ws', {
    headers,
    body: Buffer.from('x'),
    key: 'k',
  });
  const message = JSON.parse(String(await messages()));
  assert.deepEqual(
    [message.id, message.key, message.headers, message.body],
    [id, 'k', headers, 'x'],
  );
  socket.close();
  const again = new WebSocket(`ws://${fixture.gateway.address}/_/topics/news.ws?from=earliest`);
  assert.equal(JSON.parse(String(await inbox(again, 'message')())).id, id);
  again.close();
});

test('topics that are not shown, and positions that are none, are refused', async () => {
  assert.equal((await ask(`${fixture.url}/_/topics/secret`)).status, 404);
  assert.equal((await ask(`${fixture.url}/_/topics/news`)).status, 404);
  assert.equal((await ask(`${fixture.url}/_/topics/news.a?from=%20`)).status, 400);
  assert.equal((await ask(`${fixture.url}/_/topics/`)).status, 404);
  assert.equal((await ask(`${fixture.url}/_/topics/news.a`, { method: 'POST' })).status, 405);
  const refused = new WebSocket(`ws://${fixture.gateway.address}/_/topics/secret`);
  assert.match(String((await once(refused, 'error'))[0]), /404/);
});

test('a client that does not read is ended, and holds up no other', async () => {
  const slow = events('/_/topics/news.fast');
  await slow.open();
  slow.socket.pause();
  const [, port] = fixture.gateway.address.split(':');
  const quick = connect(Number(port), '127.0.0.1');
  const got = countOf(quick, 'data: ');
  const opened = countOf(quick, 'retry:');
  const said = () => `${got()} of ${count} messages came; closed: ${quick.destroyed}`;
  let count = 0;
  quick.write('GET /_/topics/news.fast HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => opened() === 1);
  const body = Buffer.alloc(20_000, 'x');
  while (fixture.gateway.running > 1) {
    assert.ok(count < 5000, 'the slow client is still there');
    await fixture.broker.publish('news.fast', { headers: {}, body });
    count++;
    if (got() < count - 200) await until(() => got() >= count - 200, said);
  }
  await until(() => got() >= count, said);
  assert.equal(got(), count);
  quick.destroy();
  slow.socket.destroy();
});

test('a word that lies across the end of a chunk is counted, once', () => {
  const socket = new EventEmitter();
  const count = countOf(socket as Socket, 'data: ');
  for (const chunk of ['da', 'ta: data: xda', 't', 'a', ': data:', ' ', 'data']) {
    socket.emit('data', Buffer.from(chunk));
  }
  assert.equal(count(), 4);
});

test('clients that resume together share a subscription, miss nothing and get nothing twice', async (t) => {
  await using own = await gatewayFixture({ topics: ['late.>'], maxPastReaders: 2 });
  const { broker } = own;
  const ids: string[] = [];
  const add = async (body: string) => {
    const { id } = await broker.publish('late.a', { headers: {}, body: Buffer.from(body) });
    ids.push(id);
  };
  for (let i = 0; i < 300; i++) await add(`m${i}`);
  const subscribe = t.mock.method(broker, 'subscribe');
  const [, port] = own.gateway.address.split(':');
  const resume = (after: number) => {
    const socket = connect(Number(port), '127.0.0.1');
    const client = { after, text: '', socket };
    socket.on('data', (chunk) => {
      client.text += chunk;
    });
    socket.write(
      `GET /_/topics/late.a HTTP/1.1\r\nHost: x\r\nLast-Event-ID: ${ids[after]}\r\n\r\n`,
    );
    return client;
  };
  const clients = Array.from({ length: 60 }, (_, i) => resume(i % 2 === 0 ? 9 : 199));
  const allHave = (text: string) =>
    until(() => clients.every((client) => client.text.includes(`data: ${text}\n`)), text);
  await allHave('m299');
  const subscriptions = subscribe.mock.callCount();
  assert.ok(subscriptions <= 3, `one for each id, and one for what comes: ${subscriptions}`);
  for (let i = 300; i < 330; i++) await add(`m${i}`);
  await allHave('m329');
  // By now the feeds of the past have given their clients away: there is room for others.
  clients.push(resume(0), resume(1));
  await allHave('m329');
  for (const { after, text } of clients) {
    const got = [...text.matchAll(/data: m(\d+)\n/g)].map(([, number]) => Number(number));
    const expected = Array.from({ length: 329 - after }, (_, i) => after + 1 + i);
    assert.deepEqual(got, expected);
  }
  for (const { socket } of clients) socket.destroy();
});

test('an id that is later than every message can be is refused, not waited for', async () => {
  const { status, text } = await ask(`${fixture.url}/_/topics/news.a`, {
    headers: { 'last-event-id': '99999999999999-0' },
  });
  assert.equal(status, 400);
  assert.match(text, /later than every message/);
  const garbage = { headers: { 'last-event-id': 'no-id-at-all' } };
  assert.equal((await ask(`${fixture.url}/_/topics/news.a`, garbage)).status, 400);
});

/** The kinds of events of a stream, in order: `gap X`, or the data of a message. */
function told(text: string): string[] {
  return [...text.matchAll(/(?:event: gap\ndata: (.*)|id: \S+\ndata: (.*))\n\n/g)].map(
    ([, gap, data]) => (gap === undefined ? (data as string) : `gap ${JSON.parse(gap).after}`),
  );
}

test('a client whose position was trimmed receives the gap before it goes on', async () => {
  const topic = 'news.trimmed';
  const ids: string[] = [];
  for (let i = 0; i < 300; i++) ids.push(await publish(topic, `m${i}`));
  const [first] = ids as [string];
  const { broker, gateway } = fixture;
  await broker.publish(topic, { body: 'last' }, { maxLength: 1 });
  const clients = [1, 2].map(() => events(`/_/topics/${topic}`, `Last-Event-ID: ${first}\r\n`));
  for (const client of clients) {
    await client.take(1);
    const [gap, ...messages] = told(client.text());
    assert.equal(gap, `gap ${first}`);
    assert.equal(messages.at(-1), 'last');
    assert.ok(!client.text().includes('"m1"'), 'what is gone does not come');
  }
  const socket = new WebSocket(`ws://${gateway.address}/_/topics/${topic}?from=${first}`);
  const first1 = await inbox(socket, 'message')();
  assert.deepEqual(JSON.parse(String(first1)), { topic, gap: { after: first } });
  socket.close();
  for (const client of clients) client.socket.destroy();
});

test('no gap is reported where nothing is gone, whether the position is a message or not', async () => {
  const topic = 'news.whole';
  const a = await publish(topic, 'a');
  // The next messages have a later millisecond than the id that no message has.
  await until(() => Date.now() > Number(a.split('-')[0]));
  for (const text of ['b', 'c']) await publish(topic, text);
  const invented = `${a.split('-')[0]}-999999`;
  for (const id of [a, invented]) {
    const client = events(`/_/topics/${topic}?from=${id}`);
    await client.take(1);
    assert.equal(told(client.text()).filter((each) => each.startsWith('gap')).length, 0, id);
    client.socket.destroy();
  }
});

test('a gap behind which nothing comes is reported as well', async () => {
  await using own = await gatewayFixture({ topics: ['late.>'], resumeWaitMs: 50 });
  const { id } = await own.broker.publish('late.empty', { body: 'x' });
  await own.broker.deleteTopic('late.empty');
  const socket = new WebSocket(`ws://${own.gateway.address}/_/topics/late.empty?from=${id}`);
  const messages = inbox(socket, 'message');
  assert.deepEqual(JSON.parse(String(await messages())).gap, { after: id });
  await own.broker.publish('late.empty', { body: 'y' });
  assert.equal(JSON.parse(String(await messages())).body, 'y');
  socket.close();
});

test('what is trimmed while the broker is away is a gap to clients that are there and that come back', async () => {
  await using server = await startRivulet({ args: ['--appendonly', 'no'] });
  await using proxy = await FaultyProxy.start(server.port);
  await using direct = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  await using broker = await openBroker(`rivulet://127.0.0.1:${proxy.port}`);
  await using own = await gatewayFixture({ topics: ['news.>'], broker });
  const add = (topic: string, body: string, options = {}) =>
    direct.publish(topic, { body }, options);
  const open = async (topic: string, headers = '') => {
    const client = events(`/_/topics/${topic}`, headers, own.gateway.address);
    await client.open();
    return client;
  };
  const [trimmed, empty, whole] = [
    await open('news.trimmed'),
    await open('news.empty'),
    await open('news.whole'),
  ];
  const { id } = await add('news.trimmed', 'a');
  await add('news.whole', 'a');
  await Promise.all([trimmed.take(1), whole.take(1)]);
  const cut = new Promise<void>((resolve) => {
    broker.on('disconnected', () => resolve());
  });
  proxy.mode = 'refuse';
  proxy.cut();
  await cut;
  // A trim removes whole blocks.
  const lost = Array.from({ length: 300 }, (_, i) => ({ body: `lost ${i}` }));
  for (const topic of ['news.trimmed', 'news.empty']) {
    await direct.publishBatch(topic, lost);
    await add(topic, 'kept', { maxLength: 1 });
  }
  await add('news.whole', 'kept');
  proxy.mode = 'pass';
  const both = [trimmed, empty, whole];
  await Promise.all(both.map((client) => client.until('data: kept\n\n')));
  // From what the gateway keeps.
  const late = await open('news.trimmed', `Last-Event-ID: ${id}\r\n`);
  await late.until('data: kept\n\n');
  const short = (text: string) => told(text).filter((each) => !each.startsWith('lost'));
  assert.deepEqual(short(trimmed.text()), ['a', `gap ${id}`, 'kept']);
  assert.deepEqual(short(empty.text()), ['gap null', 'kept']);
  assert.deepEqual(short(whole.text()), ['a', 'kept']);
  assert.deepEqual(told(late.text()), told(trimmed.text()).slice(1));
  assert.doesNotMatch(trimmed.text(), /lost 0\n/);
  for (const { socket } of [trimmed, empty, whole, late]) socket.destroy();
});

test('long messages are kept for clients and wait for them up to a number of bytes', async () => {
  await using server = await startRivulet({ args: ['--appendonly', 'no'] });
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const own = { maxRecentBytes: 1_000_000, maxQueuedBytes: 2_000_000 };
  await using long = await gatewayFixture({ topics: ['long.>'], broker, ...own });
  const reader = events('/_/topics/long.news', '', long.gateway.address);
  await reader.open();
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 40; i++) {
    const body = `${i} ${'x'.repeat(1_000_000)}`;
    await broker.publish('long.news', { body });
    await reader.until(`data: ${i} `);
  }
  reader.socket.destroy();
  await until(() => {
    globalThis.gc?.();
    return process.memoryUsage().arrayBuffers - before < 10_000_000;
  }, 'the gateway keeps one message');
});

test('a client is ended when too many bytes wait for it, but not because of one message', () => {
  const message = (bytes: number) => ({
    ...{ topic: 'news', id: '1-1', publishedAt: new Date(0), key: null, headers: {} },
    body: Buffer.alloc(bytes),
  });
  const reader = new TopicReader(async () => {}, { maxQueued: 10, maxQueuedBytes: 1000 });
  reader.push(message(5000));
  assert.equal(reader.isOver, false);
  reader.push(message(0));
  assert.equal(reader.isOver, true);
});

test('a message that the broker delivers again comes once', async (t) => {
  await using own = await gatewayFixture({ topics: ['news.>'] });
  const { broker } = own;
  const subscribe = broker.subscribe.bind(broker) as (...args: unknown[]) => Promise<Subscriber>;
  // As after a cut, where an acknowledgement did not reach the broker.
  const twice = (handler: Handler) => async (delivery: Delivery) => {
    await handler(delivery);
    const { id, topic, message, publishedAt } = delivery;
    await handler({ id, topic, message, publishedAt, attempt: 2 } as Delivery);
  };
  t.mock.method(broker, 'subscribe', (topic: string, handler: Handler, options: object) =>
    subscribe(topic, twice(handler), options),
  );
  const client = events('/_/topics/news.twice', '', own.gateway.address);
  await client.open();
  for (const body of ['a', 'b', 'c']) await broker.publish('news.twice', { body });
  await client.take(3);
  assert.deepEqual(told(client.text()), ['a', 'b', 'c']);
  client.socket.destroy();
});

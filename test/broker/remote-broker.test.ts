/**
 * What the conformance suite does not ask of the remote broker: publishes that are sent again are
 * stored once, and the server is the one it says it is.
 */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { FaultyProxy } from '../../src/conformance/index.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

test('publishes whose connection is cut are stored once each, batches in order', async () => {
  await using server = await startRivulet();
  await using proxy = await FaultyProxy.start(server.port);
  await using broker = await openBroker(`rivulet://127.0.0.1:${proxy.port}`, {
    publishTimeoutMs: 30_000,
    reconnect: { minMs: 5, maxMs: 20, factor: 2, jitter: true },
  });
  // Replies are late, so that every cut finds publishes without a reply.
  proxy.latencyMs = 5;
  const bodies: string[] = [];
  for (let round = 0; round < 20; round++) {
    const batch = Array.from({ length: 40 }, (_, index) => `${round * 40 + index}`);
    bodies.push(...batch);
    const messages = batch.map((text) => ({ headers: {}, body: Buffer.from(text) }));
    const published = Promise.all([
      broker.publishBatch('in.batches', messages),
      ...messages.map((message) => broker.publish('one.by.one', message)),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 5 + (round % 10)));
    proxy.cut();
    await published;
  }
  await using client = await connect({ port: server.port });
  const stored = async (topic: string) =>
    ((await client.call('XRANGE', topic, '-', '+')) as [Buffer, Buffer[]][]).map(([, fields]) =>
      String(fields[1]),
    );
  assert.deepEqual(await stored('in.batches'), bodies);
  assert.deepEqual((await stored('one.by.one')).sort(), [...bodies].sort());
});

test('more publishes at once than the server remembers numbers of wait their turn', async () => {
  await using server = await startRivulet();
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const message = { headers: {}, body: Buffer.from('x') };
  const one = Array.from({ length: 9000 }, () => broker.publish('t', message));
  const receipts = await broker.publishBatch('t', Array(9000).fill(message));
  const ids = [...(await Promise.all(one)).map(({ id }) => id), ...receipts.map(({ id }) => id)];
  assert.equal(new Set(ids).size, 18_000);
});

test('a responder whose network has died is lost to its callers long before their timeout', async () => {
  await using server = await startRivulet();
  await using proxy = await FaultyProxy.start(server.port);
  await using caller = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const responder = await openBroker(`rivulet://127.0.0.1:${proxy.port}`, {
    drainTimeoutMs: 100,
  });
  let aborted = () => {};
  const told = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  await responder.respond('t', (_, { signal }) => {
    proxy.mode = 'black hole';
    signal.addEventListener('abort', () => aborted());
    return new Promise(() => {});
  });
  const request = caller.request(
    't',
    { headers: {}, body: Buffer.from('x') },
    { timeoutMs: 60_000 },
  );
  await assert.rejects(request, { code: 'RESPONDER_LOST' });
  proxy.cut();
  await told;
  proxy.mode = 'pass';
  await responder.disconnect();
});

test('a server that is no Rivulet is refused, with what to use', async () => {
  const other = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => {
      if (data.includes('HELLO')) socket.write('%1\r\n$2\r\nid\r\n:1\r\n');
      if (data.includes('INFO')) socket.write('$19\r\nredis_version:7.0.0\r\n');
    });
  });
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as AddressInfo;
  await assert.rejects(openBroker(`rivulet://127.0.0.1:${port}`, { connectTimeoutMs: 2000 }), {
    code: 'SERVER_TOO_OLD',
    message: /redis:\/\//,
  });
  other.close();
});

test('a password that is wrong, and one that is missing, fail at once', async () => {
  await using server = await startRivulet({ args: ['--requirepass', 'secret'] });
  const began = performance.now();
  for (const credentials of ['', ':wrong@']) {
    await assert.rejects(openBroker(`rivulet://${credentials}127.0.0.1:${server.port}`), {
      code: 'AUTHENTICATION_FAILED',
    });
  }
  assert.ok(performance.now() - began < 5000);
  await using broker = await openBroker(`rivulet://:secret@127.0.0.1:${server.port}`);
  assert.equal(broker.address, `rivulet://127.0.0.1:${server.port}`);
});

test('a new topic reaches a subscription with wildcards by the word of the server, not by looking', async () => {
  await using server = await startRivulet();
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  await using client = await connect({ port: server.port });
  const scans = async () =>
    /cmdstat_scan:calls=(\d+)/.exec(String(await client.call('INFO', 'commandstats')))?.[1];
  const messages = collected(3);
  await broker.subscribe('news.>', messages.handler, { group: 'g' });
  const before = await scans();
  for (const topic of ['news.eu', 'news.us', 'news.asia']) {
    await broker.publish(topic, { headers: {}, body: Buffer.from(topic) });
  }
  assert.deepEqual((await messages.all).sort(), ['news.asia', 'news.eu', 'news.us']);
  assert.equal(await scans(), before);
});

test('topics that are made while the word of the server cannot arrive are found afterwards', async () => {
  await using server = await startRivulet();
  await using proxy = await FaultyProxy.start(server.port);
  await using broker = await openBroker(`rivulet://127.0.0.1:${proxy.port}`, {
    reconnect: { minMs: 5, maxMs: 20, factor: 2, jitter: true },
  });
  await using other = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const messages = collected(1);
  await broker.subscribe('news.>', messages.handler, { group: 'g' });
  proxy.mode = 'black hole';
  await other.publish('news.eu', { headers: {}, body: Buffer.from('meanwhile') });
  proxy.cut();
  proxy.mode = 'pass';
  assert.deepEqual(await messages.all, ['meanwhile']);
});

test('a user without the right to listen for new topics polls for them', async () => {
  await using server = await startRivulet();
  await using admin = await connect({ port: server.port });
  await admin.call('ACL', 'SETUSER', 'u', 'on', '>p', '~*', '+@all', 'resetchannels');
  await using broker = await openBroker(`rivulet://u:p@127.0.0.1:${server.port}`);
  const messages = collected(1);
  await broker.subscribe('news.>', messages.handler, { group: 'g' });
  await broker.publish('news.eu', { headers: {}, body: Buffer.from('found') });
  assert.deepEqual(await messages.all, ['found']);
});

/** A handler, and the bodies of the first `count` messages that it gets. */
function collected(count: number) {
  const bodies: string[] = [];
  let finish: (bodies: string[]) => void;
  const all = new Promise<string[]>((resolve) => {
    finish = resolve;
  });
  const handler = ({ message }: { message: { body: Uint8Array } }) => {
    if (bodies.push(Buffer.from(message.body).toString()) === count) finish(bodies);
  };
  return { all, handler };
}

test('a read asks for at most half of maxInFlight: the server reads on while the rest is handled', async () => {
  await using server = await startRivulet();
  await using client = await connect({ port: server.port });
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  let handled = 0;
  let finish = () => {};
  const all = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const total = 500;
  const options = { group: 'g', concurrency: 4, maxInFlight: 10 };
  // The group exists before the messages.
  await (await broker.subscribe('t', () => {}, options)).unsubscribe();
  const messages = Array.from({ length: total }, () => ({ headers: {}, body: Buffer.from('x') }));
  await broker.publishBatch('t', messages);
  await client.call('CONFIG', 'SET', 'slowlog-max-len', '10000');
  await client.call('CONFIG', 'SET', 'slowlog-log-slower-than', '0');
  await broker.subscribe(
    't',
    () => {
      if (++handled === total) finish();
    },
    options,
  );
  await all;
  const commands = (await client.call('SLOWLOG', 'GET', '-1')) as [
    unknown,
    unknown,
    unknown,
    Buffer[],
  ][];
  const counts = commands
    .map(([, , , words]) => words.map(String))
    .filter(([name]) => name?.toUpperCase() === 'XREADGROUP')
    .map((words) => Number(words[words.indexOf('COUNT') + 1]));
  assert.equal(Math.max(...counts), 5);
});

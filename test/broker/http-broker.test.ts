/**
 * The http broker beside Go services: records, wire form, and the faults of go-micro's that it has not.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { Delivery } from '../../src/broker/broker.ts';
import { LocalRegistry, StaticRegistry } from '../../src/broker/http/http-registry.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { Seen } from '../../src/conformance/case-context.ts';

const message = (text: string) => ({ headers: {}, body: Buffer.from(text) });

test('registers one record per subscription, as go-micro does, and removes it again', async () => {
  const registry = new LocalRegistry();
  await using broker = await openBroker('http://127.0.0.1:0', { client: { registry } });
  const queue = await broker.subscribe('orders', () => {}, { group: 'billing' });
  await broker.subscribe('orders', () => {});
  const records = await registry.getService('micro.http.broker');
  assert.deepEqual(
    records.map(({ version }) => version),
    ['billing', 'ff.http.broadcast'],
  );
  for (const { nodes } of records) {
    assert.equal(nodes.length, 1);
    assert.match(nodes[0]?.id ?? '', /^orders-\w+$/);
    assert.equal(`http://${nodes[0]?.address}`, broker.address);
    const metadata = { secure: 'false', broker: 'http', topic: 'orders' };
    assert.deepEqual(nodes[0]?.metadata, metadata);
  }
  assert.notEqual(records[0]?.nodes[0]?.id, records[1]?.nodes[0]?.id);
  await queue.unsubscribe();
  assert.equal((await registry.getService('micro.http.broker')).length, 1);
});

test('takes what a Go publisher posts', async () => {
  const registry = new LocalRegistry();
  await using broker = await openBroker('http://127.0.0.1:0', { client: { registry } });
  const seen = new Seen<Delivery>();
  await broker.subscribe('orders', (delivery) => seen.add(delivery), { group: 'g' });
  const [record] = await registry.getService('micro.http.broker');
  const url = `${broker.address}/?id=${record?.nodes[0]?.id}`;
  const body = JSON.stringify({
    Header: { 'Content-Type': 'application/json', 'Micro-ID': 'go-1', 'Micro-Topic': 'orders' },
    Body: Buffer.from('{"total":12}').toString('base64'),
  });
  assert.equal((await fetch(url, { method: 'POST', body })).status, 200);
  const [delivery] = await seen.count(1);
  assert.deepEqual({ ...delivery?.message.headers }, { 'Content-Type': 'application/json' });
  assert.equal(String(delivery?.message.body), '{"total":12}');
  assert.deepEqual([delivery?.id, delivery?.attempt], ['go-1', 1]);
  assert.equal((await fetch(url)).status, 405);
  assert.equal((await fetch(url, { method: 'POST', body: 'nonsense' })).status, 400);
  const nobody = `${broker.address}/?id=nobody`;
  assert.equal((await fetch(nobody, { method: 'POST', body })).status, 404);
});

test('posts what a Go subscriber understands, to the node named by the registry', async () => {
  const posted = new Seen<{ url: string; body: string }>();
  const go = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      posted.add({ url: String(request.url), body });
      response.end();
    });
  });
  await new Promise<void>((resolve) => go.listen(0, '127.0.0.1', resolve));
  const address = `127.0.0.1:${(go.address() as AddressInfo).port}`;
  const node = { id: 'orders-go', address, metadata: { topic: 'orders', broker: 'http' } };
  const registry = new StaticRegistry([
    { name: 'micro.http.broker', version: 'ff.http.broadcast', nodes: [node] },
  ]);
  await using broker = await openBroker('http://127.0.0.1:0', { client: { registry } });
  await broker.publish('orders', { headers: { total: '12' }, body: Buffer.from([0, 255]) });
  const [post] = await posted.count(1);
  assert.equal(post?.url, '/?id=orders-go');
  const { Header, Body } = JSON.parse(post?.body ?? '');
  assert.equal(Header['Micro-Topic'], 'orders');
  assert.equal(Header.total, '12');
  assert.equal(Body, 'AP8=');
  go.close();
  go.closeAllConnections();
});

test('a member that is gone is replaced by another; without one the publish fails clearly', async () => {
  const gone = { id: 'orders-gone', address: '127.0.0.1:1', metadata: { topic: 'orders' } };
  const registry = new StaticRegistry([{ name: 'micro.http.broker', version: 'g', nodes: [gone] }]);
  const options = { client: { registry }, publishTimeoutMs: 300 };
  await using broker = await openBroker('http://127.0.0.1:0', options);
  const others = new Seen<string>();
  await broker.subscribe('orders', ({ message }) => others.add(String(message.body)));
  await assert.rejects(broker.publish('orders', message('lost')), { code: 'NOT_CONNECTED' });
  assert.deepEqual([...(await others.count(1))], ['lost'], 'tried again, but not with everybody');
  const seen = new Seen<string>();
  const add = ({ message }: Delivery) => seen.add(String(message.body));
  await broker.subscribe('orders', add, { group: 'g' });
  for (let i = 0; i < 20; i++) await broker.publish('orders', message(String(i)));
  assert.equal((await seen.count(20)).length, 20);
});

test('an overdue handler alone in its queue leaves the process free to do other work', async () => {
  const registry = new LocalRegistry();
  await using broker = await openBroker('http://127.0.0.1:0', {
    client: { registry },
    drainTimeoutMs: 50,
  });
  const began = new Seen<string>();
  await broker.subscribe(
    'jobs',
    (delivery) => {
      began.add(Buffer.from(delivery.message.body).toString());
      return new Promise(() => {});
    },
    { group: 'alone', ackWaitMs: 100 },
  );
  for (const each of ['a', 'b', 'c']) await broker.publish('jobs', message(each));
  await began.count(1);
  // The overdue ones are offered again while timers and sockets have their turn.
  const other = new Seen<string>();
  await broker.subscribe('other', (each) => other.add(each.id), { group: 'g' });
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await broker.publish('other', message('x'));
  }
  await other.count(10);
});

test('an IPv6 address is listened on and called', async () => {
  const registry = new LocalRegistry();
  await using broker = await openBroker('http://[::1]:0', { client: { registry } });
  assert.match(broker.address, /^http:\/\/\[::1\]:\d+$/);
  const seen = new Seen<string>();
  await broker.subscribe('t', (each) => seen.add(each.id), { group: 'g' });
  await broker.publish('t', message('x'));
  await seen.count(1);
});

test('a broker that listens everywhere does not announce 0.0.0.0', async () => {
  for (const host of ['0.0.0.0', '[::]']) {
    const registry = new LocalRegistry();
    await using broker = await openBroker(`http://${host}:0`, { client: { registry } });
    const seen = new Seen<string>();
    await broker.subscribe('t', (each) => seen.add(each.id), { group: 'g' });
    const [record] = await registry.getService('micro.http.broker');
    assert.doesNotMatch(record?.nodes[0]?.address ?? '', /0\.0\.0\.0|\[::\]/);
    await broker.publish('t', message('x'));
    await seen.count(1);
  }
});

test('a registry that is down: subscribe waits and fails clearly, closing and aborting go on', async () => {
  class Faulty extends LocalRegistry {
    down = false;
    override async register(...args: Parameters<LocalRegistry['register']>) {
      if (this.down) throw new Error('registry down');
      return super.register(...args);
    }
    override async deregister(...args: Parameters<LocalRegistry['deregister']>) {
      if (this.down) throw new Error('registry down');
      return super.deregister(...args);
    }
    override async getService(name: string) {
      if (this.down) throw new Error('registry down');
      return super.getService(name);
    }
  }
  const registry = new Faulty();
  await using broker = await openBroker('http://127.0.0.1:0', {
    client: { registry },
    publishTimeoutMs: 300,
    drainTimeoutMs: 500,
  });
  const controller = new AbortController();
  await broker.subscribe('t', () => {}, { group: 'g', signal: controller.signal });
  const kept = await broker.subscribe('t', () => {}, { group: 'h' });
  registry.down = true;
  const unreachable = { code: 'NOT_CONNECTED' };
  await assert.rejects(
    broker.subscribe('t', () => {}),
    unreachable,
  );
  await assert.rejects(broker.publish('t', message('x')), unreachable);
  controller.abort();
  await kept.unsubscribe();
  await broker.disconnect();
});

test('a group with the name of those without a group is refused', async () => {
  const registry = new LocalRegistry();
  await using broker = await openBroker('http://127.0.0.1:0', { client: { registry } });
  const group = 'ff.http.broadcast';
  await assert.rejects(
    broker.subscribe('t', () => {}, { group }),
    { code: 'INVALID_ARGUMENT' },
  );
});

/** What only the nats adapter has: connections and streams that are there, go-micro's form, limits. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import type { Broker, Delivery } from '../../../src/broker/broker.ts';
import type { ReceivedMessage } from '../../../src/broker/message/received-message.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import {
  collect,
  message,
  nextEvent,
  numbers,
  publishAll,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { FaultyProxy } from '../../../src/conformance/index.ts';
import { type NatsNode, startNats } from '../../helpers/nats-server.ts';
import { missing } from '../../helpers/requirements.ts';

// By a name that is not a literal: the adapter is built after this file.
const ADAPTER: string = '@rivulet/nats';

interface Adapter {
  natsBroker(connection: NatsConnection, options?: Partial<BrokerOptions>): Broker;
}

describe('the nats adapter', { skip: missing('nats-server') }, () => {
  let server: Awaited<ReturnType<typeof startNats>>;
  let url: string;
  let connection: NatsConnection;

  before(async () => {
    server = await startNats();
    const node = server.nodes[0] as NatsNode;
    url = node.url;
    connection = await connect({ servers: `127.0.0.1:${node.port}` });
  });
  after(async () => {
    await connection?.close();
    await server?.[Symbol.asyncDispose]();
  });

  test('works on a connection that is open already, and leaves it open', async () => {
    const { natsBroker } = (await import(ADAPTER)) as Adapter;
    const broker = natsBroker(connection);
    await broker.connect();
    const { seen } = await collect(broker, 'given', { group: 'g' });
    await broker.publish('given', message('x'));
    await seen.count(1);
    await broker.disconnect();
    assert.equal(connection.isClosed(), false);
    await connection.flush();
  });

  test("goMicro: go-micro's JSON as payload on the topic's subject, both ways", async () => {
    await using broker = await openBroker(url, { goMicro: true });
    const heard = new Seen<unknown>();
    connection.subscribe('go.orders', { callback: (_, each) => heard.add(each.json()) });
    const seen = new Seen<unknown>();
    await broker.subscribe('go.orders', ({ message }) => seen.add(message), { group: 'g' });
    await broker.publish('go.orders', message('ours', undefined, { 'Micro-From': 'ts' }));
    assert.deepEqual(await heard.count(1), [
      {
        Header: { 'Micro-From': 'ts', 'Micro-Topic': 'go.orders' },
        Body: Buffer.from('ours').toString('base64'),
      },
    ]);
    const theirs = { Header: { 'Micro-Id': '7' }, Body: Buffer.from('theirs').toString('base64') };
    connection.publish('go.orders', JSON.stringify(theirs));
    const [, got] = await seen.count(2);
    const { headers, body } = got as ReceivedMessage;
    assert.deepEqual(
      { headers, body },
      { headers: { 'Micro-Id': '7' }, body: Buffer.from('theirs') },
    );
  });

  test('a stream that captures the topic already is used as it is', async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'SHOP', subjects: ['shop.>'] });
    await using broker = await openBroker(url);
    await broker.publish('shop.orders', message('1'));
    const { seen } = await collect(broker, 'shop.orders', { group: 'g', from: 'earliest' });
    connection.publish('shop.refunds', 'not for us');
    await broker.publish('shop.orders', message('2'));
    assert.deepEqual([...(await seen.count(2))], ['1', '2']);
    assert.equal((await manager.streams.info('SHOP')).state.messages, 3);
  });

  test('more messages in wait for their retry than the default limit do not stop the others', async () => {
    await using broker = await openBroker(url);
    const waiting = new Seen<string>();
    const good = new Seen<string>();
    await broker.subscribe(
      'parked',
      async (delivery) => {
        if (text(delivery) === 'good') return good.add('good');
        await delivery.nack({ delayMs: 60_000 });
        waiting.add(delivery.id);
      },
      { group: 'g', ack: 'manual', concurrency: 100 },
    );
    await publishAll(broker, 'parked', numbers(0, 1100));
    await waiting.count(1100);
    await broker.publish('parked', message('good'));
    await good.count(1);
  });

  test('handlers that finish one by one leave few requests standing, and the bound on messages in flight holds', async () => {
    const manager = await jetstreamManager(connection);
    await using broker = await openBroker(url);
    const MOST = 600;
    const held: Delivery[] = [];
    const seen = new Seen<string>();
    let inHand = 0;
    let mostInHand = 0;
    await broker.subscribe(
      'singly',
      async (delivery) => {
        mostInHand = Math.max(mostInHand, ++inHand);
        held.push(delivery);
        seen.add(delivery.id);
      },
      { group: 'g', ack: 'manual', concurrency: MOST, maxInFlight: MOST },
    );
    await publishAll(broker, 'singly', numbers(0, MOST));
    await seen.count(MOST);
    for (const delivery of held) {
      await delivery.ack();
      inHand--;
    }
    const standing = await manager.consumers.info('RIVULET-T-singly', 'g');
    assert.ok(standing.num_waiting < 50, `${standing.num_waiting} requests stand`);
    await publishAll(broker, 'singly', numbers(0, MOST + 100));
    await seen.count(2 * MOST);
    assert.equal(mostInHand, MOST);
  });

  test('what is given back after the others have left is there for the next one', async () => {
    await using broker = await openBroker(url);
    const held = new Seen<string>();
    const group = { group: 'g', from: 'earliest' } as const;
    const holder = await broker.subscribe('left', (delivery) => held.add(delivery.id), {
      ...group,
      ack: 'manual',
      concurrency: 3,
    });
    await publishAll(broker, 'left', numbers(0, 3));
    await held.count(3);
    // NATS 2.9 must not find a request without a listener: it would lose the messages in flight.
    const other = await collect(broker, 'left', group);
    await other.subscriber.unsubscribe();
    await holder.unsubscribe();
    const { seen } = await collect(broker, 'left', group);
    await seen.until((items) => new Set(items).size === 3, 'all three', 5000);
  });

  test('a connection that is cut again and again is there again at once each time', async () => {
    await using proxy = await FaultyProxy.start((server.nodes[0] as NatsNode).port);
    await using broker = await openBroker(`nats://127.0.0.1:${proxy.port}`);
    for (let times = 0; times < 6; times++) {
      const connected = nextEvent(broker, 'connected', 2000);
      proxy.cut();
      assert.deepEqual(await connected, { attempt: 1 });
    }
  });

  test('a group moves though subscribers elsewhere make again what they find missing', async () => {
    await using proxy = await FaultyProxy.start((server.nodes[0] as NatsNode).port);
    await using broker = await openBroker(url);
    await using mover = await openBroker(`nats://127.0.0.1:${proxy.port}`);
    const { seen } = await collect(broker, 'moved', { group: 'g', concurrency: 3 });
    await publishAll(broker, 'moved', numbers(0, 3));
    await seen.count(3);
    // Between deleting the group and creating it again more time passes than the subscriber waits.
    proxy.latencyMs = 250;
    await mover.replay('moved', 'g', 'earliest');
    await seen.count(6);
  });

  test('a pattern finds topics whatever their names are made of', async () => {
    await using broker = await openBroker(url);
    const topics = ['like.a_b.c=d-E', `like.${'long'.repeat(50)}`, 'like.größe', 'unlike.x'];
    for (const topic of topics) await broker.publish(topic, message(topic));
    const { seen } = await collect(broker, 'like.>', { group: 'g', from: 'earliest' });
    assert.deepEqual([...(await seen.count(3))].sort(), topics.slice(0, 3).sort());
  });

  test('names that NATS keeps for itself, bodies beyond its limit', async () => {
    await using broker = await openBroker(url, { maxBodyBytes: 1e9 });
    for (const topic of ['$SYS.x', '_INBOX.x']) {
      await assert.rejects(broker.publish(topic, message('x')), { code: 'TOPIC_ILLEGAL' });
    }
    const body = new Uint8Array(17 * 1024 * 1024);
    await assert.rejects(broker.publish('big', { headers: {}, body }), { code: 'BODY_TOO_LARGE' });
  });

  test('credentials are those of the address; wrong ones are reported', async () => {
    const config = ['authorization { user: ann, password: secret }'];
    await using guarded = await startNats(1, config);
    const { port } = guarded.nodes[0] as NatsNode;
    await assert.rejects(openBroker(`nats://ann:wrong@127.0.0.1:${port}`), {
      code: 'AUTHENTICATION_FAILED',
    });
    await assert.rejects(openBroker(`nats://127.0.0.1:${port}`), { code: 'AUTHENTICATION_FAILED' });
    await using broker = await openBroker(`nats://ann:secret@127.0.0.1:${port}`);
    assert.doesNotMatch(broker.address, /secret/);
    await broker.publish('t', message('x'));
  });

  test('a subject that its user may not publish to is refused at once', async () => {
    const config = [
      'authorization { users = [{ user: ann, password: secret, permissions: { publish: { deny: ["closed"] } } }] }',
    ];
    await using guarded = await startNats(1, config);
    const { port } = guarded.nodes[0] as NatsNode;
    await using broker = await openBroker(`nats://ann:secret@127.0.0.1:${port}`, {
      publishTimeoutMs: 60_000,
    });
    const began = performance.now();
    await assert.rejects(broker.publish('closed', message('x')), { code: 'PERMISSION_DENIED' });
    assert.ok(performance.now() - began < 60_000, 'told by the server, not by a time limit');
    await broker.publish('open', message('x'));
  });
});

/** What only the rabbitmq adapter has: connections that are given, go-micro's form, its refusals. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../src/broker/options.ts';
import {
  collect,
  message,
  nextEvent,
  numbers,
  publishAll,
  Seen,
  text,
} from '../../src/conformance/world.ts';
import { type RabbitMqNode, startRabbitMq } from '../helpers/rabbitmq-server.ts';
import { missing } from '../helpers/requirements.ts';

// By names that are not literals: the adapter and its client are built and typed apart.
const ADAPTER: string = '@rivulet/rabbitmq';
const CLIENT: string = 'amqplib';

interface Adapter {
  rabbitMqBroker(connection: unknown, options?: Partial<BrokerOptions>): Broker;
}

describe('the rabbitmq adapter', { skip: missing('rabbitmq-server') }, () => {
  let server: Awaited<ReturnType<typeof startRabbitMq>>;
  let node: RabbitMqNode;
  // biome-ignore lint/suspicious/noExplicitAny: a client whose types are not of this project
  let connection: any;

  before(async () => {
    server = await startRabbitMq();
    node = server.nodes[0] as RabbitMqNode;
    connection = await (await import(CLIENT)).connect(node.url);
  });
  after(async () => {
    await connection?.close();
    await server?.[Symbol.asyncDispose]();
  });

  test('works on a connection that is open already, and leaves it open', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    const broker = rabbitMqBroker(connection);
    await broker.connect();
    const { seen } = await collect(broker, 'given', { group: 'g' });
    await broker.publish('given', message('x'));
    await seen.count(1);
    await broker.disconnect();
    const channel = await connection.createChannel();
    await channel.close();
  });

  test('a channel on which the broker refuses everything is replaced', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    let channels = 0;
    // biome-ignore lint/suspicious/noExplicitAny: see above
    const createConfirmChannel = async (): Promise<any> => {
      const channel = await connection.createConfirmChannel();
      if (++channels > 1) return channel;
      const publish = channel.publish.bind(channel);
      // As a channel does that has not heard of a log's new leader; the node confirms nothing of it.
      // biome-ignore lint/suspicious/noExplicitAny: see above
      channel.publish = (exchange: string, topic: string, ...rest: any[]) => {
        if (topic !== 'refused') return publish(exchange, topic, ...rest);
        const [body, properties, confirmed] = rest;
        const refuse = () => confirmed(new Error('message nacked'));
        return publish('', 'nowhere', body, { ...properties, mandatory: false }, refuse);
      };
      return channel;
    };
    const given = new Proxy(connection, {
      get: (target, name) => {
        if (name === 'createConfirmChannel') return createConfirmChannel;
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const broker = rabbitMqBroker(given, { publishTimeoutMs: 10_000 });
    await broker.connect();
    await broker.publish('refused', message('x'));
    assert.equal(channels, 2);
    await broker.disconnect();
  });

  test('channels whose closing is never answered, as when the connection goes meanwhile, hold up nothing', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    const given = new Proxy(connection, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target);
        if (name !== 'createChannel')
          return typeof value === 'function' ? value.bind(target) : value;
        return async () => {
          const channel = await target.createChannel();
          const close = channel.close.bind(channel);
          // It ends, and amqplib's promise stays as it is.
          channel.close = () => {
            close();
            return new Promise(() => {});
          };
          return channel;
        };
      },
    });
    await using broker = rabbitMqBroker(given, { publishTimeoutMs: 5000 });
    await broker.connect();
    const { seen } = await collect(broker, 'unanswered', { group: 'g' });
    await broker.publish('unanswered', message('x'));
    await seen.count(1);
  });

  test('an acknowledgement of many does not reach a message that is still in hand', async () => {
    const slow = new Seen<string>();
    const others = new Seen<string>();
    const again = new Seen<string>();
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const options = { group: 'g', concurrency: 100, maxInFlight: 100 } as const;
    {
      await using first = await openBroker(node.url, { drainTimeoutMs: 100 });
      await first.subscribe(
        'reach',
        (delivery) => {
          if (text(delivery) === '50') {
            slow.add('50');
            return finished;
          }
          others.add(text(delivery));
        },
        options,
      );
      await publishAll(first, 'reach', numbers(0, 100));
      await slow.count(1);
      await others.count(99);
    }
    finish();
    await using second = await openBroker(node.url);
    await second.subscribe('reach', (delivery) => void again.add(text(delivery)), options);
    await again.count(1);
    await second.publish('reach', message('end'));
    assert.deepEqual([...(await again.count(2))], ['50', 'end']);
  });

  test('goMicro: raw bodies and native headers on the exchange micro, both ways', async () => {
    await using broker = await openBroker(node.url, { goMicro: true });
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'micro', 'go.orders');
    const heard = new Seen<{ body: string; headers: Record<string, unknown> }>();
    await channel.consume(
      queue,
      // biome-ignore lint/suspicious/noExplicitAny: see above
      (each: any) => heard.add({ body: each.content.toString(), headers: each.properties.headers }),
      { noAck: true },
    );
    const seen = new Seen<unknown>();
    await broker.subscribe('go.orders', ({ message }) => seen.add(message), { group: 'g' });
    await broker.publish('go.orders', message('ours', undefined, { 'Micro-From': 'ts' }));
    const [first] = await heard.count(1);
    assert.deepEqual(first, { body: 'ours', headers: { 'Micro-From': 'ts' } });
    channel.publish('micro', 'go.orders', Buffer.from('theirs'), { headers: { 'Micro-Id': '7' } });
    const [, theirs] = await seen.count(2);
    assert.deepEqual(theirs, { headers: { 'Micro-Id': '7' }, body: Buffer.from('theirs') });
    await channel.close();
  });

  test('wrong credentials and a virtual host that is not there are told apart', async () => {
    const wrong = node.url.replace('guest:guest', 'guest:wrong');
    await assert.rejects(openBroker(wrong), { code: 'AUTHENTICATION_FAILED' });
    await assert.rejects(openBroker(`${node.url}/nowhere`), { code: 'PERMISSION_DENIED' });
    await assert.rejects(openBroker('amqp://guest:secret@[bad'), (error: Error) => {
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  });

  test('a group that was made without order is not consumed in order', async () => {
    await using broker = await openBroker(node.url);
    const { subscriber } = await collect(broker, 'unordered', { group: 'g' });
    await subscriber.unsubscribe();
    await assert.rejects(collect(broker, 'unordered', { group: 'g', ordered: 'strictly' }), {
      code: 'UNSUPPORTED',
    });
    await collect(broker, 'unordered', { group: 'other', ordered: 'strictly' });
  });

  test('a deadline beyond the consumer timeout of an old server is refused', async () => {
    await using broker = await openBroker(node.url);
    await assert.rejects(collect(broker, 'long', { group: 'g', ackWaitMs: 3_600_000 }), {
      code: 'SERVER_TOO_OLD',
    });
  });

  test('a channel closed by the consumer timeout is reported, and consuming goes on', async () => {
    const set = (timeout: string, tick: string) =>
      node.evaluate(
        `application:set_env(rabbit, consumer_timeout, ${timeout}), application:set_env(rabbit, channel_tick_interval, ${tick}).`,
      );
    await set('300', '200');
    try {
      await using broker = await openBroker(node.url);
      const attempts = new Seen<number>();
      const warned = nextEvent(broker, 'warning');
      await broker.subscribe(
        'slow',
        async ({ attempt, signal }) => {
          attempts.add(attempt);
          if (attempt > 1) return;
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        },
        { group: 'g', ackWaitMs: 20_000 },
      );
      await broker.publish('slow', message('x'));
      assert.equal(((await warned).error as { code?: string }).code, 'DELIVERY_LOST');
      assert.deepEqual([...(await attempts.count(2))], [1, 2]);
    } finally {
      await set('1800000', '60000');
    }
  });
});

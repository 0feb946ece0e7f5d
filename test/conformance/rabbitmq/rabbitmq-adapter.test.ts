/** What only the rabbitmq adapter has: connections that are given, go-micro's form, its refusals. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import {
  collect,
  eventually,
  message,
  nextEvent,
  numbers,
  publishAll,
  quiet,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { systemScheduler } from '../../../src/util/time/system-scheduler.ts';
import { type RabbitMqNode, startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';

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

  test('a delayed message that has less left than the shortest wait queue holds is not early', async () => {
    let date = systemScheduler.now();
    const scheduler = { ...systemScheduler, now: () => date };
    await using broker = await openBroker(node.url, { scheduler });
    const { seen } = await collect(broker, 'nearly', { group: 'g' });
    await broker.publish('nearly', message('x'), { delayMs: 20 });
    date += 17;
    await quiet(500);
    assert.equal(seen.length, 0, '3 ms are left');
    date += 3;
    await seen.count(1);
  });

  test('delayed messages come although the server has dropped their consumer without a word', async () => {
    await using broker = await openBroker(node.url);
    const warnings: string[] = [];
    broker.on('warning', ({ error }) => warnings.push(error.message));
    const seen = new Seen<string>();
    await broker.subscribe('deaf', (delivery) => seen.add(text(delivery)), { group: 'g' });
    await broker.publish('deaf', message('before'), { delayMs: 20 });
    await seen.count(1);
    const dropped = await node.evaluate(
      `Due = {'%2F_rivulet.due', node()}, {ok, {_, All}, _} = ra:local_query(Due, fun rabbit_fifo:query_consumers/1), [ra:process_command(Due, rabbit_fifo:make_checkout(Id, cancel, #{})) || Id <- maps:keys(All)], maps:size(All).`,
    );
    assert.equal(dropped, '1');
    await broker.publish('deaf', message('after'), { delayMs: 20 });
    await seen.count(2, 60_000);
    assert.match(warnings.join(), /none of the 1 delayed messages that are due for 5 s/);
  });

  test('a topic whose server is late is not listed as empty, and an empty one is', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    const createChannel = async () => {
      const channel = await connection.createChannel();
      const consume = channel.consume.bind(channel);
      // A replica that has not caught up sends what is in a log some time after it has accepted a consumer.
      channel.consume = (queue: string, take: (message: unknown) => void, options: object) =>
        consume(queue, (message: unknown) => void setTimeout(take, 400, message), options);
      return channel;
    };
    const given = new Proxy(connection, {
      get: (target, name) => {
        if (name === 'createChannel') return createChannel;
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const broker = rabbitMqBroker(given);
    await broker.connect();
    await publishAll(broker, 'late', numbers(0, 3));
    await collect(broker, 'nothing', { group: 'g' });
    const lengths = new Map<string, number>();
    for await (const { topic, length } of broker.topics()) lengths.set(topic, length);
    assert.equal(lengths.get('late'), 3);
    assert.equal(lengths.get('nothing'), 0);
    await broker.disconnect();
  });

  test('a channel on which the broker refuses everything is replaced', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    let channels = 0;
    // biome-ignore lint/suspicious/noExplicitAny: see above
    const createConfirmChannel = async (): Promise<any> => {
      const channel = await connection.createConfirmChannel();
      const publish = channel.publish.bind(channel);
      let isFirst = true;
      // As a channel does that has not heard of a log's new leader; the node confirms nothing of it.
      // biome-ignore lint/suspicious/noExplicitAny: see above
      channel.publish = (exchange: string, topic: string, ...rest: any[]) => {
        if (topic !== 'refused') return publish(exchange, topic, ...rest);
        if (isFirst) channels++;
        isFirst = false;
        if (channels > 1) return publish(exchange, topic, ...rest);
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

  test('an acknowledgement of many does not reach a message that is still in flight', async () => {
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
    await broker.subscribe(
      'go.orders',
      ({ message: { headers, body } }) => seen.add({ headers, body }),
      { group: 'g' },
    );
    await broker.publish('go.orders', message('ours', undefined, { 'Micro-From': 'ts' }));
    const [first] = await heard.count(1);
    const headers = { 'Micro-From': 'ts', 'Micro-Topic': 'go.orders' };
    assert.deepEqual(first, { body: 'ours', headers });
    channel.publish('micro', 'go.orders', Buffer.from('theirs'), { headers: { 'Micro-Id': '7' } });
    const [, theirs] = await seen.count(2);
    assert.deepEqual(theirs, { headers: { 'Micro-Id': '7' }, body: Buffer.from('theirs') });
    await channel.close();
  });

  test('a message that the server finds too large fails alone, those beside it are stored', async () => {
    const limit = (bytes: number) =>
      node.evaluate(`application:set_env(rabbit, max_message_size, ${bytes}).`);
    await limit(200_000);
    try {
      await using broker = await openBroker(node.url);
      const { seen } = await collect(broker, 'sizes', { group: 'g' });
      await broker.publish('sizes', message('first'));
      const large = { body: Buffer.alloc(300_000) };
      const results = await Promise.allSettled([
        broker.publish('sizes', message('before')),
        broker.publish('sizes', large),
        broker.publish('sizes', message('after')),
      ]);
      const outcomes = results.map((each) =>
        each.status === 'fulfilled' ? 'stored' : each.reason.code,
      );
      assert.deepEqual(outcomes, ['stored', 'BODY_TOO_LARGE', 'stored']);
      await seen.until((items) => items.includes('after'), 'the message after it');
      assert.deepEqual([...new Set(seen.items)], ['first', 'before', 'after']);
    } finally {
      await limit(134_217_728);
    }
  });

  test('headers and key beyond 56 KiB are refused at the call, and a little less arrives', async () => {
    await using broker = await openBroker(node.url);
    const seen = new Seen<number>();
    const length = (of: string | undefined) => of?.length ?? 0;
    await broker.subscribe('heads', ({ message }) => seen.add(length(message.headers.large)), {
      group: 'g',
    });
    await assert.rejects(
      broker.publish('heads', message('x', undefined, { large: 'x'.repeat(57_400) })),
      {
        code: 'BODY_TOO_LARGE',
      },
    );
    await broker.publish('heads', message('x', undefined, { large: 'x'.repeat(57_000) }));
    assert.deepEqual([...(await seen.count(1))], [57_000]);
  });

  test('a dead letter of a topic of 252 bytes with headers of 54 KiB is kept, and can be redriven', async () => {
    await using broker = await openBroker(node.url);
    const topic = `long.${'t'.repeat(247)}`;
    const buried = nextEvent(broker, 'deadLettered');
    const seen = new Seen<string>();
    await broker.subscribe(
      topic,
      (delivery) => {
        seen.add(text(delivery));
        if (seen.length <= 2) throw new Error('€'.repeat(2000));
      },
      { group: 'g'.repeat(255), retry: { attempts: 2, backoff: { minMs: 20, maxMs: 20 } } },
    );
    await broker.publish(topic, message('x', 'key', { large: 'x'.repeat(54 * 1024) }));
    assert.equal((await buried).topic, topic);
    assert.equal(await broker.redrive(topic), 1);
    assert.deepEqual([...(await seen.count(3))], ['x', 'x', 'x']);
  });

  test('the exchange is deleted once: groups get what is published afterwards', async () => {
    await using broker = await openBroker(node.url);
    await using other = await openBroker(node.url);
    const one = await collect(broker, 'exchange.one', { group: 'g' });
    const all = await collect(broker, 'exchange.>', { group: 'all' });
    await other.publish('exchange.one', message('1'));
    await one.seen.count(1);
    const channel = await connection.createChannel();
    await channel.deleteExchange('rivulet');
    await channel.close();
    await other.publish('exchange.one', message('2'));
    await other.publish('exchange.two', message('3'));
    assert.deepEqual([...(await one.seen.count(2))], ['1', '2']);
    assert.deepEqual([...(await all.seen.count(3))], ['1', '2', '3']);
  });

  test('user name and password of any letters, as they are or escaped, and no error shows them', async () => {
    const add = (name: string, password: string) =>
      node.evaluate(
        `rabbit_auth_backend_internal:add_user(<<"${name}"/utf8>>, <<"${password}"/utf8>>, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"${name}"/utf8>>, <<"/">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>).`,
      );
    const place = node.url.replace(/.*@/, '');
    await add('jürgen', 'pässwört/@,€');
    await using plain = await openBroker(`amqp://jürgen:pässwört/@,€@${place}`);
    await plain.publish('letters', message('x'));
    const escaped = `${encodeURIComponent('jürgen')}:${encodeURIComponent('pässwört/@,€')}`;
    await using broker = await openBroker(`amqp://${escaped}@${place}`);
    await broker.publish('letters', message('x'));
    await assert.rejects(openBroker(`amqp://jürgen:geheim/@,€@${place}`), (error: Error) => {
      assert.equal((error as { code?: string }).code, 'AUTHENTICATION_FAILED');
      assert.doesNotMatch(error.message, /geheim|jürgen/);
      return true;
    });
  });

  test('wrong credentials and a virtual host that is not there have different errors', async () => {
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
    await assert.rejects(collect(broker, 'unordered', { group: 'g', ordered: 'strict' }), {
      code: 'UNSUPPORTED',
    });
    await collect(broker, 'unordered', { group: 'other', ordered: 'strict' });
  });

  test('a deadline beyond the consumer timeout of an old server is shortened, with a warning', async () => {
    await using broker = await openBroker(node.url);
    const warned = nextEvent(broker, 'warning');
    const { seen } = await collect(broker, 'long', { group: 'g', ackWaitMs: 3_600_000 });
    const { code, message: text } = (await warned).error as { code?: string; message: string };
    assert.equal(code, 'SERVER_TOO_OLD');
    assert.match(text, /ackWaitMs of 3600000 counts as 1740000/);
    await broker.publish('long', message('x'));
    await seen.count(1);
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

  test('the exchange is deleted, and another program declares it again: all subscribers receive', async () => {
    await using broker = await openBroker(node.url, { goMicro: true });
    const channel = await connection.createChannel();
    const alone = await collect(broker, 'bound.again', {});
    const group = await collect(broker, 'bound.again', { group: 'g' });
    const seen = [alone.seen, group.seen];
    await channel.deleteExchange('micro');
    await channel.assertExchange('micro', 'topic', { durable: false });
    await eventually('both have received a message', () => {
      channel.publish('micro', 'bound.again', Buffer.from('x'));
      return seen.every(({ length }) => length > 0);
    });
    await channel.close();
  });

  test('what another program writes into the streams of this adapter is skipped', async () => {
    const channel = await connection.createChannel();
    await using first = await openBroker(node.url, { drainTimeoutMs: 100 });
    const taken = new Seen<string>();
    const hold = (each: string) => {
      taken.add(each);
      return new Promise<void>(() => {});
    };
    await first.subscribe('skipped', (delivery) => hold(text(delivery)), { group: 'g' });
    for (const stream of ['rivulet.registry', 'rivulet.hand-overs']) {
      for (const text of ['{broken', 'null', '[1]', '[[1, {}, "x"]]', '{"topic": 5}']) {
        channel.sendToQueue(stream, Buffer.from(text));
      }
    }
    await first.publish('skipped', message('x'));
    await taken.count(1);
    // Returned by a connection that ends, so that the next consumer reads the hand-overs.
    await node.evaluate(
      '[rabbit_networking:close_connection(P, <<"test">>) || P <- rabbit_networking:connections(), proplists:get_value(<<"connection_name">>, proplists:get_value(client_properties, rabbit_networking:connection_info(P, [client_properties]), []), none) =/= none], ok.',
    );
    await using second = await openBroker(node.url);
    const { seen } = await collect(second, 'skipped', { group: 'g' });
    await first.disconnect();
    await seen.count(1);
    const topics: string[] = [];
    for await (const { topic } of second.topics()) topics.push(topic);
    assert.ok(topics.includes('skipped'));
    await channel.close();
  });

  test('a queue is deleted with messages in flight: those that then fail are delivered again', async () => {
    await using broker = await openBroker(node.url);
    const seen = new Seen<string>();
    let fail = (_: Error) => {};
    const failed = new Promise<void>((_, reject) => {
      fail = reject;
    });
    failed.catch(() => {});
    await broker.subscribe(
      'deleted.queue',
      async (delivery) => {
        seen.add(text(delivery));
        if (delivery.attempt === 1) await failed;
      },
      { group: 'g', maxInFlight: 50, concurrency: 2, retry: { attempts: 5 } },
    );
    await publishAll(broker, 'deleted.queue', numbers(0, 20));
    await seen.count(2);
    const lost = nextEvent(broker, 'groupLost');
    const channel = await connection.createChannel();
    await channel.deleteQueue('rivulet.group.g:deleted.queue');
    await channel.close();
    await lost;
    fail(new Error('no'));
    await seen.until((items) => new Set(items).size === 20, 'all of them');
    const twice = (each: string) => seen.items.filter((item) => item === each).length >= 2;
    await eventually('the first two again', () => twice('0') && twice('1'));
  });

  test('a log that an operator has deleted has length 0 among the topics', async () => {
    await using broker = await openBroker(node.url);
    await broker.publish('no.log', message('x'));
    const channel = await connection.createChannel();
    await channel.deleteQueue('rivulet.topic.no.log');
    await channel.close();
    const lengths = new Map<string, number | null>();
    for await (const { topic, length } of broker.topics()) lengths.set(topic, length);
    assert.equal(lengths.get('no.log'), 0);
    assert.ok(lengths.size > 1);
  });

  test('a request with headers beyond 56 KiB, or a body beyond the server limit, fails alone', async () => {
    await node.evaluate('application:set_env(rabbit, max_message_size, 200000).');
    try {
      await using broker = await openBroker(node.url);
      await broker.respond('asked', () => ({ body: 'reply' }));
      const ask = (request: Parameters<Broker['request']>[1]) =>
        broker.request('asked', request).then(
          (reply) => reply.text(),
          ({ code }) => code,
        );
      const replies = await Promise.all([
        ask({ body: 'small' }),
        ask({ body: Buffer.alloc(300_000) }),
        ask({ body: 'x', headers: { large: 'x'.repeat(60_000) } }),
        ask({ body: 'small' }),
      ]);
      assert.deepEqual(replies, ['reply', 'BODY_TOO_LARGE', 'BODY_TOO_LARGE', 'reply']);
    } finally {
      await node.evaluate('application:set_env(rabbit, max_message_size, 134217728).');
    }
  });
});

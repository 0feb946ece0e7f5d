/** Confirms of RabbitMQ that are wrong or never come, as after a log's leader has changed. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import {
  collect,
  eventually,
  message,
  numbers,
  publishAll,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { publishSteadily } from '../../../src/conformance/steady-load.ts';
import { type RabbitMqNode, startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { until } from '../../helpers/until.ts';

// By names that are not literals: the adapter and its client are built and typed apart.
const ADAPTER: string = '@rivulet/rabbitmq';
const CLIENT: string = 'amqplib';

interface Adapter {
  rabbitMqBroker(connection: unknown, options?: Partial<BrokerOptions>): Broker;
}

describe('confirms of rabbitmq', { skip: missing('rabbitmq-server') }, () => {
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

  /** Ends the process that leads a log: the next leader begins where it was. */
  const endLeader = (topic: string) =>
    node.evaluate(
      `{ok, Q} = rabbit_amqqueue:lookup({resource, <<"/">>, queue, <<"rivulet.topic.${topic}">>}), exit(amqqueue:get_pid(Q), kill).`,
    );

  test('a log gets another leader under load: publishing continues, and what was confirmed is in the log', {
    timeout: 300_000,
  }, async () => {
    await using broker = await openBroker(node.url, { publishTimeoutMs: 60_000 });
    // So that the numbers of this log are not those of a channel that publishes elsewhere, too.
    await publishAll(broker, 'elsewhere', numbers(0, 1000));
    const load = publishSteadily(broker, 'led', 10);
    const { acknowledged, failures } = load;
    const goesOn = async () => {
      const count = acknowledged.length + 200;
      await until(() => acknowledged.length >= count || failures.length > 0, 'publishing', 90_000);
    };
    await goesOn();
    for (let round = 0; round < 3; round++) {
      await endLeader('led');
      await goesOn();
    }
    await load.stop();
    assert.deepEqual(failures, []);
    await using reader = await openBroker(node.url, { publishTimeoutMs: 60_000 });
    const { seen } = await collect(reader, 'led', { from: 'earliest', maxInFlight: 500 });
    const missing = () => {
      const stored = new Set(seen.items);
      return acknowledged.filter((each) => !stored.has(each));
    };
    await eventually('all are read', () => missing().length === 0, 120_000).catch(() => {});
    assert.deepEqual(missing(), [], 'confirmed, and not in the log');
  });

  /** A connection whose channels never confirm the first message that `isSilent` chooses. */
  const silentFor = (isSilent: (exchange: string, routingKey: string) => boolean) => {
    const silent = { count: 0 };
    // biome-ignore lint/suspicious/noExplicitAny: see above
    const createConfirmChannel = async (): Promise<any> => {
      const channel = await connection.createConfirmChannel();
      const publish = channel.publish.bind(channel);
      // biome-ignore lint/suspicious/noExplicitAny: see above
      channel.publish = (exchange: string, routingKey: string, ...rest: any[]) => {
        if (silent.count > 0 || !isSilent(exchange, routingKey)) {
          return publish(exchange, routingKey, ...rest);
        }
        silent.count++;
        return true;
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
    return { given, silent };
  };

  test('a message that is never confirmed is published again on another channel', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    const { given, silent } = silentFor((_, routingKey) => routingKey === 'silent');
    await using broker = rabbitMqBroker(given, { publishTimeoutMs: 60_000 });
    await broker.connect();
    await broker.publish('silent', message('x'));
    assert.equal(silent.count, 1);
  });

  test('a record of a hand-over that is never confirmed does not hold its message up', async () => {
    const { rabbitMqBroker } = (await import(ADAPTER)) as Adapter;
    const { given, silent } = silentFor((_, routingKey) => routingKey === 'rivulet.hand-overs');
    await using broker = rabbitMqBroker(given, { publishTimeoutMs: 60_000 });
    await broker.connect();
    const seen = new Seen<string>();
    await broker.subscribe('recorded', (delivery) => seen.add(text(delivery)), { group: 'g' });
    await broker.publish('recorded', message('x'));
    await seen.count(1, 60_000);
    assert.equal(silent.count, 1);
  });
});

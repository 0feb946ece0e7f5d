/** The registry suite on the broker registry: over memory, over a real server, over adapters. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import { type RegistryFixture, registryConformance } from '../../src/conformance/registry/suite.ts';
import {
  BrokerRegistry,
  type BrokerRegistryOptions,
  REGISTRY_TOPIC,
} from '../../src/registry/broker/broker.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { memoryFixture } from '../conformance/embedded-fixture.ts';
import { natsFixture } from '../conformance/nats/nats-fixture.ts';
import { redisFixture } from '../conformance/redis/redis-fixture.ts';
import { remoteFixture } from '../conformance/remote-fixture.ts';
import { missing } from '../helpers/requirements.ts';

const runner = { describe, test, before, after };
const options: BrokerRegistryOptions = { timeoutMs: 3000, onWarning: () => {} };

interface Server extends AsyncDisposable {
  open(): Promise<Broker>;
  kill?(): Promise<void>;
  start?(): Promise<void>;
  flush?(): Promise<void>;
}

registryConformance({ name: 'broker over memory:', runner, factory: () => over(memoryFixture()) });
registryConformance({
  name: 'broker over rivulet://',
  runner,
  factory: () => over(remoteFixture()),
});

for (const [name, program, start] of [
  ['redis', 'redis-server', redisFixture],
  ['nats', 'nats-server', natsFixture],
] as const) {
  const skip = missing(program);
  if (skip === false) {
    registryConformance({ name: `broker over ${name}`, runner, factory: () => over(start()) });
  } else test(`the registry suite over ${name}`, { skip }, () => {});
}

describe('the broker registry', () => {
  test("a registry that begins late finds the nodes that are there, with the age on the broker's clock", async () => {
    await using server = await memoryFixture();
    const broker = await server.open();
    await using first = new BrokerRegistry(broker, options);
    await first.register(recordOf('late', 'long'), { ttlMs: 60_000 });
    await first.register(recordOf('late', 'short'), { ttlMs: 200 });
    await first.register(recordOf('late', 'left'), { ttlMs: 60_000 });
    await first.deregister(recordOf('late', 'left'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    await using second = new BrokerRegistry(broker, options);
    const [found] = await second.getService('late');
    assert.deepEqual(
      found?.nodes.map(({ id }) => id),
      ['long'],
    );
  });

  test('reads at once share one entry of the topic, and the topic does not grow without end', async () => {
    await using server = await memoryFixture();
    const broker = await server.open();
    await using registry = new BrokerRegistry(broker, options);
    await registry.register(recordOf('kept', 'n'), { ttlMs: 60_000 });
    await registry.getService('kept');
    const before = await lengthOf(broker);
    await Promise.all(Array.from({ length: 100 }, () => registry.getService('kept')));
    assert.equal((await lengthOf(broker)) - before, 1);
    for (let round = 0; round < 1500; round++) await registry.getService('kept');
    assert.ok((await lengthOf(broker)) <= 1300, `${await lengthOf(broker)} entries`);
  });

  test('over a broker without history a registry that begins asks the others', async () => {
    await using server = await memoryFixture();
    const broker = withoutHistory(await server.open());
    await using first = new BrokerRegistry(broker, options);
    await first.register(recordOf('asked', 'n'), { ttlMs: 60_000 });
    await using second = new BrokerRegistry(broker, options);
    assert.equal((await second.getService('asked')).length, 1);
  });

  test('a watch that begins before a look-up misses nothing after it', async () => {
    await using server = await memoryFixture();
    await using writer = new BrokerRegistry(await server.open(), options);
    await writer.register(recordOf('watched', 'old'), { ttlMs: 60_000 });
    await using reader = new BrokerRegistry(await server.open(), options);
    const events = reader.watch('watched')[Symbol.asyncIterator]();
    assert.equal((await reader.getService('watched'))[0]?.nodes.length, 1);
    await writer.register(recordOf('watched', 'new'), { ttlMs: 60_000 });
    const { value } = await events.next();
    assert.deepEqual([value?.action, value?.service.nodes[0]?.id], ['create', 'new']);
  });

  test('a registry opened by URL owns its broker, and one on a broker leaves it open', async () => {
    await using server = await memoryFixture();
    const broker = await server.open();
    const registry = new BrokerRegistry(broker, options);
    await registry.getService('any');
    await registry.close();
    await broker.publish('still', { headers: {}, body: Buffer.from('open') });
    await using own = new BrokerRegistry('memory:owned-by-registry', options);
    assert.deepEqual(await own.getService('any'), []);
  });
});

async function over(starting: Promise<Server>): Promise<RegistryFixture> {
  const server = await starting;
  const brokers: Broker[] = [];
  const open = async () => {
    const broker = await server.open();
    brokers.push(broker);
    return broker;
  };
  const { kill, start, flush } = server;
  return {
    open: async () => new BrokerRegistry(await open(), options, true),
    kill: (registry) => registry.close(),
    writeForeign: async (_service, bytes) => {
      const broker = brokers.at(-1) as Broker;
      await broker.publish(REGISTRY_TOPIC, { headers: {}, body: bytes });
    },
    ...(kill && start ? { stop: () => kill.call(server), start: () => start.call(server) } : {}),
    ...(flush ? { empty: () => flush.call(server) } : {}),
    shortestTtlMs: 1000,
    [Symbol.asyncDispose]: async () => {
      for (const broker of brokers) await broker.disconnect();
      await server[Symbol.asyncDispose]();
    },
  };
}

function withoutHistory(broker: Broker): Broker {
  return new Proxy(broker, {
    get(target, property) {
      if (property === 'capabilities') return { ...target.capabilities, replayById: false };
      const value = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

async function lengthOf(broker: Broker): Promise<number> {
  for await (const { topic, length } of broker.topics()) {
    if (topic === REGISTRY_TOPIC) return length;
  }
  return 0;
}

function recordOf(name: string, id: string): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: {} }],
  };
}

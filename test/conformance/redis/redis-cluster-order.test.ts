/** Publishes to a Redis Cluster without an await: their order, whatever happens to the nodes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { message, Seen, text } from '../../../src/conformance/case-context.ts';
import { Random } from '../../../src/util/random.ts';
import { missing } from '../../helpers/requirements.ts';
import { seedNamed } from '../../helpers/seed.ts';
import { type Node, ownerOf, startRedisCluster } from './redis-fixture.ts';

const seed = seedNamed('redis cluster order');
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];
const LONG = { publishTimeoutMs: 90_000, maxPendingPublishes: 1_000_000 } as const;

describe('the order of publishes in a Redis Cluster', {
  skip: missing('redis-server', 'redis-cli'),
}, () => {
  test('first publishes to new topics on every node', { timeout: 120_000 }, async () => {
    await using cluster = await startRedisCluster(0);
    await using broker = await openBroker(cluster.urls);
    const topics = Array.from({ length: 12 }, (_, index) => `new.${index}`);
    await Promise.all(
      topics.flatMap((topic) =>
        Array.from({ length: 20 }, (_, each) => broker.publish(topic, message(`${each}`))),
      ),
    );
    for (const topic of topics) assert.deepEqual(await disorder(broker, topic, 20), [], topic);
  });

  test(`connections that are cut, RIVULET_SEED=${seed}`, { timeout: 120_000 }, async () => {
    const random = new Random(seed);
    await using cluster = await startRedisCluster(0);
    await using broker = await openBroker(cluster.urls, LONG);
    const topic = 'cut';
    const node = await ownerOf(topic, cluster.nodes[0] as Node, cluster.nodes);
    const load = publishing(broker, topic);
    for (let round = 0; round < 20; round++) {
      await load.storedAfterNow(10 + random.below(30));
      await node.ask('CLIENT', 'KILL', 'TYPE', 'normal');
    }
    await load.storedAfterNow(50);
    await load.stop();
    assert.deepEqual(load.failures, []);
    assert.deepEqual(await disorder(broker, topic, load.count), []);
  });

  test(`a node that dies and comes back, RIVULET_SEED=${seed}`, { timeout: 180_000 }, async () => {
    const random = new Random(seed);
    await using cluster = await startRedisCluster(0, DURABLE);
    await using broker = await openBroker(cluster.urls, LONG);
    for (let round = 0; round < 3; round++) {
      const topic = `dies.${round}`;
      const load = publishing(broker, topic);
      await load.stored.count(50 + random.below(150));
      const node = await ownerOf(topic, cluster.nodes[0] as Node, cluster.nodes);
      await node.kill();
      await load.called(100 + random.below(300));
      await node.start();
      await load.storedAfterNow(100);
      await load.stop();
      assert.deepEqual(load.failures, []);
      assert.deepEqual(await disorder(broker, topic, load.count), [], topic);
    }
  });

  test(`a node whose replica takes over, RIVULET_SEED=${seed}`, { timeout: 180_000 }, async () => {
    const random = new Random(seed);
    await using cluster = await startRedisCluster(1);
    await using broker = await openBroker(cluster.urls, LONG);
    const topic = 'takeover';
    const load = publishing(broker, topic);
    await load.stored.count(50 + random.below(150));
    const owner = await ownerOf(topic, cluster.nodes[0] as Node, cluster.nodes);
    await owner.kill();
    await load.storedAfterNow(100);
    await load.stop();
    assert.deepEqual(load.failures, []);
    // What the dead node had not passed on to its replica is lost.
    assert.deepEqual(await disorder(broker, topic, 100), []);
  });

  test('a slot that is moved to another node', { timeout: 120_000 }, async () => {
    await using cluster = await startRedisCluster(0);
    await using broker = await openBroker(cluster.urls, LONG);
    const topic = 'moved';
    const [witness] = cluster.nodes as [Node];
    const from = await ownerOf(topic, witness, cluster.nodes);
    const to = cluster.nodes.find((node) => node !== from) as Node;
    const slot = String(await witness.ask('CLUSTER', 'KEYSLOT', topic));
    const [fromId, toId] = await Promise.all(
      [from, to].map(async (node) => String(await node.ask('CLUSTER', 'MYID'))),
    );
    const load = publishing(broker, topic);
    await load.stored.count(100);
    await to.ask('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId as string);
    await from.ask('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId as string);
    await load.storedAfterNow(50);
    await from.ask('MIGRATE', '127.0.0.1', `${to.port}`, topic, '0', '5000');
    // Its node asks for it to be looked for at the other one.
    await load.storedAfterNow(50);
    for (const node of [to, from, ...cluster.nodes]) {
      await node.ask('CLUSTER', 'SETSLOT', slot, 'NODE', toId as string);
    }
    await load.storedAfterNow(50);
    await load.stop();
    assert.deepEqual(load.failures, []);
    assert.deepEqual(await disorder(broker, topic, load.count), []);
  });
});

/** Publishes the numbers from 0 on, one every two milliseconds, and awaits none of them. */
function publishing(broker: Broker, topic: string) {
  const stored = new Seen<number>();
  const calls = new Seen<number>();
  const failures: unknown[] = [];
  const all: Promise<unknown>[] = [];
  const timer = setInterval(() => {
    const number = calls.length;
    const published = broker.publish(topic, message(`${number}`)).then(
      () => stored.add(number),
      (error) => failures.push(error),
    );
    all.push(published);
    calls.add(number);
  }, 2);
  const more = (of: Seen<number>, count: number) => of.count(of.length + count, 60_000);
  return {
    stored,
    failures,
    get count() {
      return calls.length;
    },
    called: (count: number) => more(calls, count),
    storedAfterNow: (count: number) => more(stored, count),
    async stop() {
      clearInterval(timer);
      await Promise.all(all);
    },
  };
}

/** Reads at least `count` different messages; returns the neighbours that are not in the order of the calls. */
async function disorder(broker: Broker, topic: string, count: number): Promise<string[]> {
  const seen = new Seen<number>();
  const subscriber = await broker.subscribe(topic, (each) => seen.add(Number(text(each))), {
    group: 'audit',
    from: 'earliest',
    ordered: 'strict',
    maxInFlight: 500,
  });
  await seen.until((all) => new Set(all).size >= count, `${count} messages`, 60_000);
  await subscriber.unsubscribe();
  // A publish whose acknowledgement was lost may be stored twice: the first one counts.
  const firsts = [...new Set(seen.items)];
  return firsts.flatMap((each, at) =>
    at > 0 && each < (firsts[at - 1] as number) ? [`${firsts[at - 1]} before ${each}`] : [],
  );
}

/** Publishes to a NATS cluster without an await: their order, while streams change their leaders. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { message, Seen, text } from '../../../src/conformance/case-context.ts';
import { Random } from '../../../src/util/random.ts';
import { type NatsNode, startNats } from '../../helpers/nats-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { seedNamed } from '../../helpers/seed.ts';

const seed = seedNamed('nats cluster order');
const ROUNDS = Number(process.env.ORDER_ROUNDS ?? 3);
const STEPS = 8;
/** What the adapter's README says. */
const MOST_UNACKNOWLEDGED = 256;

describe('the order of publishes in a NATS cluster', { skip: missing('nats-server') }, () => {
  test(`a leader that dies changes no order, RIVULET_SEED=${seed}`, {
    timeout: 300_000,
  }, async () => {
    const random = new Random(seed);
    await using cluster = await startNats(3);
    for (let round = 0; round < ROUNDS; round++) {
      const topic = `order.${round}`;
      const leader = await asking(cluster.nodes[0] as NatsNode, async (manager) => {
        const name = `RIVULET-T-order_${round}`;
        const made = await manager.streams.add({ name, subjects: [topic], num_replicas: 3 });
        return cluster.nodes.find(({ name }) => name === made.cluster?.leader);
      });
      assert.ok(leader);
      const others = cluster.nodes.filter((node) => node !== leader);
      const { url } = random.pick(others);
      await using publisher = await openBroker(url, { publishTimeoutMs: 60_000 });
      const load = publishing(() => publisher.publish(topic, message(String(load.count++))));
      await load.stored.count(50 + random.below(200));
      await leader.kill();
      const before = load.stored.length;
      await load.stored.until((all) => all.length > before + 100, 'publishes again', 60_000);
      await load.stop();
      assert.deepEqual(load.failures, []);
      await leader.start();
      const late = overtaken(await firstsOf(url, topic, load.count));
      assert.equal(late, 0, `round ${round}`);
    }
  });

  test(`leaders that step down change no order beyond what was unacknowledged, RIVULET_SEED=${seed}`, {
    timeout: 300_000,
  }, async () => {
    const random = new Random(seed);
    await using cluster = await startNats(3);
    const [first, second] = cluster.nodes as [NatsNode, NatsNode];
    await using publisher = await openBroker(second.url, {
      publishTimeoutMs: 60_000,
      maxPendingPublishes: 1_000_000,
    });
    const topic = 'stepping';
    const publish = () => publisher.publish(topic, message(String(load.count++)));
    const load = publishing(publish, 3);
    for (let step = 0; step < STEPS; step++) {
      await load.called(450 + random.below(1000));
      await asking(first, async (manager, connection) => {
        const name = await manager.streams.find(topic);
        await connection.request(`$JS.API.STREAM.LEADER.STEPDOWN.${name}`).catch(() => {});
      });
    }
    await load.called(1500);
    await load.stop();
    assert.deepEqual(load.failures, []);
    const late = overtaken(await firstsOf(second.url, topic, load.count));
    assert.ok(late <= MOST_UNACKNOWLEDGED, `${late} were overtaken`);
  });
});

/** Calls `publish` so often every two milliseconds, and awaits none of them. */
function publishing(publish: () => Promise<unknown>, atOnce = 1) {
  const stored = new Seen<number>();
  const calls = new Seen<number>();
  const failures: unknown[] = [];
  const all: Promise<unknown>[] = [];
  const timer = setInterval(() => {
    for (let each = 0; each < atOnce; each++) {
      calls.add(1);
      all.push(
        publish().then(
          () => stored.add(1),
          (error) => failures.push(error),
        ),
      );
    }
  }, 2);
  return {
    stored,
    failures,
    called: (more: number) => calls.count(calls.length + more, 60_000),
    /** How many were called; the next one's number. */
    count: 0,
    async stop() {
      clearInterval(timer);
      await Promise.all(all);
    },
  };
}

/** Reads the topic: the numbers of its messages, each where it is stored first. */
async function firstsOf(url: string, topic: string, count: number): Promise<number[]> {
  await using reader = await openBroker(url);
  const seen = new Seen<number>();
  await reader.subscribe(topic, (each) => seen.add(Number(text(each))), {
    group: 'audit',
    from: 'earliest',
    ordered: 'strict',
  });
  await seen.until((all) => new Set(all).size === count, 'all of them', 60_000);
  return [...new Set(seen.items)];
}

/** How many come after a later one. */
function overtaken(numbers: readonly number[]): number {
  let last = -1;
  let late = 0;
  for (const each of numbers) {
    if (each < last) late++;
    else last = each;
  }
  return late;
}

async function asking<T>(
  node: NatsNode,
  work: (manager: JetStreamManager, connection: NatsConnection) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: `127.0.0.1:${node.port}` });
  try {
    return await work(await jetstreamManager(connection), connection);
  } finally {
    await connection.close();
  }
}

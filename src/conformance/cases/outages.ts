/**
 * Bad days: servers killed, connections cut in every phase, processes that die with work in hand.
 *
 * What was acknowledged to a publisher must come out; what was delivered and not settled must come
 * again; subscribers must go on by themselves within a bound.
 */
import assert from 'node:assert/strict';
import type { Broker } from '../../broker/broker.ts';
import type { FaultyProxy, ProxyMode } from '../faulty-proxy.ts';
import { startPeer } from '../peer.ts';
import {
  type Case,
  collect,
  eventually,
  message,
  need,
  nextEvent,
  numbers,
  publishAll,
  quiet,
  Seen,
  sorted,
  text,
} from '../world.ts';

const RECOVERY_MS = 30_000;

/**
 * Publishes until it is stopped, and knows what was acknowledged. With ids where the broker
 * remembers them: only then is a publish that is sent again stored once.
 */
function publishSteadily(broker: Broker, topic: string) {
  const hasIds = broker.capabilities.dedup !== null;
  const acknowledged: string[] = [];
  const failures: unknown[] = [];
  let stopped = false;
  let number = 0;
  const worker = async () => {
    while (!stopped) {
      const each = String(number++);
      try {
        await broker.publish(topic, message(each), hasIds ? { id: each } : {});
        acknowledged.push(each);
      } catch (error) {
        if ((error as { code?: string }).code === 'CLOSED') return;
        failures.push(error);
      }
      await quiet(2);
    }
  };
  const workers = Array.from({ length: 10 }, worker);
  return {
    acknowledged,
    failures,
    async stop() {
      stopped = true;
      await Promise.all(workers);
    },
  };
}

async function allArrive(acknowledged: readonly string[], seen: Seen<string>): Promise<void> {
  const expected = new Set(acknowledged);
  await seen.until(
    (items) => {
      for (const each of items.slice(-1000)) expected.delete(each);
      if (expected.size > 0) for (const each of items) expected.delete(each);
      return expected.size === 0;
    },
    'acknowledged message left out',
    RECOVERY_MS,
  );
}

async function proxied(world: Parameters<Case['run']>[0]) {
  const behind = await world.backing.behindProxy?.();
  if (behind === undefined) throw new Error('checked by uses');
  return {
    proxy: behind.proxy,
    open: async (options?: object) => world.keep(await behind.open(options)),
    end: () => behind.proxy[Symbol.asyncDispose](),
  };
}

function throughFault(mode: ProxyMode | 'reset', holdMs: number): Case {
  return {
    name: `${mode}: publisher and subscriber go on by themselves, nothing acknowledged is lost`,
    needs: need('persistent'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        const topic = world.topic();
        const [publisher, subscriber] = await Promise.all([
          open({ publishTimeoutMs: 20_000 }),
          open(),
        ]);
        const { seen } = await collect(subscriber, topic, {
          group: 'g',
          concurrency: 5,
          ackWaitMs: 2000,
        });
        const load = publishSteadily(publisher, topic);
        await seen.count(50);
        const connected = mode === 'reset' ? null : nextEvent(publisher, 'disconnected', 20_000);
        if (mode === 'reset') {
          for (let times = 0; times < 5; times++) {
            proxy.cut();
            await quiet(holdMs);
          }
        } else {
          proxy.mode = mode;
          if (mode === 'refuse') proxy.cut();
          await connected;
          await quiet(holdMs);
          proxy.mode = 'pass';
          // What hangs in the middle of nowhere would hang there for ever.
          proxy.cut();
        }
        const before = seen.length;
        await seen.until((items) => items.length > before + 50, 'more after it', RECOVERY_MS);
        await load.stop();
        assert.deepEqual(load.failures, []);
        await allArrive(load.acknowledged, seen);
      } finally {
        proxy.mode = 'pass';
        await world.end();
        await end();
      }
    },
  };
}

export const outages: readonly Case[] = [
  {
    name: 'a consumer process killed with messages in flight: another has them within ackWait',
    needs: need('persistent'),
    uses: ['url'],
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const peer = await startPeer(world.backing.url as string, 'hold', topic, 'g');
      await publishAll(broker, topic, numbers(0, 20));
      await peer.lines.count(20);
      peer.kill();
      const attempts: number[] = [];
      const seen = new Seen<string>();
      const began = performance.now();
      await broker.subscribe(
        topic,
        (delivery) => {
          attempts.push(delivery.attempt);
          seen.add(text(delivery));
        },
        { group: 'g', ackWaitMs: 1000, concurrency: 5 },
      );
      assert.deepEqual(sorted(await seen.count(20)), numbers(0, 20));
      assert.ok(performance.now() - began < 4000);
      assert.ok(attempts.every((attempt) => attempt === 2));
    },
  },
  throughFault('reset', 150),
  throughFault('refuse', 1500),
  throughFault('half open', 500),
  throughFault('black hole', 500),
  {
    name: 'connections cut while handlers run: each message is handled, none is stuck',
    needs: need('persistent'),
    uses: ['behindProxy'],
    timeoutMs: 90_000,
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        const topic = world.topic();
        const direct = await world.open();
        const subscriber = await open();
        await publishAll(direct, topic, numbers(0, 200));
        const seen = new Seen<string>();
        await subscriber.subscribe(
          topic,
          async (delivery) => {
            await quiet(10);
            if (seen.length % 20 === 0) proxy.cut();
            seen.add(text(delivery));
          },
          { group: 'g', from: 'earliest', concurrency: 4, ackWaitMs: 1500 },
        );
        await seen.until((items) => new Set(items).size === 200, 'all of them', RECOVERY_MS);
        if (direct.capabilities.pendingList === 'entries') {
          await eventually(
            'nothing is pending',
            async () => (await direct.pending(topic, 'g')).length === 0,
          );
        }
      } finally {
        await world.end();
        await end();
      }
    },
  },
  {
    name: 'latency changes nothing but time',
    uses: ['behindProxy'],
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        const topic = world.topic();
        const broker = await open();
        const { seen } = await collect(broker, topic, { group: 'g', concurrency: 10 });
        proxy.latencyMs = 60;
        await Promise.all(numbers(0, 50).map((each) => broker.publish(topic, message(each))));
        assert.deepEqual(sorted(await seen.count(50)), numbers(0, 50));
      } finally {
        await world.end();
        await end();
      }
    },
  },
  {
    name: 'a publish waits through an outage up to its bound, then fails clearly',
    uses: ['behindProxy'],
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        const broker = await open({ publishTimeoutMs: 1000, maxPendingPublishes: 3 });
        const topic = world.topic();
        await broker.publish(topic, message('before'));
        const gone = nextEvent(broker, 'disconnected');
        await shutOff(proxy, broker, topic);
        await gone;
        const began = performance.now();
        await assert.rejects(broker.publish(topic, message('x')), { code: 'NOT_CONNECTED' });
        const waited = performance.now() - began;
        assert.ok(waited >= 990 && waited < 4000, `${waited}`);
        const codes = await Promise.all(
          numbers(0, 10).map((each) =>
            broker.publish(topic, message(each)).then(
              () => 'stored',
              ({ code }) => code,
            ),
          ),
        );
        assert.equal(codes.filter((code) => code === 'LIMIT_EXCEEDED').length, 7);
        const controller = new AbortController();
        const aborted = broker.publish(topic, message('x'), { signal: controller.signal });
        controller.abort();
        await assert.rejects(aborted, { code: 'ABORTED' });
        const back = nextEvent(broker, 'connected', RECOVERY_MS);
        proxy.mode = 'pass';
        await back;
        await broker.publish(topic, message('after'));
      } finally {
        proxy.mode = 'pass';
        await world.end();
        await end();
      }
    },
  },
  {
    name: 'a server that cannot be reached: connect fails in time and clearly',
    uses: ['behindProxy'],
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        proxy.mode = 'black hole';
        const began = performance.now();
        await assert.rejects(open({ connectTimeoutMs: 1000 }), { code: 'CONNECTION_FAILED' });
        proxy.mode = 'refuse';
        await assert.rejects(open({ connectTimeoutMs: 1000 }), { code: 'CONNECTION_FAILED' });
        assert.ok(performance.now() - began < 8000);
      } finally {
        await end();
      }
    },
  },
  {
    name: 'groups forgotten by the server are found missing, made anew and reported',
    needs: need('persistent'),
    uses: ['flush'],
    async run(world) {
      const broker = await world.open();
      const topic = world.topic();
      const { seen } = await collect(broker, topic, { group: 'g' });
      await broker.publish(topic, message('0'));
      await seen.count(1);
      const lost = nextEvent(broker, 'groupLost');
      await world.backing.flush?.();
      await broker.publish(topic, message('1'));
      assert.deepEqual(await lost, { topic, group: 'g' });
      await seen.count(2);
      await broker.publish(topic, message('2'));
      assert.deepEqual([...(await seen.count(3))], ['0', '1', '2']);
    },
  },
  {
    name: 'the server is killed and restarted under load: nothing acknowledged is lost, all go on',
    needs: need('persistent'),
    uses: ['kill', 'start'],
    timeoutMs: 120_000,
    async run(world) {
      const topic = world.topic();
      const [publisher, subscriber] = await Promise.all([
        world.open({ publishTimeoutMs: 30_000 }),
        world.open(),
      ]);
      const { seen } = await collect(subscriber, topic, {
        group: 'g',
        concurrency: 5,
        ackWaitMs: 2000,
      });
      const load = publishSteadily(publisher, topic);
      for (let round = 0; round < 2; round++) {
        const before = seen.length;
        await seen.until((items) => items.length > before + 100, 'traffic', RECOVERY_MS);
        await world.backing.kill?.();
        await quiet(300);
        await world.backing.start?.();
      }
      const before = seen.length;
      await seen.until((items) => items.length > before + 100, 'traffic again', RECOVERY_MS);
      await load.stop();
      assert.deepEqual(load.failures, []);
      await allArrive(load.acknowledged, seen);
      if (publisher.capabilities.pendingList === 'entries') {
        await eventually(
          'nothing stays pending',
          async () => (await subscriber.pending(topic, 'g')).length === 0,
          RECOVERY_MS,
        );
      }
      if (publisher.capabilities.dedup !== null) {
        await storedOnce(subscriber, topic, load.acknowledged);
      }
    },
  },
  {
    name: 'publishes that are cut off on their way, many at once, are stored once',
    needs: need('persistent', 'dedup'),
    uses: ['behindProxy'],
    timeoutMs: 120_000,
    async run(world) {
      const { proxy, open, end } = await proxied(world);
      try {
        const topic = world.topic();
        const direct = await world.open();
        const publisher = await open({ publishTimeoutMs: 60_000, maxPendingPublishes: 20_000 });
        await publisher.publish(topic, message('first'));
        const texts = numbers(0, 8000);
        const publishes = texts.map((each) => publisher.publish(topic, message(each)));
        await Promise.race(publishes);
        for (let cuts = 0; cuts < 3; cuts++) {
          await quiet(60);
          proxy.cut();
        }
        await Promise.all(publishes);
        await storedOnce(direct, topic, texts);
      } finally {
        await world.end();
        await end();
      }
    },
  },
  {
    name: 'the node of the topic is killed under load: the others take over',
    needs: need('persistent'),
    uses: ['killNodeOf'],
    timeoutMs: 120_000,
    async run(world) {
      const topic = world.topic();
      const [publisher, subscriber] = await Promise.all([
        world.open({ publishTimeoutMs: 60_000 }),
        world.open(),
      ]);
      const { seen } = await collect(subscriber, topic, {
        group: 'g',
        concurrency: 5,
        ackWaitMs: 2000,
      });
      const load = publishSteadily(publisher, topic);
      await seen.count(100);
      await world.backing.killNodeOf?.(topic);
      const before = seen.length;
      await seen.until((items) => items.length > before + 100, 'traffic again', 60_000);
      await load.stop();
      assert.deepEqual(load.failures, []);
      // What a broker promises about the loss of a node is in its durability.
      if (publisher.capabilities.durability.startsWith('quorum')) {
        await allArrive(load.acknowledged, seen);
      }
    },
  },
];

/** Reads the topic from its beginning: everything expected is there, and nothing twice. */
async function storedOnce(broker: Broker, topic: string, expected: readonly string[]) {
  if (broker.capabilities.dedup === null) return;
  const counts = new Map<string, number>();
  const seen = new Seen<string>();
  await broker.subscribe(
    topic,
    (delivery) => {
      const each = text(delivery);
      if (delivery.attempt === 1) counts.set(each, (counts.get(each) ?? 0) + 1);
      seen.add(each);
    },
    { group: 'audit', from: 'earliest', concurrency: 50, maxInFlight: 500 },
  );
  const missing = () => expected.filter((each) => !counts.has(each));
  await eventually('every message is stored', () => missing().length === 0, RECOVERY_MS);
  await quiet(300);
  const twice = [...counts].filter(([, count]) => count > 1).map(([each]) => each);
  assert.deepEqual(twice, [], 'stored twice');
}

/** New connections are refused and the old ones are cut. */
async function shutOff(proxy: FaultyProxy, broker: Broker, topic: string): Promise<void> {
  await broker.publish(topic, message('last'));
  proxy.mode = 'refuse';
  proxy.cut();
}

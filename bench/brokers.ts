/**
 * One process publishes until durable, and consumes with acknowledgement: the embedded brokers and
 * the remote one, beside ioredis doing the same by hand on a redis-server that syncs every write.
 */
import { Redis } from 'ioredis';
import { type Broker, openBroker } from '../src/index.ts';
import { temporaryDirectory } from '../test/helpers/temporary-directory.ts';
import { type Benchmark, rowOf, type Scale } from './row.ts';
import { startSide } from './side.ts';

const BODY = Buffer.alloc(100, 'x');
const IN_FLIGHT = 1000;
const READ_AT_ONCE = 100;

/** Messages per second: published and stored; handled and acknowledged. */
interface Rates {
  publish(total: number): Promise<number>;
  consume(total: number): Promise<number>;
}

export const brokers: Benchmark = {
  name: 'brokers',
  about: 'publish until durable and consume with ack: ours (first) beside ioredis by hand (second)',
  async run(scale, emit) {
    await using directory = temporaryDirectory('brokers');
    await using rivulet = await startSide('rivulet', 'always');
    await using redis = await startSide('redis', 'always');
    const raw = new Redis(redis.port, { enableAutoPipelining: true });
    const sides = [
      ['memory', await openBroker('memory:')],
      ['file', await openBroker(`file:${directory.path}/data`)],
      ['remote', await openBroker(`rivulet://127.0.0.1:${rivulet.port}`)],
    ] as const;
    try {
      for (const [name, broker] of sides) {
        for (const what of ['publish', 'consume'] as const) {
          const measured = await inTurn(brokerRates(broker), redisRates(raw), what, scale);
          const facts = {
            benchmark: 'brokers',
            name: `${what}, ${name} : ioredis`,
            unit: 'messages/s',
            better: 'higher' as const,
            budget: name === 'memory' ? null : 2,
            durability: name === 'memory' ? 'memory : always' : 'always',
            payload: `${BODY.length}-byte body`,
          };
          emit(rowOf(facts, measured));
        }
      }
    } finally {
      for (const [, broker] of sides) await broker.disconnect();
      raw.disconnect();
    }
  },
};

async function inTurn(ours: Rates, theirs: Rates, what: keyof Rates, scale: Scale) {
  const measured = { rivulet: [] as number[], redis: [] as number[] };
  const total = scale.smoke ? 500 : 50_000;
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    const [one, other] = [await ours[what](total), await theirs[what](total)];
    if (run === 0) continue;
    measured.rivulet.push(one);
    measured.redis.push(other);
  }
  return measured;
}

let topics = 0;

function brokerRates(broker: Broker): Rates {
  const publishAll = (topic: string, total: number) =>
    timed(total, async () => {
      for (let sent = 0; sent < total; sent += IN_FLIGHT) {
        const some = Math.min(IN_FLIGHT, total - sent);
        await Promise.all(
          Array.from({ length: some }, () => broker.publish(topic, { headers: {}, body: BODY })),
        );
      }
    });
  return {
    async publish(total) {
      const topic = `bench.${topics++}`;
      const rate = await publishAll(topic, total);
      await broker.deleteTopic(topic);
      return rate;
    },
    async consume(total) {
      const topic = `bench.${topics++}`;
      await publishAll(topic, total);
      const rate = await timed(total, async () => {
        let handled = 0;
        let finish = () => {};
        const done = new Promise<void>((resolve) => {
          finish = resolve;
        });
        const subscriber = await broker.subscribe(
          topic,
          () => {
            if (++handled === total) finish();
          },
          { group: 'g', from: 'earliest', concurrency: READ_AT_ONCE, maxInFlight: IN_FLIGHT },
        );
        await done;
        await subscriber.unsubscribe();
      });
      await broker.deleteTopic(topic);
      return rate;
    },
  };
}

function redisRates(redis: Redis): Rates {
  const addAll = (key: string, total: number) =>
    timed(total, async () => {
      for (let sent = 0; sent < total; sent += IN_FLIGHT) {
        const some = Math.min(IN_FLIGHT, total - sent);
        await Promise.all(Array.from({ length: some }, () => redis.xadd(key, '*', 'body', BODY)));
      }
    });
  return {
    async publish(total) {
      const key = `bench.${topics++}`;
      const rate = await addAll(key, total);
      await redis.del(key);
      return rate;
    },
    async consume(total) {
      const key = `bench.${topics++}`;
      await addAll(key, total);
      await redis.xgroup('CREATE', key, 'g', '0');
      const rate = await timed(total, async () => {
        for (let handled = 0; handled < total; ) {
          const reply = (await redis.xreadgroup(
            ...(['GROUP', 'g', 'c', 'COUNT', IN_FLIGHT, 'STREAMS', key, '>'] as const),
          )) as [string, [string, string[]][]][];
          const ids = (reply[0]?.[1] ?? []).map(([id]) => id);
          await redis.xack(key, 'g', ...ids);
          handled += ids.length;
        }
      });
      await redis.del(key);
      return rate;
    },
  };
}

async function timed(total: number, work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return (total / (performance.now() - began)) * 1000;
}

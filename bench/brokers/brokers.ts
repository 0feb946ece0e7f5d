/**
 * One process publishes until durable, consumes with acknowledgement, and measures the time from
 * publish to handler at a fixed rate: every broker of ours, beside the raw client doing the same by
 * hand and beside @moleculer/channels, on the same servers.
 */

import { startNats } from '../../test/helpers/nats-server.ts';
import { startRabbitMq } from '../../test/helpers/rabbitmq-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { type Benchmark, type RowFacts, rowOf, type Scale } from '../row.ts';
import { type SideName, startSide } from '../side.ts';
import { channels } from './channels.ts';
import { amqplib, IN_FLIGHT, ioredis, natsJs, ours, type Worker } from './worker.ts';

const BODY_BYTES = 100;
const RATE = 1000;
/** An adapter costs at most 1.2 × its raw client. */
const ADAPTER = 0.83;

interface Pair {
  readonly name: string;
  readonly ours: Worker;
  readonly other: Worker;
  readonly durability: string;
  /** Of the ratio of rates; null = none. */
  readonly budget: number | null;
}

export const brokers: Benchmark = {
  name: 'brokers',
  about: 'publish, consume, latency through our brokers (first) beside other ways (second)',
  async run(scale, emit) {
    await using stack = new AsyncDisposableStackOf();
    const directory = stack.use(temporaryDirectory('brokers'));
    const rivulet = stack.use(await startSide('rivulet', 'always'));
    const redis = stack.use(await startSide('redis', 'always'));
    const rabbit = stack.use(await startRabbitMq());
    const nats = stack.use(await startNats());
    const redisUrl = `redis://127.0.0.1:${redis.port}`;
    const amqpUrl = `amqp://127.0.0.1:${rabbit.nodes[0]?.port}`;
    const natsUrl = `nats://127.0.0.1:${nats.nodes[0]?.port}`;
    const open = async (worker: Promise<Worker>) => stack.use(await worker);
    const byHand = await open(ioredis(redis.port));
    const throughRedis = await open(ours(redisUrl));
    const throughAmqp = await open(ours(amqpUrl));
    const throughNats = await open(ours(natsUrl));
    const pairs: readonly Pair[] = [
      {
        name: 'memory : ioredis',
        ours: await open(ours('memory:')),
        other: byHand,
        durability: 'memory : always',
        budget: null,
      },
      {
        name: 'file : ioredis',
        ours: await open(ours(`file:${directory.path}/data`)),
        other: byHand,
        durability: 'always',
        budget: 2,
      },
      {
        name: 'remote : ioredis',
        ours: await open(ours(`rivulet://127.0.0.1:${rivulet.port}`)),
        other: byHand,
        durability: 'always',
        budget: 2,
      },
      {
        name: 'redis adapter : ioredis',
        ours: throughRedis,
        other: byHand,
        durability: 'always',
        budget: ADAPTER,
      },
      {
        name: 'redis adapter : moleculer channels',
        ours: throughRedis,
        other: await open(channels('Redis', redisUrl)),
        durability: 'always',
        budget: null,
      },
      {
        name: 'rabbitmq adapter : amqplib',
        ours: throughAmqp,
        other: await open(amqplib(amqpUrl)),
        durability: 'confirmed by a stream and a quorum queue',
        budget: ADAPTER,
      },
      {
        name: 'rabbitmq adapter : moleculer channels',
        ours: throughAmqp,
        other: await open(channels('AMQP', amqpUrl)),
        durability: 'confirmed by a stream and a quorum queue : not confirmed, classic queue',
        budget: null,
      },
      {
        name: 'nats adapter : nats.js',
        ours: throughNats,
        other: await open(natsJs(natsUrl)),
        durability: 'JetStream, synced each 2 minutes',
        budget: ADAPTER,
      },
      {
        name: 'nats adapter : moleculer channels',
        ours: throughNats,
        other: await open(channels('NATS', natsUrl)),
        durability: 'JetStream, synced each 2 minutes',
        budget: null,
      },
    ];
    for (const pair of pairs) {
      for (const [what, measure] of [
        ['publish', publishRate],
        ['consume', consumeRate],
      ] as const) {
        if (!scale.wants(`${what}, ${pair.name}`)) continue;
        const measured = { rivulet: [] as number[], redis: [] as number[] };
        await inTurn(pair, scale, async (worker, side, counts) => {
          const rate = await measure(worker, scale.smoke ? 500 : 30_000);
          if (counts) measured[side].push(rate);
        });
        emit(rowOf(facts(pair, what, 'messages/s', 'higher', pair.budget), measured));
      }
      if (!scale.wants(`latency, ${pair.name}`)) continue;
      const middle = { rivulet: [] as number[], redis: [] as number[] };
      const slow = { rivulet: [] as number[], redis: [] as number[] };
      await inTurn(pair, scale, async (worker, side, counts) => {
        const sorted = await latencies(worker, scale.smoke ? 200 : 5000);
        if (!counts) return;
        middle[side].push(sorted[Math.floor(sorted.length * 0.5)] as number);
        slow[side].push(sorted[Math.floor(sorted.length * 0.99)] as number);
      });
      emit(rowOf(facts(pair, `latency p50 at ${RATE}/s`, 'ms', 'lower', null), middle));
      emit(rowOf(facts(pair, `latency p99 at ${RATE}/s`, 'ms', 'lower', null), slow));
    }
  },
};

function facts(
  { name, durability }: Pair,
  what: string,
  unit: string,
  better: RowFacts['better'],
  budget: number | null,
): RowFacts {
  const payload = `${BODY_BYTES}-byte body`;
  return {
    benchmark: 'brokers',
    name: `${what}, ${name}`,
    unit,
    better,
    budget,
    durability,
    payload,
  };
}

/** A B A B ...; the first pair warms up and does not count. */
async function inTurn(
  pair: Pair,
  scale: Scale,
  measure: (worker: Worker, side: SideName, counts: boolean) => Promise<void>,
): Promise<void> {
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    await measure(pair.ours, 'rivulet', run > 0);
    await measure(pair.other, 'redis', run > 0);
  }
}

let topics = 0;

async function onTopic<T>(worker: Worker, work: (topic: string) => Promise<T>): Promise<T> {
  const topic = `bench.t${topics++}`;
  await worker.prepare(topic);
  const result = await work(topic);
  await worker.remove(topic);
  return result;
}

function publishRate(worker: Worker, total: number): Promise<number> {
  return onTopic(worker, (topic) => timed(total, () => publishAll(worker, topic, total)));
}

/** Up to the last message; taking leave is not consuming. */
function consumeRate(worker: Worker, total: number): Promise<number> {
  return onTopic(worker, async (topic) => {
    await publishAll(worker, topic, total);
    let stop = async () => {};
    const rate = await timed(total, async () => {
      let handled = 0;
      let finish = () => {};
      const all = new Promise<void>((resolve) => {
        finish = resolve;
      });
      stop = await worker.consume(topic, () => {
        if (++handled === total) finish();
      });
      await all;
    });
    await stop();
    return rate;
  });
}

/** Milliseconds from publish to handler, ascending; published at a fixed rate, whatever comes back. */
function latencies(worker: Worker, total: number): Promise<number[]> {
  return onTopic(worker, async (topic) => {
    const taken: number[] = [];
    let finish = () => {};
    const all = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const stop = await worker.consume(topic, (body) => {
      taken.push(performance.now() - Buffer.from(body).readDoubleLE());
      if (taken.length === total) finish();
    });
    const published: Promise<unknown>[] = [];
    const began = performance.now();
    while (published.length < total) {
      // As many as are due by now: a timer that fires late does not lower the rate.
      const due = Math.min(total, Math.ceil(((performance.now() - began) * RATE) / 1000));
      while (published.length < due) {
        const body = Buffer.alloc(BODY_BYTES, 'x');
        body.writeDoubleLE(performance.now());
        published.push(worker.publish(topic, body));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(published);
    await all;
    await stop();
    return taken.sort((a, b) => a - b);
  });
}

async function publishAll(worker: Worker, topic: string, total: number): Promise<void> {
  const body = Buffer.alloc(BODY_BYTES, 'x');
  for (let sent = 0; sent < total; sent += IN_FLIGHT) {
    const some = Math.min(IN_FLIGHT, total - sent);
    await Promise.all(Array.from({ length: some }, () => worker.publish(topic, body)));
  }
}

async function timed(total: number, work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return (total / (performance.now() - began)) * 1000;
}

/** Disposes of what it was given, the last first; Node 20 has no AsyncDisposableStack. */
class AsyncDisposableStackOf implements AsyncDisposable {
  readonly #used: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(value: T): T {
    this.#used.push(value);
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of this.#used.reverse()) await each[Symbol.asyncDispose]();
  }
}

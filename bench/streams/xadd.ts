/**
 * XADD from redis-benchmark, 50 connections, pipelines of 1, 16 and 64, without and with durability.
 */
import { redisBenchmark } from '../load.ts';
import { alternate, type Benchmark, ENTRY, VALUE } from '../row.ts';
import { type Durability, startSide } from '../side.ts';

const CASES: { durability: Durability; pipeline: number; requests: number; budget: number }[] = [
  { durability: 'memory', pipeline: 1, requests: 300_000, budget: 1.0 },
  { durability: 'memory', pipeline: 16, requests: 1_500_000, budget: 1.5 },
  { durability: 'memory', pipeline: 64, requests: 3_000_000, budget: 1.8 },
  { durability: 'always', pipeline: 1, requests: 60_000, budget: 1.0 },
  { durability: 'always', pipeline: 16, requests: 400_000, budget: 1.3 },
  { durability: 'always', pipeline: 64, requests: 1_000_000, budget: 1.5 },
];

export const xadd: Benchmark = {
  name: 'xadd',
  about: 'XADD from redis-benchmark, 50 connections',
  async run(scale, emit) {
    for (const { durability, pipeline, requests, budget } of CASES) {
      await using rivulet = await startSide('rivulet', durability);
      await using redis = await startSide('redis', durability);
      const sides = { rivulet, redis };
      const facts = {
        benchmark: 'xadd',
        name: `P=${pipeline}, ${durability === 'memory' ? 'not durable' : 'durable'}`,
        unit: 'entries/s',
        better: 'higher' as const,
        budget,
        durability,
        payload: ENTRY,
      };
      const row = await alternate(facts, scale, async (name, run) => {
        const { port, client } = sides[name];
        const load = { port, pipeline, requests: scale.smoke ? 2_000 : requests };
        const rate = await redisBenchmark(load, 'XADD', `s${run}`, '*', 'f', VALUE);
        const length = Number(await client.call('XLEN', `s${run}`));
        // redis-benchmark may send up to one pipeline per connection more than it was asked to.
        if (length < load.requests)
          throw new Error(`${name} holds ${length} of ${load.requests} entries`);
        await client.call('UNLINK', `s${run}`);
        return rate;
      });
      emit(row);
    }
  },
};

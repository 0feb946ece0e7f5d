/**
 * XRANGE of 100 entries from a random place of a long stream.
 */
import { fillStream, redisBenchmark } from '../load.ts';
import { alternate, type Benchmark, ENTRY } from '../row.ts';
import { startSide } from '../side.ts';

export const xrange: Benchmark = {
  name: 'xrange',
  about: 'XRANGE of 100 from a random place',
  async run(scale, emit) {
    const entries = scale.smoke ? 2_000 : 1_000_000;
    await using rivulet = await startSide('rivulet', 'memory');
    await using redis = await startSide('redis', 'memory');
    await Promise.all([rivulet, redis].map(({ client }) => fillStream(client, 's', entries)));
    const ports = { rivulet: rivulet.port, redis: redis.port };
    for (const pipeline of [1, 16]) {
      const facts = {
        benchmark: 'xrange',
        name: `100 of ${entries}, 50 connections, P=${pipeline}`,
        unit: 'calls/s',
        better: 'higher' as const,
        budget: null,
        durability: 'memory',
        payload: ENTRY,
      };
      const requests = scale.smoke ? 500 : 60_000;
      const row = await alternate(facts, scale, (name) => {
        const load = { port: ports[name], requests, pipeline, random: entries - 100 };
        return redisBenchmark(load, 'XRANGE', 's', '__rand_int__', '+', 'COUNT', '100');
      });
      emit(row);
    }
  },
};

/**
 * One Node process adds entries as fast as its client can, 1000 calls in flight: our client beside
 * ioredis (with its automatic pipelining) and node-redis, all on the same redis-server.
 */
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { connect } from '../../src/client/client.ts';
import { type Benchmark, ENTRY, rowOf, VALUE } from '../row.ts';
import { startSide } from '../side.ts';

const IN_FLIGHT = 1_000;

export const client: Benchmark = {
  name: 'client',
  about: 'XADD from one Node process: our client (first) beside others (second), on redis-server',
  async run(scale, emit) {
    await using server = await startSide('redis', 'memory');
    const { port } = server;
    await using ours = await connect({ port });
    const ioredis = new Redis({ port, enableAutoPipelining: true });
    const nodeRedis = await createClient({ url: `redis://127.0.0.1:${port}` }).connect();
    const adders = {
      ours: () => ours.call('XADD', 's', '*', 'f', VALUE),
      ioredis: () => ioredis.xadd('s', '*', 'f', VALUE),
      'node-redis': () => nodeRedis.sendCommand(['XADD', 's', '*', 'f', VALUE]),
    };
    const rates: Record<keyof typeof adders, number[]> = {
      ours: [],
      ioredis: [],
      'node-redis': [],
    };
    const total = scale.smoke ? 2_000 : 200_000;
    for (let run = 0; run <= scale.runs; run++) {
      for (const name of Object.keys(adders) as (keyof typeof adders)[]) {
        const rate = await addAll(adders[name], total);
        if (run > 0 || scale.smoke) rates[name].push(rate);
      }
      await server.client.call('DEL', 's');
    }
    for (const other of ['ioredis', 'node-redis'] as const) {
      const facts = {
        benchmark: 'client',
        name: `ours : ${other}`,
        unit: 'entries/s',
        better: 'higher' as const,
        budget: null,
        durability: 'memory',
        payload: ENTRY,
      };
      emit(rowOf(facts, { rivulet: rates.ours, redis: rates[other] }));
    }
    ioredis.disconnect();
    nodeRedis.destroy();
  },
};

async function addAll(add: () => Promise<unknown>, total: number): Promise<number> {
  const startedAt = performance.now();
  for (let sent = 0; sent < total; sent += IN_FLIGHT) {
    await Promise.all(Array.from({ length: IN_FLIGHT }, add));
  }
  return total / ((performance.now() - startedAt) / 1000);
}

/**
 * A group of four consumers reads a whole stream, 100 entries at a time, and acknowledges each batch.
 */

import { fillStream } from '../load.ts';
import { alternate, type Benchmark, ENTRY } from '../row.ts';
import { type Durability, startSide } from '../side.ts';
import { drainGroup } from './group-reader.ts';

const CASES: { durability: Durability; budget: number | null }[] = [
  { durability: 'memory', budget: 1.5 },
  { durability: 'always', budget: null },
];

export const xreadgroup: Benchmark = {
  name: 'xreadgroup',
  about: 'XREADGROUP COUNT 100 + XACK of all, 4 connections',
  async run(scale, emit) {
    const entries = scale.smoke ? 2_000 : 1_000_000;
    for (const { durability, budget } of CASES) {
      await using rivulet = await startSide('rivulet', durability);
      await using redis = await startSide('redis', durability);
      const sides = { rivulet, redis };
      await Promise.all([rivulet, redis].map(({ client }) => fillStream(client, 's', entries)));
      const facts = {
        benchmark: 'xreadgroup',
        name: `COUNT 100 + XACK, 4 connections, ${durability === 'memory' ? 'not durable' : 'durable'}`,
        unit: 'entries/s',
        better: 'higher' as const,
        budget,
        durability,
        payload: ENTRY,
      };
      const row = await alternate(facts, scale, async (name, run) => {
        const { client, port } = sides[name];
        await client.call('XGROUP', 'CREATE', 's', `g${run}`, 0);
        const rate = await drainGroup(port, 's', `g${run}`, 4);
        const [pending] = (await client.call('XPENDING', 's', `g${run}`)) as unknown[];
        const read = ['XREADGROUP', 'GROUP', `g${run}`, 'c', 'STREAMS', 's', '>'];
        const rest = await client.call(...read);
        if (pending !== 0 || rest !== null)
          throw new Error(`${name}: ${pending} pending, or some unread`);
        await client.call('XGROUP', 'DESTROY', 's', `g${run}`);
        return rate;
      });
      emit(row);
    }
  },
};

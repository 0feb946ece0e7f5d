/**
 * Resident memory per entry and per pending entry: the difference that a million of them makes.
 */
import { fillStream } from '../load.ts';
import { alternate, type Benchmark, ENTRY, type RowFacts, rowOf } from '../row.ts';
import { type SideName, settledResidentBytes, startSide } from '../side.ts';

export const memory: Benchmark = {
  name: 'memory',
  about: 'resident memory per entry and per pending entry',
  async run(scale, emit) {
    const count = scale.smoke ? 20_000 : 2_000_000;
    const perPending: Record<SideName, number[]> = { rivulet: [], redis: [] };
    const facts = (name: string, budget: number): RowFacts => ({
      benchmark: 'memory',
      name: `${name} (of ${count})`,
      unit: 'bytes',
      better: 'lower',
      budget,
      durability: 'memory',
      payload: ENTRY,
    });
    const perEntry = await alternate(
      facts('per entry', 1.0),
      { ...scale, runs: scale.smoke ? 1 : 3 },
      async (name, run) => {
        await using side = await startSide(name, 'memory');
        // A first small stream takes what is spent once: buffers, compiled code.
        await fillStream(side.client, 'warm', Math.min(count, 50_000));
        await side.client.call('DEL', 'warm');
        const empty = await settledResidentBytes(side.pid);
        await fillStream(side.client, 's', count);
        const full = await settledResidentBytes(side.pid);
        await side.client.call('XGROUP', 'CREATE', 's', 'g', 0);
        for (let read = 0; read < count; read += 1_000) {
          await side.client.call(
            'XREADGROUP',
            'GROUP',
            'g',
            'c',
            'COUNT',
            1_000,
            'STREAMS',
            's',
            '>',
          );
        }
        const pending = await settledResidentBytes(side.pid);
        if (run > 0) perPending[name].push(Math.max(1, pending - full) / count);
        return Math.max(1, full - empty) / count;
      },
    );
    emit(perEntry);
    emit(rowOf(facts('per pending entry', 0.5), perPending));
  },
};

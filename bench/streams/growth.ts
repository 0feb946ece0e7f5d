/**
 * Cost of an operation as data grows: entries of one stream, number of streams, number of groups.
 *
 * Rivulet against itself: the time of an operation at each size, divided by that at the smallest,
 * should stay within 1.5.
 */
import { fillStream, redisBenchmark } from '../load.ts';
import { type Benchmark, ENTRY, median, type Row, rowOf, type Scale, VALUE } from '../row.ts';
import { type Side, startSide } from '../side.ts';

export const growth: Benchmark = {
  name: 'growth',
  about: 'cost per operation as entries, streams and groups grow (ratio to the smallest size)',
  async run(scale, emit) {
    await entries(scale, emit);
    await streams(scale, emit);
    await groups(scale, emit);
  },
};

/** Takes the costs of one operation at growing sizes and emits each with its ratio to the first. */
class Curve {
  readonly #name: string;
  readonly #emit: (row: Row) => void;
  #first: number | undefined;

  constructor(name: string, emit: (row: Row) => void) {
    this.#name = name;
    this.#emit = emit;
  }

  async point(
    scale: Scale,
    size: number,
    side: Side,
    requests: number,
    random: number,
    ...command: string[]
  ): Promise<void> {
    const costs: number[] = [];
    for (let run = scale.smoke ? 1 : 0; run <= (scale.smoke ? 1 : 3); run++) {
      const load = {
        port: side.port,
        requests: scale.smoke ? 1_000 : requests,
        pipeline: 16,
        random,
      };
      const rate = await redisBenchmark(load, ...command);
      if (run > 0) costs.push(1e6 / rate);
    }
    this.#first ??= median(costs);
    const facts = {
      benchmark: 'growth',
      name: `${this.#name} ${size}`,
      unit: 'µs/operation',
      better: 'lower' as const,
      budget: 1.5,
      durability: 'memory',
      payload: ENTRY,
    };
    const row = rowOf(facts, { rivulet: costs, redis: [] });
    this.#emit({ ...row, ratio: row.rivulet / this.#first });
  }
}

async function entries(scale: Scale, emit: (row: Row) => void): Promise<void> {
  await using side = await startSide('rivulet', 'memory');
  const add = new Curve('XADD, entries', emit);
  const range = new Curve('XRANGE COUNT 10 at random, entries', emit);
  const read = new Curve('XREADGROUP COUNT 1, entries', emit);
  let size = 0;
  for (const target of scale.smoke ? [1_000, 3_000] : [1e3, 1e4, 1e5, 1e6, 1e7]) {
    await fillStream(side.client, 's', target - size, size + 1);
    size = target;
    await range.point(
      scale,
      size,
      side,
      200_000,
      size,
      'XRANGE',
      's',
      '__rand_int__',
      '+',
      'COUNT',
      '10',
    );
    // Adding changes the size: a trimmed twin would measure trimming, so the additions go to the end.
    await side.client.call('COPY', 's', 't');
    await add.point(scale, size, side, 300_000, size, 'XADD', 't', '*', 'f', VALUE);
    await side.client.call('XGROUP', 'CREATE', 't', 'g', 0);
    await read.point(
      scale,
      size,
      side,
      200_000,
      size,
      'XREADGROUP',
      'GROUP',
      'g',
      'c',
      'COUNT',
      '1',
      'STREAMS',
      't',
      '>',
    );
    await side.client.call('DEL', 't');
  }
}

async function streams(scale: Scale, emit: (row: Row) => void): Promise<void> {
  await using side = await startSide('rivulet', 'memory');
  const add = new Curve('XADD at random, streams', emit);
  for (const size of scale.smoke ? [1, 100] : [1, 10, 100, 1e3, 1e4, 1e5]) {
    await side.client.call('FLUSHALL');
    await add.point(scale, size, side, 300_000, size, 'XADD', 's__rand_int__', '*', 'f', VALUE);
  }
}

async function groups(scale: Scale, emit: (row: Row) => void): Promise<void> {
  await using side = await startSide('rivulet', 'memory');
  await fillStream(side.client, 's', scale.smoke ? 1_000 : 10_000);
  const add = new Curve('XADD, groups', emit);
  const read = new Curve('XREADGROUP + pending at random, groups', emit);
  let size = 0;
  for (const target of scale.smoke ? [1, 10] : [1, 10, 100, 1_000]) {
    for (; size < target; size++) {
      await side.client.call('XGROUP', 'CREATE', 's', `g${String(size).padStart(12, '0')}`, 0);
    }
    await add.point(scale, size, side, 200_000, size, 'XADD', 's', '*', 'f', VALUE);
    await read.point(
      scale,
      size,
      side,
      100_000,
      size,
      'XREADGROUP',
      'GROUP',
      'g__rand_int__',
      'c',
      'COUNT',
      '1',
      'STREAMS',
      's',
      '>',
    );
  }
}

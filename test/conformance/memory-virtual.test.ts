/** The suite against the broker in memory, on a virtual clock: hours of waiting in a second. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { seedNamed } from '../helpers/seed.ts';
import { memoryFixture } from './embedded-fixture.ts';
import { playTime } from './virtual-time.ts';

const first = seedNamed('memory on a virtual clock');
const seeds = [first, first + 1, first + 2];

for (const seed of seeds) {
  conformance({
    seed,
    name: `memory on a virtual clock, seed ${seed}`,
    runner: { describe, test, before, after },
    async factory() {
      const scheduler = new VirtualScheduler(seed);
      const stop = playTime(scheduler);
      const fixture = await memoryFixture({ scheduler });
      return {
        ...fixture,
        async [Symbol.asyncDispose]() {
          await fixture[Symbol.asyncDispose]();
          stop();
        },
      };
    },
    ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
  });
}

/**
 * `npm run simulate [-- --seeds 10000] [--from N] [--seed N]`: many seeds with progress, or one with
 * every step told.
 */
import { parseArgs } from 'node:util';
import { noEvents, simulate } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
  },
});
const events = noEvents();
if (values.seed !== undefined) {
  await simulate(Number(values.seed), events, (text) => process.stdout.write(`${text}\n`));
  process.stdout.write(`seed ${values.seed} holds: ${JSON.stringify(events)}\n`);
} else {
  const from = Number(values.from);
  const count = Number(values.seeds);
  const startedAt = performance.now();
  let failures = 0;
  for (let seed = from; seed < from + count && failures < 10; seed++) {
    try {
      await simulate(seed, events);
    } catch (error) {
      failures++;
      process.stdout.write(`\nFAILED ${(error as Error).message}\n\n`);
    }
    const done = seed - from + 1;
    if (done % 100 !== 0 && done !== count) continue;
    const rate = (done / ((performance.now() - startedAt) / 1000)).toFixed(1);
    process.stdout.write(
      `${done} of ${count} seeds, ${rate}/s, ${failures} failed; ${events.deeds} deeds, ${events.crashes} crashes\n`,
    );
  }
  process.stdout.write(`${JSON.stringify(events)}\n`);
  process.exitCode = failures === 0 ? 0 : 1;
}

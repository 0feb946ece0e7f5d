/**
 * `npm run simulate [-- --seeds 10000] [--from N] [--seed N] [--workflows]`: many seeds with progress, or
 * one with every step printed; of the engine, or of workflows on it.
 */
import { parseArgs } from 'node:util';
import { noEvents, simulate } from './simulation.ts';
import { noWorkflowEvents, simulateWorkflows } from './workflow-simulation.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    workflows: { type: 'boolean', default: false },
  },
});
const engine = noEvents();
const flows = noWorkflowEvents();
const events: object = values.workflows ? flows : engine;
const simulated = (seed: number, trace?: (text: string) => void) =>
  values.workflows ? simulateWorkflows(seed, flows, trace) : simulate(seed, engine, trace);
if (values.seed !== undefined) {
  await simulated(Number(values.seed), (text) => process.stdout.write(`${text}\n`));
  process.stdout.write(`seed ${values.seed} holds: ${JSON.stringify(events)}\n`);
} else {
  const from = Number(values.from);
  const count = Number(values.seeds);
  const startedAt = performance.now();
  let failures = 0;
  for (let seed = from; seed < from + count && failures < 10; seed++) {
    try {
      await simulated(seed);
    } catch (error) {
      failures++;
      process.stdout.write(`\nFAILED ${(error as Error).message}\n\n`);
    }
    const done = seed - from + 1;
    if (done % 100 !== 0 && done !== count) continue;
    const rate = (done / ((performance.now() - startedAt) / 1000)).toFixed(1);
    process.stdout.write(
      `${done} of ${count} seeds, ${rate}/s, ${failures} failed; ${flows.crashes + engine.crashes} crashes\n`,
    );
  }
  process.stdout.write(`${JSON.stringify(events)}\n`);
  process.exitCode = failures === 0 ? 0 : 1;
}

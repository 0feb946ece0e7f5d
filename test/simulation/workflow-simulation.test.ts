/**
 * Workflows on the simulated disk: 12 seeds here; `npm run simulate -- --workflows --seeds 1000` for more.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedsOf } from '../helpers/seed.ts';
import { noWorkflowEvents, simulateWorkflows } from './workflow-simulation.ts';

const SEEDS = process.env.RIVULET_FULL === '1' ? 1000 : 12;

test(`workflows survive every loss of power, in ${SEEDS} seeds`, async (t) => {
  const events = noWorkflowEvents();
  for (const seed of seedsOf(t, SEEDS)) await simulateWorkflows(seed, events);
  t.diagnostic(JSON.stringify(events));
  const { unacknowledgedStarts, diskFailures, cleanEnds, ...certain } = events;
  // A simulation in which nothing happens proves nothing.
  for (const [name, count] of Object.entries(certain)) {
    assert.ok(count > 0, `no ${name} in ${SEEDS} seeds`);
  }
});

test('seeds of workflows that once failed hold', async () => {
  // 433166: a worker took an instance up for a task that another worker had done meanwhile, and died: no
  // task was left that would have brought the instance back.
  // 49: a task that was fetched ahead came to the next worker as its first attempt, and was taken for one
  // of an instance that another worker has.
  for (const seed of [49, 433166]) await simulateWorkflows(seed, noWorkflowEvents());
});

test('one seed of workflows is one run', async () => {
  const runs: string[][] = [];
  for (let i = 0; i < 2; i++) {
    const steps: string[] = [];
    await simulateWorkflows(4711, noWorkflowEvents(), (text) => steps.push(text));
    runs.push(steps);
  }
  assert.deepEqual(runs[0], runs[1]);
  assert.ok((runs[0] as string[]).length > 5);
});

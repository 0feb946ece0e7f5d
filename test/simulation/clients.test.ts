/**
 * Seeded lives of a server with several clients over the simulated disk: stalls, full disks, writes and
 * syncs that fail, kills, power losses.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedsOf } from '../helpers/seed.ts';
import { noClientEvents, simulateClients } from './clients.ts';

const SEEDS = process.env.RIVULET_FULL === '1' ? 5000 : 150;

test(`what a client was shown survives, and every client is answered, in ${SEEDS} seeds`, async (t) => {
  const events = noClientEvents();
  for (const seed of seedsOf(t, SEEDS)) await simulateClients(seed, events);
  t.diagnostic(JSON.stringify(events));
  // A simulation in which nothing happens proves nothing.
  for (const [name, count] of Object.entries(events)) {
    assert.ok(count > 0, `no ${name} in ${SEEDS} seeds`);
  }
});

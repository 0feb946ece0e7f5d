/** A suspicion that is longer than the longest timer of the system ends when it is over, not before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Suspicion } from '../../../src/registry/gossip/members/suspicion.ts';
import type { Scheduler } from '../../../src/util/time/scheduler.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';

const DAY_MS = 24 * 3600_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

test('a suspicion of sixty days ends after sixty days', async () => {
  const virtual = new VirtualScheduler(1);
  const scheduler: Scheduler = {
    now: () => virtual.now(),
    monotonic: () => virtual.monotonic(),
    after: (ms, run) => virtual.after(Math.min(ms, LONGEST_TIMER_MS), run),
    fraction: () => virtual.fraction(),
    uniqueName: () => virtual.uniqueName(),
  };
  let isOver = false;
  const times = { shortestMs: 60 * DAY_MS, longestMs: 60 * DAY_MS, graceMs: 1000 };
  const onEnd = () => {
    isOver = true;
  };
  new Suspicion({ scheduler, from: 'a', wanted: 0, ...times, onEnd });
  await virtual.advance(59 * DAY_MS);
  assert.equal(isOver, false);
  await virtual.advance(DAY_MS);
  assert.equal(isOver, true);
  assert.equal(virtual.pendingTimers, 0);
});

/** Long work lets timers run between its slices, is done in order, and ends when its signal is aborted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inTurns } from '../../src/util/time/in-turns.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

function* workOf(scheduler: VirtualScheduler, steps: number, log: string[]) {
  try {
    for (let step = 0; step < steps; step++) {
      scheduler.elapse(6);
      log.push(`step ${step}`);
      yield null;
    }
    return 'done';
  } finally {
    log.push('end');
  }
}

test('a timer that is due waits for one slice, not for all of the work', async () => {
  const scheduler = new VirtualScheduler(1);
  const log: string[] = [];
  scheduler.after(1, () => log.push('timer'));
  const working = inTurns(scheduler, workOf(scheduler, 4, log));
  await scheduler.advance(100);
  assert.equal(await working, 'done');
  assert.deepEqual(log, ['step 0', 'step 1', 'timer', 'step 2', 'step 3', 'end']);
  assert.equal(scheduler.pendingTimers, 0);
});

test('work whose signal is aborted ends at its next step', async () => {
  const scheduler = new VirtualScheduler(1);
  const log: string[] = [];
  const abort = new AbortController();
  scheduler.after(1, () => abort.abort());
  const working = inTurns(scheduler, workOf(scheduler, 4, log), abort.signal);
  await scheduler.advance(100);
  assert.equal(await working, undefined);
  assert.deepEqual(log, ['step 0', 'step 1', 'end']);
});

test('what the work throws rejects', async () => {
  const scheduler = new VirtualScheduler(1);
  const failing = (function* () {
    yield null;
    throw new Error('broken');
  })();
  await assert.rejects(inTurns(scheduler, failing), /broken/);
});

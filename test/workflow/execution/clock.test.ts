/** What an instance that is awake does when the broker's clock is set back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workflow } from '../../../src/workflow/index.ts';
import { createTestWorkflows } from '../../../src/workflow/testing.ts';

const HOUR = 3_600_000;

for (const what of ['a retry', 'a short sleep', 'a sleep beside a step'] as const) {
  test(`${what} while the clock is set back by an hour takes few records, and goes on when its time comes`, async () => {
    let setBackMs = 0;
    let tries = 0;
    const retry = { backoff: { minMs: 10, maxMs: 10, jitter: false } };
    const flow = workflow({ name: 'flow', retry }, async (wf) => {
      await wf.step('set back', () => {
        if (++tries > 1) return;
        setBackMs = HOUR;
        if (what === 'a retry') throw new Error('once more');
      });
      if (what === 'a short sleep') await wf.sleep(300);
      if (what === 'a sleep beside a step') {
        const slow = wf.step('slow', () => t.pause(HOUR / 2), { timeoutMs: HOUR });
        await Promise.all([wf.sleep(20), slow]);
      }
      return tries;
    });
    await using t = await createTestWorkflows({ definitions: [flow] });
    const { scheduler } = t;
    const { now } = scheduler;
    scheduler.now = () => now.call(scheduler) - setBackMs;
    const handle = await t.start(flow, undefined, { id: 'x' });
    await t.advance(HOUR / 4);
    assert.equal(await handle.status(), 'running');
    await t.advance(HOUR);
    assert.equal(await handle.result(), what === 'a retry' ? 2 : 1);
    const { length } = await handle.history();
    assert.ok(length < 500, `${length} records`);
  });
}

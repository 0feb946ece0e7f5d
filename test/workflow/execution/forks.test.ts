/** Forks: a second instance with the history of the first one, which is left as it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signal, workflow } from '../../../src/workflow/index.ts';
import { createTestWorkflows } from '../../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const go = signal<number>('go');

test('the code of a fork has the times that it had, also where the start was delayed', async () => {
  const seen = new Set<string>();
  await using t = await createTestWorkflows({
    definitions: [
      workflow({ name: 'flow', timeoutMs: 2 * HOUR }, async (wf) => {
        const at = wf.now();
        const sleep = wf.sleep(1000).then(() => 'sleep');
        const step = wf.step('short', () => t.pause(100)).then(() => 'step');
        seen.add(`${at} ${await Promise.race([sleep, step])}`);
        return wf.wait(go);
      }),
    ],
  });
  const startAt = new Date(t.now().getTime() + DAY);
  const handle = await t.start('flow', undefined, { id: 'x', startAt });
  await t.advance(DAY + MINUTE);
  const fork = await handle.fork({ id: 'y' });
  await fork.signal(go, 5);
  assert.equal(await t.finish(fork.result()), 5);
  assert.deepEqual([...seen], [`${startAt.getTime()} step`]);
});

test('a fork starts the child that it waits for itself, and takes results that there are', async () => {
  const ran: string[] = [];
  const child = workflow({ name: 'child' }, async (wf, ms: number) => {
    ran.push(wf.id);
    if (ms > 0) await wf.sleep(ms);
    return wf.id;
  });
  await using t = await createTestWorkflows({
    definitions: [
      child,
      workflow({ name: 'flow' }, async (wf) => {
        const loose = await wf.start(child, 0);
        return [loose.id, await wf.child(child, 0), await wf.child(child, MINUTE)];
      }),
    ],
    verify: 0,
  });
  const handle = await t.start('flow', undefined, { id: 'x' });
  await t.advance(1000);
  const fork = await handle.fork({ id: 'y' });
  assert.deepEqual(await t.finish(handle.result()), ['x.1', 'x.2', 'x.3']);
  assert.deepEqual(await t.finish(fork.result()), ['x.1', 'x.2', 'y.3']);
  assert.deepEqual([...new Set(ran)].sort(), ['x.1', 'x.2', 'x.3', 'y.3']);
});

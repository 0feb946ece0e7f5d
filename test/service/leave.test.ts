/** The end of a process's part in a network whose others do not answer. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { LEAVE_MS, leaveWithin } from '../../src/service/leave.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';

test('one step is taken after the other, and one that fails stops no other', async () => {
  const done: string[] = [];
  const steps = ['a', 'b', 'c'].map((name) => async () => {
    await new Promise((resolve) => setImmediate(resolve));
    done.push(name);
    if (name === 'b') throw new Error('b failed');
  });
  await assert.rejects(leaveWithin(new VirtualScheduler(), steps), /b failed/);
  assert.deepEqual(done, ['a', 'b', 'c']);
});

test('where one does not answer the others are taken after the limit, and none is waited for', async () => {
  const scheduler = new VirtualScheduler();
  const begun: string[] = [];
  const steps = ['a', 'b', 'c'].map((name) => () => {
    begun.push(name);
    return name === 'a' ? Promise.resolve() : new Promise<void>(() => {});
  });
  let isOver = false;
  const leaving = leaveWithin(scheduler, steps).then(() => {
    isOver = true;
  });
  await until(() => begun.length === 2);
  await scheduler.advance(LEAVE_MS - 1);
  assert.deepEqual([isOver, begun], [false, ['a', 'b']]);
  await scheduler.advance(1);
  await leaving;
  assert.deepEqual(begun, ['a', 'b', 'c']);
});

/** What an operator takes up again after compensations have run, or when steps had ended before the instance was parked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signal, Terminal, workflow } from '../../../src/workflow/index.ts';
import { createTestWorkflows } from '../../../src/workflow/testing.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const go = signal<number>('go');

/** Charges, holds and waits; what it did and undid is in `done`. */
function orders(done: string[], waits: boolean) {
  return workflow({ name: 'order' }, async (wf) => {
    const free = await wf.step('look up', ({ key }) => {
      done.push(`look up ${key}`);
      return 'free';
    });
    const undo = (what: string) => ({
      compensate: (_: unknown, { key }: { key: string }) => void done.push(`undo ${what} ${key}`),
    });
    const paid = await wf.step(
      'charge',
      ({ key }) => {
        done.push(`charge ${key}`);
        return key;
      },
      undo('charge'),
    );
    if (waits) await wf.wait(go);
    const held = await wf.step(
      'hold',
      ({ key }) => {
        done.push(`hold ${key}`);
        return key;
      },
      undo('hold'),
    );
    if (!waits) {
      await wf.step('ship', () => {
        if (done.length < 20) throw new Terminal('down');
      });
    }
    return [free, paid, held];
  });
}

test('a fork of a cancelled instance does again what compensations have undone', async () => {
  const done: string[] = [];
  await using t = await createTestWorkflows({ definitions: [orders(done, true)] });
  const handle = await t.start('order', undefined, { id: 'x' });
  await t.advance(MINUTE);
  await handle.cancel();
  await t.advance(MINUTE);
  assert.equal(await handle.status(), 'cancelled');
  const fork = await handle.fork({ id: 'y' });
  await t.advance(MINUTE);
  await fork.signal(go, 1);
  assert.deepEqual(await t.finish(fork.result()), ['free', 'order/y/2', 'order/y/4']);
  assert.deepEqual(done, [
    'look up order/x/1',
    'charge order/x/2',
    'undo charge order/x/-2',
    'charge order/y/2',
    'hold order/y/4',
  ]);
});

test('a fork of a failed instance does not undo what it has not done', async () => {
  const done: string[] = [];
  await using t = await createTestWorkflows({ definitions: [orders(done, false)] });
  const handle = await t.start('order', undefined, { id: 'x' });
  await t.advance(MINUTE);
  assert.equal(await handle.status(), 'failed');
  const fork = await handle.fork({ id: 'y' });
  await t.advance(MINUTE);
  assert.equal(await fork.status(), 'failed');
  assert.deepEqual(done, [
    'look up order/x/1',
    'charge order/x/2',
    'hold order/x/3',
    'undo hold order/x/-3',
    'undo charge order/x/-2',
    'charge order/y/2',
    'hold order/y/3',
    'undo hold order/y/-3',
    'undo charge order/y/-2',
  ]);
});

test('a fork of an instance whose compensation is being retried begins before its step', async () => {
  const done: string[] = [];
  let isOpen = false;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    const held = await wf.step(
      'hold',
      ({ key }) => {
        done.push(`hold ${key}`);
        return key;
      },
      {
        compensate: () => {
          if (!isOpen) throw new Error('closed');
        },
      },
    );
    await wf.wait(go);
    return held;
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start('flow', undefined, { id: 'x' });
  await t.advance(MINUTE);
  await handle.cancel();
  await t.advance(1000);
  assert.equal(await handle.status(), 'running');
  const fork = await handle.fork({ id: 'y' });
  await fork.signal(go, 1);
  assert.equal(await t.finish(fork.result()), 'flow/y/1');
  isOpen = true;
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'cancelled');
});

test('after a retry a compensation that had failed for good has ten attempts again', async () => {
  const attempts: number[] = [];
  let isOpen = false;
  const flow = workflow({ name: 'flow' }, async (wf) => {
    await wf.step('first', () => 1, { compensate: () => void attempts.push(0) });
    await wf.step('hold', () => 1, {
      compensate: (_, { attempt }) => {
        attempts.push(attempt);
        if (!isOpen) throw new Error('the bank is closed');
      },
    });
    throw new Terminal('no');
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start('flow', undefined, { id: 'x' });
  await t.advance(HOUR);
  const ten = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  assert.deepEqual([await handle.status(), attempts], ['parked', ten]);
  await handle.retry();
  await t.advance(HOUR);
  assert.deepEqual([await handle.status(), attempts], ['parked', [...ten, ...ten]]);
  await handle.retry();
  await t.advance(1000);
  isOpen = true;
  await t.advance(HOUR);
  assert.equal(await handle.status(), 'failed');
  const last = attempts.slice(20);
  assert.ok(last.length > 2 && last.length <= 11, `${last}`);
  assert.deepEqual(last, [...ten.slice(0, last.length - 1), 0]);
});

for (const watched of [false, true]) {
  const how = watched ? 'it heard of a signal at once' : 'its commit was refused';
  test(`what a step gave before its instance was parked counts when it is retried: ${how}`, async () => {
    const ran: string[] = [];
    let isBad = true;
    const flow = workflow({ name: 'flow' }, async (wf) => {
      const work = wf.step('work', async () => {
        ran.push('work');
        // The journal is watched by then.
        if (watched) await t.pause(300);
        await handle.signal(go, 1);
        return 'worked';
      });
      const other = wf.step('other', () => t.pause(MINUTE).then(() => 'other'));
      await wf.wait(go);
      while (isBad) void wf.wait(go);
      return [await work, await other];
    });
    await using t = await createTestWorkflows({ definitions: [flow], verify: 0 });
    const handle = await t.start('flow', undefined, { id: 'x' });
    await t.advance(MINUTE);
    const { status, reason } = await handle.info();
    assert.equal(status, 'parked');
    assert.match(`${reason}`, /a loop without a wait/);
    const step = (await handle.history()).find(({ kind }) => kind === 'step');
    assert.deepEqual([step?.name, step?.value], ['work', 'worked']);
    isBad = false;
    await handle.retry();
    assert.deepEqual(await t.finish(handle.result()), ['worked', 'other']);
    assert.deepEqual(ran, ['work']);
  });
}

test('a retry of what failed by itself runs no step again, and one after a caught failure begins there', async () => {
  const ran: string[] = [];
  let isUp = false;
  const flow = workflow({ name: 'flow' }, async (wf, catches: boolean) => {
    if (catches) {
      const failing = wf.step('caught', () => {
        ran.push('caught');
        if (!isUp) throw new Terminal('down');
      });
      await failing.catch(() => {});
    }
    await wf.step('work', () => ran.push('work'));
    if (!isUp) throw new Error('not up');
    return 'done';
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  for (const catches of [false, true]) {
    isUp = false;
    ran.length = 0;
    const handle = await t.start(flow, catches);
    await t.advance(MINUTE);
    assert.equal(await handle.status(), 'failed');
    isUp = true;
    await handle.retry();
    assert.equal(await t.finish(handle.result()), 'done');
    assert.deepEqual(ran, catches ? ['caught', 'work', 'caught', 'work'] : ['work']);
  }
});

test('a failure aborts steps that run, and no compensation', async () => {
  const aborted: string[] = [];
  const flow = workflow({ name: 'flow' }, async (wf) => {
    await wf.step('hold', () => 1, {
      compensate: async (_, { signal: end }) => {
        for (let i = 0; i < 3; i++) await t.pause(100);
        aborted.push(`undo ${end.aborted}`);
      },
    });
    const slow = wf.step('slow', async ({ signal: end }) => {
      await t.pause(100);
      aborted.push(`slow ${end.aborted}`);
    });
    await Promise.all([slow, wf.step('fails', () => Promise.reject(new Terminal('no')))]);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow);
  await t.advance(MINUTE);
  assert.equal(await handle.status(), 'failed');
  assert.deepEqual(aborted, ['slow true', 'undo false']);
});

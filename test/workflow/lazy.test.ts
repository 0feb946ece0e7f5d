/** Lazy steps: what the code saw before their records were stored is what a replay sees, whatever came in between. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';
import { createTestWorkflows } from '../../src/workflow/testing.ts';

const go = signal<number>('go');
/** Longer than a worker waits for without a suspension, so that what was before is replayed. */
const AWAY_MS = 1100;
const PATIENCE = { timeoutMs: 60_000 };

test('a signal that comes after a lazy step and before its record comes there on replay too', async () => {
  for (const withWait of [true, false]) {
    await using broker = await openBroker('memory:');
    const seen = new Set<string>();
    const ran: string[] = [];
    const flow = workflow({ name: 'a' }, async (wf) => {
      const lazy = wf.step('lazy', () => ran.push('lazy') && 'lazy', { lazy: true });
      const first = await Promise.race(withWait ? [lazy, wf.wait(go)] : [lazy]);
      const at = wf.now();
      await wf.step('slow', async () => {
        ran.push('slow');
        await flows.get(flow, 'x').signal(go, 7);
      });
      const got = withWait ? 7 : await wf.wait(go);
      const second = await wf.step('second', () => ran.push('second') && 2, { lazy: true });
      const random = wf.random();
      await wf.step('third', async () => {
        ran.push('third');
        await flows.get(flow, 'x').signal(go, 8);
        await flows.get(flow, 'x').signal(go, 9);
      });
      seen.add(JSON.stringify([first, at, got, second, random]));
      await wf.sleep(AWAY_MS);
      return [await wf.wait(go), await wf.wait(go)];
    });
    await using flows = await workflows(broker, { definitions: [flow] });
    const handle = await flows.start(flow, undefined, { id: 'x' });
    assert.deepEqual(await handle.result(PATIENCE), [8, 9]);
    assert.deepEqual([...seen].length, 1, [...seen].join('\n'));
    assert.match([...seen].join(), /^\["lazy"/);
    assert.deepEqual(ran, ['lazy', 'slow', 'second', 'third']);
  }
});

test('a cancel that comes after lazy steps undoes them, and what has run since', async () => {
  const did: string[] = [];
  const flow = workflow({ name: 'a' }, async (wf) => {
    const step = (name: string, lazy: boolean, run = async () => {}) =>
      wf.step(
        name,
        async () => {
          did.push(name);
          await run();
        },
        {
          lazy,
          compensate: (_, { attempt }) => {
            // Tried again much later: what is above is replayed before.
            if (name === 'charge' && attempt === 1) throw new Error('not now');
            did.push(`-${name}`);
          },
          retry: { backoff: { minMs: 60_000, maxMs: 60_000 } },
        },
      );
    await step('first', true);
    await step('second', true);
    await step('charge', false, () => t.flows.get(flow, 'x').cancel('enough'));
    await step('never', false);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await assert.rejects(t.finish(handle.result()), /enough/);
  assert.equal(await handle.status(), 'cancelled');
  assert.deepEqual(did, ['first', 'second', 'charge', '-charge', '-second', '-first']);
});

test('a cancel that comes right before a further run undoes what lazy steps have done', async () => {
  const did: string[] = [];
  const flow = workflow({ name: 'a' }, async (wf, n: number) => {
    const step = (name: string, run = async () => {}) =>
      wf.step(
        name,
        async () => {
          did.push(`${name} ${n}`);
          await run();
        },
        { lazy: true, compensate: () => void did.push(`-${name} ${n}`) },
      );
    await step('one');
    if (n === 2) await step('two', () => t.flows.get(flow, 'x').cancel('enough'));
    await wf.continueAsNew(n + 1);
  });
  await using t = await createTestWorkflows({ definitions: [flow] });
  const handle = await t.start(flow, 1, { id: 'x' });
  await assert.rejects(t.finish(handle.result()), /enough/);
  assert.deepEqual(did, ['one 1', 'one 2', 'two 2', '-two 2', '-one 2']);
});

test('a step that must not happen twice happens once, whatever comes beside lazy steps', async () => {
  await using broker = await openBroker('memory:');
  const ran: string[] = [];
  const flow = workflow({ name: 'a' }, async (wf) => {
    let finish = () => {};
    const isOver = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const once = wf.step(
      'once',
      async () => {
        ran.push('once');
        await isOver;
      },
      { interrupted: 'throw' },
    );
    const beside = async () => {
      await wf.step('begun', () => {});
      await wf.step('lazy', () => ran.push('lazy'), { lazy: true });
      await wf.step('told', async () => {
        ran.push('told');
        await flows.get(flow, 'x').signal(go, 1);
      });
      await wf.step('last', () => finish());
    };
    await Promise.all([once, beside()]);
    return wf.wait(go);
  });
  await using flows = await workflows(broker, { definitions: [flow] });
  const handle = await flows.start(flow, undefined, { id: 'x' });
  assert.equal(await handle.result(PATIENCE), 1);
  assert.deepEqual(ran, ['once', 'lazy', 'told']);
});

test('a child id that is taken fails the child after a lazy step too, and the step runs once', async () => {
  await using broker = await openBroker('memory:');
  let ran = 0;
  const small = workflow({ name: 'small' }, async () => 1);
  const flow = workflow({ name: 'a' }, async (wf) => {
    const n = await wf.step('lazy', () => ++ran, { lazy: true });
    const failed = await wf.child(small, undefined, { id: 'taken' }).catch((error) => error.code);
    return [n, failed];
  });
  await using flows = await workflows(broker, { definitions: [flow, small] });
  await flows.start(small, undefined, { id: 'taken' });
  const handle = await flows.start(flow);
  assert.deepEqual(await handle.result(PATIENCE), [1, 'ALREADY_EXISTS']);
  assert.equal(ran, 1);
});

test('code that changes the result of a lazy step gets the result itself on replay', async () => {
  await using broker = await openBroker('memory:');
  const seen = new Set<string>();
  const flow = workflow({ name: 'a' }, async (wf) => {
    const list = await wf.step('lazy', () => [1], { lazy: true });
    list.push(2);
    await wf.step('next', () => 0);
    seen.add(list.join());
    await wf.sleep(AWAY_MS);
    return list;
  });
  await using flows = await workflows(broker, { definitions: [flow] });
  assert.deepEqual(await (await flows.start(flow)).result(PATIENCE), [1, 2]);
  assert.deepEqual([...seen], ['1,2']);
});

test('each operation between many lazy steps is noted in the journal', async () => {
  await using broker = await openBroker('memory:');
  const flow = workflow({ name: 'a' }, async (wf) => {
    for (let i = 0; i < 250; i++) await wf.step(`s${i}`, () => i, { lazy: true });
    await wf.step('last', () => {});
  });
  await using flows = await workflows(broker, { definitions: [flow] });
  const handle = await flows.start(flow, undefined, { id: 'x' });
  await handle.result(PATIENCE);
  const entries = await broker.journal?.read('wf:{a}:j:x');
  const noted = (entries ?? []).flatMap(({ fields }) => JSON.parse(fields.d ?? '{}').o ?? []);
  const numbers = noted.map(([n]: [number]) => n);
  assert.deepEqual(
    numbers,
    Array.from({ length: 251 }, (_, i) => i + 1),
  );
});

test('lazy steps before sleeps, waits, children and further runs end alike wherever the worker dies', async () => {
  const lazy = { lazy: true };
  const small = workflow({ name: 'small' }, async (wf, n: number) => {
    await wf.step('small', () => n, lazy);
    await wf.sleep(5000);
    return wf.step('end', () => n * 2, lazy);
  });
  const flow = workflow({ name: 'a' }, async (wf, n: number): Promise<unknown> => {
    const one = await wf.step('one', () => 1, lazy);
    await wf.sleep(60_000);
    const two = await wf.step('two', () => 2, lazy);
    const got = await wf.wait(go, { timeoutMs: 60_000 });
    const three = await wf.step('three', () => 3, lazy);
    const six = await wf.child(small, three);
    wf.state(six);
    const four = await wf.step('four', () => 4, lazy);
    if (n === 0) return wf.continueAsNew(1);
    const first = await Promise.race([
      wf.step('five', () => 'step', lazy),
      wf.sleep(60_000).then(() => 'sleep'),
    ]);
    await wf.sleep(90_000);
    await wf.step('six', () => 6, lazy);
    return [one, two, got ?? 0, three, six, four, first];
  });
  await using t = await createTestWorkflows({ definitions: [flow, small] });
  const { outcome } = await t.crashAtEvery(async (world) => {
    const handle = await world.start(flow, 0, { id: 'x' });
    await world.advance(61_000);
    await world.advance(1000);
    await handle.signal(go, 5);
    await handle.signal(go, 6);
    return world.finish(handle.result());
  });
  assert.deepEqual(outcome, [1, 2, 6, 3, 6, 4, 'step']);
});

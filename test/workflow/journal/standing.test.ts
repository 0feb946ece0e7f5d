/**
 * Where an instance is, read from its newest records: always what all records together say, in a few reads.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import type { JournalStore } from '../../../src/broker/journal.ts';
import { Random } from '../../../src/util/random.ts';
import type { WorkflowHandle } from '../../../src/workflow/handle.ts';
import { signal, workflow } from '../../../src/workflow/index.ts';
import { effective, phaseOf } from '../../../src/workflow/journal/phase.ts';
import { readRecords } from '../../../src/workflow/journal/records.ts';
import { createTestWorkflows, type TestWorld } from '../../../src/workflow/testing.ts';
import { seedOf } from '../../helpers/seed.ts';

const HOUR = 3_600_000;
const go = signal<number>('go');

/** What all records of the journal say. */
async function wholeOf(broker: Broker, { name, id }: WorkflowHandle) {
  const records = readRecords(await (broker.journal as JournalStore).read(`wf:{${name}}:j:${id}`));
  const { status, version, end, parked } = phaseOf(records);
  const state = effective(records).findLast(({ kind }) => kind === 'state');
  return {
    status,
    version,
    records: records.length,
    ended: end !== null,
    code: parked?.code,
    state: (state?.data as { v?: unknown } | undefined)?.v,
  };
}

async function seenOf(handle: WorkflowHandle) {
  const { status, version, records, endedAt, code } = await handle.info();
  return {
    status,
    version,
    records,
    ended: endedAt !== undefined,
    code: status === 'parked' ? code : undefined,
    state: await handle.state(),
  };
}

/** Counts reads, and entries that they return, until the returned function is called. */
function counting(broker: Broker) {
  const journal = broker.journal as JournalStore;
  const { read } = journal;
  const counted = { reads: 0, entries: 0 };
  journal.read = async (key, range) => {
    const entries = await read.call(journal, key, range);
    counted.reads++;
    counted.entries += entries.length;
    return entries;
  };
  return {
    counted,
    end: () => {
      journal.read = read;
    },
  };
}

test('info, state and result take a few reads after 5000 steps and 5000 signals', async () => {
  const flow = workflow({ name: 'long' }, async (wf) => {
    wf.state('begun');
    for (let i = 0; i < 1000; i++) {
      await Promise.all([1, 2, 3, 4, 5].map((n) => wf.step(`s${n}`, () => n, { lazy: true })));
    }
    await wf.wait(go);
    return 'done';
  });
  await using t = await createTestWorkflows({ definitions: [flow], verify: 0 });
  const handle = await t.start(flow, undefined, { id: 'x' });
  await t.advance(1000);
  const other = signal<number>('other');
  await Promise.all(Array.from({ length: 5000 }, (_, i) => handle.signal(other, i)));
  const { counted, end } = counting(t.broker);
  const info = await handle.info();
  assert.equal(info.status, 'running');
  assert.ok(info.records > 10_000, `${info.records} records`);
  assert.equal(await handle.state(), 'begun');
  const early = handle.result({ timeoutMs: 1 }).catch(({ code }) => code);
  await t.advance(10);
  assert.equal(await early, 'TIMEOUT');
  await handle.signal(other, 1);
  const { reads, entries } = counted;
  assert.ok(reads <= 30 && entries <= 100, `${reads} reads of ${entries} entries`);
  end();
  await handle.signal(go, 1);
  await t.advance(1000);
  assert.equal(await handle.result(), 'done');
});

test('whatever happens to an instance, its newest records say what all of them say', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  const child = workflow({ name: 'child' }, async (wf, ms: number) => wf.sleep(ms));
  let isUp = false;
  const make = (version: number, older: never[] = []) =>
    workflow({ name: 'flow', version, older, timeoutMs: 60 * HOUR }, async (wf) => {
      for (let i = 0; ; i++) {
        const n = await wf.wait(go, { timeoutMs: 2 * HOUR });
        if (n === undefined) continue;
        if (n % 3 === 0) wf.state({ i, n });
        if (n % 5 === 0) await wf.child(child, n % 2 === 0 ? 0 : HOUR);
        await wf.step(
          'work',
          () => {
            if (n % 7 === 0 && !isUp) throw new Error('not up');
          },
          { retry: { attempts: 2, backoff: { minMs: 100, maxMs: 100 } }, compensate: () => {} },
        );
      }
    });
  const old = make(1);
  const next = make(2, [old as never]);
  for (let round = 0; round < 8; round++) {
    await using world: TestWorld & AsyncDisposable = await createTestWorkflows({
      definitions: [next, child],
      seed: random.uint32(),
    });
    const handle: WorkflowHandle = await world.start(old, undefined, { id: 'x' });
    const ignored = () => {};
    const deeds: (() => Promise<unknown>)[] = [
      () => handle.signal(go, random.below(40)).catch(ignored),
      () => handle.signal(go, random.below(40)).catch(ignored),
      () => world.advance(random.below(3 * HOUR)),
      () => world.advance(random.below(500)),
      () => handle.pause().catch(ignored),
      () => handle.resume().catch(ignored),
      () => handle.retry().catch(ignored),
      () => world.move(next, { from: 1, to: 2 }),
      () => world.restart(),
      async () => {
        if (random.chance(0.2)) await handle.cancel().catch(ignored);
      },
      async () => {
        isUp = random.chance(0.5);
      },
    ];
    for (let i = 0; i < 40; i++) {
      await random.pick(deeds)();
      await world.settle();
      assert.deepEqual(await seenOf(handle), await wholeOf(world.broker, handle), `round ${round}`);
    }
  }
});

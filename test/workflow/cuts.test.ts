/**
 * Workers whose connections are cut, go silent or are refused, and a server that is restarted under load:
 * every instance ends right, each step is recorded once, each message is published once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { FaultyProxy } from '../../src/conformance/faulty-proxy.ts';
import { Random } from '../../src/util/random.ts';
import { signal, Terminal, type Workflows, workflow, workflows } from '../../src/workflow/index.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { seedOf } from '../helpers/seed.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const FULL = process.env.RIVULET_FULL === '1';
const go = signal<string>('go');
const reconnect = { minMs: 20, maxMs: 200, factor: 2, jitter: true };
/** A start of the server takes long on a busy machine. */
const publishTimeoutMs = 120_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const runs = new Map<string, number>();
const ran = (key: string) => runs.set(key, (runs.get(key) ?? 0) + 1);
const label = workflow({ name: 'label' }, async (wf) => {
  await wf.sleep(50);
  return wf.step('print', ({ key }) => {
    ran(key);
    return 'label';
  });
});
const order = workflow({ name: 'order', concurrency: 50 }, async (wf, fails: boolean) => {
  const [a, b] = await Promise.all([
    wf.step(
      'a',
      async ({ key }) => {
        ran(key);
        await wait(20);
        return 1;
      },
      { compensate: (_one, { key }) => void ran(key) },
    ),
    wf.step('b', ({ key }) => {
      ran(key);
      return 2;
    }),
  ]);
  await wf.publish('order.done', { body: wf.id });
  const text = await wf.child(label);
  await wf.sleep(1100);
  const by = await wf.wait(go, { timeoutMs: 120_000 });
  if (fails) throw new Terminal(`no: ${by}`);
  return { sum: a + b, text, by };
});

async function settledBy(flows: Workflows, ids: readonly string[]): Promise<void> {
  for (const [i, id] of ids.entries()) {
    const result = flows.get(order, id).result({ timeoutMs: 120_000 });
    if (i % 4 === 3) await assert.rejects(result, { message: `no: ${id}` });
    else assert.deepEqual(await result, { sum: 3, text: 'label', by: id });
    const steps = (await flows.get(order, id).history()).filter(({ kind }) =>
      /step|undo/.test(kind),
    );
    const numbers = steps.map(({ n }) => n).sort();
    assert.deepEqual(numbers, i % 4 === 3 ? [-1, 1, 2] : [1, 2], id);
    for (const n of [1, 2]) assert.ok((runs.get(`order/${id}/${n}`) ?? 0) >= 1, `${id} ${n}`);
  }
}

test('workers behind connections that are cut, silent, half open or refused end every instance right', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  runs.clear();
  await using server = await startRivulet();
  await using direct = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  await using flows = await workflows(direct);
  await using first = await FaultyProxy.start(server.port);
  await using second = await FaultyProxy.start(server.port);
  const proxies = [first, second];
  const brokers = await Promise.all(
    proxies.map(({ port }) => openBroker(`rivulet://127.0.0.1:${port}`, { reconnect })),
  );
  const options = { definitions: [order, label], ackWaitMs: 1500 };
  const workers = await Promise.all(brokers.map((broker) => workflows(broker, options)));
  const ids: string[] = [];
  let isOver = false;
  const load = (async () => {
    for (let i = 0; !isOver; i++) {
      const id = `o-${i}`;
      const handle = await flows.start(order, i % 4 === 3, { id });
      await handle.signal(go, id, { id: 'once' });
      ids.push(id);
      await wait(15);
    }
  })();
  const rounds = FULL ? 60 : 12;
  for (let round = 0; round < rounds; round++) {
    const proxy = random.pick(proxies);
    const mode = random.pick(['pass', 'black hole', 'half open', 'refuse'] as const);
    proxy.mode = mode;
    if (mode === 'pass' || mode === 'refuse') proxy.cut();
    await wait(random.below(mode === 'black hole' ? 2500 : 300));
    proxy.mode = 'pass';
    // Connections that the fault has left open would wait for their time to be up.
    if (random.chance(0.8)) proxy.cut();
    await wait(random.below(200));
  }
  isOver = true;
  await load;
  for (const proxy of proxies) proxy.cut();
  assert.ok(ids.length > rounds, `${ids.length} started`);
  await settledBy(flows, ids);
  const published = (await direct.journal?.read('order.done')) ?? [];
  assert.deepEqual(published.map(({ fields }) => fields.body).sort(), [...ids].sort());
  const [counts] = await flows.counts('order');
  assert.deepEqual([counts?.running, counts?.parked, counts?.done], [0, 0, ids.length]);
  await Promise.all(workers.map((each) => each.close()));
  await Promise.all(brokers.map((each) => each.disconnect()));
});

test('a server that is restarted in order under load loses nothing, and workers go on by themselves', async () => {
  runs.clear();
  await using directory = temporaryDirectory('workflow-restart');
  const port = await freePort();
  const place = { directory: directory.path, args: ['--port', `${port}`] };
  let server = await startRivulet(place);
  const url = `rivulet://127.0.0.1:${port}`;
  await using broker = await openBroker(url, { reconnect, publishTimeoutMs });
  await using other = await openBroker(url, { reconnect, publishTimeoutMs });
  const flows = await workflows(broker, { definitions: [order, label], ackWaitMs: 1500 });
  const starter = await workflows(other);
  const ids: string[] = [];
  let isOver = false;
  const load = (async () => {
    for (let i = 0; !isOver; i++) {
      const id = `o-${i}`;
      const handle = await starter.start(order, i % 4 === 3, { id });
      await handle.signal(go, id, { id: 'once' });
      ids.push(id);
      await wait(10);
    }
  })();
  for (let round = 0; round < (FULL ? 10 : 3); round++) {
    await wait(400);
    await server.stop('SIGTERM');
    server = await startRivulet(place);
  }
  isOver = true;
  await load;
  await settledBy(starter, ids);
  const published = (await other.journal?.read('order.done')) ?? [];
  assert.deepEqual(published.map(({ fields }) => fields.body).sort(), [...ids].sort());
  await flows.close();
  await starter.close();
  await server[Symbol.asyncDispose]();
});

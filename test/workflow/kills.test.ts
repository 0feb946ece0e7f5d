/**
 * Real workers and a real server, ended by kill -9 at random moments under load, and a worker that is
 * stopped and continued.
 *
 * What was acknowledged (starts, signals) comes to its result, once; a message that a workflow publishes
 * arrives once; steps are at least once, and no more often than workers died, and one.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { Random } from '../../src/util/random.ts';
import { workflows } from '../../src/workflow/workflows.ts';
import { ended, startChild } from '../helpers/children.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { seedOf } from '../helpers/seed.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { approved, definition } from './worker-child.ts';

const FULL = process.env.RIVULET_FULL === '1';
const CHILD = fileURLToPath(new URL('./worker-child.js', import.meta.url));

interface Child extends AsyncDisposable {
  readonly process: ChildProcess;
  readonly lines: string[];
  /** Resolves with the next line that it prints. */
  line(): Promise<string>;
}

async function spawnWorker(url: string, effects: string, starts = 0): Promise<Child> {
  const child = startChild(process.execPath, [CHILD, url, effects, String(starts)]);
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  let taken = 0;
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    lines.push(line);
    waiting.shift()?.(line);
  });
  let errors = '';
  child.stderr?.on('data', (bytes) => {
    errors += bytes;
  });
  const made: Child = {
    process: child,
    lines,
    line() {
      const present = lines[taken];
      taken++;
      if (present !== undefined) return Promise.resolve(present);
      return new Promise((resolve, reject) => {
        waiting.push(resolve);
        child.once('exit', () => reject(new Error(`the worker ended: ${errors}`)));
      });
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended(child);
    },
  };
  assert.equal(await made.line(), 'ready');
  return made;
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** How often each step ran. */
function runsOf(effects: string): Map<string, number> {
  const runs = new Map<string, number>();
  for (const key of readFileSync(effects, 'utf8').split('\n').filter(Boolean)) {
    runs.set(key, (runs.get(key) ?? 0) + 1);
  }
  return runs;
}

async function publishedBy(broker: Broker): Promise<string[]> {
  const entries = await broker.journal?.read('order.done');
  return (entries ?? []).map(({ fields }) => fields.body as string).sort();
}

test('file: a process that is killed again and again loses no acknowledged start', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  await using directory = temporaryDirectory('workflow');
  const url = `file:${join(directory.path, 'data')}`;
  const effects = join(directory.path, 'effects');
  writeFileSync(effects, '');
  const started = new Set<string>();
  const kills = FULL ? 15 : 3;
  for (let round = 0; round < kills; round++) {
    await using child = await spawnWorker(url, effects, 1000);
    await child.line();
    await wait(random.below(600));
    child.process.kill('SIGKILL');
    await ended(child.process);
    for (const line of child.lines) if (line.startsWith('started ')) started.add(line.slice(8));
  }
  assert.ok(started.size >= kills, `${started.size} started`);
  await using broker = await openBroker(url);
  const order = definition(effects);
  await using flows = await workflows(broker, { definitions: [order], ackWaitMs: 1000 });
  for (const id of started) {
    const result = await flows.get(order, id).result({ timeoutMs: 60_000 });
    assert.deepEqual(result, { sum: 6, by: id });
  }
  const published = await publishedBy(broker);
  assert.equal(new Set(published).size, published.length, 'no message twice');
  for (const id of started) assert.ok(published.includes(id), id);
  for (const [key, runs] of runsOf(effects)) {
    assert.ok(runs <= kills + 1, `${key} ran ${runs} times`);
  }
});

test('rivulet: workers and the server are killed in turn, and every instance ends right', async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  await using directory = temporaryDirectory('workflow');
  const port = await freePort();
  const args = ['--port', String(port)];
  const data = join(directory.path, 'data');
  const effects = join(directory.path, 'effects');
  writeFileSync(effects, '');
  let server = await startRivulet({ directory: data, args });
  const url = `rivulet://127.0.0.1:${port}`;
  const workers = [await spawnWorker(url, effects), await spawnWorker(url, effects)];
  // A test that fails leaves no process behind, which would hold this one.
  t.after(async () => {
    for (const worker of workers) await worker[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  await using broker = await openBroker(url, {
    reconnect: { minMs: 20, maxMs: 200, factor: 2, jitter: true },
    // A start of the server takes long on a busy machine.
    publishTimeoutMs: 120_000,
  });
  await using flows = await workflows(broker);
  const order = definition(effects);
  const ids: string[] = [];
  let isOver = false;
  const load = (async () => {
    for (let i = 0; !isOver; i++) {
      const id = `o-${i}`;
      const handle = await flows.start(order, { pauseMs: 5 }, { id });
      await handle.signal(approved, { by: id }, { id: 'click' });
      ids.push(id);
      await wait(5);
    }
  })();
  load.catch(() => {});
  const kills = FULL ? 30 : 4;
  for (let round = 0; round < kills; round++) {
    await wait(100 + random.below(300));
    if (round % 2 === 0) {
      const at = random.below(2);
      await workers[at]?.[Symbol.asyncDispose]();
      workers[at] = await spawnWorker(url, effects);
    } else {
      await server.stop('SIGKILL');
      server = await startRivulet({ directory: data, args });
    }
  }
  isOver = true;
  await load;
  assert.ok(ids.length > kills, `${ids.length} started`);
  for (const id of ids) {
    const result = await flows.get(order, id).result({ timeoutMs: 90_000 });
    assert.deepEqual(result, { sum: 6, by: id });
  }
  const published = await publishedBy(broker);
  assert.deepEqual(published, [...ids].sort(), 'each message once');
  for (const [key, runs] of runsOf(effects)) assert.ok(runs <= kills + 1, `${key}: ${runs}`);
  const [counts] = await flows.counts('order');
  assert.deepEqual([counts?.running, counts?.parked, counts?.done], [0, 0, ids.length]);
});

test('rivulet: a worker that is stopped past its deadline finds its commit refused', async () => {
  await using server = await startRivulet();
  await using directory = temporaryDirectory('workflow');
  const effects = join(directory.path, 'effects');
  writeFileSync(effects, '');
  const url = `rivulet://127.0.0.1:${server.port}`;
  await using broker = await openBroker(url);
  await using flows = await workflows(broker);
  const order = definition(effects);
  await using first = await spawnWorker(url, effects);
  const handle = await flows.start(order, { pauseMs: 500 }, { id: 'one' });
  await handle.signal(approved, { by: 'ann' });
  await until(() => readFileSync(effects, 'utf8') !== '');
  first.process.kill('SIGSTOP');
  await using second = await spawnWorker(url, effects);
  assert.deepEqual(await handle.result({ timeoutMs: 30_000 }), { sum: 6, by: 'ann' });
  first.process.kill('SIGCONT');
  // It is in order again: it takes the next one.
  second.process.kill('SIGTERM');
  await once(second.process, 'exit');
  const next = await flows.start(order, { pauseMs: 1 }, { id: 'two' });
  await next.signal(approved, { by: 'bob' });
  assert.deepEqual(await next.result({ timeoutMs: 30_000 }), { sum: 6, by: 'bob' });
  assert.equal(runsOf(effects).get('order/one/1'), 2, 'its effect happened twice');
  const steps = (await handle.history()).filter(({ kind, n }) => kind === 'step' && n === 1);
  assert.equal(steps.length, 1, 'and was recorded once');
  assert.deepEqual(await publishedBy(broker), ['one', 'two']);
});

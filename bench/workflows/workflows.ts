/**
 * Workflows of three trivial steps, in this process on `file:` and against our server, both synced to disk
 * before anything resolves: one at a time, 100 at once, the cost of a step in a long workflow, replay, and
 * the time from a signal to the code that waits for it; and beside Restate, DBOS and a BullMQ flow, in turn.
 * At the end, 10^5 instances asleep on the server: bytes each, commands while idle, and all due at once; and
 * the start of a server on whose disk 10^6 of them sleep. A goal that is no ratio is in the row's name.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { dryRun } from '../../src/workflow/execution/dry-run.ts';
import { signal, type Workflows, workflow, workflows } from '../../src/workflow/index.ts';
import { readRecords } from '../../src/workflow/journal/records.ts';
import { startRivulet } from '../../test/helpers/rivulet-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { type Benchmark, type Row, type RowFacts, rowOf, type Scale } from '../row.ts';
import { type Side, settledResidentBytes, startSide } from '../side.ts';
import { startBullFlow, startDbos, startRestate, type WorkflowPeer } from './workflow-peers.ts';

const three = workflow({ name: 'three', concurrency: 1000 }, async (wf, n: number) => {
  const a = await wf.step('a', () => n);
  const b = await wf.step('b', () => a + 1);
  return wf.step('c', () => b + 1);
});
const long = workflow({ name: 'long' }, async (wf, steps: number) => {
  for (let i = 0; i < steps; i++) await wf.step('s', () => i);
});
const poke = signal<number>('poke');
let reached = (_at: number) => {};
const waiting = workflow({ name: 'waiting' }, async (wf, times: number) => {
  for (let i = 0; i < times; i++) {
    await wf.wait(poke);
    reached(performance.now());
  }
});
const sleeping = workflow({ name: 'sleeping', concurrency: 1000 }, async (wf, until: number) => {
  await wf.sleepUntil(until);
});
const definitions = [three, long, waiting, sleeping];

/** Of our own rows, by place and name. */
const GOALS: Readonly<Record<string, string>> = {
  'file: one at a time, p50': '≤ 4',
  'file: one at a time, p99': '≤ 10',
  'rivulet:// one at a time, p50': '≤ 6',
  'rivulet:// one at a time, p99': '≤ 15',
  'file: 100 at once, one worker': '≥ 3000',
  'rivulet:// 100 at once, one worker': '≥ 2000',
  'file: replay of 10 000 steps': '≤ 150',
  'rivulet:// replay of 10 000 steps': '≤ 150',
  'file: signal to handler, p50': '≤ 3',
  'rivulet:// signal to handler, p50': '≤ 3',
  '100000 asleep, memory of the server': '≤ 1024',
  '100000 asleep, commands while idle': '0',
  '100000 due at once': '≥ 5000',
  '1000000 asleep, start of the server': '≤ 2000',
};

/** What the ratio to each peer has to reach: times at most, rates at least. */
const BUDGETS: Readonly<Record<string, { readonly time: number; readonly rate: number } | null>> = {
  restate: { time: 0.5, rate: 1.5 },
  dbos: { time: 0.3, rate: 4 },
  bullmq: null,
};

export const workflowsBench: Benchmark = {
  name: 'workflows',
  about: 'durable workflows of three steps; milliseconds, or instances a second',
  async run(scale, emit) {
    await using directory = temporaryDirectory('bench-workflows');
    await using server = await startSide('rivulet', 'always');
    const places = {
      'file:': `file:${directory.path}/data`,
      'rivulet://': `rivulet://127.0.0.1:${server.port}`,
    };
    for (const [place, url] of Object.entries(places)) {
      await using broker = await openBroker(url);
      await using flows = await workflows(broker, { definitions });
      const measure = async (
        name: string,
        unit: string,
        better: 'higher' | 'lower',
        once: () => Promise<number>,
      ) => {
        if (!scale.wants(name)) return;
        const measured: number[] = [];
        for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
          const value = await once();
          if (run > 0) measured.push(value);
        }
        emit(rowOf(factsOf(`${place} ${name}`, unit, better), { rivulet: measured, redis: [] }));
      };
      const count = scale.smoke ? 20 : 500;
      await measure('one at a time, p50', 'ms', 'lower', async () =>
        percentile(await oneAtATime(flows, count), 0.5),
      );
      await measure('one at a time, p99', 'ms', 'lower', async () =>
        percentile(await oneAtATime(flows, count), 0.99),
      );
      await measure('100 at once, one worker', 'instances/s', 'higher', () =>
        atOnce(flows, 100, scale.smoke ? 200 : 5000),
      );
      for (const steps of scale.smoke ? [1, 10] : [1, 100, 1000, 10_000]) {
        await measure(`a step in a workflow of ${steps}`, 'ms', 'lower', async () => {
          const from = performance.now();
          await (await flows.start(long, steps)).result();
          return (performance.now() - from) / steps;
        });
      }
      await measure('signal to handler, p50', 'ms', 'lower', () => signalled(flows, scale));
      await measure('replay of 10 000 steps', 'ms', 'lower', async () => {
        const steps = scale.smoke ? 100 : 10_000;
        const handle = await flows.start(long, steps, { id: `replayed-${steps}` });
        await handle.result();
        const entries = await broker.journal?.read(`wf:{long}:j:${handle.id}`);
        const records = readRecords(entries ?? []);
        const from = performance.now();
        const { mismatch } = await dryRun(long, handle.id, records, 2 ** 23);
        if (mismatch !== null) throw mismatch;
        return performance.now() - from;
      });
    }
    for (const startPeer of [startRestate, startDbos, startBullFlow]) {
      if (!scale.wants('beside')) break;
      await using peer = await startPeer();
      for (const [place, url] of Object.entries(places))
        await beside(scale, emit, peer, place, url);
    }
    if (scale.wants('asleep')) {
      await asleep(scale, emit, server);
      await restarted(scale, emit);
    }
  },
};

/** One instance at a time, and 100 at once: ours and the peer's in turn. */
async function beside(
  scale: Scale,
  emit: (row: Row) => void,
  peer: WorkflowPeer,
  place: string,
  url: string,
): Promise<void> {
  await using broker = await openBroker(url);
  await using flows = await workflows(broker, { definitions });
  const ours = async (n: number) => {
    await (await flows.start(three, n)).result();
  };
  const budget = BUDGETS[peer.name] ?? null;
  const inTurn = async (
    name: string,
    unit: string,
    better: 'higher' | 'lower',
    bound: number | null,
    measure: (run: (n: number) => Promise<void>) => Promise<number>,
  ) => {
    const measured: { rivulet: number[]; redis: number[] } = { rivulet: [], redis: [] };
    for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
      const own = await measure(ours);
      const other = await measure(peer.run);
      if (run === 0) continue;
      measured.rivulet.push(own);
      measured.redis.push(other);
    }
    const facts = factsOf(`${place} beside ${peer.name}, ${name}`, unit, better);
    const durability = `ours ${facts.durability}; ${peer.name}: ${peer.durability}`;
    emit(rowOf({ ...facts, budget: bound, durability }, measured));
  };
  const count = scale.smoke ? 10 : 200;
  for (const share of [0.5, 0.99]) {
    await inTurn(
      `one at a time, p${share * 100}`,
      'ms',
      'lower',
      budget?.time ?? null,
      async (run) => percentile(await timesOf(run, count), share),
    );
  }
  await inTurn('100 at once', 'instances/s', 'higher', budget?.rate ?? null, (run) =>
    rateOf(run, 100, scale.smoke ? 100 : 2000),
  );
}

async function asleep(scale: Scale, emit: (row: Row) => void, server: Side): Promise<void> {
  const count = scale.smoke ? 100 : 100_000;
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const flows = await workflows(broker, { definitions });
  const before = await settledResidentBytes(server.pid);
  // Time enough to start them all, and for the idle row.
  const until = Date.now() + (scale.smoke ? 4000 : 180_000);
  let started = 0;
  const line = async () => {
    while (started++ < count) await flows.start(sleeping, until, { id: `s-${started}` });
  };
  await Promise.all(Array.from({ length: 200 }, line));
  while (flows.awake > 0) await pause(50);
  const bytes = ((await settledResidentBytes(server.pid)) - before) / count;
  const row = (name: string, unit: string, better: 'higher' | 'lower', value: number) =>
    emit(rowOf(factsOf(name, unit, better), { rivulet: [value], redis: [] }));
  row(`${count} asleep, memory of the server`, 'bytes each', 'lower', bytes);
  const commands = async () =>
    Number(/total_commands_processed:(\d+)/.exec(String(await server.client.call('INFO')))?.[1]);
  const first = await commands();
  const idleMs = scale.smoke ? 500 : 10_000;
  await pause(idleMs);
  // One of them is INFO itself.
  const idle = ((await commands()) - first - 1) / (idleMs / 1000);
  row(`${count} asleep, commands while idle`, 'commands/s', 'lower', idle);
  await pause(Math.max(0, until - Date.now()));
  const due = performance.now();
  // The length of one stream: counts take several reads, and would slow what is measured.
  while ((await server.client.call('XLEN', 'wf:{sleeping}:done')) !== count) await pause(20);
  row(`${count} due at once`, 'instances/s', 'higher', (count / (performance.now() - due)) * 1000);
  await flows.close();
}

/** How long a server takes to be ready on whose disk many instances sleep. */
async function restarted(scale: Scale, emit: (row: Row) => void): Promise<void> {
  const count = scale.smoke ? 1000 : 1_000_000;
  await using directory = temporaryDirectory('bench-asleep');
  const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
  const start = () =>
    startRivulet({
      directory: directory.path,
      args,
      readyTimeoutMs: 900_000,
      longTurns: 'what is measured is not watched',
    });
  const first = await start();
  await fillAsleep(first.port, count);
  await first.stop();
  const measured: number[] = [];
  for (let run = 0; run < (scale.smoke ? 1 : 3); run++) {
    const from = performance.now();
    const server = await start();
    measured.push(performance.now() - from);
    const client = await connect({ port: server.port, timeoutMs: 600_000 });
    const length = await client.call('XLEN', 'wf:{sleeping}:running');
    client.destroy();
    await server.stop();
    await server[Symbol.asyncDispose]();
    if (length !== count) throw new Error(`${length} of ${count} sleep after the restart`);
  }
  const facts = factsOf(`${count} asleep, start of the server`, 'ms', 'lower');
  emit(rowOf(facts, { rivulet: measured, redis: [] }));
}

/** One instance is put to sleep by a worker; the others are copies of its streams under other ids. */
async function fillAsleep(port: number, count: number): Promise<void> {
  const until = Date.now() + 30 * 86_400_000;
  await using broker = await openBroker(`rivulet://127.0.0.1:${port}`);
  const flows = await workflows(broker, { definitions: [sleeping] });
  const handle = await flows.start(sleeping, until, { id: 's-0' });
  while ((await handle.info()).position !== 'due') await pause(20);
  await flows.close();
  const records = (await broker.journal?.read('wf:{sleeping}:j:s-0')) ?? [];
  const client = await connect({ port, timeoutMs: 600_000 });
  for (let i = 1; i < count; ) {
    const commands: (string | number)[][] = [];
    for (const end = Math.min(count, i + 1000); i < end; i++) {
      const id = `s-${i}`;
      for (const { fields } of records) {
        commands.push(['XADD', `wf:{sleeping}:j:${id}`, '*', ...Object.entries(fields).flat()]);
      }
      const task = JSON.stringify({ id, k: 'timer' });
      commands.push(['XADD', 'wf:{sleeping}:v1', 'AT', until, '*', 'body', task]);
      commands.push(['XADD', 'wf:{sleeping}:running', '*', 'd', JSON.stringify({ id, v: 1 })]);
    }
    await client.pipeline(commands);
  }
  client.destroy();
}

function factsOf(name: string, unit: string, better: 'higher' | 'lower'): RowFacts {
  const durability = 'synced before anything resolves';
  return {
    benchmark: 'workflows',
    name: GOALS[name] === undefined ? name : `${name} (goal ${GOALS[name]})`,
    unit,
    better,
    budget: null,
    durability,
    payload: 'numbers',
  };
}

function oneAtATime(flows: Workflows, count: number): Promise<number[]> {
  return timesOf(async (n) => void (await (await flows.start(three, n)).result()), count);
}

async function timesOf(run: (n: number) => Promise<void>, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const from = performance.now();
    await run(i);
    times.push(performance.now() - from);
  }
  return times;
}

function atOnce(flows: Workflows, width: number, count: number): Promise<number> {
  return rateOf(async (n) => void (await (await flows.start(three, n)).result()), width, count);
}

async function rateOf(
  run: (n: number) => Promise<void>,
  width: number,
  count: number,
): Promise<number> {
  const from = performance.now();
  let started = 0;
  const line = async () => {
    while (started++ < count) await run(started);
  };
  await Promise.all(Array.from({ length: width }, line));
  return (count / (performance.now() - from)) * 1000;
}

async function signalled(flows: Workflows, scale: Scale): Promise<number> {
  const times = scale.smoke ? 5 : 200;
  const handle = await flows.start(waiting, times);
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    while ((await handle.info()).position !== 'waiting') await new Promise(setImmediate);
    const arrived = new Promise<number>((resolve) => {
      reached = resolve;
    });
    const from = performance.now();
    await handle.signal(poke, i);
    taken.push((await arrived) - from);
  }
  await handle.result();
  return percentile(taken, 0.5);
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

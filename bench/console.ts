/**
 * The console beside a large server: each page against its budget, what clients notice of it, and what open
 * tabs cost. Budgets are section 6 of the console's design; the ratio is the measured value divided by the
 * budget, so at most 1 is met.
 *
 * `longest PING` is the longest time that another client waits for one reply while the page is asked again
 * and again: the longest turn of the server's loop, the network and the scheduler of this machine included.
 */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { gzipSync } from 'node:zlib';
import { openBroker } from '../src/broker/open-broker.ts';
import { type Client, connect } from '../src/client/client.ts';
import { workflow, workflows } from '../src/workflow/index.ts';
import { freePort } from '../test/helpers/free-port.ts';
import { startRivulet } from '../test/helpers/rivulet-server.ts';
import { fillStream } from './load.ts';
import { type Benchmark, ENTRY, median, type RowFacts, rowOf, type Scale } from './row.ts';

const FULL = {
  topics: 100_000,
  groups: 10_000,
  manyGroups: 20_000,
  pending: 100_000,
  events: 20_000,
  tabs: 20,
  seconds: 10,
  largest: 40 * 1024 * 1024,
};
const SMOKE: typeof FULL = {
  topics: 500,
  groups: 100,
  manyGroups: 200,
  pending: 1000,
  events: 60,
  tabs: 2,
  seconds: 1,
  largest: 1024 * 1024,
};
/** Of 50 million with `--entries 50000000`: 60 bytes of memory an entry. */
const ENTRIES = 2_000_000;
/** The page that is open most. */
const OVERVIEW = 'overview,jobs';
const WATCHES = 'overview,topics:sort=lag,topic:busy,group:busy/g,dead,server';

type Emit = Parameters<Benchmark['run']>[1];

export function consoleBench(entries = ENTRIES): Benchmark {
  return {
    name: 'console',
    about: 'pages of the console at scale, what clients notice of them, what open tabs cost',
    async run(scale, emit) {
      const size = scale.smoke ? SMOKE : FULL;
      const count = scale.smoke ? 2000 : entries;
      const httpPort = await freePort();
      await using server = await startRivulet({
        args: ['--http-port', String(httpPort), '--appendonly', 'no'],
        longTurns: 'what is measured is not watched',
      });
      const client = await connect({ port: server.port, timeoutMs: 600_000 });
      const pinger = await connect({ port: server.port, timeoutMs: 600_000 });
      const bench = new Measurement({ httpPort, pid: server.pid, client, pinger, scale, emit });
      try {
        await fill(client, size, count);
        await runWorkflow(`rivulet://127.0.0.1:${server.port}`, size.events);
        await pages(bench, size, count);
        await firstView(bench);
        await tabs(bench, size);
      } finally {
        client.destroy();
        pinger.destroy();
      }
    },
  };
}

async function fill(client: Client, size: typeof FULL, entries: number): Promise<void> {
  const send = async (count: number, command: (i: number) => (string | number | Buffer)[]) => {
    for (let at = 0; at < count; at += 2000) {
      const some = Math.min(2000, count - at);
      await client.pipeline(Array.from({ length: some }, (_, i) => command(at + i)));
    }
  };
  await send(size.topics, (i) => ['XADD', `shop-${i % 7}.topic-${i}`, '*', 'body', '{"n":1}']);
  for (const [topic, groups] of [
    ['grouped', size.groups],
    ['crowded', size.manyGroups],
  ] as const) {
    await client.call('XADD', topic, '1-0', 'body', 'x');
    await send(groups, (i) => ['XGROUP', 'CREATE', topic, `group-${i}`, '0']);
  }
  await send(size.pending, (i) => ['XADD', 'busy', `${i + 1}-0`, 'body', '{"n":1}']);
  await client.call('XGROUP', 'CREATE', 'busy', 'g', '0');
  const read = ['GROUP', 'g', 'c', 'COUNT', size.pending, 'STREAMS', 'busy', '>'] as const;
  await client.call('XREADGROUP', ...read);
  await fillStream(client, 'long', entries);
  await client.call('XADD', 'large', '1-0', 'body', Buffer.alloc(size.largest, '[1,2,3],'));
}

const long = workflow({ name: 'long' }, async (wf, steps: number) => {
  for (let i = 0; i < steps; i++) await wf.step('s', () => i);
});

async function runWorkflow(url: string, events: number): Promise<void> {
  await using broker = await openBroker(url);
  await using flows = await workflows(broker, { definitions: [long] });
  await (await flows.start(long, events, { id: 'one' })).result();
}

async function pages(bench: Measurement, size: typeof FULL, entries: number): Promise<void> {
  // The first answers wait for the first sweep.
  for (;;) {
    const page = JSON.parse(await bench.get('topics')) as { complete: boolean; total: number };
    if (page.complete && page.total >= size.topics) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  for (const sort of ['name', 'rate', 'lag', 'bytes', 'length', 'oldest', 'pending']) {
    await bench.page(`topics by ${sort}, of ${size.topics}`, () => `topics?sort=${sort}`);
  }
  await bench.page(`topics with a part of a name, of ${size.topics}`, () => 'topics?q=topic-77');
  await bench.page(`overview, ${size.topics} topics`, () => 'overview');
  for (const [topic, groups] of [
    ['grouped', size.groups],
    ['crowded', size.manyGroups],
  ] as const) {
    await bench.page(`a topic with ${groups} groups`, () => `topics/${topic}`);
    await bench.page(
      `one of ${groups} groups`,
      (n) => `topics/${topic}/groups/group-${(n * 7919) % groups}`,
    );
  }
  await bench.page(
    `pending messages, anywhere in ${size.pending}`,
    (n) => `topics/busy/groups/g/pending?after=${(n * 7919) % size.pending}-0`,
  );
  await bench.page(
    `messages, anywhere in ${entries}`,
    (n) => `topics/long/entries?from=${1 + ((n * 104_729) % entries)}-0`,
  );
  await bench.page(`the newest messages of ${entries}`, () => 'topics/long/entries?newest=1');
  let after = '';
  await bench.page(`a workflow of ${size.events} steps, page by page`, (n, last) => {
    const { next = null } = (n === 0 ? {} : JSON.parse(last)) as { next?: string | null };
    after = next === null ? '' : `?after=${next}`;
    return `workflows/long/one${after}`;
  });
  const megabytes = Math.round(size.largest / 2 ** 20);
  await bench.page(`a list with a message of ${megabytes} MB`, () => 'topics/large/entries');
  await bench.page(`a message of ${megabytes} MB`, () => 'topics/large/entries/1-0');
  await bench.page(`the journey of a message of ${megabytes} MB`, () => 'journey/large/1-0');
}

/** What a browser loads before the first page is shown. */
async function firstView(bench: Measurement): Promise<void> {
  const began = performance.now();
  const index = await bench.file('/console/');
  const files = [...index.matchAll(/(?:src|href)="([^"]+\.(?:js|css))"/g)].map(([, path]) => path!);
  const texts = await Promise.all(files.map((path) => bench.file(path)));
  // What a script imports at its top is loaded with it.
  const parts = texts.flatMap((text) => [...text.matchAll(/from"\.\/([^"]+\.js)"/g)]);
  const folder = files[0]!.slice(0, files[0]!.lastIndexOf('/') + 1);
  const imported = [...new Set(parts.map(([, name]) => folder + name!))];
  texts.push(...(await Promise.all(imported.map((path) => bench.file(path)))));
  await bench.get('');
  await bench.get('overview');
  const elapsed = performance.now() - began;
  const bytes = [index, ...texts].reduce((sum, text) => sum + gzipSync(text).length, 0);
  bench.value('first view, files and two answers', 'ms', elapsed, 1000);
  bench.value('first view, gzip', 'bytes', bytes, 100 * 1024);
}

/** XADD at 500 a second, alternating without a tab and with all of them open; then CPU of one tab. */
async function tabs(bench: Measurement, size: typeof FULL): Promise<void> {
  const { scale } = bench;
  const measured: Record<'closed' | 'open', number[]> = { closed: [], open: [] };
  for (let run = scale.smoke ? 1 : 0; run <= scale.runs; run++) {
    for (const side of ['closed', 'open'] as const) {
      const streams = side === 'open' ? await bench.openTabs(size.tabs) : [];
      const p99 = await bench.publishing(size.seconds);
      for (const end of streams) end();
      if (run > 0) measured[side].push(p99);
    }
  }
  const ratio = median(measured.open) / median(measured.closed);
  const facts = factsOf(`XADD p99, ${size.tabs} tabs open (ratio: to none)`, 'ms', 1.05);
  bench.emit({ ...rowOf(facts, { rivulet: measured.open, redis: [] }), ratio });
  // The last look at anything is forgotten after 30 s, and sweeps end.
  const idle = await bench.cpu(size.seconds);
  const [end] = await bench.openTabs(1, OVERVIEW);
  const open = await bench.cpu(size.seconds);
  end!();
  bench.value('CPU of one open tab, % of one core (ms a 100 ms)', 'ms', open - idle, 1);
}

interface Setup {
  readonly httpPort: number;
  readonly pid: number;
  readonly client: Client;
  readonly pinger: Client;
  readonly scale: Scale;
  readonly emit: Emit;
}

class Measurement {
  readonly scale: Scale;
  readonly emit: Emit;
  readonly #httpPort: number;
  readonly #pid: number;
  readonly #client: Client;
  readonly #pinger: Client;

  constructor({ httpPort, pid, client, pinger, scale, emit }: Setup) {
    this.scale = scale;
    this.emit = emit;
    this.#httpPort = httpPort;
    this.#pid = pid;
    this.#client = client;
    this.#pinger = pinger;
  }

  get(path: string): Promise<string> {
    return this.file(`/console/api/v1/${path}`);
  }

  file(path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const place = { host: '127.0.0.1', port: this.#httpPort, path, agent: false };
      request(place, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${path}: ${response.statusCode} ${text.slice(0, 300)}`));
        });
      })
        .on('error', reject)
        .end();
    });
  }

  /** The median time of a page, and the longest PING beside it. */
  async page(name: string, path: (n: number, last: string) => string): Promise<void> {
    if (!this.scale.wants(name)) return;
    const times: number[] = [];
    let isDone = false;
    let longest = 0;
    const pinging = (async () => {
      while (!isDone) {
        const from = performance.now();
        await this.#pinger.call('PING');
        longest = Math.max(longest, performance.now() - from);
      }
    })();
    let last = '';
    for (let n = 0; n < (this.scale.smoke ? 2 : 4 * this.scale.runs); n++) {
      const from = performance.now();
      last = await this.get(path(n, last));
      times.push(performance.now() - from);
    }
    isDone = true;
    await pinging;
    const row = rowOf(factsOf(name, 'ms', 1), { rivulet: times, redis: [] });
    this.emit({ ...row, ratio: row.rivulet / 200 });
    this.value(`  longest PING beside it`, 'ms', longest, 50);
  }

  /** `limit`: the budget, of which the ratio is. */
  value(name: string, unit: string, value: number, limit: number): void {
    const row = rowOf(factsOf(name, unit, 1), { rivulet: [value], redis: [] });
    this.emit({ ...row, ratio: value / limit });
  }

  /** Live streams that have had their first frame; each is ended by its function. */
  openTabs(count: number, watches = WATCHES): Promise<(() => void)[]> {
    const open = () =>
      new Promise<() => void>((resolve, reject) => {
        const path = `/console/api/v1/live?watch=${encodeURIComponent(watches)}`;
        const place = { host: '127.0.0.1', port: this.#httpPort, path, agent: false };
        const asked = request(place, (response) => {
          if (response.statusCode !== 200) reject(new Error(`live: ${response.statusCode}`));
          response.on('data', () => resolve(() => asked.destroy()));
          response.on('error', () => {});
        });
        asked.on('error', reject).end();
      });
    return Promise.all(Array.from({ length: count }, open));
  }

  /** The p99 of XADD at 500 a second, ms. */
  async publishing(seconds: number): Promise<number> {
    const times: number[] = [];
    const waiting: Promise<void>[] = [];
    const began = performance.now();
    for (let n = 0; n < seconds * 500; n++) {
      const due = began + n * 2;
      const wait = due - performance.now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      // From when it was due: what waited behind a long turn counts with its whole wait.
      waiting.push(
        this.#client.call('XADD', 'published', '*', 'f', 'v').then(() => {
          times.push(performance.now() - Math.max(due, began));
        }),
      );
    }
    await Promise.all(waiting);
    return times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)]!;
  }

  /** CPU of the server's process over some seconds, in % of one core. */
  async cpu(seconds: number): Promise<number> {
    const from = cpuMs(this.#pid);
    const began = performance.now();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return ((cpuMs(this.#pid) - from) / (performance.now() - began)) * 100;
  }
}

/** Time in user and system mode: ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function factsOf(name: string, unit: string, budget: number): RowFacts {
  return {
    benchmark: 'console',
    name,
    unit,
    better: 'lower',
    budget,
    durability: 'memory',
    payload: ENTRY,
  };
}

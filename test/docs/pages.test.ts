/** The programs of README, docs/*.md and the adapters' pages compile, run, and print what they say. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { startNats } from '../helpers/nats-server.ts';
import { startRabbitMq } from '../helpers/rabbitmq-server.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing, type Requirement } from '../helpers/requirements.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { repositoryRoot } from '../house/source-file.ts';

const run = promisify(execFile);
/** Within the repository, so that `rivulet` is this package. */
const directory = join(repositoryRoot, 'dist', `pages-${process.pid}`);
const compiler = join(repositoryRoot, 'node_modules', 'typescript', 'bin', 'tsc');

interface Program {
  readonly name: string;
  readonly text: string;
  /** What the page says that it prints, where it says so. */
  readonly output: string | null;
}

const adapters = ['redis', 'nats', 'rabbitmq'].map((name) => `adapters/${name}/README.md`);
const guides = ['broker', 'services', 'workflows', 'errors', 'testing', 'to-a-cluster', 'bot'];
const pages = ['README.md', ...guides.map((name) => `docs/${name}.md`), ...adapters];
const programs = pages.flatMap(programsOf);

/** What a program connects to, and how a test starts one of its own. */
const servers: {
  readonly address: string;
  readonly needs: Requirement[];
  start(): Promise<{ readonly own: string } & AsyncDisposable>;
}[] = [
  {
    address: '7488',
    needs: [],
    async start() {
      const server = await startRivulet();
      return {
        own: String(server.port),
        [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
      };
    },
  },
  {
    address: 'redis://127.0.0.1:6379',
    needs: ['redis-server'],
    async start() {
      const server = await startRedis();
      const own = `redis://127.0.0.1:${server.port}`;
      return { own, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
    },
  },
  {
    address: 'nats://127.0.0.1:4222',
    needs: ['nats-server'],
    async start() {
      const cluster = await startNats();
      const own = cluster.nodes[0]?.url ?? '';
      return { own, [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose]() };
    },
  },
  {
    address: 'amqp://guest:guest@127.0.0.1:5672',
    needs: ['rabbitmq-server'],
    async start() {
      const cluster = await startRabbitMq();
      const own = cluster.nodes[0]?.url ?? '';
      return { own, [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose]() };
    },
  },
];

function programsOf(page: string): Program[] {
  const text = readFileSync(join(repositoryRoot, page), 'utf8');
  const blocks = text.matchAll(/^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms);
  const all = [...blocks].map(([, program, output], number) => ({
    name: `${page.replace(/\W+/g, '-').toLowerCase()}-${number + 1}`,
    text: program as string,
    output: output ?? null,
  }));
  // The others of an adapter's page are given a client that the reader has.
  return page.startsWith('adapters/') ? all.slice(0, 1) : all;
}

before(async () => {
  mkdirSync(directory, { recursive: true });
  for (const { name, text } of programs) writeFileSync(join(directory, `${name}.ts`), text);
  const options = [
    '--ignoreConfig',
    '--strict',
    '--skipLibCheck',
    '--target',
    'es2023',
    '--module',
    'nodenext',
  ];
  const files = programs.map(({ name }) => `${name}.ts`);
  try {
    await run(process.execPath, [compiler, ...options, '--types', 'node', ...files], {
      cwd: directory,
    });
  } catch (error) {
    assert.fail((error as { stdout?: string }).stdout || String(error));
  }
});

after(() => rmSync(directory, { recursive: true, force: true }));

test('there are programs on the pages', () => {
  assert.ok(programs.length >= 10, `${programs.length}`);
});

for (const { name, text, output } of programs) {
  const peer = servers.find(({ address }) => text.includes(address));
  const skip = missing(...(peer?.needs ?? []));
  test(`${name} runs${output === null ? '' : ' and prints what the page says'}`, {
    skip,
  }, async () => {
    const file = join(directory, `${name}.js`);
    await using server = peer === undefined ? null : await peer.start();
    if (peer !== undefined && server !== null) {
      const program = readFileSync(file, 'utf8').replaceAll(peer.address, server.own);
      writeFileSync(file, program);
    }
    const { stdout } = await run(process.execPath, [file], { timeout: 30_000 });
    if (output !== null) assert.equal(stdout, output);
    else if (peer !== undefined) assert.notEqual(stdout, '');
  });
}

/**
 * The same workflow of three trivial steps on other systems: Restate's server, DBOS on PostgreSQL, and a
 * flow of three BullMQ jobs, which records no steps and stands here for scale. Their modules are found
 * among the benchmarks' own; each server is started for the benchmark and ends with it.
 *
 * Durability: Restate syncs its log before it acknowledges (its default; `rocksdb-disable-wal-fsync` is
 * false), PostgreSQL runs with `synchronous_commit` on, Redis with `appendfsync always`.
 */
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http2';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { ended, runTool, startChild } from '../../test/helpers/children.ts';
import { freePort } from '../../test/helpers/free-port.ts';
import { startRedis } from '../../test/helpers/redis-server.ts';
import { temporaryDirectory } from '../../test/helpers/temporary-directory.ts';
import { repositoryRoot } from '../../test/house/source-file.ts';

const requirePeer = createRequire(join(repositoryRoot, 'bench', 'package.json'));
/** The user of PostgreSQL, which refuses to run as root. */
const NOBODY = 65_534;
const READY_MS = 60_000;

export interface WorkflowPeer extends AsyncDisposable {
  readonly name: string;
  readonly durability: string;
  /** One instance, to its result. */
  run(n: number): Promise<void>;
}

export async function startRestate(): Promise<WorkflowPeer> {
  giveResolvers();
  const restate = requirePeer('@restatedev/restate-sdk');
  const clients = requirePeer('@restatedev/restate-sdk-clients');
  const three = restate.workflow({
    name: 'three',
    handlers: {
      run: async (ctx: { run(name: string, work: () => number): Promise<number> }, n: number) => {
        const a = await ctx.run('a', () => n);
        const b = await ctx.run('b', () => a + 1);
        return ctx.run('c', () => b + 1);
      },
    },
  });
  const logger = () => {};
  const endpoint = createServer(restate.createEndpointHandler({ services: [three], logger }));
  await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
  const directory = temporaryDirectory('bench-restate');
  const ports = { node: await freePort(), ingress: await freePort(), admin: await freePort() };
  const program = requirePeer.resolve('@restatedev/restate-server-linux-x64/bin/restate-server');
  const server = startChild(program, ['--no-logo', '--base-dir', directory.path], {
    stdio: 'ignore',
    env: {
      ...process.env,
      RESTATE_DISABLE_TELEMETRY: 'true',
      DO_NOT_TRACK: '1',
      RESTATE_LISTEN_MODE: 'tcp',
      RESTATE_BIND_ADDRESS: `127.0.0.1:${ports.node}`,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ports.ingress}`,
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${ports.admin}`,
      RESTATE_LOG_FILTER: 'error',
    },
  });
  const { port } = endpoint.address() as AddressInfo;
  await untilReady('restate-server', async () => {
    const reply = await fetch(`http://127.0.0.1:${ports.admin}/deployments`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ uri: `http://127.0.0.1:${port}` }),
    });
    if (!reply.ok) throw new Error(`${reply.status}: ${await reply.text()}`);
  });
  const ingress = clients.connect({ url: `http://127.0.0.1:${ports.ingress}` });
  let ids = 0;
  const run = async (n: number) => {
    const client = ingress.workflowClient(three, `w-${ids++}`);
    await client.workflowSubmit(n);
    const result = await client.workflowAttach();
    if (result !== n + 2) throw new Error(`Restate returned ${result}`);
  };
  await untilReady('the workflow of Restate', () => run(0));
  return {
    name: 'restate',
    durability: 'synced before anything resolves',
    run,
    async [Symbol.asyncDispose]() {
      server.kill('SIGKILL');
      await ended(server);
      endpoint.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

export async function startDbos(): Promise<WorkflowPeer> {
  const { DBOS } = requirePeer('@dbos-inc/dbos-sdk');
  const directory = temporaryDirectory('bench-postgres');
  const data = join(directory.path, 'data');
  mkdirSync(data);
  const isRoot = process.getuid?.() === 0;
  const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  if (isRoot) for (const path of [directory.path, data]) chownSync(path, NOBODY, NOBODY);
  const made = await runTool(postgres('initdb'), ['-D', data, '-U', 'bench', '-A', 'trust'], user);
  if (made.code !== 0) throw new Error(`initdb: ${made.stderr}`);
  const port = await freePort();
  const server = startChild(
    postgres('postgres'),
    ['-D', data, '-p', `${port}`, '-c', 'listen_addresses=127.0.0.1', '-k', directory.path],
    { ...user, stdio: 'ignore' },
  );
  const url = `postgresql://bench@127.0.0.1:${port}/postgres`;
  const three = DBOS.registerWorkflow(
    async (n: number) => {
      const a = await DBOS.runStep(async () => n, { name: 'a' });
      const b = await DBOS.runStep(async () => a + 1, { name: 'b' });
      return DBOS.runStep(async () => b + 1, { name: 'c' });
    },
    { name: 'three' },
  );
  DBOS.setConfig({
    name: 'bench',
    systemDatabaseUrl: url,
    runAdminServer: false,
    logLevel: 'error',
  });
  await untilReady('DBOS on PostgreSQL', () => DBOS.launch());
  return {
    name: 'dbos',
    durability: 'PostgreSQL, synchronous_commit on',
    async run(n) {
      const handle = await DBOS.startWorkflow(three)(n);
      const result = await handle.getResult();
      if (result !== n + 2) throw new Error(`DBOS returned ${result}`);
    },
    async [Symbol.asyncDispose]() {
      await DBOS.shutdown();
      server.kill('SIGKILL');
      await ended(server);
      await directory[Symbol.asyncDispose]();
    },
  };
}

export async function startBullFlow(): Promise<WorkflowPeer> {
  const { FlowProducer, QueueEvents, Worker } = requirePeer('bullmq');
  const redis = await startRedis({ args: ['--appendonly', 'yes', '--appendfsync', 'always'] });
  const connection = { host: '127.0.0.1', port: redis.port, maxRetriesPerRequest: null };
  const worker = new Worker('three', async () => 1, { connection, concurrency: 300 });
  const events = new QueueEvents('three', { connection });
  const flows = new FlowProducer({ connection });
  // Each job listens for its end.
  flows.setMaxListeners(0);
  await Promise.all([worker.waitUntilReady(), events.waitUntilReady(), flows.waitUntilReady()]);
  const job = (name: string, data: number, children: object[] = []) => ({
    ...{ name, queueName: 'three', data: { n: data }, children },
    opts: { removeOnComplete: { age: 60 } },
  });
  return {
    name: 'bullmq',
    durability: 'Redis, appendfsync always; no steps are recorded',
    async run(n) {
      const flow = await flows.add(job('c', n, [job('b', n, [job('a', n)])]));
      await flow.job.waitUntilFinished(events);
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([worker.close(), events.close(), flows.close()]);
      await redis[Symbol.asyncDispose]();
    },
  };
}

/** Debian keeps the server's programs out of the path. */
function postgres(program: string): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((each) => join(root, each, 'bin', program)).find(existsSync);
  return found ?? program;
}

/** Restate's SDK takes it from the language of Node 22; we run on 20 as well. */
function giveResolvers(): void {
  const promise = Promise as unknown as { withResolvers?: () => object };
  promise.withResolvers ??= () => {
    let resolve: unknown;
    let reject: unknown;
    const made = new Promise((...ends) => {
      [resolve, reject] = ends;
    });
    return { promise: made, resolve, reject };
  };
}

/** Tries until it works; rejects with the last failure after a minute. */
async function untilReady(what: string, attempt: () => Promise<unknown>): Promise<void> {
  const until = performance.now() + READY_MS;
  for (;;) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (performance.now() > until) {
        throw new Error(`${what} is not ready after ${READY_MS} ms: ${(error as Error).message}`);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

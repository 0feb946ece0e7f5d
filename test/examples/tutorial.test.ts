/** go-micro's tutorial as two processes: in TypeScript and from .proto, direct and over the broker. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import { runTool } from '../helpers/children.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { repositoryRoot } from '../house/source-file.ts';

const directory = join(repositoryRoot, 'dist', 'examples', '09-tutorial');
const micro = join(repositoryRoot, 'bin', 'micro.js');
const NAMES = ['go.micro.api.userservices', 'go.micro.api.orderservice'];

let server: Awaited<ReturnType<typeof startRivulet>>;
before(async () => {
  server = await startRivulet();
});
after(() => server?.[Symbol.asyncDispose]());

/** Both services, until the registry knows them. */
async function services(programs: readonly string[], env: Record<string, string>) {
  const children: ChildProcess[] = programs.map((program) =>
    spawn(process.execPath, [join(directory, program)], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, ...env },
    }),
  );
  const broker = await openBroker(env.MICRO_BROKER as string);
  const registry = await openRegistry('broker', { broker });
  const watching = new AbortController();
  const events = registry.watch(undefined, { signal: watching.signal });
  const isThere = async () =>
    (await Promise.all(NAMES.map((name) => registry.getService(name)))).every(
      (records) => records.length > 0,
    );
  if (!(await isThere())) {
    for await (const _ of events) if (await isThere()) break;
  }
  const records = (await Promise.all(NAMES.map((name) => registry.getService(name)))).flat();
  watching.abort();
  await registry.close();
  await broker.disconnect();
  return {
    records,
    async [Symbol.asyncDispose]() {
      for (const child of children) {
        child.kill('SIGTERM');
        const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
        assert.equal(code, 0);
      }
    },
  };
}

const plain = ['users.js', 'orders.js'];
for (const [what, programs, more] of [
  ['in TypeScript, by default', plain, {}],
  ['in TypeScript, over the broker alone', plain, { MICRO_TRANSPORT: 'broker' }],
  ['in TypeScript, directly', plain, { MICRO_TRANSPORT: 'tcp' }],
  ['from .proto, by default', ['proto-users.js', 'proto-orders.js'], {}],
] as const) {
  test(`the order service calls the user service: ${what}`, async () => {
    const env = { MICRO_BROKER: `rivulet://127.0.0.1:${server.port}`, ...more };
    await using running = await services(programs, env);
    const [node] = running.records[0]!.nodes;
    assert.equal(
      node?.metadata['rivulet.tcp'] === undefined,
      'MICRO_TRANSPORT' in more && more.MICRO_TRANSPORT === 'broker',
    );
    const call = (...args: string[]) =>
      runTool(process.execPath, [micro, 'call', NAMES[1] as string, ...args], {
        timeoutMs: 60_000,
        env: { ...process.env, ...env },
      });
    const { code, stdout, stderr } = await call('OrderSrv.GetOrder', '{"id":1}');
    assert.deepEqual([code, stderr], [0, '']);
    const order = JSON.parse(stdout);
    assert.deepEqual([order.id, order.orderId, order.username], [1, '1', 'Hello Micro']);
    if (programs !== plain) return;
    const missing = await call('OrderSrv.GetOrder', '{"id":2}');
    assert.deepEqual([missing.code, missing.stdout], [3, '']);
    assert.match(missing.stderr, /there is no such order \(NOT_FOUND, 404\)/);
  });
}

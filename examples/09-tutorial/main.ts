/**
 * go-micro's tutorial as two processes: the order service calls the user service.
 *
 *   npm run example 09
 *
 * The processes find each other in the registry of a broker. This program starts one of its own where
 * MICRO_BROKER names none, then both services, calls the order service, and stops them with SIGTERM.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { client, openBroker } from 'rivulet';
import { Orders } from './contracts.ts';

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const children: ChildProcess[] = [];
const directory = await mkdtemp(join(tmpdir(), 'tutorial-'));
const broker = process.env.MICRO_BROKER ?? (await startServer());

for (const name of ['./users.js', './orders.js']) start([here(name)]);
await using orders = client(Orders, { broker, requestTimeoutMs: 10_000 });
console.log(JSON.stringify(await whenThere(() => orders.OrderSrv.GetOrder({ id: 1 }))));
try {
  await orders.OrderSrv.GetOrder({ id: 2 });
} catch (error) {
  if (error instanceof Orders.OrderSrv.GetOrder.errors.NotFound) console.log(error.detail);
}
await orders.close();
// The services first: they deregister at the broker.
for (const child of children.reverse()) {
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  if (code !== 0) console.log(`exit code ${code}`);
}
await rm(directory, { recursive: true });

function start(args: readonly string[]): void {
  const env = { ...process.env, MICRO_BROKER: broker };
  children.push(spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'], env }));
}

/** A service that has just started is in the registry after a moment. */
async function whenThere<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await call();
    } catch (error) {
      if (tries === 100) throw error;
      await delay(100);
    }
  }
}

async function startServer(): Promise<string> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  const micro = here('../../../bin/micro.js');
  const args = [micro, 'server', '--port', String(port), '--dir', directory, '--http-port', '0'];
  children.push(spawn(process.execPath, args, { stdio: 'ignore' }));
  const url = `rivulet://127.0.0.1:${port}`;
  await (await openBroker(url, { connectTimeoutMs: 20_000 })).disconnect();
  return url;
}

/**
 * Days on which a registry is not to be trusted: it has yesterday's nodes, what listens at a node speaks
 * another protocol, clocks are an hour apart, one of two registries is down and comes back.
 */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { BrokerRegistry } from '../../src/registry/broker/broker.ts';
import { consulRegistryFrom } from '../../src/registry/consul/consul.ts';
import { eurekaRegistryFrom } from '../../src/registry/eureka/eureka.ts';
import { MdnsRegistry } from '../../src/registry/mdns/mdns.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import type { Scheduler } from '../../src/util/time/scheduler.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { memoryFixture } from '../conformance/embedded-fixture.ts';
import { startEtcd } from '../helpers/etcd-server.ts';
import { freePort } from '../helpers/free-port.ts';
import { missing } from '../helpers/requirements.ts';
import { startPeer } from '../helpers/tcp-peer.ts';
import { ConsulModel } from './models/consul-model.ts';
import { EurekaModel } from './models/eureka-model.ts';

const outside = { args: false, environment: false } as const;
const HOUR_MS = 3_600_000;

const Users = contract('users', {
  UserSrv: { Get: unary<{ id: number }, { id: number; left: number }>() },
});

async function startUsers(registry: Registry, scheduler?: Scheduler) {
  const options = { name: 'users', registry, ...outside, ...(scheduler ? { scheduler } : {}) };
  const service = createService({ ...options, registerIntervalMs: 100, registerTtlMs: 5000 });
  service.handle(Users, {
    UserSrv: { Get: async ({ id }, context) => ({ id, left: context.remainingMs() }) },
  });
  await service.start();
  return service;
}

function recordOf(id: string, address: string, protocol: string): ServiceRecord {
  return {
    name: 'users',
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address, metadata: { protocol } }],
  };
}

test("calls succeed while a registry still has yesterday's nodes, by every protocol", async () => {
  for (const protocol of ['mucp', 'grpc'] as const) {
    const registry = new MemoryRegistry();
    await using _service = await startUsers(registry);
    for (let dead = 0; dead < 5; dead++) {
      const address = `127.0.0.1:${await freePort()}`;
      await registry.register(recordOf(`dead-${dead}`, address, protocol), { ttlMs: HOUR_MS });
    }
    await using caller = createService({ name: 'caller', registry, ...outside });
    const users = caller.client(Users).UserSrv;
    for (let id = 0; id < 50; id++) assert.equal((await users.Get({ id })).id, id);
    await registry.close();
  }
});

const babble: readonly [string, (socket: Socket) => void][] = [
  ['greets as SSH', (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n')],
  ['closes at once', (socket) => socket.end()],
  ['closes at the first byte', (socket) => socket.once('data', () => socket.end())],
  ['says nothing', () => {}],
  [
    'answers as Redis',
    (socket) => socket.on('data', () => socket.write('-ERR unknown command\r\n')),
  ],
  [
    'answers with a page',
    (socket) =>
      socket.on('data', () =>
        socket.write(
          'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>',
        ),
      ),
  ],
  [
    'answers with 502',
    (socket) =>
      socket.on('data', () =>
        socket.write('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n'),
      ),
  ],
  ['sends bytes of no protocol', (socket) => socket.write(Buffer.alloc(3000, 0xa5))],
];

for (const protocol of ['mucp', 'grpc'] as const) {
  test(`what speaks another protocol at a node of ${protocol} fails its call within the deadline`, async () => {
    await Promise.all(
      babble.map(async ([name, act]) => {
        await using peer = await startPeer(act);
        const registry = new MemoryRegistry();
        await registry.register(recordOf('strange', peer.address, protocol), { ttlMs: HOUR_MS });
        const caller = createService({ name: 'caller', registry, retries: 0, ...outside });
        const users = caller.client(Users).UserSrv;
        await assert.rejects(users.Get({ id: 1 }, { timeoutMs: 800 }), (error) => {
          const { code } = error as { code?: string };
          const known = ['TIMEOUT', 'CONNECTION_FAILED', 'UNAVAILABLE', 'PROTOCOL', 'UNSUPPORTED'];
          const others = ['RESPONDER_LOST', 'DECODING_FAILED', 'INTERNAL', 'NOT_CONNECTED'];
          assert.ok([...known, ...others].includes(code ?? ''), `${name}: ${code} ${error}`);
          return true;
        });
        await caller.stop();
        await registry.close();
      }),
    );
  });
}

/** A clock that is an hour ahead or behind; what passes, passes as it does. */
function offBy(ms: number): Scheduler {
  return { ...systemScheduler, now: () => systemScheduler.now() + ms };
}

test('registries whose processes are two hours apart find each other, and nothing expires early or late', async () => {
  await using consul = new ConsulModel();
  await using eureka = new EurekaModel();
  await using broker = await memoryFixture();
  await consul.start();
  await eureka.start();
  const table = new NodeTable(systemScheduler);
  const port = await freePort();
  const kinds: Record<string, (scheduler: Scheduler) => Promise<Registry>> = {
    memory: async (scheduler) => new MemoryRegistry(scheduler, table),
    consul: async (scheduler) => consulRegistryFrom(`127.0.0.1:${consul.port}`, { scheduler }),
    eureka: async (scheduler) => eurekaRegistryFrom(eureka.url, { scheduler, pollMs: 50 }),
    broker: async (scheduler) => new BrokerRegistry(await broker.open(), { scheduler }),
    mdns: async (scheduler) => new MdnsRegistry({ interface: '127.0.0.1', port, scheduler }),
  };
  for (const [name, open] of Object.entries(kinds)) {
    const early = await open(offBy(-HOUR_MS));
    const late = await open(offBy(HOUR_MS));
    const events = late.watch('users')[Symbol.asyncIterator]();
    await late.getService('users');
    await early.register(recordOf('a', '127.0.0.1:40001', 'mucp'), { ttlMs: 60_000 });
    const { value } = await events.next();
    assert.deepEqual([name, value?.action], [name, 'create']);
    assert.equal((await late.getService('users')).length, 1, name);
    await late.register(recordOf('b', '127.0.0.1:40002', 'mucp'), { ttlMs: 60_000 });
    const found = await early.getService('users');
    const ids = found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
    assert.deepEqual([name, ids], [name, ['a', 'b']]);
    await early.close();
    await late.close();
  }
});

test('deadlines of a call mean the same to a caller and a service that are two hours apart', async () => {
  const registry = new MemoryRegistry();
  const service = await startUsers(registry, offBy(HOUR_MS));
  for (const transport of ['http', 'grpc', 'tcp'] as const) {
    const scheduler = offBy(-HOUR_MS);
    const caller = createService({ name: 'caller', registry, transport, scheduler, ...outside });
    const { left } = await caller.client(Users).UserSrv.Get({ id: 1 }, { timeoutMs: 20_000 });
    assert.ok(left > 0 && left <= 20_000, `${transport}: ${left} ms`);
    await caller.stop();
  }
  await service.stop();
  await registry.close();
});

test('of two registries one goes down and comes back: calls go on, and the service is in both again', {
  skip: missing('etcd'),
}, async () => {
  await using etcd = await startEtcd();
  const both = [etcd.url, 'memory:bad-days'];
  await using firsts = await openRegistry(both);
  await using seconds = await openRegistry(both);
  await using first = await startUsers(firsts);
  await using caller = createService({ name: 'caller', registry: both, ...outside });
  const users = caller.client(Users).UserSrv;
  assert.equal((await users.Get({ id: 1 })).id, 1);
  await etcd.kill();
  assert.equal((await users.Get({ id: 2 })).id, 2);
  // A service that starts meanwhile registers where it can, and is found.
  await using second = await startUsers(seconds);
  await first.stop();
  assert.equal((await users.Get({ id: 3 })).id, 3);
  await etcd.start();
  await using alone = await openRegistry(etcd.url);
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await alone.getService('users').catch(() => []);
    if (found.some(({ nodes }) => nodes.length === 1)) break;
    assert.ok(Date.now() < end, 'the service is in etcd again');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal((await users.Get({ id: 4 })).id, 4);
  await second.stop();
});

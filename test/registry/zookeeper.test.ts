/** The registry suite on a real ZooKeeper, and what only ZooKeeper has: paths, sessions, packets. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import {
  ZookeeperRegistry,
  zookeeperRegistryFrom,
} from '../../src/registry/zookeeper/zookeeper.ts';
import { ZookeeperClient } from '../../src/registry/zookeeper/zookeeper-client.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { freePort } from '../helpers/free-port.ts';
import { missing } from '../helpers/requirements.ts';
import { startZookeeper, type ZookeeperNode } from '../helpers/zookeeper-server.ts';

const skip = missing('zookeeper');
const runner = { describe, test, before, after };
const quiet = { onWarning: () => {}, sessionTimeoutMs: 2000 };

if (skip !== false) test('the registry suite on zookeeper', { skip }, () => {});
else
  registryConformance({
    name: 'zookeeper',
    runner,
    factory: async () => {
      const node = await startZookeeper();
      const client = clientOf(node.port);
      let foreign = 0;
      return {
        open: async () => zookeeperRegistryFrom(`127.0.0.1:${node.port}`, quiet),
        kill: (registry) => registry.close(),
        stop: () => node.kill(),
        start: () => node.start(),
        empty: () => node.empty(),
        writeForeign: async (service, bytes) => {
          const folder = `/micro-registry/${service}`;
          await client.create('/micro-registry', Buffer.alloc(0), false);
          await client.create(folder, Buffer.alloc(0), false);
          await client.create(`${folder}/foreign-${foreign++}`, Buffer.from(bytes), false);
        },
        shortestTtlMs: 1000,
        expirySlackMs: 4000,
        maxRecordBytes: 1024 * 1024 - 4096,
        [Symbol.asyncDispose]: async () => {
          client.close();
          await node[Symbol.asyncDispose]();
        },
      };
    },
  });

describe('zookeeper', { skip }, () => {
  let node: ZookeeperNode;
  before(async () => {
    node = await startZookeeper();
  });
  after(() => node?.[Symbol.asyncDispose]());
  const url = () => `zookeeper://127.0.0.1:${node.port}`;

  test('path and value of a node are those of go-micro, and it belongs to a session', async () => {
    await using registry = await openRegistry(url());
    const client = clientOf(node.port);
    try {
      const record = recordOf('go.micro.api.userservices', 'a/b');
      await registry.register(record, { ttlMs: 90_000 });
      const path = '/micro-registry/go.micro.api.userservices/a-b';
      assert.equal(
        (await client.data(path))?.toString(),
        '{"name":"go.micro.api.userservices","version":"latest","metadata":{},"endpoints":[],"nodes":[{"id":"a/b","address":"127.0.0.1:40001","metadata":{"protocol":"mucp"}}]}',
      );
      assert.notEqual((await client.stat(path))?.owner, 0n);
      await registry.deregister(record);
      assert.equal(await client.stat(path), null);
    } finally {
      client.close();
    }
  });

  test('a node that go-micro wrote to stay becomes one that goes with this process', async () => {
    const client = clientOf(node.port);
    try {
      await client.create('/micro-registry', Buffer.alloc(0), false);
      await client.create('/micro-registry/stays', Buffer.alloc(0), false);
      const path = '/micro-registry/stays/n';
      await client.create(path, Buffer.from('{"name":"stays","nodes":null}'), false);
      await using registry = await openRegistry(url());
      await registry.register(recordOf('stays', 'n'), { ttlMs: 60_000 });
      assert.notEqual((await client.stat(path))?.owner, 0n);
    } finally {
      client.close();
    }
  });

  test('a session that ended while the process stood still comes back with its nodes', async () => {
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, quiet);
    await using other = await openRegistry(url());
    const record = recordOf('expired', 'n');
    await registry.register(record, { ttlMs: 60_000 });
    const watch = other.watch('expired')[Symbol.asyncIterator]();
    await other.getService('expired');
    // A server that stands still for longer than the session ends it when it goes on.
    node.signal('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 3000));
    node.signal('SIGCONT');
    const deadline = Date.now() + 20_000;
    for (;;) {
      const found = await other.getService('expired').catch(() => []);
      if (found.length === 1) break;
      assert.ok(Date.now() < deadline, 'the node comes back without a renewal');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await watch.return?.();
  });

  test('a node that is not renewed goes at its TTL though its process lives', async () => {
    await using registry = await openRegistry(url());
    const record = recordOf('lapsed', 'n');
    const watch = registry.watch('lapsed')[Symbol.asyncIterator]();
    await registry.getService('lapsed');
    await registry.register(record, { ttlMs: 300 });
    assert.equal((await watch.next()).value?.action, 'create');
    assert.equal((await watch.next()).value?.action, 'delete');
  });

  test('a server that is down is passed over', async () => {
    const down = await freePort();
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${down},127.0.0.1:${node.port}`);
    await registry.register(recordOf('several', 'n'), { ttlMs: 60_000 });
    assert.equal((await registry.getService('several')).length, 1);
  });

  test('a ZooKeeper that does not answer is REGISTRY_UNAVAILABLE within the limit', async () => {
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, { timeoutMs: 500 });
    await registry.getService('any');
    node.signal('SIGSTOP');
    try {
      const begin = performance.now();
      await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
      assert.ok(performance.now() - begin < 10_000);
    } finally {
      node.signal('SIGCONT');
    }
  });
});

test('peers that speak something else end in an error of their own, and hold nothing', async () => {
  const hostile = [
    Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    Buffer.from([0, 0, 0, 4, 0, 0]),
    Buffer.from([0x7f, 0xff, 0xff, 0xff, 1]),
    Buffer.from([0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(0),
  ];
  for (const bytes of hostile) {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.end(bytes);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const registry = new ZookeeperRegistry({ servers: [`127.0.0.1:${port}`], timeoutMs: 1000 });
    await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
    await registry.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('addresses of ZooKeeper that cannot be meant are refused', () => {
  for (const bad of ['host:0', 'host:99999', 'a b', 'host:1/path', 'u:p%zz@host', '[::1', 'a,,b']) {
    assert.throws(() => zookeeperRegistryFrom(bad), { code: 'INVALID_ARGUMENT' }, bad);
  }
});

function clientOf(port: number): ZookeeperClient {
  return new ZookeeperClient({
    servers: [`127.0.0.1:${port}`],
    scheduler: systemScheduler,
    timeoutMs: 5000,
    sessionTimeoutMs: 10_000,
    onEvent: () => {},
    onConnected: () => {},
  });
}

function recordOf(name: string, id: string): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: { protocol: 'mucp' } }],
  };
}

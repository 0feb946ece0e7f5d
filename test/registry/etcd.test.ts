/** The registry suite on a real etcd, and what only etcd has: its keys, its leases, its users. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { EtcdRegistry, etcdRegistryFrom, keyOf } from '../../src/registry/etcd/etcd.ts';
import { EtcdClient } from '../../src/registry/etcd/etcd-client.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { EtcdCluster } from '../helpers/etcd-cluster.ts';
import { type EtcdNode, startEtcd } from '../helpers/etcd-server.ts';
import { freePort } from '../helpers/free-port.ts';
import { missing } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';

const skip = missing('etcd');
const runner = { describe, test, before, after };
const quiet = { onWarning: () => {} };

if (skip !== false) test('the registry suite on etcd', { skip }, () => {});
else
  registryConformance({
    name: 'etcd',
    runner,
    factory: async () => {
      const node = await startEtcd();
      const client = new EtcdClient({ endpoints: [`127.0.0.1:${node.port}`] });
      let foreign = 0;
      return {
        open: async () => etcdRegistryFrom(`127.0.0.1:${node.port}`, quiet),
        kill: (registry) => registry.close(),
        stop: () => node.kill(),
        start: () => node.start(),
        empty: () => node.empty(),
        writeForeign: async (service, bytes) => {
          const key = Buffer.from(keyOf(service, `foreign-${foreign++}`));
          await client.call('KV/Put', { key, value: Buffer.from(bytes) });
        },
        // etcd keeps no lease shorter than its election takes, and looks for expired ones each 500 ms.
        shortestTtlMs: 2000,
        expirySlackMs: 4000,
        [Symbol.asyncDispose]: async () => {
          client.close();
          await node[Symbol.asyncDispose]();
        },
      };
    },
  });

describe('etcd', { skip }, () => {
  let node: EtcdNode;
  before(async () => {
    node = await startEtcd();
  });
  after(() => node?.[Symbol.asyncDispose]());

  const raw = async (body: (client: EtcdClient) => Promise<void>, port = node.port) => {
    const client = new EtcdClient({ endpoints: [`127.0.0.1:${port}`] });
    try {
      await body(client);
    } finally {
      client.close();
    }
  };

  test('key, value and lease of a node are those of go-micro', async () => {
    await using registry = await openRegistry(node.url);
    const record = recordOf('go.micro.api.userservices', 'a/b');
    await registry.register(record, { ttlMs: 90_000 });
    await raw(async (client) => {
      const key = Buffer.from('/micro/registry/go.micro.api.userservices/a-b');
      const { kvs } = await client.call('KV/Range', { key });
      assert.equal(
        kvs[0]?.value.toString(),
        '{"name":"go.micro.api.userservices","version":"latest","metadata":{},"endpoints":[],"nodes":[{"id":"a/b","address":"127.0.0.1:40001","metadata":{"protocol":"mucp"}}]}',
      );
      const left = await client.keepAlive(String(kvs[0]?.lease));
      assert.equal(left, 90);
    });
    await registry.deregister(record);
    assert.deepEqual(await registry.getService(record.name), []);
  });

  test('a record of go-micro with null for its lists and maps is read', async () => {
    await using registry = await openRegistry(node.url);
    const value = `{"name":"go.users","version":"latest","metadata":null,"endpoints":[{"name":"UserSrv.GetAccount","request":{"name":"R","type":"R","values":[{"name":"id","type":"int32","values":null}]},"response":null,"metadata":null}],"nodes":[{"id":"go.users-1","address":"10.0.0.5:40001","metadata":null}]}`;
    await raw(async (client) => {
      const key = Buffer.from('/micro/registry/go.users/go.users-1');
      await client.call('KV/Put', { key, value: Buffer.from(value) });
    });
    const [found] = await registry.getService('go.users');
    assert.equal(found?.nodes[0]?.address, '10.0.0.5:40001');
    assert.equal(found?.endpoints[0]?.request?.values[0]?.type, 'int32');
  });

  test('a renewal writes a key that was removed by hand, and a lease that ended, again', async () => {
    await using registry = await openRegistry(node.url);
    const record = recordOf('renewed', 'n');
    await registry.register(record, { ttlMs: 60_000 });
    await raw(async (client) => {
      const key = Buffer.from(keyOf('renewed', 'n'));
      await client.call('KV/DeleteRange', { key });
      await registry.register(record, { ttlMs: 60_000 });
      const { kvs } = await client.call('KV/Range', { key });
      assert.equal(kvs.length, 1);
      await client.call('Lease/LeaseRevoke', { ID: String(kvs[0]?.lease) });
      await registry.register(record, { ttlMs: 60_000 });
      assert.equal((await client.call('KV/Range', { key })).kvs.length, 1);
    });
  });

  test('a bad record is reported once', async () => {
    const warnings: string[] = [];
    await using registry = new EtcdRegistry({
      endpoints: [`127.0.0.1:${node.port}`],
      onWarning: (error) => warnings.push(error.message),
    });
    await raw(async (client) => {
      const key = Buffer.from(keyOf('bad', 'n'));
      await client.call('KV/Put', { key, value: Buffer.from('nonsense') });
    });
    await registry.getService('bad');
    await registry.getService('bad');
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /\/micro\/registry\/bad\/n.*not JSON/);
  });

  test('more records than one page are listed and watched', async () => {
    await using registry = await openRegistry(node.url);
    const names = Array.from({ length: 450 }, (_, index) => `paged.${index}`);
    for (let at = 0; at < names.length; at += 50) {
      const some = names.slice(at, at + 50);
      await Promise.all(
        some.map((name) => registry.register(recordOf(name, 'n'), { ttlMs: 60_000 })),
      );
    }
    const listed = (await registry.listServices()).filter(({ name }) => name.startsWith('paged.'));
    assert.equal(listed.length, names.length);
    const watch = registry.watch()[Symbol.asyncIterator]();
    await registry.getService('paged.0');
    await registry.deregister(recordOf('paged.449', 'n'));
    const { value } = await watch.next();
    assert.deepEqual([value?.action, value?.service.name], ['delete', 'paged.449']);
  });

  test('an endpoint that is down is passed over', async () => {
    const down = await freePort();
    await using registry = etcdRegistryFrom(`127.0.0.1:${down},127.0.0.1:${node.port}`);
    const record = recordOf('several', 'n');
    await registry.register(record, { ttlMs: 60_000 });
    assert.equal((await registry.getService('several')).length, 1);
  });

  test('an etcd that does not answer is REGISTRY_UNAVAILABLE within the limit', async () => {
    await using registry = etcdRegistryFrom(`127.0.0.1:${node.port}`, { timeoutMs: 500 });
    await registry.getService('any');
    node.signal('SIGSTOP');
    try {
      const begin = process.hrtime.bigint();
      await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
      assert.ok(process.hrtime.bigint() - begin < 10_000_000_000n);
    } finally {
      node.signal('SIGCONT');
    }
  });

  test('addresses that cannot be meant are refused', () => {
    for (const bad of ['host:0', 'host:99999', 'a b', 'host:1/path', 'u:p%zz@host', '[::1']) {
      assert.throws(() => etcdRegistryFrom(bad), { code: 'INVALID_ARGUMENT' }, bad);
    }
  });
});

test('a member that was cut off answers with none of its old data, and its watch misses nothing', {
  skip,
}, async () => {
  await using cluster = await EtcdCluster.start();
  const [behind, ...others] = cluster.members as [EtcdNode, EtcdNode, EtcdNode];
  const ids = async (registry: Registry) => {
    const found = await registry.getService('moved');
    return found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).join();
  };
  /** A call fails while the cluster chooses a leader. */
  const succeeds = (call: () => Promise<unknown>) => {
    let last: unknown = null;
    const works = async () => {
      last = await call().then(
        () => null,
        (error) => error ?? 'an error',
      );
      return last === null;
    };
    return until(works, () => String(last));
  };
  await using reader = etcdRegistryFrom(`127.0.0.1:${behind.port}`, { timeoutMs: 2000, ...quiet });
  await using writer = etcdRegistryFrom(others.map(({ port }) => `127.0.0.1:${port}`).join());
  const [old, young] = [recordOf('moved', 'old'), recordOf('moved', 'young')];
  await succeeds(() => writer.register(old, { ttlMs: 3600_000 }));
  const seen: string[] = [];
  const watching = (async () => {
    for await (const { action, service } of reader.watch('moved')) {
      seen.push(`${action} ${service.nodes[0]?.id}`);
    }
  })();
  await succeeds(async () => assert.equal(await ids(reader), 'old'));
  await cluster.cutOff(0);
  await succeeds(() => writer.register(young, { ttlMs: 3600_000 }));
  await succeeds(() => writer.deregister(old));
  await succeeds(async () => assert.equal(await ids(writer), 'young'));
  // A client that reads a member's own data gets this answer.
  const own = await fetch(`http://127.0.0.1:${behind.port}/v3/kv/range`, {
    method: 'POST',
    body: JSON.stringify({ key: keyIn64('moved', 'old'), serializable: true }),
  });
  assert.equal(((await own.json()) as { count?: string }).count, '1');
  await assert.rejects(reader.getService('moved'), { code: 'REGISTRY_UNAVAILABLE' });
  assert.deepEqual(seen, []);
  cluster.join();
  await succeeds(async () => assert.equal(await ids(reader), 'young'));
  await until(
    () => seen.length >= 2,
    () => seen.join(),
  );
  assert.deepEqual(seen.sort(), ['create young', 'delete old']);
  await reader.close();
  await watching;
});

test('with users: right, wrong and no password, and a token that etcd forgot', {
  skip,
}, async () => {
  await using node = await startEtcd();
  // etcd's JSON gateway sets up the users.
  const post = async (path: string, body: object) => {
    const reply = await fetch(`http://127.0.0.1:${node.port}/v3/auth/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    assert.equal(reply.status, 200, await reply.text());
  };
  await post('user/add', { name: 'root', password: 'sec:ret@1' });
  await post('role/add', { name: 'root' });
  await post('user/grant', { user: 'root', role: 'root' });
  await post('user/add', { name: 'guest', password: 'g' });
  const at = `127.0.0.1:${node.port}`;
  await using early = etcdRegistryFrom(`root:${encodeURIComponent('sec:ret@1')}@${at}`);
  const record = recordOf('secured', 'n');
  await early.register(record, { ttlMs: 60_000 });
  await post('enable', {});
  await early.register(record, { ttlMs: 60_000 });
  assert.equal((await early.getService('secured')).length, 1);
  await using wrong = etcdRegistryFrom(`root:wrong@${at}`);
  await assert.rejects(wrong.getService('secured'), { code: 'AUTHENTICATION_FAILED' });
  await using none = etcdRegistryFrom(at);
  await assert.rejects(none.getService('secured'), { code: 'AUTHENTICATION_FAILED' });
  await using guest = etcdRegistryFrom(`guest:g@${at}`);
  await assert.rejects(guest.getService('secured'), { code: 'PERMISSION_DENIED' });
  // Simple tokens live in the server's memory only.
  await node.kill();
  await node.start();
  await early.register(record, { ttlMs: 60_000 });
  assert.equal((await early.getService('secured')).length, 1);
});

function recordOf(name: string, id: string): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: { protocol: 'mucp' } }],
  };
}

function keyIn64(service: string, nodeId: string): string {
  return Buffer.from(keyOf(service, nodeId)).toString('base64');
}

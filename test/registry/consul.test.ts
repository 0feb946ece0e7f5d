/**
 * The registry suite on a model of Consul's HTTP API, and what only Consul has: tags, checks, tokens.
 * With `CONSUL_HTTP_ADDR` the suite runs on that agent too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { ConsulRegistry, consulRegistryFrom } from '../../src/registry/consul/consul.ts';
import { decodeTags, encodeTags } from '../../src/registry/consul/consul-tags.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { until } from '../helpers/until.ts';
import { ConsulModel } from './models/consul-model.ts';

const runner = { describe, test, before, after };
const quiet = { onWarning: () => {} };

registryConformance({
  name: 'consul (a model of its API)',
  runner,
  factory: async () => {
    const model = new ConsulModel();
    await model.start();
    let foreign = 0;
    return {
      open: async () => consulRegistryFrom(`127.0.0.1:${model.port}`, quiet),
      kill: (registry) => registry.close(),
      stop: () => model.stop(),
      start: () => model.start(),
      empty: async () => model.empty(),
      writeForeign: async (service, bytes) => {
        const text = Buffer.from(bytes).toString('latin1');
        model.addForeign({ id: `foreign-${foreign++}`, name: service, tags: [text, `v-${text}`] });
      },
      shortestTtlMs: 500,
      expirySlackMs: 1500,
      [Symbol.asyncDispose]: () => model[Symbol.asyncDispose](),
    };
  },
});

const real = process.env.CONSUL_HTTP_ADDR;
if (real !== undefined) {
  registryConformance({
    name: 'consul (CONSUL_HTTP_ADDR)',
    runner,
    factory: async () => ({
      open: async () => consulRegistryFrom(real.replace(/^https?:\/\//, ''), quiet),
      kill: (registry) => registry.close(),
      expirySlackMs: 5000,
      [Symbol.asyncDispose]: async () => {},
    }),
  });
}

describe('consul', () => {
  const withModel = async (body: (model: ConsulModel) => Promise<void>, token = '') => {
    await using model = new ConsulModel(token);
    await model.start();
    await body(model);
  };

  test('a node that is renewed unchanged only has its check passed', () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      const record = recordOf('renewed', 'n');
      await registry.register(record, { ttlMs: 60_000 });
      model.requests.length = 0;
      await registry.register(record, { ttlMs: 60_000 });
      assert.deepEqual(model.requests, ['PUT /v1/agent/check/pass/service:renewed-n']);
    }));

  test('an agent that lost a node gets it again, though it says with 500 that it does not know it', () =>
    withModel(async (model) => {
      model.isOld = true;
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      const record = recordOf('again', 'n');
      await registry.register(record, { ttlMs: 60_000 });
      model.empty();
      await registry.register(record, { ttlMs: 60_000 });
      assert.equal((await registry.getService('again')).length, 1);
      model.empty();
      await registry.deregister(record);
      assert.deepEqual(await registry.getService('again'), []);
    }));

  test('a watch reports nodes that have no check: go-micro registers so where it is given no TTL', () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      await registry.register(recordOf('checked', 'n'), { ttlMs: 60_000 });
      const events = registry.watch()[Symbol.asyncIterator]();
      await registry.listServices();
      const tags = encodeTags(recordOf('unchecked', 'n'));
      model.addForeign({ id: 'one', name: 'unchecked', tags, isChecked: false });
      const first = (await events.next()).value;
      assert.deepEqual([first?.action, first?.service.nodes[0]?.id], ['create', 'one']);
      model.addForeign({ id: 'two', name: 'unchecked', tags, isChecked: false });
      const second = (await events.next()).value;
      assert.deepEqual([second?.action, second?.service.nodes[0]?.id], ['create', 'two']);
      model.requests.length = 0;
      model.remove('one');
      const third = (await events.next()).value;
      assert.deepEqual([third?.action, third?.service.nodes[0]?.id], ['delete', 'one']);
      // What has a check that did not change is not read again.
      assert.ok(!model.requests.includes('GET /v1/health/service/checked'));
    }));

  test('a node without any check is listed as one that works, as go-micro does', () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      const tags = encodeTags(recordOf('unchecked', 'n'));
      model.addForeign({ id: 'one', name: 'unchecked', tags, isChecked: false });
      model.addForeign({ id: 'two', name: 'unchecked', tags, status: 'critical' });
      for (const found of [await registry.getService('unchecked'), await registry.listServices()]) {
        assert.deepEqual(
          found.flatMap(({ nodes }) => nodes.map(({ id }) => id)),
          ['one'],
        );
      }
      // Consul says that its machine is dead.
      model.failMachine();
      assert.deepEqual(await registry.getService('unchecked'), []);
    }));

  test('a server that is behind hides no node from a look-up or a watch, and brings none back', () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      await using writer = await openRegistry(`consul://127.0.0.1:${model.port}`);
      const [old, young] = [recordOf('moved', 'old'), recordOf('moved', 'young')];
      await writer.register(old, { ttlMs: 60_000 });
      const seen: string[] = [];
      const watching = (async () => {
        for await (const { action, service } of registry.watch('moved')) {
          seen.push(`${action} ${service.nodes[0]?.id}`);
        }
      })();
      await registry.listServices();
      model.fallBehind();
      await writer.register(young, { ttlMs: 60_000 });
      await until(
        () => seen.includes('create moved-young'),
        () => seen.join(),
      );
      await writer.deregister(old);
      await until(
        () => seen.includes('delete moved-old'),
        () => seen.join(),
      );
      for (const found of [await registry.getService('moved'), await registry.listServices()]) {
        assert.deepEqual(
          found.flatMap(({ nodes }) => nodes.map(({ id }) => id)),
          ['moved-young'],
        );
      }
      await registry.close();
      await watching;
    }));

  test("without a leader a look-up is REGISTRY_UNAVAILABLE, and not some server's old data", () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      model.fallBehind();
      await registry.register(recordOf('late', 'n'), { ttlMs: 60_000 });
      model.hasLeader = false;
      await assert.rejects(registry.getService('late'), { code: 'REGISTRY_UNAVAILABLE' });
      await assert.rejects(registry.listServices(), { code: 'REGISTRY_UNAVAILABLE' });
      model.hasLeader = true;
      assert.equal((await registry.getService('late')).length, 1);
    }));

  test('a watch reports the nodes of a machine that died, whose own checks stay as they were', () =>
    withModel(async (model) => {
      await using registry = await openRegistry(`consul://127.0.0.1:${model.port}`);
      await registry.register(recordOf('lost', 'n'), { ttlMs: 60_000 });
      const events = registry.watch('lost')[Symbol.asyncIterator]();
      // Its first read ends before this one.
      assert.equal((await registry.getService('lost')).length, 1);
      model.failMachine();
      const { value } = await events.next();
      assert.deepEqual([value?.action, value?.service.nodes[0]?.id], ['delete', 'lost-n']);
      assert.deepEqual(await registry.getService('lost'), []);
    }));

  test("go-micro's tags are read: zlib in hex, and the plain form of older programs", () => {
    const record = recordOf('tagged', 'n');
    // The tag that a Go program wrote for the version latest.
    const facts = decodeTags(['v-789cca492c492d2e01040000ffff08cc028e', 't={"protocol":"grpc"}']);
    assert.equal(facts?.version, 'latest');
    assert.deepEqual({ ...facts?.metadata }, { protocol: 'grpc' });
    const again = decodeTags(encodeTags(record));
    assert.deepEqual({ ...again?.metadata }, { protocol: 'mucp' });
    assert.equal(again?.version, record.version);
  });

  test('tags that are broken, or inflate to more than a record, hide nothing else', () => {
    const bomb = encodeTags({ ...recordOf('b', 'n'), version: 'x'.repeat(2 * 1024 * 1024) });
    assert.equal(decodeTags(bomb), null);
    const [version = ''] = encodeTags({ ...recordOf('b', 'n'), nodes: [] });
    const facts = decodeTags([version, 'e-00', 'e-zz', 't-78', 7, null, `e-${'0'.repeat(99)}`]);
    assert.deepEqual([facts?.version, facts?.endpoints.length], ['latest', 0]);
  });

  test('an agent that wants a token gets it, and a wrong one is PERMISSION_DENIED', () =>
    withModel(async (model) => {
      const record = recordOf('secured', 'n');
      await using right = consulRegistryFrom(`s%40cret@127.0.0.1:${model.port}`);
      await right.register(record, { ttlMs: 60_000 });
      await using wrong = consulRegistryFrom(`127.0.0.1:${model.port}`, { token: 'wrong' });
      await assert.rejects(wrong.getService('secured'), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'PERMISSION_DENIED');
        assert.ok(!error.message.includes('wrong'));
        return true;
      });
    }, 's@cret'));

  test('an agent that does not answer is REGISTRY_UNAVAILABLE within the limit', async () => {
    await using registry = new ConsulRegistry({ address: '127.0.0.1:1', timeoutMs: 300 });
    await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
  });

  test("a service that is no service of go-micro's is passed over", () =>
    withModel(async (model) => {
      model.addForeign({ id: 'db', name: 'postgres', tags: ['primary'] });
      model.addForeign({
        id: 'bad',
        name: 'bad',
        address: 'javascript:alert',
        tags: encodeTags(recordOf('bad', 'n')),
      });
      await using registry = consulRegistryFrom(`127.0.0.1:${model.port}`, quiet);
      assert.deepEqual(await registry.listServices(), []);
    }));

  test('addresses that cannot be meant are refused', () => {
    for (const bad of ['host:0', 'host:99999', 'a b', 'host:1/path', 't%zz@host', '[::1']) {
      assert.throws(() => consulRegistryFrom(bad), { code: 'INVALID_ARGUMENT' }, bad);
    }
  });
});

function recordOf(name: string, id: string): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id: `${name}-${id}`, address: '127.0.0.1:40001', metadata: { protocol: 'mucp' } }],
  };
}

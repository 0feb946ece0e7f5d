/**
 * The registry suite on a model of Eureka's API, and what only Eureka has: its names, deltas, leases.
 * With `EUREKA_URL` (host:port/path) the suite runs on that server too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { EurekaRegistry, eurekaRegistryFrom } from '../../src/registry/eureka/eureka.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { RegistryEvent, ServiceRecord } from '../../src/registry/registry.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { until } from '../helpers/until.ts';
import { EurekaModel } from './models/eureka-model.ts';

const runner = { describe, test, before, after };
const quiet = { onWarning: () => {}, pollMs: 30 };

registryConformance({
  name: 'eureka (a model of its API)',
  runner,
  factory: async () => {
    const model = new EurekaModel();
    await model.start();
    let foreign = 0;
    return {
      open: async () => eurekaRegistryFrom(model.url, quiet),
      kill: (registry) => registry.close(),
      stop: () => model.stop(),
      start: () => model.start(),
      empty: async () => model.empty(),
      writeForeign: async (service, bytes) => {
        const text = Buffer.from(bytes).toString('latin1');
        const metadata = { version: text, endpoints: text, metadata: text };
        model.put({ app: service, instanceId: `foreign-${foreign++}`, ipAddr: text, metadata });
      },
      shortestTtlMs: 1000,
      expirySlackMs: 1500,
      [Symbol.asyncDispose]: () => model[Symbol.asyncDispose](),
    };
  },
});

const real = process.env.EUREKA_URL;
if (real !== undefined) {
  registryConformance({
    name: 'eureka (EUREKA_URL)',
    runner,
    factory: async () => ({
      open: async () => eurekaRegistryFrom(real.replace(/^https?:\/\//, ''), quiet),
      [Symbol.asyncDispose]: async () => {},
    }),
  });
}

describe('eureka', () => {
  const withModel = async (body: (model: EurekaModel) => Promise<void>, credentials = '') => {
    await using model = new EurekaModel(credentials);
    await model.start();
    await body(model);
  };

  test('an instance as go-micro writes it is read: small letters, the port in its address', () =>
    withModel(async (model) => {
      model.put({
        app: 'go.users',
        hostName: '10.0.0.5:40001',
        ipAddr: '10.0.0.5:40001',
        port: { $: '40001', '@enabled': 'true' },
        metadata: {
          version: 'latest',
          instanceId: 'go.users-1',
          endpoints: '[]',
          metadata: '{"protocol":"mucp"}',
        },
      });
      await using registry = await openRegistry(`eureka://${model.url}`);
      const [found] = await registry.getService('go.users');
      assert.deepEqual(found?.nodes[0]?.id, 'go.users-1');
      assert.deepEqual(found?.nodes[0]?.address, '10.0.0.5:40001');
    }));

  test('instances without an id, as go-micro sends them, are as many to a watch as they are', () =>
    withModel(async (model) => {
      await using registry = eurekaRegistryFrom(model.url, quiet);
      const events = registry.watch('go.users')[Symbol.asyncIterator]();
      await registry.listServices();
      for (const port of [40001, 40002]) {
        const hostName = `10.0.0.5:${port}`;
        const metadata = { version: 'latest', instanceId: `go.users-${port}` };
        model.put({ app: 'go.users', instanceId: '', hostName, ipAddr: hostName, metadata });
      }
      const ids: (string | undefined)[] = [];
      for (let count = 0; count < 2; count++) {
        const { value } = await events.next();
        assert.equal(value?.action, 'create');
        ids.push(value?.service.nodes[0]?.id);
      }
      assert.deepEqual(ids.sort(), ['go.users-40001', 'go.users-40002']);
    }));

  test('in the form plain, host and port stand apart, and are read together', () =>
    withModel(async (model) => {
      await using registry = eurekaRegistryFrom(`${model.url}/eureka?form=plain`, quiet);
      await registry.register(recordOf('Plain', 'n'), { ttlMs: 60_000 });
      const [found] = await registry.getService('Plain');
      assert.deepEqual([found?.name, found?.nodes[0]?.address], ['Plain', '127.0.0.1:40001']);
    }));

  test('an instance that is not up, or of a program without a version, is passed over', () =>
    withModel(async (model) => {
      model.put({
        app: 'down',
        instanceId: 'd',
        ipAddr: '1.2.3.4:5',
        status: 'DOWN',
        metadata: { version: '1' },
      });
      model.put({ app: 'spring', instanceId: 's', ipAddr: '1.2.3.4', port: { $: 8080 } });
      await using registry = eurekaRegistryFrom(model.url, quiet);
      assert.deepEqual(await registry.listServices(), []);
    }));

  test('what a delta left out is found by its hash', () =>
    withModel(async (model) => {
      await using registry = eurekaRegistryFrom(model.url, quiet);
      const watch = registry.watch('missed')[Symbol.asyncIterator]();
      await registry.getService('missed');
      model.forgetsChanges = true;
      await using writer = eurekaRegistryFrom(model.url, quiet);
      await writer.register(recordOf('missed', 'n'), { ttlMs: 60_000 });
      const { value } = await watch.next();
      assert.deepEqual([value?.action, value?.service.name], ['create', 'missed']);
    }));

  /** What one instance is replaced by, while deltas leave it out: as many are there as before. */
  const replace = (model: EurekaModel, id: string) => {
    model.forgetsChanges = true;
    model.empty();
    const metadata = { version: 'latest', instanceId: id };
    model.put({ app: 'swapped', instanceId: id, ipAddr: '10.0.0.5:40001', metadata });
    model.forgetsChanges = false;
  };
  const nextId = async (events: AsyncIterator<RegistryEvent>) => {
    const { value } = await events.next();
    return `${value?.action} ${value?.service.nodes[0]?.id}`;
  };

  test('a process that was stopped for longer than Eureka keeps its changes reads everything', async () => {
    for (const clock of ['monotonic', 'now'] as const) {
      await withModel(async (model) => {
        let passedMs = 0;
        const scheduler = {
          ...systemScheduler,
          [clock]: () => systemScheduler[clock]() + passedMs,
        };
        replace(model, 'old');
        await using registry = eurekaRegistryFrom(model.url, { ...quiet, scheduler });
        const events = registry.watch('swapped')[Symbol.asyncIterator]();
        await registry.listServices();
        replace(model, 'new');
        const before = model.requests.length;
        const deltas = () => model.requests.slice(before).filter((each) => each.endsWith('delta'));
        await until(() => deltas().length >= 2);
        passedMs = 4 * 60_000;
        assert.deepEqual(
          [await nextId(events), await nextId(events)],
          ['delete old', 'create new'],
        );
      });
    }
  });

  test('a change that is in no delta, and leaves as many instances as before, is found in five minutes', () =>
    withModel(async (model) => {
      let passedMs = 0;
      const scheduler = {
        ...systemScheduler,
        monotonic: () => systemScheduler.monotonic() + passedMs,
        now: () => systemScheduler.now() + passedMs,
      };
      replace(model, 'old');
      await using registry = eurekaRegistryFrom(model.url, { ...quiet, scheduler });
      const events = registry.watch('swapped')[Symbol.asyncIterator]();
      await registry.listServices();
      replace(model, 'new');
      // Every delta is young: two are read within 20 s.
      for (; passedMs < 320_000; passedMs += 20_000) {
        const before = model.requests.length;
        await until(() => model.requests.length >= before + 2);
      }
      assert.deepEqual([await nextId(events), await nextId(events)], ['delete old', 'create new']);
    }));

  test('another server that answers is read as a whole: the two may disagree', () =>
    withModel((first) =>
      withModel(async (second) => {
        replace(first, 'old');
        replace(second, 'new');
        await using registry = eurekaRegistryFrom(`${first.url},${second.url}`, quiet);
        const events = registry.watch('swapped')[Symbol.asyncIterator]();
        await registry.listServices();
        await until(() => first.requests.some((each) => each.endsWith('delta')));
        await first.stop();
        assert.deepEqual(
          [await nextId(events), await nextId(events)],
          ['delete old', 'create new'],
        );
      }),
    ));

  test('a server that is down is passed over, and a password is not shown', () =>
    withModel(async (model) => {
      await using right = eurekaRegistryFrom(`u:s%40cret@127.0.0.1:1,${model.url}`, quiet);
      await right.register(recordOf('several', 'n'), { ttlMs: 60_000 });
      await using wrong = new EurekaRegistry({
        servers: [`http://${model.url}/eureka/v2`],
        username: 'u',
        password: 'wr0ng',
      });
      await assert.rejects(wrong.listServices(), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'AUTHENTICATION_FAILED');
        assert.ok(!error.message.includes('wr0ng'));
        return true;
      });
    }, 'u:s@cret'));

  test('addresses of Eureka that cannot be meant are refused', () => {
    for (const bad of ['host:0', 'a b', 'u:p%zz@host', '[::1', 'host?x=1', 'a,,b']) {
      assert.throws(() => eurekaRegistryFrom(bad), { code: 'INVALID_ARGUMENT' }, bad);
    }
    assert.throws(() => new EurekaRegistry({ pollMs: Number.NaN }), { code: 'INVALID_ARGUMENT' });
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

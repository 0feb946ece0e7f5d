/** Several registries as one: the suite, and what happens when one of them is down. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { RivuletError } from '../../src/errors.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { MultiRegistry } from '../../src/registry/multi.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { freePort } from '../helpers/free-port.ts';

registryConformance({
  name: 'several',
  runner: { describe, test, before, after },
  factory: async () => {
    const tables = [new NodeTable(systemScheduler), new NodeTable(systemScheduler)];
    return {
      open: async () =>
        new MultiRegistry(tables.map((table) => new MemoryRegistry(systemScheduler, table))),
      kill: (registry) => registry.close(),
      [Symbol.asyncDispose]: async () => {},
    };
  },
});

test('one registry that is down does not matter, and all that are down do', async () => {
  const down = `etcd://127.0.0.1:${await freePort()}`;
  await using registry = await openRegistry([down, 'memory:multi']);
  await registry.register(recordOf('n'), { ttlMs: 60_000 });
  assert.equal((await registry.getService('svc')).length, 1);
  await registry.deregister(recordOf('n'));
  await using none = await openRegistry(
    [down, `broker:rivulet://127.0.0.1:${await freePort()}`],
    {},
  );
  await assert.rejects(none.getService('svc'), { code: 'REGISTRY_UNAVAILABLE' });
  await assert.rejects(openRegistry(['memory', 'nonsense']), { code: 'UNKNOWN_SCHEME' });
  await assert.rejects(openRegistry([]), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(openRegistry('broker'), { code: 'INVALID_ARGUMENT' });
});

test('a node that left one registry and is in another is not reported as gone', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  await using both = new MultiRegistry([a, b]);
  await a.register(recordOf('old'), { ttlMs: 60_000 });
  await b.register(recordOf('old'), { ttlMs: 60_000 });
  const events = both.watch()[Symbol.asyncIterator]();
  await a.register(recordOf('new'), { ttlMs: 60_000 });
  await b.register(recordOf('new'), { ttlMs: 60_000 });
  await a.deregister(recordOf('old'));
  await a.deregister(recordOf('new'));
  await b.deregister(recordOf('new'));
  const seen: unknown[] = [];
  for (let count = 0; count < 2; count++) {
    const { value } = await events.next();
    seen.push([value?.action, value?.service.nodes[0]?.id]);
  }
  assert.deepEqual(seen, [
    ['create', 'new'],
    ['delete', 'new'],
  ]);
});

test('a record that one registry refuses is an error of the call', async () => {
  const refusing = Object.assign(new MemoryRegistry(), {
    register: () => Promise.reject(new RivuletError('INVALID_ARGUMENT', 'too long for it')),
  });
  await using both = new MultiRegistry([new MemoryRegistry(), refusing as Registry]);
  const registering = both.register(recordOf('n'), { ttlMs: 1000 });
  await assert.rejects(registering, { code: 'INVALID_ARGUMENT' });
});

function recordOf(id: string): ServiceRecord {
  return {
    name: 'svc',
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: {} }],
  };
}

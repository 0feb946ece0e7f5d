/** The registry suite on the memory registry, on the virtual clock, and on the static registry. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type RegistryFixture, registryConformance } from '../../src/conformance/registry/suite.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { parseStaticRecords, StaticRegistry } from '../../src/registry/static.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const runner = { describe, test, before, after };

registryConformance({ name: 'memory', runner, factory: async () => virtualMemory() });

registryConformance({
  name: 'static',
  runner,
  factory: async () => {
    const table = new NodeTable(systemScheduler);
    return {
      open: async () => new StaticRegistry([], systemScheduler, table),
      [Symbol.asyncDispose]: async () => {},
    };
  },
});

test('fixed nodes are found beside registered ones and cannot be deregistered', async () => {
  await using registry = new StaticRegistry(
    parseStaticRecords('users=10.0.0.5:40001,[::1]:40002;orders=10.0.0.7:40001'),
  );
  const [users] = await registry.getService('users');
  assert.deepEqual(
    users?.nodes.map(({ address }) => address),
    ['10.0.0.5:40001', '[::1]:40002'],
  );
  await registry.deregister(users as ServiceRecord);
  assert.equal((await registry.getService('users'))[0]?.nodes.length, 2);
  assert.deepEqual(
    (await registry.listServices()).map(({ name }) => name),
    ['users', 'orders'],
  );
  for (const bad of ['users', '=a:1', 'users=a', 'users=a:0', 'us ers=a:1']) {
    assert.throws(() => parseStaticRecords(bad), { code: 'INVALID_ARGUMENT' });
  }
});

function virtualMemory(): RegistryFixture {
  const scheduler = new VirtualScheduler();
  const table = new NodeTable(scheduler);
  return {
    open: async () => new MemoryRegistry(scheduler, table),
    kill: async () => {},
    shortestTtlMs: 1000,
    expirySlackMs: 1,
    advance: (ms) => scheduler.advance(ms),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The registry cache: one read, kept current by the watch, and an answer through an outage. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RivuletError } from '../../src/errors.ts';
import { RegistryCache } from '../../src/registry/cache.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

/** A memory registry that counts reads and can be unreachable. */
class CountingRegistry extends MemoryRegistry {
  reads = 0;
  down = false;
  delayed: Promise<void> | null = null;

  override async getService(name: string): Promise<ServiceRecord[]> {
    this.reads++;
    const answer = super.getService(name);
    if (this.delayed !== null) await this.delayed;
    if (this.down) throw new RivuletError('REGISTRY_UNAVAILABLE', 'down');
    return answer;
  }
}

function record(node: string, version = '1'): ServiceRecord {
  return {
    name: 's',
    version,
    metadata: {},
    endpoints: [],
    nodes: [{ id: `s-${node}`, address: '127.0.0.1:4000', metadata: {} }],
  };
}

const ids = (records: readonly ServiceRecord[]) =>
  records.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();

function world() {
  const scheduler = new VirtualScheduler();
  const registry = new CountingRegistry(scheduler);
  const errors: Error[] = [];
  const cache = new RegistryCache(registry, { scheduler, onError: (error) => errors.push(error) });
  return { scheduler, registry, cache, errors };
}

test('callers that ask at once share one read, and later ones read the cache', async () => {
  const { registry, cache } = world();
  await registry.register(record('a'), { ttlMs: 1e9 });
  const answers = await Promise.all([1, 2, 3].map(() => cache.getService('s')));
  assert.deepEqual(answers.map(ids), [['s-a'], ['s-a'], ['s-a']]);
  assert.deepEqual(ids(await cache.getService('s')), ['s-a']);
  assert.equal(registry.reads, 1);
  await cache.close();
});

test('a node that comes, changes its version or goes is seen without another read', async () => {
  const { registry, cache, scheduler } = world();
  await registry.register(record('a'), { ttlMs: 1e9 });
  await cache.getService('s');
  await registry.register(record('b'), { ttlMs: 1e9 });
  await registry.register(record('a', '2'), { ttlMs: 1e9 });
  await scheduler.settle();
  const found = await cache.getService('s');
  assert.deepEqual(
    found.map(({ version, nodes }) => [version, nodes.map(({ id }) => id)]),
    [
      ['1', ['s-b']],
      ['2', ['s-a']],
    ],
  );
  await registry.deregister(record('b'));
  await scheduler.settle();
  assert.deepEqual(ids(await cache.getService('s')), ['s-a']);
  assert.equal(registry.reads, 1);
  await cache.close();
});

test('an event during a read is not overwritten by the older answer', async () => {
  const { registry, cache, scheduler } = world();
  await registry.register(record('a'), { ttlMs: 1e9 });
  let release = () => {};
  registry.delayed = new Promise((resolve) => {
    release = resolve;
  });
  const answer = cache.getService('s');
  await scheduler.settle();
  await registry.register(record('b'), { ttlMs: 1e9 });
  await scheduler.settle();
  release();
  assert.deepEqual(ids(await answer), ['s-a', 's-b']);
  await cache.close();
});

test('an outage serves the last answer, and what was never read is REGISTRY_UNAVAILABLE', async () => {
  const { registry, cache, scheduler, errors } = world();
  await registry.register(record('a'), { ttlMs: 1e9 });
  await cache.getService('s');
  registry.down = true;
  await scheduler.advance(61_000);
  assert.deepEqual(ids(await cache.getService('s')), ['s-a']);
  await assert.rejects(cache.getService('other'), { code: 'REGISTRY_UNAVAILABLE', sent: 'no' });
  const { reads } = registry;
  await cache.getService('s');
  await assert.rejects(cache.getService('other'), { code: 'REGISTRY_UNAVAILABLE' });
  assert.equal(registry.reads, reads, 'the registry is left alone for five seconds');
  assert.equal(errors.length, 1, 'one outage is reported once');
  registry.down = false;
  await scheduler.advance(5001);
  assert.deepEqual(await cache.getService('other'), []);
  await cache.close();
});

test('the cache keeps a bounded number of services and lets the one asked longest ago go', async () => {
  const scheduler = new VirtualScheduler();
  const registry = new CountingRegistry(scheduler);
  const cache = new RegistryCache(registry, { scheduler, maxServices: 2 });
  for (const name of ['a', 'b', 'a', 'c', 'a', 'b']) await cache.getService(name);
  assert.equal(registry.reads, 4, 'a, b, c, and b again');
  await cache.close();
});

/** Several registries as one: the suite, and what happens when one of them is down. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { RivuletError } from '../../src/errors.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { MultiRegistry } from '../../src/registry/multi.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { Registry, ServiceNode, ServiceRecord } from '../../src/registry/registry.ts';
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

test('while one registry is down its nodes go on serving, and no answer is empty for that reason', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  await a.register(recordOf('in-a'), { ttlMs: 60_000 });
  await b.register(recordOf('in-b'), { ttlMs: 60_000 });
  await using both = new MultiRegistry([a, b]);
  const ids = async () => {
    const found = await both.getService('svc');
    return found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
  };
  assert.deepEqual(await ids(), ['in-a', 'in-b']);
  const up = { getService: a.getService.bind(a), listServices: a.listServices.bind(a) };
  const isDown = () => Promise.reject(new RivuletError('REGISTRY_UNAVAILABLE', 'it is down'));
  Object.assign(a, { getService: isDown, listServices: isDown });
  assert.deepEqual(await ids(), ['in-a', 'in-b']);
  await b.deregister(recordOf('in-b'));
  assert.deepEqual(await ids(), ['in-a']);
  // Whether it has another service cannot be known: that is no empty list.
  await assert.rejects(both.getService('other'), { code: 'REGISTRY_UNAVAILABLE' });
  await assert.rejects(both.listServices(), { code: 'REGISTRY_UNAVAILABLE' });
  Object.assign(a, up);
  assert.deepEqual(await both.getService('other'), []);
  await a.deregister(recordOf('in-a'));
  assert.deepEqual(await ids(), []);
  // What it answered last was that it has none.
  Object.assign(a, { getService: isDown });
  await assert.rejects(ids(), { code: 'REGISTRY_UNAVAILABLE' });
});

test('a registry that answers has the word on what it has and what it has lost, whatever one said that is down', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  await using both = new MultiRegistry([a, b]);
  const shown = async (asked: Promise<ServiceRecord[]>) =>
    (await asked).flatMap(({ version, nodes }) =>
      nodes.map(({ id, address }) => `${id} ${address} v${version}`),
    );
  for (const id of ['gone', 'moved', 'kept']) await both.register(recordOf(id), { ttlMs: 60_000 });
  await a.register(recordOf('only-a'), { ttlMs: 60_000 });
  assert.equal((await shown(both.getService('svc'))).length, 4);
  assert.equal((await shown(both.listServices())).length, 4);
  const isDown = () => Promise.reject(new RivuletError('REGISTRY_UNAVAILABLE', 'it is down'));
  Object.assign(a, { getService: isDown, listServices: isDown, register: isDown });
  await b.deregister(recordOf('gone'));
  const [record] = await b.getService('svc');
  const { nodes, ...service } = record as ServiceRecord;
  const [moved] = nodes.filter(({ id }) => id === 'moved');
  const elsewhere = { ...(moved as ServiceNode), address: '10.0.0.9:9' };
  await b.register({ ...service, version: '2', nodes: [elsewhere] }, { ttlMs: 60_000 });
  for (const asked of [() => both.getService('svc'), () => both.listServices()]) {
    const found = (await shown(asked())).map((line) => line.split(' ')[0]).sort();
    assert.deepEqual([...new Set(found)], ['kept', 'moved', 'only-a']);
    assert.ok((await shown(asked())).includes('moved 10.0.0.9:9 v2'));
  }
});

test('names that no registry knows push no last answer out', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  await using both = new MultiRegistry([a, b]);
  await a.register(recordOf('in-a'), { ttlMs: 60_000 });
  assert.equal((await both.getService('svc')).length, 1);
  for (let number = 0; number < 10_001; number++) await both.getService(`unknown${number}`);
  const isDown = () => Promise.reject(new RivuletError('REGISTRY_UNAVAILABLE', 'it is down'));
  Object.assign(a, { getService: isDown });
  assert.equal((await both.getService('svc')).length, 1);
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

test('a registry that does not answer delays no event of another, but the end of a node that it may have', async () => {
  const [a, silent] = [new MemoryRegistry(), new MemoryRegistry()];
  let answer = (_records: ServiceRecord[]) => {};
  const isAsked = new Promise<ServiceRecord[]>((resolve) => {
    answer = resolve;
  });
  silent.listServices = () => isAsked;
  silent.getService = () => isAsked;
  await using both = new MultiRegistry([a, silent]);
  const ids = ['one', 'two', 'three'];
  for (const id of ids) await a.register(recordOf(id), { ttlMs: 60_000 });
  const events = both.watch()[Symbol.asyncIterator]();
  for (const id of ids) await a.deregister(recordOf(id));
  await a.register(recordOf('new'), { ttlMs: 60_000 });
  const told = async () => {
    const { value } = await events.next();
    return [value?.action, value?.service.nodes[0]?.id];
  };
  assert.deepEqual(await told(), ['create', 'new']);
  // It came back before anybody was told that it is gone.
  await a.register(recordOf('one'), { ttlMs: 60_000 });
  answer([recordOf('two')]);
  assert.deepEqual(await told(), ['delete', 'three']);
  await a.deregister(recordOf('new'));
  assert.deepEqual(await told(), ['delete', 'new']);
});

test('a node of a registry that is down now stays, where it was read before', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  for (const each of [a, b]) await each.register(recordOf('both'), { ttlMs: 60_000 });
  await using registry = new MultiRegistry([a, b]);
  const events = registry.watch()[Symbol.asyncIterator]();
  await setImmediate();
  const isDown = () => Promise.reject(new RivuletError('REGISTRY_UNAVAILABLE', 'it is down'));
  b.getService = isDown;
  b.listServices = isDown;
  await a.deregister(recordOf('both'));
  await a.register(recordOf('new'), { ttlMs: 60_000 });
  const { value } = await events.next();
  assert.deepEqual([value?.action, value?.service.nodes[0]?.id], ['create', 'new']);
});

test('a watch of one registry that fails ends the watches, and the next one works', async () => {
  const [a, b] = [new MemoryRegistry(), new MemoryRegistry()];
  const watch = b.watch.bind(b);
  let watches = 0;
  b.watch = (name, options) => {
    if (++watches > 1) return watch(name, options);
    return {
      async *[Symbol.asyncIterator]() {
        yield { action: 'create', service: recordOf('before') };
        throw new RivuletError('LIMIT_EXCEEDED', 'a watcher left events unread');
      },
    };
  };
  await using both = new MultiRegistry([a, b]);
  const first = both.watch()[Symbol.asyncIterator]();
  assert.equal((await first.next()).value?.service.nodes[0]?.id, 'before');
  await assert.rejects(first.next(), { code: 'LIMIT_EXCEEDED' });
  const second = both.watch()[Symbol.asyncIterator]();
  for (const each of [a, b]) {
    const id = each === a ? 'in-a' : 'in-b';
    await each.register(recordOf(id), { ttlMs: 60_000 });
    assert.equal((await second.next()).value?.service.nodes[0]?.id, id);
  }
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

/** The selector: fair strategies, filters, nodes that fail and come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { filterEndpoint, filterLabel, filterVersion } from '../../src/selector/filters.ts';
import { RegistrySelector } from '../../src/selector/registry-selector.ts';
import type { Strategy } from '../../src/selector/selector.ts';
import {
  consistentHash,
  leastLoaded,
  random,
  roundRobin,
  STRATEGY_NAMES,
  strategyByName,
} from '../../src/selector/strategies.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';

async function world(strategy: Strategy, nodes = 10, seed = 1) {
  const scheduler = new VirtualScheduler(seed);
  const registry = new MemoryRegistry(scheduler);
  for (let index = 0; index < nodes; index++) {
    await registry.register(
      {
        name: 's',
        version: index % 2 === 0 ? '1' : '2',
        metadata: { team: 'orders' },
        endpoints: [
          {
            name: index % 2 === 0 ? 'A.Old' : 'A.New',
            request: null,
            response: null,
            metadata: {},
          },
        ],
        nodes: [
          {
            id: `s-${index}`,
            address: `127.0.0.1:${4000 + index}`,
            metadata: { zone: `${index % 3}` },
          },
        ],
      },
      { ttlMs: 1e9 },
    );
  }
  return { scheduler, registry, selector: new RegistrySelector(registry, { strategy, scheduler }) };
}

async function pick(selector: RegistrySelector, options = {}) {
  return (await selector.select('s', options))();
}

for (const strategy of [random, leastLoaded, roundRobin()]) {
  test(`${strategy.name}: every node gets its share, within three standard deviations`, async () => {
    const { selector } = await world(strategy);
    const counts = new Map<string, number>();
    const calls = 10_000;
    for (let call = 0; call < calls; call++) {
      const node = await pick(selector);
      counts.set(node.id, (counts.get(node.id) ?? 0) + 1);
      selector.mark('s', node, { result: 'ok' });
    }
    const deviation = Math.sqrt(calls * 0.1 * 0.9);
    assert.equal(counts.size, 10);
    for (const [id, count] of counts) {
      assert.ok(Math.abs(count - calls / 10) <= 3 * deviation, `${id}: ${count}`);
    }
    await selector.close();
  });
}

test('round robin goes on from call to call, which go-micro does not', async () => {
  const { selector } = await world(roundRobin(), 4);
  const order: string[] = [];
  for (let call = 0; call < 8; call++) order.push((await pick(selector)).id);
  assert.equal(new Set(order.slice(0, 4)).size, 4);
  assert.deepEqual(order.slice(0, 4), order.slice(4));
  await selector.close();
});

test('least loaded gives a slow node fewer calls than the others', async () => {
  const { selector } = await world(leastLoaded, 4);
  let slow = 0;
  for (let call = 0; call < 1000; call++) {
    const node = await pick(selector);
    // The slow node answers none of its calls.
    if (node.id === 's-0') slow++;
    else selector.mark('s', node, { result: 'ok' });
  }
  assert.ok(slow <= 5, `${slow} calls went to the node that answers none`);
  await selector.close();
});

test('the consistent hash keeps a key on its node and moves about 1/n when one leaves', async () => {
  const { selector, registry, scheduler } = await world(consistentHash, 10);
  const keys = Array.from({ length: 2000 }, (_, index) => `user-${index}`);
  const place = async () =>
    new Map(
      await Promise.all(
        keys.map(async (key) => [key, (await pick(selector, { key })).id] as const),
      ),
    );
  const before = await place();
  assert.deepEqual(await place(), before);
  const [gone] = (await registry.getService('s')).filter(({ nodes }) =>
    nodes.some(({ id }) => id === 's-3'),
  );
  await registry.deregister({ ...gone!, nodes: gone!.nodes.filter(({ id }) => id === 's-3') });
  await scheduler.settle();
  const after = await place();
  for (const key of keys)
    if (before.get(key) !== 's-3') assert.equal(after.get(key), before.get(key));
  const share = [...before.values()].filter((id) => id === 's-3').length;
  assert.ok(share > 120 && share < 290, `${share} of 2000 keys were on one of ten nodes`);
  await selector.close();
});

test('filters by version, label and endpoint leave the nodes that fit, or say which versions there are', async () => {
  const { selector } = await world(random);
  for (let call = 0; call < 50; call++) {
    assert.equal(
      Number((await pick(selector, { filters: [filterVersion('2')] })).id.slice(2)) % 2,
      1,
    );
    assert.equal(
      (await pick(selector, { filters: [filterLabel('zone', '1')] })).metadata.zone,
      '1',
    );
    assert.equal(
      Number((await pick(selector, { filters: [filterEndpoint('A.Old')] })).id.slice(2)) % 2,
      0,
    );
  }
  assert.ok(await pick(selector, { filters: [filterLabel('team', 'orders')] }));
  await assert.rejects(pick(selector, { filters: [filterVersion('9')] }), {
    code: 'UNAVAILABLE',
    sent: 'no',
    message: /1, 2/,
  });
  await assert.rejects(selector.select('other'), { code: 'SERVICE_NOT_FOUND', sent: 'no' });
  await selector.close();
});

test('a node that cannot be reached is passed over, probed once, and back when it answers', async () => {
  const { selector, scheduler } = await world(random, 2);
  const dead = 's-0';
  const call = async () => {
    const node = await pick(selector);
    selector.mark('s', node, { result: node.id === dead ? 'unreachable' : 'ok' });
    return node.id;
  };
  await until(async () => (await call()) === dead);
  for (let count = 0; count < 50; count++) assert.equal(await call(), 's-1');
  await scheduler.advance(1001);
  await until(async () => (await call()) === dead);
  await scheduler.advance(1001);
  // The second failure doubled the wait.
  for (let count = 0; count < 50; count++) assert.equal(await call(), 's-1');
  await scheduler.advance(1000);
  for (;;) {
    const node = await pick(selector);
    selector.mark('s', node, { result: 'ok' });
    if (node.id === dead) break;
  }
  const later = new Set<string>();
  for (let count = 0; count < 50; count++) {
    const node = await pick(selector);
    later.add(node.id);
    selector.mark('s', node, { result: 'ok' });
  }
  assert.equal(later.size, 2);
  await selector.close();
});

test('one slow call passes no node over; three in a row do', async () => {
  const { selector } = await world(random, 2);
  const seen = async () => {
    const ids = new Set<string>();
    for (let count = 0; count < 50; count++) {
      const node = await pick(selector);
      ids.add(node.id);
      // An answer of the other node only: it must not clear the slow one.
      if (node.id === 's-1') selector.mark('s', node, { result: 'ok' });
    }
    return ids.size;
  };
  const slow = { id: 's-0', address: '127.0.0.1:4000', metadata: {} };
  await until(async () => (await pick(selector)).id === 's-0');
  selector.mark('s', slow, { result: 'timeout' });
  assert.equal(await seen(), 2);
  selector.mark('s', slow, { result: 'timeout' });
  selector.mark('s', slow, { result: 'timeout' });
  assert.equal(await seen(), 1);
  selector.reset('s');
  assert.equal(await seen(), 2);
  await selector.close();
});

test('an attempt goes to another node than the last, and when all fail every node is tried', async () => {
  const { selector } = await world(random, 3);
  const next = await selector.select('s');
  const first = [next(), next(), next()];
  assert.equal(new Set(first.map(({ id }) => id)).size, 3);
  for (const node of first) selector.mark('s', node, { result: 'unreachable' });
  assert.ok(await pick(selector));
  await selector.close();
});

test('every strategy has a name, and an unknown name is none', () => {
  for (const name of STRATEGY_NAMES) assert.equal(strategyByName(name)?.name, name);
  assert.equal(strategyByName('best'), null);
});

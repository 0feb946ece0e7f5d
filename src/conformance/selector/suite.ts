/**
 * The suite that says which selectors conform: filters, fair shares, nodes that fail and come back.
 *
 * Give it a test runner and a factory of fixtures. A fixture opens a selector over a registry that the
 * suite fills; where it has a virtual clock, `advance` lets time pass without a wait.
 */
import assert from 'node:assert/strict';
import { RivuletError } from '../../errors.ts';
import type { Registry, ServiceNode, ServiceRecord } from '../../registry/registry.ts';
import type { Outcome, SelectOptions, Selector } from '../../selector/selector.ts';
import { type CaseSetup, type FixtureCase, registerCases } from '../register-cases.ts';

export interface SelectorFixture extends AsyncDisposable {
  readonly selector: Selector;
  /** What the selector reads. */
  readonly registry: Registry;
  /** Lets time pass and what is due happen. */
  advance(ms: number): Promise<void>;
  /** Its strategy keeps a key on its node. */
  readonly keepsKeys?: true;
  /** Its strategy spreads calls evenly. */
  readonly isFair?: true;
}

const SERVICE = 'conformance.selected';
const OK: Outcome = { result: 'ok' };
const LOST: Outcome = { result: 'unreachable' };
/** Longer than any selector passes a node over after one failure. */
const LONG_MS = 60_000;

export const selectorCases: readonly FixtureCase<SelectorFixture>[] = [
  {
    name: 'a service without nodes is SERVICE_NOT_FOUND',
    async run({ selector }) {
      await assert.rejects(pick(selector), isError('SERVICE_NOT_FOUND'));
    },
  },
  {
    name: 'every node gets its share, within four standard deviations',
    uses: ['isFair'],
    async run({ selector, registry }) {
      await register(registry, 5);
      const calls = 2000;
      const counts = await countCalls(selector, calls);
      const deviation = Math.sqrt(calls * 0.2 * 0.8);
      for (const [id, count] of counts) {
        assert.ok(Math.abs(count - calls / 5) <= 4 * deviation, `${id} got ${count} of ${calls}`);
      }
      assert.equal(counts.size, 5);
    },
  },
  {
    name: 'the next attempt of a call goes to another node while there is one',
    async run({ selector, registry }) {
      await register(registry, 4);
      for (let call = 0; call < 20; call++) {
        const next = await selector.select(SERVICE);
        const nodes = Array.from({ length: 4 }, () => next());
        for (const node of nodes) selector.mark(SERVICE, node, OK);
        assert.equal(new Set(nodes.map(({ id }) => id)).size, 4);
        selector.mark(SERVICE, next(), OK);
      }
    },
  },
  {
    name: 'a node that could not be reached is passed over, and comes back',
    async run({ selector, registry, advance }) {
      await register(registry, 3);
      const bad = await pick(selector);
      selector.mark(SERVICE, bad, LOST);
      const without = await countCalls(selector, 60);
      assert.equal(without.get(bad.id), undefined, 'it was chosen at once');
      await advance(LONG_MS);
      const again = await countCalls(selector, 200);
      assert.ok((again.get(bad.id) ?? 0) > 0, 'it was never chosen again');
    },
  },
  {
    name: 'when every node is passed over, all are tried again',
    async run({ selector, registry }) {
      await register(registry, 2);
      for (let call = 0; call < 6; call++) selector.mark(SERVICE, await pick(selector), LOST);
      const node = await pick(selector);
      selector.mark(SERVICE, node, OK);
      assert.ok(node.id.startsWith(SERVICE));
    },
  },
  {
    name: 'an outcome that says nothing of the node changes nothing',
    async run({ selector, registry }) {
      await register(registry, 3);
      selector.mark(SERVICE, await pick(selector), { result: 'none' });
      assert.equal((await countCalls(selector, 100)).size, 3);
    },
  },
  {
    name: 'filters leave the nodes that fit, and UNAVAILABLE where they leave none',
    async run({ selector, registry }) {
      await register(registry, 4);
      const only = (id: string): SelectOptions => ({
        filters: [
          (records) =>
            records.map((record) => ({
              ...record,
              nodes: record.nodes.filter((node) => node.id === id),
            })),
        ],
      });
      for (let call = 0; call < 20; call++) {
        const node = await pick(selector, only(`${SERVICE}-2`));
        selector.mark(SERVICE, node, OK);
        assert.equal(node.id, `${SERVICE}-2`);
      }
      await assert.rejects(pick(selector, only('none')), isError('UNAVAILABLE'));
    },
  },
  {
    name: 'a node that registers gets calls, and one that leaves gets none',
    async run({ selector, registry, advance }) {
      await register(registry, 2);
      assert.equal((await countCalls(selector, 50)).size, 2);
      await registry.register(record(2), { ttlMs: 1e9 });
      await registry.deregister(record(0));
      await advance(0);
      const after = await countCalls(selector, 200);
      assert.deepEqual([...after.keys()].sort(), [`${SERVICE}-1`, `${SERVICE}-2`]);
    },
  },
  {
    name: 'a key stays on its node',
    uses: ['keepsKeys'],
    async run({ selector, registry }) {
      await register(registry, 5);
      for (let user = 0; user < 20; user++) {
        const nodes = new Set<string>();
        for (let call = 0; call < 10; call++) {
          const node = await pick(selector, { key: `user-${user}` });
          selector.mark(SERVICE, node, OK);
          nodes.add(node.id);
        }
        assert.equal(nodes.size, 1);
      }
    },
  },
  {
    name: 'what it selects at once is among the same nodes, and marked alike',
    async run({ selector, registry }) {
      await register(registry, 3);
      if (selector.selectNow === undefined) return;
      selector.mark(SERVICE, await pick(selector), OK);
      const bad = await pick(selector);
      selector.mark(SERVICE, bad, LOST);
      for (let call = 0; call < 60; call++) {
        const node = selector.selectNow(SERVICE)?.();
        assert.ok(node !== undefined, 'the nodes were read just now');
        selector.mark(SERVICE, node, OK);
        assert.notEqual(node.id, bad.id);
      }
    },
  },
];

export function selectorConformance(setup: CaseSetup<SelectorFixture>): void {
  registerCases({ ...setup, name: `${setup.name} selector` }, selectorCases);
}

async function pick(selector: Selector, options?: SelectOptions): Promise<ServiceNode> {
  return (await selector.select(SERVICE, options))();
}

/** How many of the calls, all of them answered, went to each node. */
async function countCalls(selector: Selector, calls: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (let call = 0; call < calls; call++) {
    const node = await pick(selector);
    counts.set(node.id, (counts.get(node.id) ?? 0) + 1);
    selector.mark(SERVICE, node, OK);
  }
  return counts;
}

async function register(registry: Registry, nodes: number): Promise<void> {
  for (let n = 0; n < nodes; n++) await registry.register(record(n), { ttlMs: 1e9 });
}

function record(n: number): ServiceRecord {
  return {
    name: SERVICE,
    version: '1',
    metadata: {},
    endpoints: [],
    nodes: [{ id: `${SERVICE}-${n}`, address: `127.0.0.1:${4000 + n}`, metadata: {} }],
  };
}

function isError(code: string) {
  return (error: unknown) => {
    assert.ok(error instanceof RivuletError, `${String(error)} is no RivuletError`);
    assert.equal(error.code, code);
    return true;
  };
}

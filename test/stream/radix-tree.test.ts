/**
 * The radix tree against a sorted list, with keys made to meet in every way.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RadixLeaf, RadixTree } from '../../src/stream/radix-tree.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { fc } from '../helpers/property.ts';

function leafOf(id: StreamId): RadixLeaf {
  return { key0: id.msHi | 0, key1: id.msLo | 0, key2: id.seqHi | 0, key3: id.seqLo | 0 };
}

function keyOf(id: StreamId): string {
  const bytes = Buffer.alloc(16);
  id.toKey(bytes);
  return bytes.toString('latin1');
}

function keyOfLeaf(leaf: RadixLeaf | undefined): string | undefined {
  if (leaf === undefined) return undefined;
  return keyOf(new StreamId(leaf.key0 >>> 0, leaf.key1 >>> 0, leaf.key2 >>> 0, leaf.key3 >>> 0));
}

/** rax's nodes for these sorted keys, from its rules: runs, branchings, leaves. */
function raxNodes(keys: readonly string[], depth = 0): number {
  if (keys.length === 0) return 1;
  let run = depth;
  while (run < 16 && keys.every((key) => key[run] === keys[0][run])) run++;
  const here = (run > depth ? 1 : 0) + 1;
  if (run === 16) return here;
  const children = new Map<string, string[]>();
  for (const key of keys) {
    const group = children.get(key[run]);
    if (group === undefined) children.set(key[run], [key]);
    else group.push(key);
  }
  let nodes = here;
  for (const group of children.values()) nodes += raxNodes(group, run + 1);
  return nodes;
}

// Few distinct values in every quarter, so that keys share prefixes of every length.
const quarter = fc.oneof(
  fc.constantFrom(0, 1, 255, 256, 0x0100_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const anyId = fc
  .tuple(quarter, quarter, quarter, quarter)
  .map(([a, b, c, d]) => new StreamId(a, b, c, d));
const nearId = fc
  .tuple(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 3 }))
  .map(([ms, seq]) => StreamId.of(1_700_000_000_000 + ms, seq));

// One byte apart, in any order: branchings of up to 256 children, which grow in their middle.
const siblingId = fc
  .integer({ min: 0, max: 255 })
  .map((seq) => StreamId.of(1_700_000_000_000, seq));

for (const [name, id, least] of [
  ['ids of any shape', anyId, 0],
  ['ids of one moment', nearId, 0],
  ['siblings of one branching', siblingId, 120],
] as const) {
  test(`finds, seeks both ways, inserts and removes as a sorted list does: ${name}`, () => {
    const step = fc.record({ insert: fc.boolean(), id });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: least, maxLength: Math.max(120, least * 2) }),
        fc.array(id, { maxLength: 10 }),
        (steps, probes) => {
          const tree = new RadixTree<RadixLeaf>();
          let keys: string[] = [];
          for (const { insert, id } of steps) {
            const key = keyOf(id);
            const known = keys.includes(key);
            if (insert) {
              assert.equal(tree.insert(leafOf(id)), !known);
              if (!known) keys = [...keys, key].sort();
            } else {
              assert.equal(keyOfLeaf(tree.remove(id)), known ? key : undefined);
              keys = keys.filter((other) => other !== key);
            }
            assert.equal(tree.size, keys.length);
            assert.equal(tree.nodeCount, raxNodes(keys));
          }
          assert.deepEqual(Array.from(tree.leaves(), keyOfLeaf), keys);
          assert.equal(keyOfLeaf(tree.first()), keys[0]);
          assert.equal(keyOfLeaf(tree.last()), keys.at(-1));
          for (const probe of [...probes, ...steps.map((step) => step.id)]) {
            const key = keyOf(probe);
            assert.equal(
              keyOfLeaf(tree.find(probe)),
              keys.find((other) => other === key),
            );
            assert.equal(
              keyOfLeaf(tree.floor(probe)),
              keys.findLast((other) => other <= key),
            );
            assert.equal(
              keyOfLeaf(tree.lower(probe)),
              keys.findLast((other) => other < key),
            );
            assert.equal(
              keyOfLeaf(tree.ceiling(probe)),
              keys.find((other) => other >= key),
            );
            assert.equal(
              keyOfLeaf(tree.higher(probe)),
              keys.find((other) => other > key),
            );
          }
        },
      ),
      { numRuns: least > 0 ? 40 : 300 },
    );
  });
}

test('an empty tree has the one node of an empty rax and finds nothing', () => {
  const tree = new RadixTree<RadixLeaf>();
  assert.equal(tree.nodeCount, 1);
  assert.equal(tree.first(), undefined);
  assert.equal(tree.last(), undefined);
  assert.equal(tree.floor(StreamId.max()), undefined);
  assert.equal(tree.higher(StreamId.min()), undefined);
  assert.equal(tree.remove(StreamId.min()), undefined);
  assert.deepEqual([...tree.leaves()], []);
});

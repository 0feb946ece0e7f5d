/**
 * Spans of a trace as a tree: each behind what caused it, whatever their parents say.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { spanTree } from '../../src/console/journey/span-rows.ts';
import type { FoundSpan } from '../../src/console/journey/span-table.ts';

function span(id: string, parent: string, at: number): FoundSpan {
  const found = { trace: 't', id, parent, kind: 'call', name: id, at, ms: 1, error: null } as const;
  return { span: found, service: 's', node: 'n' } as FoundSpan;
}

const shape = (spans: readonly FoundSpan[]) =>
  spanTree(spans).map(({ spanId, depth }) => `${'.'.repeat(depth)}${spanId}`);

test('a span follows its parent, though an unrelated one began in between', () => {
  const spans = [span('a', '', 1), span('b', '', 2), span('a1', 'a', 3), span('b1', 'b', 2.5)];
  assert.deepEqual(shape(spans), ['a', '.a1', 'b', '.b1']);
});

test('children are in the order of their begins, before the next child of their parent', () => {
  const spans = [span('c2', 'p', 5), span('g', 'c1', 9), span('c1', 'p', 3), span('p', '', 1)];
  assert.deepEqual(shape(spans), ['p', '.c1', '..g', '.c2']);
});

test('a child whose clock is behind its parent still follows it', () => {
  assert.deepEqual(shape([span('child', 'parent', 1), span('parent', '', 100)]), [
    'parent',
    '.child',
  ]);
});

test('a span whose parent is not recorded is a root', () => {
  assert.deepEqual(shape([span('a', 'gone', 2), span('b', '', 1)]), ['b', 'a']);
});

test('parents in a circle, or a span that is its own parent, are shown once each', () => {
  const circle = [span('a', 'c', 1), span('b', 'a', 2), span('c', 'b', 3), span('x', 'x', 4)];
  assert.deepEqual(shape(circle), ['a', '.b', '..c', 'x']);
});

test('a chain of 20 000 spans is a tree, not an overflow', () => {
  const spans = Array.from({ length: 20_000 }, (_, n) =>
    span(`${n}`, n === 0 ? '' : `${n - 1}`, n),
  );
  assert.equal(spanTree(spans).at(-1)!.depth, 19_999);
});

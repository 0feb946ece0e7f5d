/** Misspelt names: which known one is meant, and where none is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearestName } from '../../src/util/nearest-name.ts';

test('the nearest name is offered only when it is near', () => {
  assert.equal(nearestName('maxmemroy', ['maxmemory', 'port'], 1), 'maxmemory');
  assert.equal(nearestName('Serve', ['server', 'repair']), 'server');
  assert.equal(nearestName('zzzzzz', ['port', 'bind'], 2), null);
  assert.equal(nearestName('x'.repeat(101), ['x'.repeat(100)]), null);
});

test('two letters that are swapped count once, three errors count thrice', () => {
  assert.equal(nearestName('prot', ['port'], 1), 'port');
  assert.equal(nearestName('concurency', ['concurrency'], 1), 'concurrency');
  assert.equal(nearestName('abcdef', ['xyzdef'], 2), null);
});

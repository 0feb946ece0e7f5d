/** The waits between failures: how they grow, their bound, their jitter. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoffMs } from '../../src/util/time/backoff.ts';

test('waits grow to their bound, with jitter below', () => {
  const rule = { minMs: 10, maxMs: 100, factor: 3, jitter: false };
  assert.deepEqual(
    [0, 1, 2, 3, 4, 10].map((failures) => backoffMs(rule, failures, 0)),
    [10, 10, 30, 90, 100, 100],
  );
  const jittered = { ...rule, jitter: true };
  assert.deepEqual(
    [0, 0.5, 0.999].map((fraction) => backoffMs(jittered, 10, fraction)),
    [50, 75, 100],
  );
});

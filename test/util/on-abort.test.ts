/** One signal of several, for work that ends before they do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstAbort } from '../../src/util/time/on-abort.ts';

test('the first of several signals aborts with its reason, until the work has ended', () => {
  const [one, two] = [new AbortController(), new AbortController()];
  const first = firstAbort(one.signal, two.signal);
  const ended = firstAbort(one.signal, two.signal);
  ended.end();
  two.abort('the second');
  one.abort('the first');
  assert.equal(first.signal.reason, 'the second');
  assert.equal(ended.signal.aborted, false);
  assert.equal(firstAbort(one.signal).signal.reason, 'the first');
});

test('a signal that lives keeps nothing of the work under it that has ended', async (context) => {
  const { gc } = globalThis;
  if (gc === undefined) return context.skip('needs --expose-gc');
  const living = new AbortController();
  const workMany = () => {
    for (let count = 0; count < 100_000; count++) {
      firstAbort(new AbortController().signal, living.signal).end();
    }
  };
  const heapUsed = async () => {
    await new Promise(setImmediate);
    gc();
    return process.memoryUsage().heapUsed;
  };
  workMany();
  const before = await heapUsed();
  workMany();
  const grown = (await heapUsed()) - before;
  // AbortSignal.any of Node 20 leaves more than 5 MB.
  assert.ok(grown < 2_500_000, `${grown} bytes are kept`);
});

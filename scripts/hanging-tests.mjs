/**
 * Names the test that hangs: preloaded into every test file by `--import`.
 *
 * The limit of `node --test` counts per file: it ends a file that hangs without a word of which test it
 * was. Here a test, or what runs between two tests, that takes longer than its limit is named on standard
 * error and in the file RIVULET_HANGING, and its test file ends, so that the others run.
 * Invariant: what is named did not end. Cost: one timer for each test.
 */
import { appendFileSync } from 'node:fs';
import { afterEach, beforeEach } from 'node:test';
import { isMainThread } from 'node:worker_threads';

const limitMs = Number(process.env.RIVULET_TEST_LIMIT_MS ?? 300_000);
const file = process.argv[1] ?? '';
const running = new Map();
/** In place of a test: hooks run before, between and after them. */
const BETWEEN = { name: 'before its first test, or in a hook' };

// Children and workers of a test inherit the preload.
if (isMainThread && file.endsWith('.test.js') && process.env.NODE_TEST_CONTEXT !== undefined) {
  // As they are now: a test may play the time.
  const { setTimeout, clearTimeout } = globalThis;
  const begin = (test) => {
    const timer = setTimeout(() => end(test.name), limitMs);
    timer.unref();
    running.set(test, timer);
  };
  const isOver = (test) => {
    clearTimeout(running.get(test));
    running.delete(test);
  };
  begin(BETWEEN);
  beforeEach((test) => {
    isOver(BETWEEN);
    begin(test);
    // For a test that skips itself no hook runs at its end.
    const { skip } = test;
    test.skip = (reason) => {
      isOver(test);
      if (running.size === 0) begin(BETWEEN);
      skip.call(test, reason);
    };
  });
  afterEach((test) => {
    isOver(test);
    if (running.size === 0) begin(BETWEEN);
  });
}

function end(name) {
  const text = `${file}: hangs, not ended after ${limitMs} ms: ${name}\n`;
  process.stderr.write(`${text}open: ${process.getActiveResourcesInfo().join(' ')}\n`);
  if (process.env.RIVULET_HANGING !== undefined) appendFileSync(process.env.RIVULET_HANGING, text);
  process.exit(1);
}

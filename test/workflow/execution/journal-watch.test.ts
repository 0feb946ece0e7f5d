/** The watch of an instance's journal is open while it is needed, once, and not after its end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JournalStore } from '../../../src/broker/journal.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import type { ExecutionHost } from '../../../src/workflow/execution/host.ts';
import { JournalWatch } from '../../../src/workflow/execution/journal-watch.ts';

/** A store whose watches open when `answer` is called. */
function world() {
  const scheduler = new VirtualScheduler();
  const asked: (() => void)[] = [];
  const seen = { open: 0, news: 0 };
  const store: Pick<JournalStore, 'watch'> = {
    watch: () =>
      new Promise((resolve) => {
        asked.push(() => {
          seen.open++;
          resolve(() => void seen.open--);
        });
      }),
  };
  const host = { scheduler, store } as unknown as ExecutionHost;
  const watch = new JournalWatch(host, 'wf:x:j:1', {
    isNeeded: () => true,
    onNews: () => void seen.news++,
  });
  const answer = async () => {
    for (const each of asked.splice(0)) each();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { scheduler, asked, seen, watch, answer };
}

test('a watch that opens after the instance has stopped here is closed', async () => {
  const { scheduler, seen, watch, answer } = world();
  watch.soon();
  await scheduler.advance(1000);
  watch.end();
  await answer();
  assert.deepEqual(seen, { open: 0, news: 0 });
});

test('steps that begin while a watch is being opened open no second one', async () => {
  const { scheduler, asked, seen, watch, answer } = world();
  watch.soon();
  await scheduler.advance(1000);
  watch.soon();
  await scheduler.advance(1000);
  assert.equal(asked.length, 1);
  await answer();
  assert.deepEqual(seen, { open: 1, news: 1 });
  watch.end();
  assert.equal(seen.open, 0);
});

/** The watch of a registry that fails: reported once while it lasts, and tried again until it works. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegistryEvent, ServiceRecord } from '../../src/registry/registry.ts';
import { SnapshotWatch } from '../../src/registry/server/snapshot-watch.ts';
import { Warnings } from '../../src/registry/warnings.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const users: ServiceRecord = {
  name: 'users',
  version: '1',
  metadata: {},
  endpoints: [],
  nodes: [{ id: 'a', address: '127.0.0.1:1', metadata: {} }],
};

test('a watch that fails for minutes warns once, and once more after it has worked', async () => {
  const scheduler = new VirtualScheduler(7);
  const warned: string[] = [];
  const events: RegistryEvent[] = [];
  let isDown = true;
  let end: (error: Error) => void = () => {};
  const watch = new SnapshotWatch<null>({
    scheduler,
    warnings: new Warnings('test', (error) => warned.push(error.message)),
    read: async () => {
      if (isDown) throw new Error('connection refused');
      return { records: [users], mark: null };
    },
    changed: () =>
      new Promise((_, reject) => {
        end = reject;
      }),
    onEvent: (event) => events.push(event),
  });
  watch.start();
  await scheduler.advance(1000);
  assert.deepEqual(warned, [], 'a short outage is not reported');
  await scheduler.advance(10 * 60_000);
  assert.equal(warned.length, 1);
  assert.match(warned[0] ?? '', /test registry fails and is tried again.*connection refused/);
  isDown = false;
  await scheduler.advance(10_000);
  assert.equal(events.length, 1, 'what the first read that worked found is an event');
  isDown = true;
  end(new Error('cut'));
  await scheduler.advance(10 * 60_000);
  assert.equal(warned.length, 2);
  watch.close();
  await scheduler.advance(10 * 60_000);
  assert.equal(warned.length, 2, 'a closed watch reports nothing');
});

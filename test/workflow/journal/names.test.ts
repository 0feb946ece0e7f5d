/** The streams of names and versions say which workflows there are, whatever else the broker has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import type { JournalStore } from '../../../src/broker/journal.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { RivuletError } from '../../../src/errors.ts';
import { workflow, workflows } from '../../../src/workflow/index.ts';
import { createTestWorkflows } from '../../../src/workflow/testing.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { startRivulet } from '../../helpers/rivulet-server.ts';

const make = (name: string, version = 1) =>
  workflow({ name, version }, async (wf) => {
    await wf.sleep(3_600_000);
  });

function storeOf(broker: Broker): JournalStore {
  return broker.journal as JournalStore;
}

/** Counts what is asked for the names of all keys. */
function countScans(broker: Broker): { scans: number } {
  const store = storeOf(broker);
  const counted = { scans: 0 };
  const { keys } = store;
  store.keys = (pattern) => {
    counted.scans++;
    return keys.call(store, pattern);
  };
  return counted;
}

test('counts, lists and starts by name read no names of other keys', async () => {
  await using t = await createTestWorkflows({ definitions: [make('a', 2), make('b')] });
  await t.start('a', undefined, { id: 'x' });
  await using others = await t.open({ definitions: [make('a', 10)] });
  const counted = countScans(t.broker);
  const { broker } = t;
  const bare = await workflows(broker);
  // Of a version without any worker.
  await bare.start(make('a', 3), undefined, { id: 'y' });
  await bare.start('b', undefined, { id: 'z' });
  await bare.start('a', undefined, { id: 'newest' });
  await t.settle();
  const [a] = await bare.counts('a');
  assert.deepEqual([a?.running, a?.waiting], [3, [{ version: 3, tasks: 1 }]]);
  assert.equal((await bare.get('a', 'newest').info()).version, 10);
  assert.deepEqual(
    (await bare.counts()).map(({ name, running }) => `${name} ${running}`),
    ['a 3', 'b 1'],
  );
  const listed = [];
  for await (const { name, id } of bare.list()) listed.push(`${name}/${id}`);
  assert.deepEqual(listed, ['a/x', 'a/y', 'a/newest', 'b/z']);
  assert.deepEqual(await bare.counts('never'), [
    { name: 'never', running: 0, parked: 0, done: 0, waiting: [] },
  ]);
  assert.equal(counted.scans, 0);
  await bare.close();
  assert.equal(others.awake, 0);
});

test('a child, a schedule and a fork make a version known that no worker has', async () => {
  const child = make('child', 7);
  const parent = workflow({ name: 'parent' }, async (wf) => {
    await wf.start(child);
    await wf.sleep(3_600_000);
  });
  await using t = await createTestWorkflows({ definitions: [parent] });
  const handle = await t.start('parent', undefined, { id: 'x' });
  await t.advance(1000);
  await t.flows.schedule('nightly', make('tick', 4), { cron: '* * * * *' });
  await handle.fork({ version: 9, id: 'y' });
  await t.advance(60_000);
  const waiting = (await t.flows.counts()).flatMap(({ name, waiting: tasks }) =>
    tasks.map(({ version }) => `${name}@${version}`),
  );
  assert.deepEqual(waiting, ['child@7', 'parent@9']);
  const [tick] = await t.counts('tick');
  assert.deepEqual(tick?.waiting, [{ version: 4, tasks: 1 }]);
});

test('what an earlier release has stored is found, before and after something is noted', async () => {
  await using broker = await openBroker('memory:');
  const store = storeOf(broker);
  const older = await workflows(broker, { definitions: [make('a', 2), make('b', 5)] });
  await older.start('a', undefined, { id: 'x' });
  await older.start('b', undefined, { id: 'y' });
  await older.close();
  // It has no streams of names and versions.
  await store.remove(['wf:{}:names', 'wf:{a}:versions', 'wf:{b}:versions']);
  const bare = await workflows(broker);
  const namesOf = async () => (await bare.counts()).map(({ name }) => name);
  assert.deepEqual(await namesOf(), ['a', 'b']);
  assert.equal((await (await bare.start('b', undefined, { id: 'z' })).info()).version, 5);
  await bare.start(make('c'), undefined, { id: 'c' });
  const counted = countScans(broker);
  assert.deepEqual(await namesOf(), ['a', 'b', 'c']);
  assert.deepEqual(
    (await bare.counts('a')).map(({ running }) => running),
    [1],
  );
  assert.equal(counted.scans, 0);
  await bare.close();
});

test('versions are noted again after the broker was emptied', async () => {
  await using t = await createTestWorkflows();
  await t.start(make('a'), undefined, { id: 'x' });
  const store = storeOf(t.broker);
  await store.remove(await store.keys('wf:*'));
  await using other = await t.open();
  await other.start(make('b'), undefined, { id: 'y' });
  await t.advance(120_000);
  await t.start(make('a'), undefined, { id: 'x' });
  assert.deepEqual(
    (await t.counts()).map(({ name }) => name),
    ['a', 'b'],
  );
});

test('processes that note versions at the same time note each once', async () => {
  await using t = await createTestWorkflows();
  const flows = await Promise.all(Array.from({ length: 8 }, () => t.open()));
  const versions = [1, 2, 3];
  await Promise.all(
    flows.flatMap((each, i) =>
      versions.map((version) =>
        each.start(make('a', version), undefined, { id: `${i}.${version}` }),
      ),
    ),
  );
  const store = storeOf(t.broker);
  const noted = (await store.read('wf:{a}:versions')).map(({ fields }) => Number(fields.v));
  assert.deepEqual([...noted].sort(), versions);
  assert.equal(await store.length('wf:{}:names'), 1);
});

test('a start fails at once while the broker is away, and not for want of a right to note its version', async () => {
  await using t = await createTestWorkflows();
  const store = storeOf(t.broker);
  const { length, commit } = store;
  let commits = 0;
  store.commit = (given) => {
    commits++;
    return commit.call(store, given);
  };
  const fails = (code: 'NOT_CONNECTED' | 'PERMISSION_DENIED') => {
    store.length = (key) =>
      key === 'wf:{}:names'
        ? Promise.reject(new RivuletError(code, 'of the test'))
        : length.call(store, key);
  };
  await using flows = await workflows(t.broker);
  fails('NOT_CONNECTED');
  await assert.rejects(flows.start(make('a'), undefined, { id: 'x' }), { code: 'NOT_CONNECTED' });
  assert.equal(commits, 0);
  fails('PERMISSION_DENIED');
  const handle = await flows.start(make('a'), undefined, { id: 'x' });
  assert.equal(await handle.status(), 'running');
  store.length = length;
  await flows.start(make('a'), undefined, { id: 'x' });
  assert.deepEqual(
    (await flows.counts()).map(({ name, running }) => `${name} ${running}`),
    ['a 1'],
  );
});

test('a user who has the rights to one workflow starts it by name, counts and lists it', async () => {
  await using server = await startRivulet();
  await using admin = await RespSession.open(server.port);
  const rights = ['on', '>secret', '+@all', '&*', '~wf:{order}:*', '~rivulet*', '~_rivulet*'];
  await admin.call('ACL', 'SETUSER', 'ann', ...rights);
  await using all = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  await using others = await workflows(all);
  await others.start(make('pay'), undefined, { id: 'x' });
  await using own = await openBroker(`rivulet://ann:secret@127.0.0.1:${server.port}`);
  await using flows = await workflows(own, { definitions: [make('order', 3)] });
  await using bare = await workflows(own);
  const handle = await bare.start('order', undefined, { id: 'y' });
  assert.equal((await handle.info()).version, 3);
  const counts = await bare.counts('order');
  assert.deepEqual(
    counts.map(({ name, running }) => `${name} ${running}`),
    ['order 1'],
  );
  const listed = [];
  for await (const { id } of flows.list({ name: 'order' })) listed.push(id);
  assert.deepEqual(listed, ['y']);
});

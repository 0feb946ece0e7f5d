/**
 * A console over each kind of broker: what it shows, and what it says that the broker cannot tell.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { connect } from '../../../src/client/index.ts';
import type { Root } from '../../../src/console/api-types.ts';
import { RespUsers } from '../../../src/console/http/open-users.ts';
import { RespSource } from '../../../src/console/sources/resp-source.ts';
import type { Viewer } from '../../../src/console/sources/source.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { runServer } from '../../server/running-server.ts';
import { consoleFor, fill } from './source-fixture.ts';

/** Everything that a source with messages shows. */
async function looksWhole(console: Awaited<ReturnType<typeof consoleFor>>, kind: string) {
  const root: Root = await console.get('');
  assert.equal(root.broker.kind, kind);
  const { topics } = await console.get('topics');
  assert.deepEqual(
    topics
      .map(({ name, length }: { name: string; length: number }) => [name, length])
      .filter(([name]: [string]) => name.startsWith('orders')),
    [
      ['orders', 3],
      ['orders.dead', 1],
    ],
  );
  const where = encodeURIComponent('json.n > 1 && header.a == "b"');
  const page = await console.get(`topics/orders/entries?where=${where}`);
  assert.equal(page.entries.length, 2);
  const [group] = await console.get('topics/orders/groups');
  assert.deepEqual([group.name, group.pending], ['billing', 2]);
  const pending = await console.get('topics/orders/groups/billing/pending');
  assert.equal(pending.entries.length, 2);
  const dead = await console.get('dead');
  assert.deepEqual(
    dead.entries.map((each: { origin: { topic: string; reason: string } }) => [
      each.origin.topic,
      each.origin.reason,
    ]),
    [['orders', 'no use']],
  );
  const target = { topic: 'orders.dead', ids: [dead.entries[0].id] };
  const plan = await console.ask('actions/dead.redrive', {
    method: 'POST',
    body: { dryRun: true, target },
  });
  assert.equal(plan.status, 200, plan.text);
  const { token } = plan.json();
  const done = await console.ask('actions/dead.redrive', { method: 'POST', body: { token } });
  assert.equal(done.json().done, 1, done.text);
  assert.equal((await console.get('topics/orders')).length, 4);
  const audit = await console.get('audit');
  assert.deepEqual(
    audit.entries.map(({ phase, verb }: { phase: string; verb: string }) => [phase, verb]),
    [
      ['done', 'dead.redrive'],
      ['intent', 'dead.redrive'],
    ],
  );
}

test('memory: the process that has the broker shows it from inside', async () => {
  await using broker = await openBroker('memory:');
  await fill(broker);
  await using console = await consoleFor({ broker });
  await looksWhole(console, 'memory');
  assert.equal((await console.ask('clients')).status, 501);
  const root: Root = await console.get('');
  assert.equal(root.capabilities.clients, false);
  assert.match(root.capabilities.missing.clients ?? '', /inside a process/);
});

test('file: what is shown is on the disk', async () => {
  await using directory = temporaryDirectory('console');
  await using broker = await openBroker(`file:${directory.path}/data`);
  await fill(broker);
  await using console = await consoleFor({ broker });
  await looksWhole(console, 'file');
});

test('rivulet: by commands, with users of the server from elsewhere', async () => {
  await using running = await runServer();
  const url = `rivulet://127.0.0.1:${running.port}`;
  await using broker = await openBroker(url);
  await fill(broker);
  await using console = await consoleFor({ broker: url });
  await looksWhole(console, 'rivulet');
  assert.ok((await console.get('server')).sections.length > 3);
});

test('rivulet: a user from elsewhere is shown its own topics, and its password is asked for each time', async () => {
  const rules = ['~shop.*', '&*', '+@all', '-@dangerous', '+info', '-acl'];
  await using running = await runServer({}, [
    ['web', 'on', '>web', '~*', '&*', '+@all'],
    ['lim', 'on', '>lim', ...rules],
    ['all', 'on', '>all', '~*', '&*', '+@all', '-acl'],
  ]);
  await using client = await connect({ port: running.port });
  for (const topic of ['shop.orders', 'secret', 'secret.dead']) {
    await client.call('XADD', topic, '*', 'body', 'x');
  }
  const settings = { host: '127.0.0.1', port: running.port, username: 'web', password: 'web' };
  const own = await connect(settings);
  const users = new RespUsers(own, settings);
  const source = new RespSource('rivulet', 'rivulet://x', own, null, {});
  try {
    const viewerOf = async (name: string, password = name) =>
      (await users.login(name, password))?.viewer('10.0.0.1') ?? null;
    const lim = (await viewerOf('lim'))!;
    const query = {
      q: '',
      sort: 'name',
      after: null,
      limit: 100,
      scan: false,
      internal: false,
    } as const;
    const names = async (viewer: Viewer) =>
      (await source.topics(viewer, query)).topics.map(({ name }) => name);
    assert.deepEqual(await names(lim), ['shop.orders']);
    assert.deepEqual(await source.deadTopics(lim), []);
    assert.doesNotMatch(JSON.stringify(await source.overview(lim)), /secret/);
    assert.equal((await source.overview(lim)).totals.topics, null);
    assert.equal(lim.seesAll, false, 'so neither services nor workflows are shown');
    const all = (await viewerOf('all'))!;
    assert.equal(all.seesAll, true);
    assert.deepEqual(await names(all), ['secret', 'secret.dead', 'shop.orders']);
    const at = async () =>
      String(await client.call('CLIENT', 'LIST')).match(/user=lim\b/g)?.length ?? 0;
    await Promise.all(Array.from({ length: 20 }, () => users.login('lim', 'lim')));
    assert.equal(await at(), 1, 'logins that come at once share a connection');
    assert.equal(await users.login('lim', 'wrong'), null);
    await client.call('ACL', 'SETUSER', 'lim', 'resetpass', '>new');
    assert.equal(await users.login('lim', 'lim'), null, 'the old password');
    assert.ok(await users.login('lim', 'new'));
    assert.equal(await at(), 1);
  } finally {
    users.close();
    await source.close();
  }
});

test('redis: by commands, topics as the broker names them, or by SCAN when asked', {
  skip: missing('redis-server'),
}, async () => {
  await using redis = await startRedis();
  const url = `redis://127.0.0.1:${redis.port}`;
  await using broker = await openBroker(url);
  await broker.publish('orders', { body: '{"n":1}' });
  await using console = await consoleFor({ broker: url });
  const { topics } = await console.get('topics?scan=1');
  assert.ok(topics.some(({ name }: { name: string }) => name === 'orders'));
  const page = await console.get('topics/orders/entries');
  assert.equal(page.entries[0].preview.text, '{"n":1}');
  assert.equal((await console.ask('topics/orders/scheduled')).status, 501);
});

test('pages outside of /console/ are given to the handler; with --apps path nothing changes', async () => {
  await using broker = await openBroker('memory:');
  await using console = await consoleFor({
    broker,
    apps: 'path',
    pages(request, response) {
      if (request.url !== '/') return false;
      response.end('icons');
      return true;
    },
  });
  assert.equal((await console.ask('/')).text, 'icons');
  assert.equal(
    (await console.ask('/console/')).headers['content-type']?.startsWith('text/html'),
    true,
  );
  const root: Root = await console.get('');
  assert.deepEqual([root.readOnly, root.verbs], [true, []]);
  const body = { dryRun: true, target: { topic: 'x' }, options: { body: '' } };
  const answer = await console.ask('actions/topic.publish', { method: 'POST', body });
  assert.equal(answer.status, 403);
});

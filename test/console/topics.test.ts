/**
 * The list of topics: whose topics are in it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Overview, TopicsPage } from '../../src/console/api-types.ts';
import { openConsole } from './fixture.ts';

const OWN = [
  '_rivulet.audit',
  '_rivulet.spans',
  'rivulet.registry',
  'wf:{order}:j:1',
  'wf:{order}:v1',
];
const OTHERS = ['_rivulet', 'orders', 'rivulet.registry.copy', 'wf'];

const namesOf = ({ topics }: TopicsPage) => topics.map(({ name }) => name);

test("Rivulet's own topics are left out, counted, and shown when asked for", async () => {
  await using console = await openConsole();
  for (const topic of [...OWN, ...OTHERS]) {
    await console.client.call('XADD', topic, '*', 'body', 'x');
  }
  for (const sort of ['name', 'length', 'bytes']) {
    const page = await console.get<TopicsPage>(`topics?sort=${sort}`);
    assert.deepEqual(namesOf(page), OTHERS, sort);
    assert.deepEqual(
      [page.total, page.matched, page.hidden],
      [OTHERS.length, OTHERS.length, OWN.length],
    );
  }
  const all = await console.get<TopicsPage>('topics?internal=1');
  assert.deepEqual(namesOf(all), [...OWN, ...OTHERS].sort());
  assert.deepEqual([all.total, all.hidden], [OWN.length + OTHERS.length, 0]);
  const searched = await console.get<TopicsPage>('topics?q=spans');
  assert.deepEqual([namesOf(searched), searched.hidden], [[], OWN.length]);
  assert.deepEqual(namesOf(await console.get('topics?q=spans&internal=1')), ['_rivulet.spans']);
});

test("the overview counts and ranks what the list shows, without Rivulet's own", async () => {
  await using console = await openConsole();
  await console.client.call('XADD', 'orders', '*', 'body', 'x');
  for (let n = 0; n < 50; n++) {
    await console.client.call('XADD', '_rivulet.spans', '*', 'body', 'a'.repeat(1000));
  }
  const { total } = await console.get<TopicsPage>('topics');
  const overview = await console.get<Overview>('overview');
  assert.equal(overview.totals.topics, total);
  assert.equal(overview.totals.entries, 1);
  assert.deepEqual(
    overview.top.bytes.map(({ name }) => name),
    ['orders'],
  );
});

test('the number of hidden topics does not show a user that there are topics of others', async () => {
  await using console = await openConsole({}, [['ann', 'on', '>pw', '+@all', '~shop.*', '~wf:*']]);
  for (const topic of [...OWN, 'shop.orders', 'secret']) {
    await console.client.call('XADD', topic, '*', 'body', 'x');
  }
  const headers = { authorization: `Basic ${Buffer.from('ann:pw').toString('base64')}` };
  const page = await console.get<TopicsPage>('topics', { headers });
  assert.deepEqual(namesOf(page), ['shop.orders']);
  assert.equal(page.hidden, 2);
});

/**
 * The console beside a large engine: no turn of the server's loop may take long (the server of this test
 * reports each one that does), and pages have a bound whatever the number of topics and groups.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/client/index.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';
import { askAt } from './fixture.ts';

const TOPICS = 20_000;
const GROUPS = 2000;
const PENDING = 20_000;

test('pages of many topics, groups and pending messages hold up no client', async () => {
  const port = await freePort();
  await using server = await startRivulet({
    args: ['--http-port', String(port), '--appendonly', 'no'],
  });
  await using client = await connect({ port: server.port });
  const send = async (count: number, command: (i: number) => (string | number)[]) => {
    for (let at = 0; at < count; at += 1000) {
      const size = Math.min(1000, count - at);
      await client.pipeline(Array.from({ length: size }, (_, i) => command(at + i)));
    }
  };
  await send(TOPICS, (i) => ['XADD', `topic-${i % 7}-${i}`, '*', 'body', 'x']);
  await client.call('XADD', 'grouped', '1-0', 'body', 'x');
  await send(GROUPS, (i) => ['XGROUP', 'CREATE', 'grouped', `group-${i}`, '0']);
  await send(PENDING, (i) => ['XADD', 'busy', `${i + 1}-0`, 'body', 'x']);
  await client.call('XGROUP', 'CREATE', 'busy', 'g', '0');
  await client.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', PENDING, 'STREAMS', 'busy', '>');
  const get = async (path: string) => {
    const answer = await askAt(port, `/console/api/v1/${path}`, {});
    assert.equal(answer.status, 200, answer.text.slice(0, 200));
    return answer.json();
  };
  let page = await get('topics');
  await until(async () => {
    page = await get('topics');
    return page.complete && page.total >= TOPICS + 2;
  });
  assert.equal(page.topics.length, 100);
  for (const sort of ['name', 'rate', 'lag', 'bytes', 'length', 'oldest', 'pending']) {
    assert.equal((await get(`topics?sort=${sort}`)).topics.length, 100);
  }
  assert.equal((await get('topics?q=topic-3-')).topics.length, 100);
  assert.equal((await get('topics?sort=pending')).topics[0].name, 'busy');
  const pending = await get('topics/busy/groups/g/pending?after=19000-0');
  assert.equal(pending.entries[0].id, '19001-0');
  assert.equal((await get('topics/grouped')).groups, GROUPS);
  assert.ok((await get('overview')).totals.topics >= TOPICS);
});

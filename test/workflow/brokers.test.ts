/**
 * The same workflow on every broker that has journals: steps, a timer, a signal, a child, a takeover; and a
 * Redis Cluster, which has none and says what to use instead.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';

const go = signal<number>('go');
const child = workflow({ name: 'child' }, async (wf, n: number) => wf.step('double', () => 2 * n));
let stuck = true;
const parent = workflow({ name: 'parent' }, async (wf, n: number) => {
  const all = await Promise.all([wf.child(child, n), wf.child(child, n + 1)]);
  await wf.sleep(1200);
  const given = await wf.wait(go, { timeoutMs: 60_000 });
  const held = await wf.step('held', () => (stuck ? new Promise<number>(() => {}) : 1));
  await wf.publish('topic.done', { body: new Uint8Array([0, 255, 128]) });
  return { all, given, held };
});

async function playsOn(url: string): Promise<void> {
  stuck = true;
  await using broker = await openBroker(url);
  await using second = await openBroker(url);
  const options = { definitions: [parent, child], ackWaitMs: 1000 };
  const first = await workflows(broker, options);
  const handle = await first.start(parent, 1, { id: 'a"b c' });
  const again = await first.start(parent, 5, { id: 'a"b c' });
  await handle.signal(go, 7, { id: 'once' });
  await handle.signal(go, 8, { id: 'once' });
  while (!(await handle.history()).some(({ detail }) => String(detail.asked).includes('held'))) {
    const { status, position } = await handle.info();
    assert.equal(status, 'running');
    if (position === 'delivered') break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await first.kill();
  stuck = false;
  await using flows = await workflows(second, options);
  const result = await again.result({ timeoutMs: 30_000 });
  assert.deepEqual(result, { all: [2, 4], given: 7, held: 1 });
  const [counts] = await flows.counts('parent');
  assert.deepEqual([counts?.running, counts?.parked, counts?.done], [0, 0, 1]);
  const bodies: number[][] = [];
  let arrived = () => {};
  const one = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  await second.subscribe(
    'topic.done',
    (delivery) => {
      bodies.push([...delivery.bytes()]);
      arrived();
    },
    { group: 'g', from: 'earliest' },
  );
  await one;
  assert.deepEqual(bodies, [[0, 255, 128]]);
}

test('memory', () => playsOn('memory:workflows-everywhere'));

test('file', async () => {
  await using directory = temporaryDirectory('workflow');
  await playsOn(`file:${directory.path}/data`);
});

test('rivulet', async () => {
  await using server = await startRivulet();
  await playsOn(`rivulet://127.0.0.1:${server.port}`);
});

test('redis', { skip: missing('redis-server') }, async () => {
  await using server = await startRedis();
  await playsOn(`redis://127.0.0.1:${server.port}`);
});

test('redis cluster: refused with the reason and what to use, and it works with a journal beside it', {
  skip: missing('redis-server'),
}, async () => {
  // All slots on one node: a cluster as clients see it.
  await using server = await startRedis({
    args: ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1'],
  });
  const url = `redis://127.0.0.1:${server.port}`;
  const admin = await connect({ port: server.port });
  await admin.call('CLUSTER', 'ADDSLOTSRANGE', 0, 16_383);
  await until(async () => /cluster_state:ok/.test(String(await admin.call('CLUSTER', 'INFO'))));
  admin.destroy();
  await using broker = await openBroker(url);
  assert.equal(broker.capabilities.journal, undefined);
  const error = await workflows(broker).catch((error) => error);
  assert.equal(error.code, 'UNSUPPORTED');
  assert.match(error.message, /the keys of a Redis Cluster are on several servers/);
  assert.match(error.message, /workflows\(broker, \{ journal: 'file:\.\/workflows' \}\)/);
  await using directory = temporaryDirectory('workflow');
  const journal = `file:${directory.path}/data`;
  await using flows = await workflows(broker, { definitions: [child], journal });
  assert.equal(await (await flows.start(child, 4)).result({ timeoutMs: 30_000 }), 8);
});

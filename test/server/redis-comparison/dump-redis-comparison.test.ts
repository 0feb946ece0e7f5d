/**
 * Streams and strings go from a real redis-server into Rivulet and back, by DUMP, RESTORE and MIGRATE.
 *
 * The same with the newer redis-server that RIVULET_REFERENCE names.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { hideClockIds, normalise } from '../../differential/normalise.ts';
import { fieldsOf, parseTree, removeFields, serialiseTree } from '../../differential/reply-tree.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { references } from '../../helpers/references.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { startRivulet } from '../../helpers/rivulet-server.ts';
import { seedNamed } from '../../helpers/seed.ts';

const SEED = seedNamed('dump beside redis');

/** Fills key `s` with a stream of random shape, its groups and pending entries; on any version. */
async function fill(r: RespSession, random: Random): Promise<void> {
  await r.call('DEL', 's');
  await r.call('CONFIG', 'SET', 'stream-node-max-entries', random.pick([1, 3, 10, 100]));
  const entries = random.below(60) + 1;
  let ms = 0;
  for (let i = 0; i < entries; i++) {
    ms += random.pick([0, 1, 1, 3, 70_000, 5_000_000_000]);
    const fields = random.pick([
      ['a', 'x'],
      ['a', 'x'],
      ['a', '12', 'b', '-4000'],
      ['b', '9223372036854775807'],
      ['7', 'long '.repeat(random.below(2000))],
      ['a', Buffer.from([0, 255, 10])],
    ]);
    await r.call('XADD', 's', `${ms}-${i + 1}`, ...fields);
  }
  const ids = (await r.text('XRANGE', 's', '-', '+')).match(/\b\d+-\d+\b/g) ?? [];
  for (const id of ids) if (random.chance(0.2)) await r.call('XDEL', 's', id);
  for (const group of ['g', '12', ''].slice(0, random.below(4))) {
    await r.call('XGROUP', 'CREATE', 's', group, '0');
    await r.call('XGROUP', 'CREATECONSUMER', 's', group, 'idle');
    for (const consumer of ['c', '5', '']) {
      const count = 1 + random.below(20);
      const read = ['XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', 's', '>'];
      await r.call(...read);
    }
    for (const id of ids) {
      if (random.chance(0.2)) await r.call('XACK', 's', group, id);
      else if (random.chance(0.1)) {
        await r.call('XCLAIM', 's', group, 'c', 0, id, 'RETRYCOUNT', random.below(900), 'FORCE');
      }
    }
  }
}

/** All that XINFO STREAM FULL says, but for what one of the two versions does not know. */
async function pictureOf(r: RespSession, key: string, withActive: boolean): Promise<string> {
  const args = ['XINFO', 'STREAM', key, 'FULL', 'COUNT', '0'];
  const tree = parseTree(await r.call(...args));
  hideClockIds(tree);
  normalise(tree, args);
  removeFields(tree, [
    'idmp-duration',
    'idmp-maxsize',
    'pids-tracked',
    'iids-tracked',
    'iids-added',
    'iids-duplicates',
  ]);
  const groups = fieldsOf(tree).find(([name]) => name === 'groups')?.[1].items ?? [];
  for (const group of groups) {
    // 7.0 counts the lag in its own way.
    removeFields(group, ['nacked-count', 'lag']);
    const consumers = fieldsOf(group).find(([name]) => name === 'consumers')?.[1].items ?? [];
    if (!withActive) for (const consumer of consumers) removeFields(consumer, ['active-time']);
  }
  return serialiseTree(tree);
}

for (const { program, label, skip } of references()) {
  test(`streams go from ${label} into Rivulet and back`, { skip }, async (t) => {
    await using redis = await startRedis({ program });
    await using rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
    await using theirs = await RespSession.open(redis.port);
    await using ours = await RespSession.open(rivulet.port);
    t.diagnostic(`RIVULET_SEED=${SEED}`);
    for (let round = 0; round < 30; round++) {
      await fill(theirs, new Random(SEED + round));
      const expected = await pictureOf(theirs, 's', true);
      const dump = bulk(await theirs.call('DUMP', 's'));
      assert.equal(await ours.text('RESTORE', 's', 0, dump, 'REPLACE'), '+OK\r\n');
      const has = expected.includes('active-time');
      assert.equal(await pictureOf(ours, 's', has), expected, `seed ${SEED + round}`);
      // And back: the oldest form that says all has no active time.
      const back = bulk(await ours.call('DUMP', 's'));
      assert.equal(await theirs.text('RESTORE', 't', 0, back, 'REPLACE'), '+OK\r\n');
      const without = await pictureOf(theirs, 's', false);
      assert.equal(await pictureOf(theirs, 't', false), without, `seed ${SEED + round}`);
      // What came back takes entries and deliveries.
      assert.match(await theirs.text('XADD', 't', '*', 'a', 'b'), /^\$/);
      assert.match(await theirs.text('XRANGE', 't', '-', '+'), /^\*/);
    }
  });

  test(`strings go from ${label} into Rivulet and back`, { skip }, async () => {
    await using redis = await startRedis({ program });
    await using rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
    await using theirs = await RespSession.open(redis.port);
    await using ours = await RespSession.open(rivulet.port);
    const random = new Random(SEED);
    const noise = Buffer.from(Array.from({ length: 70_000 }, () => random.below(256)));
    const values = [
      ...['', '0', '-1', '127', '128', '-32769', '2147483647', '9223372036854775807', '00', 'a'],
      ...['ab'.repeat(40), 'x'.repeat(100_000), noise, Buffer.concat([noise, noise])],
    ];
    for (const value of values) {
      await theirs.call('SET', 'k', value);
      const dump = bulk(await theirs.call('DUMP', 'k'));
      assert.equal(await ours.text('RESTORE', 'k', 0, dump, 'REPLACE'), '+OK\r\n');
      assert.deepEqual(await ours.call('GET', 'k'), await theirs.call('GET', 'k'));
      const back = bulk(await ours.call('DUMP', 'k'));
      assert.equal(await theirs.text('RESTORE', 'l', 0, back, 'REPLACE'), '+OK\r\n');
      assert.deepEqual(await theirs.call('GET', 'l'), await theirs.call('GET', 'k'));
    }
  });

  test(`MIGRATE of ${label} moves a stream and its groups into Rivulet`, {
    skip,
  }, async () => {
    await using redis = await startRedis({ program });
    await using rivulet = await startRivulet();
    await using theirs = await RespSession.open(redis.port);
    await using ours = await RespSession.open(rivulet.port);
    await fill(theirs, new Random(SEED));
    await theirs.call('SET', 'k', 'v', 'EX', 1000);
    const expected = await pictureOf(theirs, 's', false);
    const to = ['MIGRATE', '127.0.0.1', rivulet.port, '', 0, 20_000];
    assert.equal(await theirs.text(...to, 'KEYS', 's', 'k'), '+OK\r\n');
    assert.equal(await theirs.text('EXISTS', 's', 'k'), ':0\r\n');
    assert.equal(await pictureOf(ours, 's', false), expected);
    assert.match(await ours.text('TTL', 'k'), /^:(999|1000)\r\n/);
    await theirs.call('SADD', 'set', 'a');
    assert.match(await theirs.text(...to, 'KEYS', 'set'), /it is a set; this server holds/);
    assert.equal(await theirs.text('EXISTS', 'set'), ':1\r\n');
    // What was moved is on disk.
    assert.equal(await rivulet.stop('SIGKILL'), 'SIGKILL');
    await using again = await startRivulet({ directory: rivulet.directory });
    await using later = await RespSession.open(again.port);
    assert.equal(await pictureOf(later, 's', false), expected);
  });
}

/** The bytes of a bulk string. */
function bulk(reply: Buffer): Buffer {
  const from = reply.indexOf('\r\n') + 2;
  assert.equal(reply[0], 36, reply.toString('latin1').slice(0, 200));
  return reply.subarray(from, reply.length - 2);
}

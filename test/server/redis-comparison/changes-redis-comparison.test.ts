/**
 * INFO's counts of changes and of errors, beside a real redis-server: after each command both have
 * grown by the same.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { startRivulet } from '../../helpers/rivulet-server.ts';
import { until } from '../../helpers/until.ts';

const skip = missing('redis-server');

const COMMANDS = `
SET k 1
SET k 2
SET k 3 NX
GET k
INCR k
APPEND k x
MSET k 1 l 2 m 3
GETDEL m
GETEX k EX 100
GETEX k
GETEX k PERSIST
EXPIRE k 100
EXPIRE none 100
PERSIST k
RENAME k n
COPY n k
COPY n l
DEL n none l
XADD s 1-1 a 1
XADD s 2-1 a 1
XADD s MAXLEN 2 3-1 a 1
XADD s NOMKSTREAM 4-1 a 1
XADD none NOMKSTREAM 4-1 a 1
XADD s 5-1 a 1
XADD s 6-1 a 1
XADD s 1-1 a 1
XGROUP CREATE s g 0
XGROUP CREATE t g 0 MKSTREAM
XGROUP CREATE s g 0
XGROUP CREATECONSUMER s g c
XGROUP CREATECONSUMER s g c
XREADGROUP GROUP g c COUNT 2 STREAMS s >
XREADGROUP GROUP g c STREAMS s 0
XREADGROUP GROUP g c STREAMS s >
XREADGROUP GROUP g c STREAMS s >
XACK s g 3-1 4-1 9-9
XCLAIM s g d 0 5-1 6-1
XAUTOCLAIM s g c 0 0
XGROUP SETID s g 0
XREADGROUP GROUP g c NOACK STREAMS s >
XDEL s 3-1 4-1 9-9
XTRIM s MAXLEN 1
XTRIM s MAXLEN 1
XSETID s 100-1
XGROUP DELCONSUMER s g c
XGROUP DELCONSUMER s g c
XGROUP DESTROY s g
XGROUP DESTROY s g
XREADGROUP GROUP g c STREAMS s >
MOVE k 1
SWAPDB 0 1
SWAPDB 0 1
NOSUCH
XADD s
GET s
FLUSHDB
SET a 1
SET b 1
FLUSHALL
`
  .trim()
  .split('\n')
  .map((line) => line.split(' '));

/** What newer versions count otherwise than 7.0. */
const SINCE_8 = new Map([['XREADGROUP GROUP g c STREAMS s 0', 0]]);

async function statistics(r: RespSession): Promise<{ changes: number; errors: string[] }> {
  const info = await r.text('INFO', 'everything');
  return {
    changes: Number(/rdb_changes_since_last_save:(\d+)/.exec(info)?.[1]),
    errors: [...info.matchAll(/errorstat_[^\r]*/g)].map(([line]) => line).sort(),
  };
}

for (const appendonly of ['no', 'yes']) {
  test(`changes and errors are counted as redis-server counts them, appendonly ${appendonly}`, {
    skip,
  }, async () => {
    await using redis = await startRedis();
    await using rivulet = await startRivulet({ args: ['--appendonly', appendonly] });
    await using theirs = await RespSession.open(redis.port);
    await using ours = await RespSession.open(rivulet.port);
    let [one, two] = await Promise.all([statistics(theirs), statistics(ours)]);
    for (const command of COMMANDS) {
      await Promise.all([theirs.call(...command), ours.call(...command)]);
      const [first, second] = await Promise.all([statistics(theirs), statistics(ours)]);
      const text = command.join(' ');
      const expected = SINCE_8.get(text) ?? first.changes - one.changes;
      assert.equal(second.changes - two.changes, expected, text);
      assert.deepEqual(second.errors, first.errors, text);
      [one, two] = [first, second];
    }
    if (appendonly === 'no') return;
    await ours.call('SET', 'k', 'v');
    await ours.call('SAVE');
    assert.equal((await statistics(ours)).changes, 0);
    await ours.call('SET', 'k', 'v');
    assert.equal((await statistics(ours)).changes, 1);
  });
}

test('an error given to a client that was blocked is counted', { skip }, async () => {
  await using rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
  await using r = await RespSession.open(rivulet.port);
  await using waiting = await RespSession.open(rivulet.port);
  const id = (await waiting.text('CLIENT', 'ID')).slice(1, -2);
  await r.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  const read = ['XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', 0, 'STREAMS', 's', '>'];
  const isBlocked = async (): Promise<void> => {
    await until(async () => /flags=\w*b/.test(await r.text('CLIENT', 'LIST', 'ID', id)));
  };
  let reply = waiting.text(...read);
  await isBlocked();
  await r.call('XGROUP', 'DESTROY', 's', 'g');
  assert.match(await reply, /^-NOGROUP /);
  assert.deepEqual((await statistics(r)).errors, ['errorstat_NOGROUP:count=1']);
  await r.call('XGROUP', 'CREATE', 's', 'g', '$');
  reply = waiting.text(...read);
  await isBlocked();
  await r.call('CLIENT', 'UNBLOCK', id, 'ERROR');
  assert.match(await reply, /^-UNBLOCKED /);
  const expected = ['errorstat_NOGROUP:count=1', 'errorstat_UNBLOCKED:count=1'];
  assert.deepEqual((await statistics(r)).errors, expected);
});

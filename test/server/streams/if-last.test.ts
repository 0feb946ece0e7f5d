/**
 * XADD ... IFLAST and EXEC IFLAST: nothing happens unless the stream ends where the caller believes.
 *
 * Beside tables of cases, random commands are compared with redis-server, where a script plays the part
 * of the condition.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer, parseReply } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { seedOf } from '../../helpers/seed.ts';
import { runServer } from '../running-server.ts';

test('XADD IFLAST adds where the last id is the one given, and answers null elsewhere', () => {
  const a = new InProcessServer().session();
  assert.equal(a.call('XADD', 's', 'IFLAST', '1-1', '5-1', 'f', 'v'), null);
  assert.equal(a.call('EXISTS', 's'), 0, 'a false condition makes no stream');
  assert.equal(a.call('XADD', 's', 'IFLAST', '0-0', '5-1', 'f', 'v'), '5-1');
  assert.equal(a.call('XADD', 's', 'IFLAST', '0-0', '6-1', 'f', 'v'), null);
  assert.equal(a.call('XADD', 's', 'iflast', '5-1', '6-1', 'f', 'v'), '6-1');
  assert.equal(a.call('XDEL', 's', '6-1'), 1);
  assert.equal(
    a.call('XADD', 's', 'IFLAST', '6-1', '7', 'f', 'v'),
    '7-0',
    'generated, not present',
  );
  assert.equal(a.call('XADD', 's', 'IFLAST', '7', '8', 'f', 'v'), '8-0', 'a missing sequence is 0');
  assert.equal(
    a.call('XADD', 's', 'NOMKSTREAM', 'MAXLEN', 1, 'IFLAST', '8-0', '9', 'f', 'v'),
    '9-0',
  );
  assert.equal(a.call('XLEN', 's'), 1);
});

test('a group on an empty stream does not make the condition 0-0 false', () => {
  const a = new InProcessServer().session();
  a.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  assert.equal(a.call('XADD', 's', 'IFLAST', '0-0', '1-1', 'f', 'v'), '1-1');
});

test('XADD IFLAST with DELAY asks now and adds later; a repeated IDMP is answered first', () => {
  const server = new InProcessServer();
  const a = server.session();
  a.call('XADD', 's', '1-1', 'f', 'v');
  assert.equal(a.call('XADD', 's', 'IFLAST', '2-1', 'DELAY', 50, '*', 'f', 'v'), null);
  assert.equal(a.call('XADD', 's', 'IFLAST', '1-1', 'DELAY', 50, '*', 'f', 'v'), 's1');
  server.advance(50);
  assert.equal(a.call('XLEN', 's'), 2);
  const [[last]] = a.call('XREVRANGE', 's', '+', '-', 'COUNT', 1) as [[string]];
  const added = a.call('XADD', 's', 'IDMP', 'p', 'n', 'IFLAST', last, '*', 'f', 'v');
  assert.equal(a.call('XADD', 's', 'IDMP', 'p', 'n', 'IFLAST', last, '*', 'f', 'v'), added);
  assert.equal(a.call('XADD', 's', 'IDMP', 'p', 'm', 'IFLAST', last, '*', 'f', 'v'), null);
});

test('what is no condition is refused and changes nothing', () => {
  const a = new InProcessServer().session();
  const error = (...args: (string | number)[]) => (a.call(...args) as Error).message;
  a.call('SET', 'text', 'x');
  a.call('XADD', 's', '1-1', 'f', 'v');
  const invalid = 'ERR Invalid stream ID specified as stream command argument';
  for (const id of ['x', '-', '+', '$', '1-', '1-1-1', '', '18446744073709551616-0']) {
    assert.equal(error('XADD', 's', 'IFLAST', id, '*', 'f', 'v'), invalid, id);
    a.call('MULTI');
    a.call('DEL', 's');
    assert.equal(error('EXEC', 'IFLAST', 's', id), invalid, id);
    assert.equal(error('EXEC'), 'ERR EXEC without MULTI', 'the queue is gone');
  }
  assert.match(
    error('XADD', 's', 'IFLAST', '1-1', 'IFLAST', '1-1', '*', 'f', 'v'),
    /multiple times/,
  );
  for (const words of [
    ['IFLAST'],
    ['IFLAST', 's'],
    ['IFLAST', 's', '1-1', 's'],
    ['BOGUS', 's', '1'],
  ]) {
    a.call('MULTI');
    a.call('DEL', 's');
    assert.equal(error('EXEC', ...words), 'ERR syntax error');
  }
  a.call('MULTI');
  a.call('DEL', 's');
  assert.match(error('EXEC', 'IFLAST', 'text', '0-0'), /^WRONGTYPE/);
  assert.equal(a.call('XLEN', 's'), 1);
});

test('EXEC IFLAST runs the whole queue where every condition holds, and none of it elsewhere', () => {
  const a = new InProcessServer().session();
  const exec = (...conditions: string[]) => {
    a.call('MULTI');
    a.call('XADD', 'j', '*', 'f', 'v');
    a.call('XADD', 'tasks', '*', 'f', 'v');
    a.call('INCR', 'n');
    return a.call('EXEC', 'IFLAST', ...conditions);
  };
  const first = exec('j', '0-0', 'tasks', '0-0') as string[];
  assert.equal(first.length, 3);
  assert.equal(exec('j', '0-0'), null);
  assert.equal(exec('j', first[0] as string, 'tasks', '0-0'), null, 'one false one is enough');
  assert.equal(a.call('GET', 'n'), '1');
  assert.ok(Array.isArray(exec('j', first[0] as string, 'tasks', first[1] as string)));
});

test('a condition on a key that has expired asks about a missing stream', () => {
  const server = new InProcessServer();
  const a = server.session();
  a.call('XADD', 'j', '5-1', 'f', 'v');
  a.call('PEXPIRE', 'j', 10);
  server.clock.advance(11);
  a.call('MULTI');
  a.call('DBSIZE');
  assert.equal(a.call('EXEC', 'IFLAST', 'j', '5-1'), null);
  assert.equal(a.call('XADD', 'j', 'IFLAST', '0-0', '1-1', 'f', 'v'), '1-1');
});

test('EXEC IFLAST needs the right to read its streams', async () => {
  await using running = await runServer();
  await using admin = await RespSession.open(running.port);
  await using user = await RespSession.open(running.port);
  await admin.call('ACL', 'SETUSER', 'ann', 'on', 'nopass', '+@all', '~mine*');
  await user.call('AUTH', 'ann', 'x');
  await user.call('MULTI');
  assert.match(String(await user.call('EXEC', 'IFLAST', 'other', '0-0')), /EXECABORT.*NOPERM/);
  await user.call('MULTI');
  assert.equal(String(await user.call('EXEC', 'IFLAST', 'mine', '0-0')), '*0\r\n');
});

/** What a condition is to redis-server: a script that compares, then runs the commands. */
const SCRIPT = `
for i = 1, #KEYS do
  local last = '0-0'
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for n = 1, #info, 2 do if info[n] == 'last-generated-id' then last = info[n + 1] end end
  end
  if last ~= ARGV[i] then return false end
end
local replies = {}
for _, line in ipairs(cjson.decode(ARGV[#KEYS + 1])) do
  local reply = redis.pcall(unpack(line))
  replies[#replies + 1] = type(reply) == 'table' and reply.err and 'error' or reply
end
return replies`;

test('random conditional commands do what a script does on redis-server', {
  skip: missing('redis-server'),
}, async (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  await using redis = await startRedis();
  await using running = await runServer();
  await using theirs = await RespSession.open(redis.port);
  await using ours = await RespSession.open(running.port);
  const keys = ['a', 'b', 'c'];
  const last = new Map<string, string>();
  let clock = 0;
  let held = 0;
  for (let step = 0; step < 1500; step++) {
    const conditions = Array.from({ length: 1 + random.below(2) }, () => {
      const key = random.pick(keys);
      const id = random.chance(0.8) ? (last.get(key) ?? '0-0') : `${1 + random.below(clock + 2)}-0`;
      return [key, id] as const;
    });
    const lines = Array.from({ length: 1 + random.below(3) }, () => {
      const key = random.pick(keys);
      if (random.chance(0.1)) return ['DEL', key];
      if (random.chance(0.1)) return ['XTRIM', key, 'MAXLEN', '2'];
      if (random.chance(0.1)) return ['XDEL', key, last.get(key) ?? '1-1'];
      clock += random.below(2);
      return ['XADD', key, `${Math.max(1, clock)}-${random.below(3)}`, 'f', String(step)];
    });
    const expected = parseReply(
      await theirs.call(
        ...['EVAL', SCRIPT, conditions.length, ...conditions.map(([key]) => key)],
        ...[...conditions.map(([, id]) => id), JSON.stringify(lines)],
      ),
    );
    await ours.call('MULTI');
    for (const line of lines) await ours.call(...line);
    const actual = parseReply(await ours.call('EXEC', 'IFLAST', ...conditions.flat()));
    const plain = Array.isArray(actual)
      ? actual.map((each) => (each instanceof Error ? 'error' : each))
      : actual;
    assert.deepEqual(plain, expected, `step ${step}: ${JSON.stringify({ conditions, lines })}`);
    if (expected !== null) held++;
    for (const key of keys) {
      const [other, own] = [
        await theirs.call('XRANGE', key, '-', '+'),
        await ours.call('XRANGE', key, '-', '+'),
      ];
      assert.deepEqual(own, other, `step ${step}: ${key}`);
      const info = parseReply(await theirs.call('XINFO', 'STREAM', key));
      if (Array.isArray(info)) last.set(key, String(info[info.indexOf('last-generated-id') + 1]));
      else last.delete(key);
    }
  }
  assert.ok(held > 100 && held < 1400, `${held} conditions held`);
});

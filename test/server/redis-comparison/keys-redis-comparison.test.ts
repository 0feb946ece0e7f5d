/**
 * The same random commands of strings, keys, databases and transactions to a real redis-server 7.0
 * and to the commands in this process: the same bytes expected. Times are absolute and far away, or
 * over, so that the clocks do not matter. Left out is what names representations of Redis's own
 * (DUMP, OBJECT ENCODING after APPEND), the order of keys (KEYS, SCAN), chance (RANDOMKEY), and times
 * beyond 2^53 ms, the year 287396, to which Rivulet cuts those up to 2^63.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { type Argument, InProcessServer } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { seedNamed } from '../../helpers/seed.ts';

const SEED = seedNamed('keys beside redis');
const COMMANDS = Number(process.env.KEYS_COMMANDS ?? 6000);
const KEYS = ['a', 'b', 'c', 'stream'];
const FUTURE = 4_000_000_000;
const NUMBERS = [
  ...['0', '1', '-1', '7', '10', '-10', '9007199254740991', '9007199254740993'],
  ...['9223372036854775807', '-9223372036854775808', '9223372036854775808', '1.5', 'x', '', ' 1'],
  ...['+1', '01', '-0', '99999999999999999999'],
];
const MAY_BE_QUEUED = 0.02;

function randomCommand(random: Random): Argument[] {
  const key = () => random.pick(KEYS);
  const number = () => random.pick(NUMBERS);
  const value = () => random.pick(['v', '', 'text', '12', 'x'.repeat(60), ...NUMBERS]);
  const seconds = () => random.pick([FUTURE, FUTURE + 5, 1, 'x', '9223372036854775807', '-5', '0']);
  const milliseconds = () => random.pick([FUTURE * 1000, FUTURE * 1000 + 3, 1, 'x', '-5', '0']);
  const time = (): Argument[] =>
    random.pick([
      ['EXAT', seconds()],
      ['PXAT', milliseconds()],
      ['EX', random.pick(['0', '-1', 'x', '9223372036854775807'])],
      ['PX'],
      ['KEEPTTL'],
      ['PERSIST'],
    ]);
  const condition = (): Argument[] =>
    random.pick([[], ['NX'], ['XX'], ['GET'], ['nx', 'get'], ['x']]);
  const expire = (): Argument[] =>
    random.pick([[], [], ['NX'], ['XX'], ['GT'], ['lt'], ['NX', 'GT'], ['y']]);
  const database = () => random.pick(['0', '1', '1', '2', '16', '-1', 'x', '99999999999']);
  const kinds: (() => Argument[])[] = [
    () => ['SET', key(), value()],
    () => ['SET', key(), value(), ...condition(), ...(random.chance(0.5) ? time() : [])],
    () => ['SETNX', key(), value()],
    () => ['SETEX', key(), random.pick(['0', '-3', 'x', '9223372036854775']), value()],
    () => ['PSETEX', key(), random.pick(['0', '-3', 'x']), value()],
    () => ['GET', key()],
    () => ['GETSET', key(), value()],
    () => ['GETDEL', key()],
    () => ['GETEX', key(), ...(random.chance(0.7) ? time() : [])],
    () => ['MGET', key(), key(), 'none'],
    () => ['MSET', key(), value(), key(), value()],
    () => ['MSETNX', key(), value(), random.pick(['new', 'a']), value()],
    () => ['MSET', key(), value(), key()],
    () => ['INCR', key()],
    () => ['DECR', key()],
    () => ['INCRBY', key(), number()],
    () => ['DECRBY', key(), number()],
    () => ['APPEND', key(), value()],
    () => ['STRLEN', key()],
    () => ['GETRANGE', key(), number(), number()],
    () => ['DEL', key(), key()],
    () => ['UNLINK', key()],
    () => ['EXISTS', key(), key(), 'none'],
    () => ['TOUCH', key(), 'none'],
    () => ['TYPE', key()],
    () => ['TTL', 'none'],
    () => ['EXPIRETIME', key()],
    () => ['PEXPIRETIME', key()],
    () => ['EXPIREAT', key(), seconds(), ...expire()],
    () => ['PEXPIREAT', key(), milliseconds(), ...expire()],
    () => ['EXPIRE', key(), random.pick(['-1', 'x', '9223372036854775807']), ...expire()],
    () => ['PEXPIRE', key(), random.pick(['-1', 'x', '9223372036854775807']), ...expire()],
    () => ['PERSIST', key()],
    () => ['RENAME', key(), key()],
    () => ['RENAMENX', key(), key()],
    () => [
      'COPY',
      key(),
      key(),
      ...random.pick<Argument[]>([[], ['REPLACE'], ['DB', database()], ['x'], ['DB']]),
    ],
    () => ['MOVE', key(), database()],
    () => ['SWAPDB', database(), database()],
    () => ['DBSIZE'],
    () => ['OBJECT', 'REFCOUNT', 'none'],
    () => ['OBJECT', 'FREQ', key()],
    () => [
      'SCAN',
      random.pick(['x', '0']),
      random.pick(['COUNT', 'MATCH', 'y']),
      random.pick(['0', 'x']),
    ],
    () => [
      'RESTORE',
      key(),
      random.pick(['0', '-1', 'x']),
      'rubbish',
      ...random.pick([[], ['REPLACE'], ['FREQ', '256'], ['IDLETIME', '-1'], ['x']]),
    ],
    () => ['XADD', 'stream', '*', 'f', 'v'].with(2, `${random.below(50)}-1`),
    () =>
      ['FLUSHDB', ...random.pick([['x'], ['SYNC'], ['async'], ['SYNC', 'SYNC']])].slice(
        0,
        random.chance(0.1) ? 2 : 9,
      ),
    () => ['WATCH', key()],
    () => ['UNWATCH'],
    () => ['DISCARD'],
    () => ['EXEC'],
    () => ['PUBLISH', 'channel', 'm'],
    () => ['PUBSUB', 'CHANNELS'],
    () => ['PUBSUB', 'NUMSUB', 'a', 'b'],
    () => ['PUBSUB', 'NUMPAT'],
    () => ['FUNCTION', 'FLUSH', ...random.pick([[], ['x'], ['SYNC']])],
    () => ['SCRIPT', 'EXISTS', 'abc', 'def'],
    () => ['SCRIPT', 'FLUSH', ...random.pick([[], ['x'], ['ASYNC'], ['SYNC', 'x']])],
  ];
  if (random.chance(MAY_BE_QUEUED)) return ['MULTI'];
  return random.pick(kinds)();
}

for (const protocol of [2, 3] as const) {
  test(`commands of keys answer as redis-server does, RESP${protocol}`, {
    skip: missing('redis-server'),
  }, async () => {
    const seed = SEED + protocol;
    const random = new Random(seed);
    await using server = await startRedis();
    const mine = new InProcessServer(Date.now());
    const theirs = [];
    for (let i = 0; i < 2; i++) theirs.push(await RespSession.open(server.port, { protocol }));
    const ours = [mine.session(protocol), mine.session(protocol)];
    const history: string[] = [];
    for (let i = 0; i < COMMANDS; i++) {
      const who = random.chance(0.8) ? 0 : 1;
      const args = randomCommand(random);
      history.push(`${who}: ${args.join(' ')}`);
      mine.clock.setNow(Date.now());
      ours[who]?.reply.release();
      ours[who]?.run(...args);
      const actual = ours[who]?.takeBytes().toString('latin1');
      const expected = (await theirs[who]?.call(...args))?.toString('latin1');
      assert.equal(actual, expected, `seed ${seed}, after:\n${history.slice(-20).join('\n')}`);
    }
    for (const session of theirs) await session[Symbol.asyncDispose]();
  });
}

/**
 * The string commands beyond SET and GET: random ones beside a real redis-server, byte for byte, for
 * what that server has, and the behaviour of 8.4 to 8.10 for what only a newer one has.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { InProcessServer, type Value } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { references } from '../../helpers/references.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { startRivulet } from '../../helpers/rivulet-server.ts';
import { seedNamed } from '../../helpers/seed.ts';

const SEED = seedNamed('strings beside redis');
const KEYS = ['a', 'b', 'none', 's'];

/** Numbers that round, overflow, are none. */
function number(random: Random): string {
  const digits = () => String(random.below(random.pick([10, 1000, 1e9])));
  switch (random.below(9)) {
    case 0:
      return random.pick(['inf', '-inf', 'nan', '', ' 1', '1 ', '1e', '+5', '0x1p-3', '1e5000']);
    case 1:
      return random.pick(['-0', '1e-18', '5e-18', '1e300', '-1e17', '9223372036854775807', '.5']);
    case 2:
      return `${digits()}e${random.below(40) - 20}`;
    default:
      return `${random.pick(['', '-'])}${digits()}.${digits()}${digits()}`;
  }
}

function command(random: Random): string[] {
  const key = random.pick(KEYS);
  const text = () =>
    Array.from({ length: random.below(12) }, () => random.pick(['a', 'b', 'c', 'x'])).join('');
  const offset = () => String(random.below(30) - 15);
  const options = () =>
    ['IDX', 'LEN', 'WITHMATCHLEN', 'minmatchlen', '2', 'x'].filter(() => random.chance(0.2));
  return random.pick([
    () => ['SET', key, random.chance(0.5) ? text() : number(random)],
    () => ['INCRBYFLOAT', key, number(random)],
    () => ['INCRBYFLOAT', key, number(random)],
    () => ['SETRANGE', key, offset(), text()],
    () => [random.pick(['GETRANGE', 'SUBSTR']), key, offset(), offset()],
    () => ['LCS', key, random.pick(KEYS), ...options()],
    () => ['GET', key],
    () => ['DEL', key],
    () => ['INCR', key],
  ])();
}

for (const { program, label, skip } of references()) {
  test(`parts, floats and LCS answer as ${label} does`, { skip }, async (t) => {
    await using redis = await startRedis({ program });
    await using rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
    t.diagnostic(`RIVULET_SEED=${SEED}`);
    const random = new Random(SEED);
    for (const protocol of [2, 3] as const) {
      await using theirs = await RespSession.open(redis.port, { protocol });
      await using ours = await RespSession.open(rivulet.port, { protocol });
      for (const r of [theirs, ours]) await r.call('XADD', 's', '1-1', 'a', 'b');
      for (let i = 0; i < 3000; i++) {
        const args = command(random);
        const [expected, actual] = await Promise.all([theirs.call(...args), ours.call(...args)]);
        const say = (reply: Buffer) => reply.toString('latin1');
        assert.equal(say(actual), say(expected), `${args.join(' ')} (seed ${SEED}, ${i})`);
      }
    }
  });
}

/** Lines of `command => reply`; replies as JSON, errors as their text. */
function play(script: string): void {
  const server = new InProcessServer();
  const r = server.session();
  for (const line of script.trim().split('\n')) {
    const [command, expected] = line.split(' => ').map((part) => part.trim());
    const args = command.split(' ').map((arg) => (arg === '""' ? '' : arg));
    const reply = r.call(...args);
    const shown = (value: Value | undefined): unknown =>
      value instanceof Error
        ? value.message
        : Array.isArray(value)
          ? value.map(shown)
          : typeof value === 'bigint'
            ? String(value)
            : value;
    assert.deepEqual(shown(reply), JSON.parse(expected), command);
  }
}

test('SET takes conditions on the present value and on its digest', () => {
  play(`
SET k v1 IFEQ x => null
EXISTS k => 0
SET k v1 IFDEQ short => null
SET k v1 IFNE x => "OK"
SET k v2 IFNE v1 => null
SET k v2 ifeq v1 => "OK"
SET k v3 IFEQ no GET => "v2"
SET k v3 IFEQ v2 GET EX 100 => "v2"
TTL k => 100
SET k v4 IFEQ v3 KEEPTTL => "OK"
TTL k => 100
SET k v5 IFEQ v4 NX => "ERR syntax error"
SET k v5 XX IFEQ v4 => "ERR syntax error"
SET k v5 IFEQ v4 IFNE v4 => "ERR syntax error"
SET k v5 IFEQ => "ERR syntax error"
SET k hello => "OK"
DIGEST k => "9555e8555c62dcfd"
SET k world IFDEQ 9555E8555C62DCFD => "OK"
SET k again IFDNE 9555e8555c62dcfd => "OK"
SET k again IFDEQ 9555e8555c62dcf => "ERR must be exactly 16 hexadecimal characters"
SET k again IFDEQ "" GET => "ERR must be exactly 16 hexadecimal characters"
XADD s 1-1 a b => "1-1"
SET s v IFEQ x => "WRONGTYPE Operation against a key holding the wrong kind of value"
SET s v IFDNE x => "WRONGTYPE Operation against a key holding the wrong kind of value"
`);
});

test('DELEX removes a key under a condition, DIGEST gives what it compares', () => {
  play(`
DELEX k => 0
DELEX k IFEQ v => 0
DELEX k NONSENSE v => 0
DELEX k IFEQ => "ERR wrong number of arguments for 'delex' command"
SET k hello => "OK"
DELEX k IFEQ world => 0
DELEX k IFNE hello => 0
DELEX k IFDEQ 0000000000000000 => 0
DELEX k IFDEQ 123 => "ERR must be exactly 16 hexadecimal characters"
DELEX k IF hello => "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"
DELEX k IFEQ hello more => "ERR wrong number of arguments for 'delex' command"
DELEX k IFDEQ 9555E8555c62dcfd => 1
EXISTS k => 0
DIGEST k => null
SET k "" => "OK"
DIGEST k => "2d06800538d394c2"
DELEX k IFEQ "" => 1
XADD s 1-1 a b => "1-1"
DELEX s IFEQ x => "ERR Key should be of string type if conditions are specified"
DIGEST s => "WRONGTYPE Operation against a key holding the wrong kind of value"
DELEX s => 1
SET d v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd => "OK"
DIGEST d => "00006c38adf31777"
`);
});

test('MSETEX sets all or none', () => {
  play(`
MSETEX 2 a 1 b 2 EX 100 => 1
TTL a => 100
TTL b => 100
MSETEX 2 a 3 c 4 NX => 0
EXISTS c => 0
MSETEX 2 a 3 c 4 XX => 0
GET a => "1"
MSETEX 2 a 3 b 4 KEEPTTL XX => 1
TTL a => 100
MSETEX 1 a 5 => 1
TTL a => -1
MSETEX 0 a 1 => "ERR invalid numkeys value"
MSETEX a 1 b 2 => "ERR invalid numkeys value"
MSETEX 2147483648 a 1 => "ERR invalid numkeys value"
MSETEX 2147483647 a 1 => "ERR wrong number of key-value pairs"
MSETEX 2 a 1 b => "ERR wrong number of key-value pairs"
MSETEX 1 a 1 NONSENSE => "ERR syntax error"
MSETEX 1 a 1 NX XX => "ERR syntax error"
MSETEX 1 a 1 EX 10 PX 5000 => "ERR syntax error"
MSETEX 1 a 1 EX 10 KEEPTTL => "ERR syntax error"
MSETEX 1 a 1 EX 0 => "ERR invalid expire time in 'msetex' command"
`);
});

test('INCREX adds within bounds and refuses or stops beyond them', () => {
  play(`
INCREX k => [1, 1]
INCREX k BYINT 5 UBOUND 10 => [6, 5]
INCREX k BYINT 5 UBOUND 10 EX 100 => [6, 0]
TTL k => -1
INCREX k BYINT 5 UBOUND 10 SATURATE EX 100 => [10, 4]
TTL k => 100
INCREX k EX 10 ENX => [11, 1]
TTL k => 100
INCREX k BYINT -3 LBOUND 0 UBOUND 5 => [11, 0]
INCREX k BYINT -8 LBOUND 0 UBOUND 5 => [3, -8]
INCREX k PERSIST => [4, 1]
TTL k => -1
INCREX k BYINT 20 LBOUND -5 UBOUND 1 SATURATE => [1, -3]
INCREX none BYINT 5 LBOUND 10 => [0, 0]
EXISTS none => 0
INCREX none BYINT 5 LBOUND 10 SATURATE => [10, 10]
INCREX k EXAT 1 => [2, 1]
EXISTS k => 0
SET k 9223372036854775800 => "OK"
INCREX k BYINT 9223372036854775800 => ["9223372036854775800", 0]
INCREX k BYINT 9223372036854775800 SATURATE => ["9223372036854775807", 7]
INCREX k BYINT 1 SATURATE UBOUND -9223372036854775808 => "ERR applied increment would overflow"
SET f 10 => "OK"
INCREX f BYFLOAT 0.25 => ["10.25", "0.25"]
INCREX f BYFLOAT 100 UBOUND 42.5 => ["10.25", "0"]
INCREX f BYFLOAT 100 UBOUND 42.5 SATURATE => ["42.5", "32.25"]
INCREX f BYFLOAT +inf => "ERR BYFLOAT increment cannot be Infinity"
SET f inf => "OK"
INCREX f BYFLOAT 1 => "ERR value cannot be Infinity"
INCREX f => "ERR value is not an integer or out of range"
INCREX k BYFLOAT abc => "ERR Increment is not a valid float"
INCREX k BYINT 1.5 => "ERR Increment is not an integer or out of range"
INCREX k UBOUND abc => "ERR UBOUND is not an integer or out of range"
INCREX k BYFLOAT 1 LBOUND abc => "ERR LBOUND is not a valid float"
INCREX k LBOUND 10 UBOUND 5 => "ERR LBOUND can't be greater than UBOUND"
INCREX k ENX => "ERR ENX flag requires an expiration"
INCREX k PERSIST ENX => "ERR syntax error"
INCREX k ENX PERSIST => "ERR syntax error"
INCREX k EX 10 PX 10 => "ERR syntax error"
INCREX k EX 10 EX 10 => "ERR syntax error"
INCREX k BYINT 1 BYFLOAT 1 => "ERR syntax error"
INCREX k SATURATE SATURATE => "ERR syntax error"
INCREX k LBOUND => "ERR syntax error"
INCREX k EX 0 => "ERR invalid expire time in 'increx' command"
XADD s 1-1 a b => "1-1"
INCREX s => "WRONGTYPE Operation against a key holding the wrong kind of value"
`);
});

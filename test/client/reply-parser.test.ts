/**
 * The reply parser against bytes whose meaning is known, cut at every place.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Reply, ReplyError, ReplyMap } from '../../src/client/reply.ts';
import { ReplyParser } from '../../src/client/reply-parser.ts';
import { Random } from '../../src/util/random.ts';

function parse(...pieces: (string | Buffer)[]): { replies: Reply[]; pushes: Reply[][] } {
  const replies: Reply[] = [];
  const pushes: Reply[][] = [];
  const parser = new ReplyParser({
    reply: (reply) => replies.push(reply),
    push: (items) => pushes.push(items),
  });
  for (const piece of pieces) parser.feed(Buffer.from(piece as string));
  return { replies, pushes };
}

const b = (text: string) => Buffer.from(text);
const map = (...entries: [Reply, Reply][]) => Object.assign(new ReplyMap(), { entries });

const CASES: [bytes: string, value: Reply][] = [
  ['+OK\r\n', 'OK'],
  ['+\r\n', ''],
  [':0\r\n', 0],
  [':-42\r\n', -42],
  [':9007199254740991\r\n', 9007199254740991],
  [':9007199254740993\r\n', 9007199254740993n],
  [':18446744073709551615\r\n', 18446744073709551615n],
  [':-9223372036854775808\r\n', -9223372036854775808n],
  ['$0\r\n\r\n', b('')],
  ['$7\r\na\r\n*1\r\n\r\n', b('a\r\n*1\r\n')],
  ['$-1\r\n', null],
  ['*-1\r\n', null],
  ['_\r\n', null],
  ['*0\r\n', []],
  ['*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n', [b('a'), [1, null]]],
  ['*3\r\n*0\r\n*1\r\n*0\r\n*0\r\n', [[], [[]], []]],
  ['~2\r\n+a\r\n+b\r\n', ['a', 'b']],
  ['%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*1\r\n#t\r\n', map(['a', 1], [b('b'), [true]])],
  ['%0\r\n', map()],
  ['#f\r\n', false],
  [',1.5\r\n', 1.5],
  [',-inf\r\n', Number.NEGATIVE_INFINITY],
  ['(123456789012345678901234567890\r\n', 123456789012345678901234567890n],
  ['=8\r\ntxt:text\r\n', b('text')],
  ['|1\r\n+ttl\r\n:3\r\n*1\r\n|1\r\n+x\r\n*0\r\n+value\r\n', ['value']],
];

test('every type of RESP2 and RESP3 becomes its value', () => {
  for (const [bytes, value] of CASES) {
    assert.deepStrictEqual(parse(bytes).replies, [value], JSON.stringify(bytes));
  }
});

test('a cut at any byte changes nothing', () => {
  for (const [bytes, value] of CASES) {
    for (let cut = 1; cut < bytes.length; cut++) {
      const { replies } = parse(bytes.slice(0, cut), bytes.slice(cut));
      assert.deepStrictEqual(replies, [value], `${JSON.stringify(bytes)} cut at ${cut}`);
    }
    assert.deepStrictEqual(
      parse(...bytes).replies,
      [value],
      `${JSON.stringify(bytes)} byte by byte`,
    );
  }
});

test('a long transcript in random pieces gives the same replies as in one', () => {
  const random = new Random(7);
  const long = Buffer.alloc(200_000, 'abc\r\n');
  const transcript: Buffer[] = [];
  const expected: Reply[] = [];
  for (let i = 0; i < 400; i++) {
    const [bytes, value] = random.pick(CASES);
    transcript.push(b(bytes));
    expected.push(value);
    if (i % 40 !== 0) continue;
    const length = random.below(long.length);
    transcript.push(b(`*2\r\n$${length}\r\n`), long.subarray(0, length), b('\r\n:1\r\n'));
    expected.push([long.subarray(0, length), 1]);
  }
  const bytes = Buffer.concat(transcript);
  for (const size of [1_000, 65_536, bytes.length]) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + random.below(size);
      pieces.push(bytes.subarray(at, end));
      at = end;
    }
    assert.deepStrictEqual(parse(...pieces).replies, expected);
  }
});

test('errors are values with their first word and our code', () => {
  const { replies } = parse(
    '-WRONGTYPE bad\r\n*2\r\n-NOGROUP gone\r\n!8\r\nERR a\r\nb\r\n-oops\r\n',
  );
  const [wrongType, nested, oops] = replies as [ReplyError, ReplyError[], ReplyError];
  assert.ok(wrongType instanceof ReplyError);
  assert.deepEqual([wrongType.prefix, wrongType.message], ['WRONGTYPE', 'WRONGTYPE bad']);
  assert.deepEqual(
    nested.map((error) => error.code),
    ['GROUP_LOST', 'INVALID_ARGUMENT'],
  );
  assert.equal(nested[1].message, 'ERR a\r\nb');
  assert.equal(oops.prefix, 'ERR');
});

test('pushes are handed over apart from replies, wherever they come', () => {
  const { replies, pushes } = parse('+1\r\n>2\r\n+message\r\n*1\r\n+x\r\n+2\r\n');
  assert.deepEqual(replies, ['1', '2']);
  assert.deepEqual(pushes, [['message', ['x']]]);
});

test('what is not RESP is refused, and never grows memory', () => {
  const deep = '*1\r\n'.repeat(65);
  const bad = [
    'HTTP/1.1 400\r\n',
    ':1x\r\n',
    ':\r\n',
    '$-2\r\n',
    '$2000000000\r\n',
    '*-5\r\n',
    '#x\r\n',
    '(1.5\r\n',
    '$?\r\n',
    deep,
  ];
  for (const bytes of bad) {
    assert.throws(
      () => parse(bytes),
      { code: 'CONNECTION_FAILED' },
      JSON.stringify(bytes.slice(0, 40)),
    );
  }
  assert.throws(() => parse('+', 'x'.repeat(70_000)), /does not end/);
  assert.throws(() => parse(':', '1'.repeat(100)), /does not end/);
  assert.deepEqual(
    parse('*1000000000\r\n:1\r\n').replies,
    [],
    'a declared length allocates nothing',
  );
});

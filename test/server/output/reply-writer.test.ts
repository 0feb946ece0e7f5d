/**
 * The writer of replies: every kind in RESP2 and RESP3, byte for byte.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool } from '../../../src/server/output/buffer-pool.ts';
import { ReplyWriter } from '../../../src/server/output/reply-writer.ts';
import { StreamId } from '../../../src/stream/stream-id.ts';

const pool = new BufferPool(16 * 1024, 4);

function written(protocol: 2 | 3, write: (reply: ReplyWriter) => void): string {
  const reply = new ReplyWriter(pool);
  reply.protocol = protocol;
  write(reply);
  return reply.take().toString('latin1');
}

const KINDS: [string, (reply: ReplyWriter) => void, string, string][] = [
  ['ok', (r) => r.ok(), '+OK\r\n', '+OK\r\n'],
  ['simple', (r) => r.simple('PONG'), '+PONG\r\n', '+PONG\r\n'],
  ['error', (r) => r.error('ERR a\r\nb'), '-ERR a  b\r\n', '-ERR a  b\r\n'],
  ['error of bytes', (r) => r.errorBytes('ERR \xff'), '-ERR \xff\r\n', '-ERR \xff\r\n'],
  ['integer', (r) => r.integer(-42), ':-42\r\n', ':-42\r\n'],
  ['zero', (r) => r.integer(0), ':0\r\n', ':0\r\n'],
  ['2^53-1', (r) => r.integer(2 ** 53 - 1), ':9007199254740991\r\n', ':9007199254740991\r\n'],
  [
    'a 64-bit integer',
    (r) => r.integer(-(2n ** 63n)),
    ':-9223372036854775808\r\n',
    ':-9223372036854775808\r\n',
  ],
  ['bulk', (r) => r.bulk(Buffer.from('abc')), '$3\r\nabc\r\n', '$3\r\nabc\r\n'],
  ['empty bulk', (r) => r.bulk(Buffer.alloc(0)), '$0\r\n\r\n', '$0\r\n\r\n'],
  ['bulk of text', (r) => r.bulkText('é'), '$2\r\n\xc3\xa9\r\n', '$2\r\n\xc3\xa9\r\n'],
  ['slice', (r) => r.bulkSlice(Buffer.from('abcdef'), 2, 3), '$3\r\ncde\r\n', '$3\r\ncde\r\n'],
  ['null', (r) => r.null(), '$-1\r\n', '_\r\n'],
  ['null array', (r) => r.nullArray(), '*-1\r\n', '_\r\n'],
  ['array', (r) => r.array(12), '*12\r\n', '*12\r\n'],
  ['map', (r) => r.map(7), '*14\r\n', '%7\r\n'],
  ['set', (r) => r.set(3), '*3\r\n', '~3\r\n'],
  ['push', (r) => r.push(3), '*3\r\n', '>3\r\n'],
  ['double', (r) => r.double(1.5), '$3\r\n1.5\r\n', ',1.5\r\n'],
  ['infinity', (r) => r.double(-Infinity), '$4\r\n-inf\r\n', ',-inf\r\n'],
  ['boolean', (r) => r.boolean(true), ':1\r\n', '#t\r\n'],
  ['verbatim', (r) => r.verbatim('hé'), '$3\r\nh\xc3\xa9\r\n', '=7\r\ntxt:h\xc3\xa9\r\n'],
];
for (const [name, write, resp2, resp3] of KINDS) {
  test(`${name} in RESP2 and RESP3`, () => {
    assert.equal(written(2, write), resp2);
    assert.equal(written(3, write), resp3);
  });
}

test('ids of every length stand behind the right header', () => {
  const max = 0xffffffff;
  for (const id of [
    new StreamId(),
    StreamId.of(1, 2),
    StreamId.of(1234, 5678),
    StreamId.of(12345, 1234),
    StreamId.of(1_700_000_000_000, 7),
    StreamId.of(2 ** 53 - 1, 2 ** 53 - 1),
    new StreamId(max, max, max, max),
  ]) {
    const text = id.toString();
    assert.equal(
      written(2, (r) => r.id(id)),
      `$${text.length}\r\n${text}\r\n`,
    );
  }
});

test('a length known later is filled in, whatever its size, nested as well', () => {
  for (const [length, kind] of [
    [0, 'array'],
    [7, 'set'],
    [99, 'map'],
    [1_234_567, 'array'],
    [123_456_789, 'map'],
  ] as const) {
    const text = written(2, (r) => {
      r.ok();
      const outer = r.deferred();
      r.simple('a');
      const inner = r.deferred();
      r.simple('b');
      r.setLength(inner, 1);
      r.setLength(outer, length, kind);
    });
    assert.equal(text, `+OK\r\n*${kind === 'map' ? length * 2 : length}\r\n+a\r\n*1\r\n+b\r\n`);
  }
  assert.equal(
    written(3, (r) => {
      const mark = r.deferred();
      r.setLength(mark, 3, 'map');
    }),
    '%3\r\n',
  );
});

test('replies of any size come out whole, in order', () => {
  const reply = new ReplyWriter(pool);
  const parts: string[] = [];
  for (let size = 1; size < 300_000; size = Math.ceil(size * 1.7)) {
    const bytes = Buffer.alloc(size, size % 251);
    reply.bulk(bytes);
    parts.push(`$${size}\r\n${bytes.toString('latin1')}\r\n`);
  }
  assert.equal(reply.take().toString('latin1'), parts.join(''));
  assert.equal(reply.length, 0);
});

test('a writer without bytes holds no buffer', () => {
  const reply = new ReplyWriter(pool);
  assert.equal(reply.buffer.length, 0);
  reply.ok();
  assert.equal(reply.take().toString(), '+OK\r\n');
  assert.equal(reply.buffer.length, 0);
  reply.bulk(Buffer.alloc(5000));
  assert.equal(reply.take().length, 5009);
  assert.equal(reply.buffer.length, 0);
});

test('what was written can be taken back', () => {
  const reply = new ReplyWriter(pool);
  reply.ok();
  const mark = reply.length;
  reply.simple('unwanted');
  reply.truncate(mark);
  assert.equal(reply.take().toString(), '+OK\r\n');
});

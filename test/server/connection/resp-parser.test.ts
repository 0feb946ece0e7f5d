/**
 * The parser of commands: the normal case, every way to be cut off, limits, Redis's error texts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BROKEN,
  COMPLETE,
  INCOMPLETE,
  RespParser,
} from '../../../src/server/connection/resp-parser.ts';
import { Random } from '../../../src/util/random.ts';
import { seedOf } from '../../helpers/seed.ts';

const LIMITS = { bulkMax: 512 * 1024 * 1024 };

/** Everything a parser makes of these chunks: commands as text, then how it ended. */
function parse(chunks: readonly Buffer[], unauthenticated = false): string[] {
  const parser = new RespParser(LIMITS);
  parser.unauthenticated = unauthenticated;
  const seen: string[] = [];
  for (const chunk of chunks) {
    // The chunk is overwritten afterwards, as the server's shared read buffer is.
    const shared = Buffer.from(chunk);
    parser.feed(shared, 0, shared.length);
    for (;;) {
      const status = parser.next();
      if (status === INCOMPLETE) break;
      if (status === BROKEN) {
        seen.push(`!${parser.error}`);
        return seen;
      }
      const words: string[] = [];
      for (let i = 0; i < parser.args.count; i++) words.push(parser.args.latin1(i));
      if (words.length > 0) seen.push(words.join('|'));
    }
    parser.keep();
    shared.fill(0x58);
  }
  return seen;
}

const one = (text: string, unauthenticated = false): string[] =>
  parse([Buffer.from(text, 'latin1')], unauthenticated);

function command(...words: (string | Buffer)[]): Buffer {
  const parts = words.flatMap((word) => {
    const bytes = Buffer.from(word as string);
    return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')];
  });
  return Buffer.concat([Buffer.from(`*${words.length}\r\n`), ...parts]);
}

test('arrays of bulk strings become arguments, several to a chunk', () => {
  assert.deepEqual(one('*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n'), ['PING', 'ECHO|']);
  const long = 'x'.repeat(12345);
  assert.deepEqual(parse([command('a', long, 'b')]), [`a|${long}|b`]);
  const many = Array.from({ length: 1500 }, (_, i) => String(i));
  assert.deepEqual(parse([command(...many)]), [many.join('|')]);
});

test('empty lines and arrays of length zero or less are skipped', () => {
  assert.deepEqual(one('\r\n\n*0\r\n*-1\r\n*-10\r\n*1\r\n$4\r\nPING\r\n'), ['PING']);
});

test('inline commands are split by the quoting rules', () => {
  assert.deepEqual(one('SET key value\r\nGET key\n'), ['SET|key|value', 'GET|key']);
  assert.deepEqual(one(`a "b c\\x41\\n\\"" 'd\\'e' f"g"\r\n`), [`a|b cA\n"|d'e|fg`]);
  assert.deepEqual(one('a ""\r\n'), ['a|']);
});

test('the bytes after a bulk are skipped unread, as Redis does', () => {
  assert.deepEqual(one('*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n'), ['PING', 'PING']);
});

// Asked of redis-server 7.0.15.
const ERRORS: [string, string][] = [
  ['*x\r\n', 'invalid multibulk length'],
  ['*\r\n', 'invalid multibulk length'],
  ['*01\r\n', 'invalid multibulk length'],
  ['*2147483648\r\n', 'invalid multibulk length'],
  ['*1048577\r\n', 'invalid multibulk length'],
  ['*1\r\nPING\r\n', "expected '$', got 'P'"],
  ['*1\r\n\r\n', "expected '$', got '\r'"],
  ['*1\r\n$-1\r\n', 'invalid bulk length'],
  ['*1\r\n$x\r\n', 'invalid bulk length'],
  ['*1\r\n$536870913\r\n', 'invalid bulk length'],
  ['"abc\r\n', 'unbalanced quotes in request'],
  [`a "b"c\r\n`, 'unbalanced quotes in request'],
  [`*${'1'.repeat(70_000)}`, 'too big mbulk count string'],
  [`*1\r\n$${'1'.repeat(70_000)}`, 'too big bulk count string'],
  ['a'.repeat(70_000), 'too big inline request'],
];
for (const [text, error] of ERRORS) {
  test(`${JSON.stringify(text.slice(0, 20))} is refused with: ${JSON.stringify(error)}`, () => {
    assert.deepEqual(one(text), [`!${error}`]);
  });
}

test('before login only small commands are taken', () => {
  assert.deepEqual(one('*11\r\n', true), ['!unauthenticated multibulk length']);
  assert.deepEqual(one('*1\r\n$16385\r\n', true), ['!unauthenticated bulk length']);
  assert.deepEqual(one('*1\r\n$4\r\nPING\r\n', true), ['PING']);
});

test('however the bytes are split, the commands are the same', (t) => {
  const seed = seedOf(t);
  const random = new Random(seed);
  for (let round = 0; round < 300; round++) {
    const pieces: Buffer[] = [];
    const expected: string[] = [];
    for (let i = 0; i < 1 + random.below(8); i++) {
      const words = Array.from({ length: 1 + random.below(6) }, () =>
        Buffer.from(
          Array.from({ length: random.below(random.chance(0.1) ? 5000 : 40) }, () =>
            random.below(256),
          ),
        ),
      );
      if (random.chance(0.15)) {
        pieces.push(Buffer.from('PING inline\r\n'));
        expected.push('PING|inline');
      } else {
        pieces.push(command(...words));
        expected.push(words.map((word) => word.toString('latin1')).join('|'));
      }
    }
    const whole = Buffer.concat(pieces);
    const chunks: Buffer[] = [];
    for (let at = 0; at < whole.length; ) {
      const size = Math.min(whole.length - at, 1 + random.below(random.chance(0.5) ? 7 : 3000));
      chunks.push(whole.subarray(at, at + size));
      at += size;
    }
    assert.deepEqual(parse(chunks), expected, `seed ${seed}, round ${round}`);
    assert.deepEqual(parse([whole]), expected, `seed ${seed}, round ${round}`);
  }
});

test('a header that promises a gigabyte reserves nothing', () => {
  const parser = new RespParser({ bulkMax: 2 ** 31 });
  const header = Buffer.from(`*2\r\n$3\r\nSET\r\n$${2 ** 30}\r\nabc`);
  parser.feed(header, 0, header.length);
  assert.equal(parser.next(), INCOMPLETE);
  parser.keep();
  assert.ok(parser.held <= 1024, `holds ${parser.held} bytes`);
  const more = Buffer.alloc(64 * 1024);
  for (let i = 0; i < 16; i++) {
    parser.feed(more, 0, more.length);
    assert.equal(parser.next(), INCOMPLETE);
    parser.keep();
  }
  assert.ok(parser.held <= 4 * 1024 * 1024, `holds ${parser.held} bytes after a megabyte`);
});

test('a large command leaves no large buffer behind', () => {
  const parser = new RespParser(LIMITS);
  const whole = Buffer.concat([
    command('SET', 'k', Buffer.alloc(3_000_000)),
    Buffer.from('*1\r\n$4\r\nPI'),
  ]);
  for (let at = 0; at < whole.length; at += 65536) {
    const chunk = whole.subarray(at, at + 65536);
    parser.feed(chunk, 0, chunk.length);
    while (parser.next() === COMPLETE);
    parser.keep();
  }
  assert.equal(parser.waiting, 10);
  assert.ok(parser.held <= 64 * 1024, `holds ${parser.held} bytes`);
});

test('a command of very many arguments in small pieces is not parsed again and again', () => {
  const count = 200_000;
  const whole = Buffer.from(`*${count}\r\n${'$1\r\nx\r\n'.repeat(count)}`);
  const parser = new RespParser(LIMITS);
  const started = process.cpuUsage();
  let status = INCOMPLETE;
  for (let at = 0; at < whole.length; at += 512) {
    const chunk = whole.subarray(at, at + 512);
    parser.feed(chunk, 0, chunk.length);
    status = parser.next();
    parser.keep();
  }
  assert.equal(status, COMPLETE);
  assert.equal(parser.args.count, count);
  const { user } = process.cpuUsage(started);
  assert.ok(user < 3_000_000, `quadratic: ${user} µs of processor time`);
});

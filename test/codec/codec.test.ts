/** The codecs: what goes in comes out, and any bytes at all are a value or DECODING_FAILED. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Codecs, mediaType } from '../../src/codec/by-content-type.ts';
import type { Codec } from '../../src/codec/codec.ts';
import { jsonCodec } from '../../src/codec/json.ts';
import { copyCodec } from '../../src/codec/value.ts';
import { RivuletError } from '../../src/errors.ts';
import { fc } from '../helpers/property.ts';

const codecs = new Codecs();
const all = await Promise.all(
  ['json', 'text', 'bytes', 'msgpack', 'bson'].map((name) => codecs.load(name)),
);
const structured = all.filter(({ name }) => ['json', 'msgpack', 'bson'].includes(name));

const jsonValue = fc.jsonValue({ maxDepth: 5 }).map((value) => JSON.parse(JSON.stringify(value)));

for (const codec of structured) {
  test(`${codec.name}: every JSON value comes back as it was`, () => {
    const values = codec.name === 'bson' ? jsonValue.filter(isBson) : jsonValue;
    fc.assert(
      fc.property(values, (value) => assert.deepEqual(plain(decodeAgain(codec, value)), value)),
    );
  });

  test(`${codec.name}: text in any script, numbers at their edges and deep nesting come back`, () => {
    let deep: unknown = 'bottom';
    for (let depth = 0; depth < 100; depth++) deep = { deep };
    for (const value of [
      { text: '漢字 🚀 \u0000 \r\n "' },
      { edges: [0, -1, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, 1.5e-300, 1e300] },
      { empty: {}, none: null, list: [], flag: false },
      { deep },
    ]) {
      assert.deepEqual(plain(decodeAgain(codec, value)), value);
    }
  });
}

for (const codec of all) {
  test(`${codec.name}: any bytes are a value or DECODING_FAILED, cut at each place too`, () => {
    const reads = (bytes: Uint8Array) => {
      try {
        codec.decode(bytes);
      } catch (error) {
        assert.ok(error instanceof RivuletError, String(error));
        assert.equal(error.code, 'DECODING_FAILED');
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), reads), { numRuns: 500 });
    if (codec.name === 'bytes' || codec.name === 'text') return;
    const whole = codec.encode({ a: [1, 'two', { three: null }], b: 'x'.repeat(50), c: 2 ** 40 });
    for (let length = 0; length < whole.length; length++) reads(whole.slice(0, length));
    for (let at = 0; at < whole.length; at++) {
      const flipped = Uint8Array.from(whole);
      flipped[at] = 255 - (flipped[at] as number);
      reads(flipped);
    }
  });

  test(`${codec.name}: what has no form in it is VALIDATION_FAILED`, () => {
    const loop: Record<string, unknown> = {};
    loop.loop = loop;
    const unfit = codec.name === 'text' || codec.name === 'bytes' ? [1, null, {}] : [loop];
    for (const value of unfit) {
      assert.throws(() => codec.encode(value), { code: 'VALIDATION_FAILED' });
    }
  });

  test(`${codec.name}: what was encoded does not change when the next value is encoded`, () => {
    const value = (text: string) =>
      codec.name === 'text' ? text : codec.name === 'bytes' ? Buffer.from(text) : { text };
    const first = codec.encode(value('first'));
    const copy = Uint8Array.from(first);
    codec.encode(value('second'));
    assert.deepEqual(Uint8Array.from(first), copy);
  });
}

test('json: no bytes are undefined, a bigint is a decimal string, bytes are base64', () => {
  const json = codecs.byName('json');
  assert.equal(json.encode(undefined).length, 0);
  assert.equal(json.decode(new Uint8Array()), undefined);
  const text = Buffer.from(
    json.encode({ big: 2n ** 63n - 1n, bytes: new Uint8Array([1, 2]), buffer: Buffer.from('a') }),
  ).toString();
  assert.equal(text, '{"big":"9223372036854775807","bytes":"AQI=","buffer":"YQ=="}');
  const hostile = json.decode(Buffer.from('{"__proto__":{"polluted":1}}')) as object;
  assert.equal((hostile as { polluted?: number }).polluted, undefined);
  assert.equal(({} as { polluted?: number }).polluted, undefined);
});

test('16 MiB of text pass through every codec', () => {
  const text = 'x'.repeat(16 * 1024 * 1024);
  for (const codec of structured)
    assert.equal((decodeAgain(codec, { text }) as { text: string }).text.length, text.length);
});

test('a content type finds its codec whatever its case and parameters; an unknown one is refused', async () => {
  assert.equal(mediaType(' Application/JSON ; charset=utf-8'), 'application/json');
  for (const [type, name] of [
    ['application/json; charset=utf-8', 'json'],
    ['application/grpc+json', 'json'],
    ['application/protobuf', 'proto'],
    ['application/grpc', 'proto'],
    ['application/octet-stream', 'bytes'],
    ['text/plain', 'text'],
    ['', 'json'],
  ] as const) {
    assert.equal(codecs.byContentType(type).name, name);
  }
  const fresh = new Codecs();
  assert.equal((await fresh.load('application/bson')).name, 'bson');
  assert.equal((await fresh.load('msgpack')).name, 'msgpack');
  for (const bad of ['application/xml', '__proto__', 'constructor', 'x'.repeat(10_000)]) {
    assert.throws(() => fresh.byContentType(bad), { code: 'UNSUPPORTED' });
    await assert.rejects(fresh.load(bad), { code: 'UNSUPPORTED' });
  }
});

test('protobuf without a type says what is missing', () => {
  assert.throws(() => codecs.byName('proto').encode({}), {
    code: 'UNSUPPORTED',
    message: /\.proto/,
  });
});

function decodeAgain(codec: Codec, value: unknown): unknown {
  return codec.decode(codec.encode(value));
}

/** BSON has no keys with a zero byte, and gives integers beyond 2^53 back as bigint. */
function isBson(value: unknown): boolean {
  const text = JSON.stringify(value);
  return !text.includes('\\u0000') && !text.includes('"__proto__"');
}

/** As JSON sees it: BSON's whole numbers may be bigint. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? Number(each) : each)),
  );
}

test('json: a toJSON is asked wherever it is, and what it gives is written like any other value', () => {
  class Ids extends Array<number> {
    toJSON(): unknown {
      return [5n];
    }
  }
  const hidden = Object.defineProperty({ a: 1 }, 'toJSON', { value: () => ({ b: 6n }) });
  assert.equal(Buffer.from(jsonCodec.encode({ ids: Ids.from([1]) })).toString(), '{"ids":["5"]}');
  assert.equal(Buffer.from(jsonCodec.encode([hidden])).toString(), '[{"b":"6"}]');
});

test('a value that refers to itself by several ways is copied once each, and has no JSON', {
  timeout: 60_000,
}, () => {
  type Link = { next: Link | null; previous: Link | null };
  const first: Link = { next: null, previous: null };
  const second: Link = { next: first, previous: first };
  first.next = second;
  first.previous = second;
  const copied = copyCodec.decode(copyCodec.encode(first)) as Link;
  assert.notEqual(copied, first);
  assert.equal(copied.next?.next, copied);
  assert.equal(copied.previous, copied.next);
  assert.throws(() => jsonCodec.encode(first), { code: 'VALIDATION_FAILED' });
  // Two to the fortieth ways lead to the innermost object.
  let shared: unknown = { n: 1 };
  for (let depth = 0; depth < 40; depth++) shared = { left: shared, right: shared };
  copyCodec.encode(shared);
  assert.throws(() => copyCodec.encode({ first, run() {} }), { code: 'VALIDATION_FAILED' });
});

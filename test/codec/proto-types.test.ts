/** Protobuf messages: the wire form beside fixed bytes, JSON's mapping, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createJsonCodec, jsonCodec } from '../../src/codec/json.ts';
import { protoCodec } from '../../src/codec/proto/proto.ts';
import { protoType } from '../../src/codec/proto/proto-types.ts';
import { protobufjs } from '../../src/codec/proto/protobufjs.ts';
import { copyCodec } from '../../src/codec/value.ts';
import { fc } from '../helpers/property.ts';

const { Root, parse, common } = protobufjs();
const root = new Root();
for (const name of ['timestamp', 'duration', 'struct', 'wrappers', 'field_mask', 'any', 'empty']) {
  root.addJSON(common.get(`google/protobuf/${name}.proto`)!.nested!);
}
parse(
  `syntax = "proto3"; package t;
  enum Color { NONE = 0; RED = 1; GREEN = -5; }
  message All {
    int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
    fixed32 f32 = 7; fixed64 f64 = 8; sfixed32 sf32 = 9; sfixed64 sf64 = 10;
    float flo = 11; double dou = 12; bool boo = 13; string str = 14; bytes byt = 15;
    Color color = 16; repeated int64 longs = 17; repeated string words = 18;
    repeated double loose = 19 [packed = false]; map<string, int32> by_name = 20;
    map<int64, All> by_id = 21; All inner = 22; optional int32 may_be = 23;
    oneof choice { string left_side = 24; All right_side = 25; } repeated Color colors = 26;
    bool constructor = 27; map<bool, string> flags = 28;
  }
  message Known {
    google.protobuf.Timestamp at = 1; google.protobuf.Duration took = 2; google.protobuf.Struct any = 3;
    google.protobuf.Value value = 4; google.protobuf.Int64Value wrapped = 5;
    google.protobuf.FieldMask mask = 6; google.protobuf.Any boxed = 7; google.protobuf.Empty none = 8;
  }
  message Small { int32 a = 1; string user_name = 2; int64 id = 3; }`,
  root,
  { keepCase: true },
);
parse(
  `syntax = "proto2"; package old;
  message Old { required int32 must = 1; optional string may = 2; repeated int32 list = 3;
    optional group Part = 4 { optional int32 x = 1; } }`,
  root,
  { keepCase: true },
);
root.resolveAll();
const all = protoType(root.lookupType('t.All'));
const small = protoType(root.lookupType('t.Small'));
const known = protoType(root.lookupType('t.Known'));
const old = protoType(root.lookupType('old.Old'));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const from = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const failed = (code: string, text: RegExp) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, code);
  assert.match((error as Error).message, text);
  return true;
};

/** Written by protoc's rules: the examples of the encoding guide, and edges of each scalar. */
const VECTORS: [Record<string, unknown>, string][] = [
  [{ i32: 150 }, '08 96 01'],
  [{ i32: -1 }, '08 ff ff ff ff ff ff ff ff ff 01'],
  [{ i64: -(2n ** 63n) }, '10 80 80 80 80 80 80 80 80 80 01'],
  [{ u64: 2n ** 64n - 1n }, '20 ff ff ff ff ff ff ff ff ff 01'],
  [{ s32: -1 }, '28 01'],
  [{ s64: 2n ** 63n - 1n }, '30 fe ff ff ff ff ff ff ff ff 01'],
  [{ f32: 2 ** 32 - 1 }, '3d ff ff ff ff'],
  [{ f64: 1n }, '41 01 00 00 00 00 00 00 00'],
  [{ sf64: -2n }, '51 fe ff ff ff ff ff ff ff'],
  [{ dou: -0 }, '61 00 00 00 00 00 00 00 80'],
  [{ flo: 1.5 }, '5d 00 00 c0 3f'],
  [{ str: 'testing' }, '72 07 74 65 73 74 69 6e 67'],
  [{ color: 'GREEN' }, '80 01 fb ff ff ff ff ff ff ff ff 01'],
  [{ longs: [3n, 270n, 86942n] }, '8a 01 06 03 8e 02 9e a7 05'],
  [{ loose: [0, 1] }, '99 01 00 00 00 00 00 00 00 00 99 01 00 00 00 00 00 00 f0 3f'],
  [{ byName: { a: 1 } }, 'a2 01 05 0a 01 61 10 01'],
  [{ inner: { i32: 150 } }, 'b2 01 03 08 96 01'],
  [{ mayBe: 0 }, 'b8 01 00'],
  [{ leftSide: '' }, 'c2 01 00'],
  [{}, ''],
];

test('a message has the bytes that protobuf gives it', () => {
  for (const [value, bytes] of VECTORS) {
    assert.equal(
      hex(all.encode(value)),
      bytes.replaceAll(' ', ''),
      JSON.stringify(Object.keys(value)),
    );
    const back = all.decode(from(bytes)) as Record<string, unknown>;
    for (const [name, each] of Object.entries(value)) {
      if (name === 'inner') assert.equal((back.inner as { i32: number }).i32, 150);
      else assert.deepEqual(back[name], each);
    }
    assert.deepEqual(all.copy(value), back, 'a copy is what the bytes give');
  }
});

test('the bytes are those that protobufjs writes', () => {
  const type = root.lookupType('t.All');
  const value = {
    i32: -7,
    u32: 4e9,
    str: 'ü',
    byt: from('00ff'),
    words: ['a', ''],
    flo: 0.1,
    boo: true,
    constructor: true,
  };
  assert.equal(hex(all.encode(value)), hex(type.encode(type.fromObject(value)).finish()));
});

test('an absent field is zero without presence and no property with it', () => {
  const empty = small.decode(new Uint8Array(0));
  assert.deepEqual(empty, { a: 0, userName: '', id: 0n });
  const value = all.decode(new Uint8Array(0)) as Record<string, unknown>;
  assert.equal('mayBe' in value || 'inner' in value || 'leftSide' in value, false);
  assert.deepEqual(
    [value.longs, value.byName, value.color, value.constructor],
    [[], {}, 'NONE', false],
  );
  assert.deepEqual(jsonCodec.decode(new Uint8Array(0), small), empty);
});

const int = (min: number, max: number) => fc.integer({ min, max });
const big = (min: bigint, max: bigint) => fc.bigInt({ min, max });
const scalars = {
  i32: int(-(2 ** 31), 2 ** 31 - 1),
  i64: big(-(2n ** 63n), 2n ** 63n - 1n),
  u32: int(0, 2 ** 32 - 1),
  u64: big(0n, 2n ** 64n - 1n),
  s32: int(-(2 ** 31), 2 ** 31 - 1),
  s64: big(-(2n ** 63n), 2n ** 63n - 1n),
  f32: int(0, 2 ** 32 - 1),
  f64: big(0n, 2n ** 64n - 1n),
  sf32: int(-(2 ** 31), 2 ** 31 - 1),
  sf64: big(-(2n ** 63n), 2n ** 63n - 1n),
  flo: fc.float(),
  dou: fc.double(),
  boo: fc.boolean(),
  str: fc.string({ unit: 'grapheme' }),
  byt: fc.uint8Array(),
  color: fc.constantFrom('NONE', 'RED', 'GREEN', 77),
  longs: fc.array(big(-(2n ** 63n), 2n ** 63n - 1n)),
  words: fc.array(fc.string()),
  loose: fc.array(fc.double()),
  byName: fc.dictionary(fc.oneof(fc.string(), fc.constant('__proto__')), int(-9, 9), {
    noNullPrototype: true,
  }),
  flags: fc.dictionary(fc.constantFrom('true', 'false'), fc.string(), { noNullPrototype: true }),
  constructor: fc.boolean(),
};
const leaf = fc.record(scalars, { requiredKeys: [], noNullPrototype: true });
const message = fc
  .record(
    {
      inner: leaf,
      mayBe: int(-3, 3),
      colors: fc.array(scalars.color),
      byId: fc.dictionary(fc.bigInt({ min: -5n, max: 2n ** 63n - 1n }).map(String), leaf, {
        noNullPrototype: true,
      }),
      choice: fc.oneof(
        fc.record({ leftSide: fc.string() }),
        fc.record({ rightSide: leaf }),
        fc.constant({}),
      ),
      own: leaf,
    },
    { noNullPrototype: true },
  )
  .map(({ choice, own, ...rest }) => ({ ...own, ...rest, ...choice }));

test('what is encoded comes back, by bytes and by JSON, in camel and proto names', () => {
  fc.assert(
    fc.property(message, (value) => {
      const bytes = all.encode(value);
      const back = all.decode(bytes);
      assert.deepEqual(all.copy(value), back);
      assert.deepEqual(all.decode(all.encode(back)), back);
      for (const names of ['camel', 'proto'] as const) {
        const codec = createJsonCodec(names);
        assert.deepEqual(codec.decode(codec.encode(value, all), all), back);
      }
    }),
    { numRuns: 150 },
  );
});

test('any bytes give a message or DECODING_FAILED', () => {
  const whole = fc.uint8Array({ maxLength: 60 });
  const cut = fc.tuple(message, fc.nat(), fc.nat(), fc.nat(255)).map(([value, at, end, byte]) => {
    const bytes = Uint8Array.from(all.encode(value));
    if (bytes.length > 0) bytes[at % bytes.length] = byte;
    return bytes.subarray(0, end % (bytes.length + 1));
  });
  fc.assert(
    fc.property(fc.oneof(whole, cut), (bytes) => {
      try {
        all.decode(bytes);
      } catch (error) {
        assert.equal((error as { code: string }).code, 'DECODING_FAILED');
      }
    }),
    { numRuns: 500 },
  );
});

test('bytes that are no message of the type are DECODING_FAILED and name the field', () => {
  const bad: [string, RegExp][] = [
    ['0a 01 61', /t\.Small\.a: wire type 2/],
    ['10 01', /t\.Small\.user_name: wire type 0/],
    ['12 05 61', /user_name: index out of range/],
    ['12 02 c3 28', /user_name/],
    ['08', /a/],
    ['18 ff ff ff ff ff ff ff ff ff ff 01', /varint/],
    ['00 01', /tag|field/],
    ['0f', /wire type 7/],
  ];
  for (const [bytes, text] of bad) {
    assert.throws(() => small.decode(from(bytes)), failed('DECODING_FAILED', text), bytes);
  }
});

test('unknown fields are skipped, packed and unpacked lists are both read', () => {
  assert.deepEqual(small.decode(from('08 01 f8 07 05 fa 07 01 61')), {
    a: 1,
    userName: '',
    id: 0n,
  });
  const read = (bytes: string) => all.decode(from(bytes)) as Record<string, unknown>;
  assert.deepEqual(read('88 01 01 88 01 02').longs, [1n, 2n]);
  assert.deepEqual(read('9a 01 08 00 00 00 00 00 00 f0 3f').loose, [1]);
});

test('a message that comes in two parts is merged, and the last of a oneof counts', () => {
  const inner = (
    all.decode(from('b2 01 02 08 01 b2 01 03 72 01 61')) as { inner: Record<string, unknown> }
  ).inner;
  assert.deepEqual([inner.i32, inner.str], [1, 'a']);
  const value = all.decode(from('ca 01 00 c2 01 01 61')) as Record<string, unknown>;
  assert.deepEqual([value.leftSide, 'rightSide' in value], ['a', false]);
});

test('a value or message deeper than 100 levels is refused both ways', () => {
  let deep: Record<string, unknown> = { i32: 1 };
  for (let level = 0; level < 98; level++) deep = { inner: deep };
  const bytes = all.encode(deep);
  assert.ok(all.decode(bytes));
  deep = { inner: { inner: { inner: deep } } };
  assert.throws(() => all.encode(deep), failed('VALIDATION_FAILED', /levels deep/));
  assert.throws(() => all.copy(deep), failed('VALIDATION_FAILED', /levels deep/));
  assert.throws(() => all.fromJson(deep), failed('DECODING_FAILED', /levels deep/));
  let raw = Buffer.from(bytes);
  for (let level = 0; level < 5; level++) {
    const size = raw.length;
    const head = size < 128 ? [size] : [(size & 127) | 128, size >> 7];
    raw = Buffer.concat([Buffer.from([0xb2, 0x01, ...head]), raw]);
  }
  assert.throws(() => all.decode(raw), failed('DECODING_FAILED', /levels deep/));
  const loop: Record<string, unknown> = {};
  loop.inner = loop;
  assert.throws(() => all.encode(loop), failed('VALIDATION_FAILED', /levels deep/));
});

test('a value that does not fit is VALIDATION_FAILED with the path of the field', () => {
  const bad: [unknown, RegExp][] = [
    [{ i32: 2 ** 31 }, /^the value is no t\.All: i32: 2147483648 is no int32/],
    [{ i32: 1.5 }, /i32/],
    [{ i32: Number.NaN }, /i32/],
    [{ u32: -1 }, /u32/],
    [{ i64: 2n ** 63n }, /i64/],
    [{ u64: -1n }, /u64/],
    [{ i64: 2 ** 60 }, /lost digits/],
    [{ flo: 1e300 }, /float/],
    [{ str: 5 }, /str: 5 is no string/],
    [{ str: '\ud800' }, /surrogate/],
    [{ byt: 'text' }, /Uint8Array/],
    [{ boo: 'yes' }, /boo/],
    [{ color: 'BLUE' }, /BLUE.*NONE, RED, GREEN/],
    [{ words: 'no list' }, /words/],
    [{ words: ['a', 7] }, /words\[1\]/],
    [{ byName: { a: 'x' } }, /byName/],
    [{ byId: { x: {} } }, /byId/],
    [{ inner: { inner: { words: [{}] } } }, /inner\.inner\.words\[0\]/],
    [{ inner: 'text' }, /inner/],
    [{ leftSide: 'a', rightSide: {} }, /leftSide and rightSide.*choice/],
    [{ nmae: 1 }, /no field "nmae"/],
    ['text', /must be an object/],
    [[], /must be an object/],
  ];
  for (const [value, text] of bad) {
    assert.throws(() => all.encode(value), failed('VALIDATION_FAILED', text));
    assert.throws(() => all.toJson(value, 'camel'), failed('VALIDATION_FAILED', text));
    assert.throws(() => copyCodec.encode(value, all), failed('VALIDATION_FAILED', text));
  }
});

test('whole numbers are read as number, text and bigint, and written as text in JSON', () => {
  for (const id of [7, '7', 7n]) assert.equal(hex(small.encode({ id })), '1807');
  for (const id of [7, '7', '7.0', '70e-1', 7.0]) {
    assert.deepEqual(small.fromJson({ id }), { a: 0, userName: '', id: 7n });
  }
  assert.deepEqual(small.toJson({ id: 2n ** 53n + 1n }, 'camel'), { id: '9007199254740993' });
  assert.throws(() => small.fromJson({ id: 'x' }), failed('DECODING_FAILED', /id/));
});

test('JSON reads snake and camel names, skips what it does not know, and writes the names asked for', () => {
  for (const json of [{ user_name: 'a' }, { userName: 'a' }, { userName: 'a', newer: { x: 1 } }]) {
    assert.deepEqual(small.fromJson(json), { a: 0, userName: 'a', id: 0n });
  }
  assert.deepEqual(small.toJson({ userName: 'a' }, 'proto'), { user_name: 'a' });
  assert.deepEqual(small.toJson({ user_name: 'a' }, 'camel'), { userName: 'a' });
  assert.deepEqual(small.fromJson({ userName: null }), { a: 0, userName: '', id: 0n });
  for (const json of [[], 'text', 5, null, true]) {
    assert.throws(() => small.fromJson(json), failed('DECODING_FAILED', /must be an object/));
  }
  assert.throws(
    () => all.fromJson({ left_side: 'a', rightSide: {} }),
    failed('DECODING_FAILED', /choice/),
  );
});

test('well-known types have the JSON form of the specification', () => {
  const json = {
    at: '2026-11-30T10:00:00.500Z',
    took: '-1.000000001s',
    any: { a: [1, 'x', null, true], b: { c: {} } },
    value: null,
    wrapped: '9007199254740993',
    mask: 'userName,a.bC',
    boxed: { '@type': 'type.googleapis.com/t.Small', a: 3 },
    none: {},
  };
  const value = known.fromJson(json) as Record<string, unknown>;
  assert.deepEqual(value.at, { seconds: 1_796_032_800n, nanos: 500_000_000 });
  assert.deepEqual(value.took, { seconds: -1n, nanos: -1 });
  assert.deepEqual(value.mask, { paths: ['user_name', 'a.b_c'] });
  assert.deepEqual(known.toJson(known.decode(known.encode(value)), 'camel'), json);
  assert.deepEqual(known.toJson({ at: new Date('2026-11-30T10:00:00.5Z') }, 'camel'), {
    at: json.at,
  });
  for (const bad of [
    { at: 'today' },
    { at: '0000-01-01T00:00:00Z' },
    { took: '1' },
    { took: '999999999999s' },
    { boxed: { '@type': 'x/none.Such' } },
    { any: [] },
  ]) {
    assert.throws(() => known.fromJson(bad), failed('DECODING_FAILED', /./), JSON.stringify(bad));
  }
});

test('proto2: required fields are asked for, groups and unpacked lists are written', () => {
  assert.throws(
    () => old.encode({ may: 'x' }),
    failed('VALIDATION_FAILED', /must: the field is required/),
  );
  const value = { must: 0, may: '', list: [1, 2], part: { x: 5 } };
  const bytes = old.encode(value);
  assert.equal(hex(bytes), '0800' + '1200' + '1801' + '1802' + '23080524');
  assert.deepEqual(old.decode(bytes), value);
  assert.throws(() => old.decode(from('23 08 05')), failed('DECODING_FAILED', /group has no end/));
});

test('within one process an untyped caller gives a typed handler what bytes would give it', () => {
  const sent = copyCodec.encode({ user_name: 'a', id: 5 });
  assert.deepEqual(copyCodec.decode(sent, small), { a: 0, userName: 'a', id: 5n });
  const typed = copyCodec.encode({ id: 5 }, small);
  assert.equal(copyCodec.decode(typed, small), typed as unknown);
});

test('the wire form needs a type, and has it from the contract', () => {
  assert.throws(() => protoCodec.encode({}), failed('UNSUPPORTED', /loadProto/));
  assert.equal(hex(protoCodec.encode({ a: 1 }, small)), '0801');
});

test('a type is described three levels deep, so a recursive one ends', () => {
  const text = JSON.stringify(all.describe());
  assert.ok(text.length < 20_000);
  assert.deepEqual(small.describe().values[2], { name: 'id', type: 'int64', values: [] });
});

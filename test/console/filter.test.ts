/**
 * The filter language: examples, its limits, and a fuzz run beside a twin that is written otherwise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Filtered, matches } from '../../src/console/messages/filter.ts';
import { type Expression, parseFilter } from '../../src/console/messages/filter-parser.ts';
import { fc } from '../helpers/property.ts';

const ENTRY = entryOf({
  key: 'eu.17',
  headers: { tenant: 'a', 'x-count': '12' },
  json: { total: 150, user: { name: 'ann' }, tags: ['x', 'y'], none: null, 'odd name': 1 },
});

test('a filter compares places of an entry', () => {
  const fits = [
    'json.total > 100 && header.tenant == "a" && key ^= "eu."',
    'json.user.name == "ann"',
    'json["odd name"] == 1',
    'json.tags[1] == "y"',
    'json.none == null',
    'json.absent != "x"',
    'header["x-count"] >= 12',
    '!(json.total < 150)',
    'key $= "17" || false',
    'text *= "total"',
    'time == 1700000000000',
    'size > 10',
    'id == "1700000000000-0"',
    'json.user',
  ];
  const fitsNot = [
    'json.total > 150',
    'json.absent == null',
    'json.absent < 1',
    'json.tags.length == 2',
    'json.total == "150x"',
    'json.user > 1',
    'header.Tenant == "a"',
    'json.none',
    'json.absent',
    'json.user.constructor',
    'json.__proto__',
    'key ^= 17',
  ];
  for (const each of fits) assert.ok(matches(parseFilter(each), ENTRY), each);
  for (const each of fitsNot) assert.ok(!matches(parseFilter(each), ENTRY), each);
});

test('what is no filter is refused with its place', () => {
  const wrong: [string, RegExp][] = [
    ['', /character 1: expected/],
    ['json.total >', /character 13: expected a text/],
    ['json.total = 1', /character 12: "= 1" is no part/],
    ['key == "a" &&', /expected/],
    ['(key', /expected "\)"/],
    ['key.x', /key has no parts/],
    ['header', /a header has one name/],
    ['json[1.5]', /expected a number or a text/],
    ['constructor', /expected a text/],
    ['key == "\\q"', /a text is written as in JSON/],
    ['key == "a', /no part/],
    ['key; drop', /";/],
    [`${'('.repeat(60)}key${')'.repeat(60)}`, /50 levels/],
    [`${'!'.repeat(60)}key`, /50 levels/],
    [`json${'.a'.repeat(1000)}`, /1000 steps/],
    [Array(600).fill('key').join('||'), /1000 steps/],
    ['key'.padEnd(10_001, ' '), /10000 characters/],
  ];
  for (const [text, why] of wrong) {
    assert.throws(
      () => parseFilter(text),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT', text.slice(0, 50));
        assert.match(error.message, why);
        return true;
      },
    );
  }
});

test('a filter reads own properties only', () => {
  const json = JSON.parse('{"__proto__": {"admin": true}, "constructor": 5}');
  const entry = entryOf({ json });
  assert.ok(matches(parseFilter('json.__proto__.admin == true'), entry));
  assert.ok(matches(parseFilter('json.constructor == 5'), entry));
  assert.ok(!matches(parseFilter('json.toString'), entry));
  assert.ok(!matches(parseFilter('header.__proto__'), entry));
  assert.equal(({} as { admin?: boolean }).admin, undefined);
});

test('any text is a filter or refused, and takes no time that grows with the entry', () => {
  const word = fc.constantFrom(
    ...[
      'json',
      '.',
      'a',
      '[',
      ']',
      '0',
      '"x"',
      '(',
      ')',
      '!',
      '&&',
      '||',
      '==',
      '^=',
      '-1',
      'header',
    ],
    ...['key', 'null', ' ', '"', '\\', '\0', '\u{1F600}', '<', '>=', '1e999', 'text'],
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 40 }), (words) => {
      let expression: Expression;
      try {
        expression = parseFilter(words.join(''));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'INVALID_ARGUMENT');
        return;
      }
      assert.equal(typeof matches(expression, ENTRY), 'boolean');
    }),
    { numRuns: 3000 },
  );
});

// ---- The twin: texts of expressions and their values are made together, without any parser.

interface Twin {
  readonly text: string;
  readonly value: (entry: Filtered) => unknown;
}

const jsonValue = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom('', 'a', 'ab', '2', '-1', 'true'),
  fc.boolean(),
  fc.constant(null),
);

const entries = fc
  .record({
    key: fc.option(fc.constantFrom('', 'a', 'ab', '1'), { nil: undefined }),
    headers: fc.dictionary(fc.constantFrom('a', 'b'), fc.constantFrom('a', '2', '-1', ''), {
      noNullPrototype: true,
    }),
    json: fc.record({ a: jsonValue, b: fc.record({ c: jsonValue }), l: fc.array(jsonValue) }),
  })
  .map(entryOf);

const operand: fc.Arbitrary<Twin> = fc.oneof(
  fc.integer({ min: -3, max: 3 }).map((n) => ({ text: String(n), value: () => n })),
  fc
    .constantFrom('', 'a', 'ab', '2', '"')
    .map((s) => ({ text: JSON.stringify(s), value: () => s })),
  fc.constantFrom(true, false, null).map((c) => ({ text: String(c), value: () => c })),
  fc.constantFrom<Twin>(
    { text: 'key', value: (e) => e.key },
    { text: 'header.a', value: (e) => e.header('a') },
    { text: 'header["b"]', value: (e) => e.header('b') },
    // biome-ignore lint/suspicious/noExplicitAny: a naive twin
    { text: 'json.a', value: (e: any) => e.json.a },
    // biome-ignore lint/suspicious/noExplicitAny: a naive twin
    { text: 'json.b.c', value: (e: any) => e.json.b.c },
    // biome-ignore lint/suspicious/noExplicitAny: a naive twin
    { text: 'json.l[0]', value: (e: any) => e.json.l[0] },
    { text: 'json.b["d"]', value: () => undefined },
  ),
);

function isNumeric(value: unknown): boolean {
  return typeof value === 'number' || (typeof value === 'string' && /^-?\d+$/.test(value));
}

function twinCompare(operator: string, a: unknown, b: unknown): boolean {
  if (operator === '!=') return !twinCompare('==', a, b);
  if (a === undefined || b === undefined) return false;
  if ('^=$=*='.includes(operator)) {
    const areTexts = [a, b].every((each) => ['string', 'number'].includes(typeof each));
    if (!areTexts) return false;
    const at = `${a}`.indexOf(`${b}`);
    if (operator === '*=') return at >= 0;
    if (operator === '^=') return at === 0;
    return `${a}`.slice(`${a}`.length - `${b}`.length) === `${b}` && `${a}`.length >= `${b}`.length;
  }
  const areNumbers =
    isNumeric(a) && isNumeric(b) && (typeof a === 'number' || typeof b === 'number');
  const [x, y] = areNumbers ? [Number(a), Number(b)] : [a, b];
  if (operator === '==') return Object.is(x, y) || (x === 0 && y === 0);
  if (typeof x !== typeof y || (typeof x !== 'number' && typeof x !== 'string')) return false;
  const order = x === y ? 0 : (x as number) < (y as number) ? -1 : 1;
  return { '<': order < 0, '<=': order <= 0, '>': order > 0, '>=': order >= 0 }[
    operator
  ] as boolean;
}

const comparison: fc.Arbitrary<Twin> = fc
  .tuple(operand, fc.constantFrom('==', '!=', '<', '<=', '>', '>=', '^=', '$=', '*='), operand)
  .map(([a, operator, b]) => ({
    text: `${a.text} ${operator} ${b.text}`,
    value: (e) => twinCompare(operator, a.value(e), b.value(e)),
  }));

const { expression } = fc.letrec<{ expression: Twin }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 4 },
    comparison,
    operand,
    tie('expression').map((a) => ({ text: `!(${a.text})`, value: (e: Filtered) => !a.value(e) })),
    fc
      .tuple(tie('expression'), fc.constantFrom('&&', '||'), tie('expression'))
      .map(([a, sign, b]) => ({
        text: `(${a.text})${sign}(${b.text})`,
        value: (e: Filtered) =>
          sign === '&&'
            ? Boolean(a.value(e)) && Boolean(b.value(e))
            : Boolean(a.value(e) || b.value(e)),
      })),
  ),
}));

test('a filter decides as its naive twin does', () => {
  fc.assert(
    fc.property(expression, entries, (twin, entry) => {
      assert.equal(matches(parseFilter(twin.text), entry), Boolean(twin.value(entry)), twin.text);
    }),
    { numRuns: 5000 },
  );
});

function entryOf(of: {
  key?: string | undefined;
  headers?: Record<string, string>;
  json?: unknown;
}): Filtered {
  const headers = of.headers ?? {};
  const text = JSON.stringify(of.json ?? null);
  return {
    id: '1700000000000-0',
    time: 1_700_000_000_000,
    key: of.key,
    size: text.length,
    text,
    json: of.json,
    header: (name) => (Object.hasOwn(headers, name) ? headers[name] : undefined),
  };
}

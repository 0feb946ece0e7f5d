/** Glob patterns: the meaning is that of Redis, the time is bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globMatches } from '../../src/util/glob.ts';

function matches(pattern: string, text: string, ignoreCase = false): boolean {
  return globMatches(Buffer.from(pattern, 'latin1'), Buffer.from(text, 'latin1'), ignoreCase);
}

test('patterns match as in Redis', () => {
  const yes: [string, string][] = [
    ['', ''],
    ['*', ''],
    ['*', 'anything'],
    ['a*', 'abc'],
    ['a*c', 'abbbc'],
    ['a*b*c', 'aXbYbZc'],
    ['**', 'x'],
    ['h?llo', 'hello'],
    ['h[ae]llo', 'hallo'],
    ['h[^e]llo', 'hallo'],
    ['h[a-b]llo', 'hbllo'],
    ['h[b-a]llo', 'hbllo'],
    ['a\\*c', 'a*c'],
    ['a\\', 'a\\'],
    ['[\\]]', ']'],
    ['[abc', 'b'],
    ['[a-', '-'],
    ['\xff?', '\xff\x00'],
    ['foo*bar*', 'fooXbarbar'],
  ];
  const no: [string, string][] = [
    ['', 'a'],
    ['a', ''],
    ['?', ''],
    ['a*c', 'abd'],
    ['h[^e]llo', 'hello'],
    ['h[a-b]llo', 'hcllo'],
    ['a\\*c', 'abc'],
    ['[]', 'a'],
    ['[^]', ''],
    ['ABC', 'abc'],
  ];
  for (const [pattern, text] of yes) assert.ok(matches(pattern, text), `${pattern} ${text}`);
  for (const [pattern, text] of no) assert.ok(!matches(pattern, text), `${pattern} ${text}`);
  assert.ok(matches('A[B-D]*', 'acx', true));
});

test('a pattern of many stars takes no exponential time', () => {
  const began = process.hrtime.bigint();
  assert.ok(!matches(`${'a*'.repeat(200)}b`, 'a'.repeat(5000)));
  assert.ok(process.hrtime.bigint() - began < 10_000_000_000n);
});

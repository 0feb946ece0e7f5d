/** Texts of a chat: their words, answers in pieces, tokens removed, and who may do what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rfc1123 } from '../../src/bot/commands/built-in.ts';
import { CommandLine, jsonText } from '../../src/bot/messages/command-line.ts';
import { piecesOf } from '../../src/bot/messages/pieces.ts';
import { redactedLog, redactor } from '../../src/bot/messages/redaction.ts';
import { Permissions } from '../../src/bot/permissions.ts';
import { WorkQueue } from '../../src/bot/work-queue.ts';
import { fc } from '../helpers/property.ts';
import { until } from '../helpers/until.ts';

test('quotes hold a word with spaces only where they enclose it whole', () => {
  const words = (text: string) => new CommandLine(text).values;
  assert.deepEqual(words('  weather  "New York" now '), ['weather', 'New York', 'now']);
  assert.deepEqual(words(`say 'a b' “c d” ""`), ['say', 'a b', 'c d', '']);
  assert.deepEqual(words(`echo it's 'tis "half`), ['echo', `it's`, `'tis`, '"half']);
  assert.deepEqual(words('call s E {"a": "b c"}'), ['call', 's', 'E', '{"a":', '"b', 'c"}']);
  assert.deepEqual(words(''), []);
});

test('the text behind a word is as it was written, and one quoted word is without its quotes', () => {
  const line = new CommandLine(`call s Say.Hello {"name":  "a b"}`);
  assert.equal(line.from(3), '{"name":  "a b"}');
  assert.equal(new CommandLine(`call s Say.Hello '{"name":"ann"}'`).from(3), '{"name":"ann"}');
  assert.equal(line.from(9), '');
  assert.equal(jsonText('{“name”: “ann”}'), '{"name": "ann"}');
  assert.equal(jsonText('{name}'), null);
});

test('no text makes the search for words slow', { timeout: 60_000 }, () => {
  for (const text of ['"a '.repeat(300_000), '"'.repeat(1_000_000), ' '.repeat(1_000_000)]) {
    new CommandLine(text);
  }
});

test('pieces are no longer than their limit, and together they are the text', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 400 }),
      fc.integer({ min: 4, max: 50 }),
      (text, size) => {
        const pieces = piecesOf(text, { size, count: 1000 });
        for (const piece of pieces) {
          assert.ok(piece.length <= size && piece.trim() !== '');
          if (isWellFormed(text)) assert.ok(isWellFormed(piece));
        }
        const letters = (value: string) => value.replace(/\s/g, '');
        assert.equal(letters(pieces.join('')), letters(text));
      },
    ),
  );
});

test('an answer of a million characters has the pieces that are allowed and says what it leaves out', () => {
  const pieces = piecesOf('x'.repeat(1_000_000), { size: 2000, count: 5 });
  assert.equal(pieces.length, 5);
  for (const piece of pieces) assert.ok(piece.length <= 2000);
  assert.match(pieces[4] ?? '', /x\n\.\.\. 1000000 characters in all, the others were left out$/);
});

test('no token passes into a line of the log, also not within its fields', () => {
  const lines: string[] = [];
  const line = (fields: object | string, text = '') => lines.push(JSON.stringify(fields) + text);
  const log = redactedLog(
    { debug: line, info: line, warn: line, error: line },
    redactor(['xoxb-1234567890', undefined, '']),
  );
  log.warn('https://x/botxoxb-1234567890/getMe failed');
  log.error({ error: { message: 'xoxb-1234567890' } }, 'token xoxb-1234567890');
  assert.equal(lines.length, 2);
  assert.doesNotMatch(lines.join(), /xoxb/);
  assert.match(lines.join(), /bot\[token\]\/getMe/);
});

test('only named users are allowed, and only named users are operators', () => {
  const permissions = new Permissions(['slack:U1', 'telegram:@Ann', 'discord:*'], ['telegram:77']);
  const sender = (input: 'slack' | 'telegram' | 'discord', ...names: string[]) => ({
    input,
    names,
    isLocal: false,
  });
  const may = (each: ReturnType<typeof sender>) => [
    permissions.isAllowed(each),
    permissions.isOperator(each),
  ];
  assert.deepEqual(may(sender('slack', 'U1')), [true, false]);
  assert.deepEqual(may(sender('slack', 'u1')), [false, false]);
  assert.deepEqual(may(sender('telegram', 'U1')), [false, false]);
  assert.deepEqual(may(sender('telegram', '5', '@ann')), [true, false]);
  assert.deepEqual(may(sender('telegram', '77', '@bob')), [true, true]);
  assert.deepEqual(may(sender('telegram', '5', '@77')), [false, false]);
  assert.deepEqual(may(sender('discord', '1')), [true, false]);
  for (const [allow, operators] of [
    [['U1'], []],
    [['hipchat:a'], []],
    [['slack:'], []],
    [['slack:a b'], []],
    [[], ['slack:*']],
  ] as const) {
    assert.throws(() => new Permissions(allow, operators), { code: 'INVALID_ARGUMENT' });
  }
});

test('a queue runs as many at once as it may, and refuses what has no room', async () => {
  const queue = new WorkQueue({ atOnce: 2, maxWaiting: 3, maxWaitingOfOne: 2, atOnceOfOne: 2 });
  const ends: (() => void)[] = [];
  const began: string[] = [];
  const add = (user: string, name: string) =>
    queue.add(user, () => {
      began.push(name);
      return new Promise((resolve) => ends.push(resolve));
    });
  assert.deepEqual(
    ['1', '2', '3', '4', '5'].map((name) => add('ann', name)),
    [true, true, true, true, false],
  );
  assert.deepEqual([add('bob', '6'), add('bob', '7')], [true, false]);
  assert.deepEqual(began, ['1', '2']);
  for (let i = 0; i < 5; i++) {
    ends[i]?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await queue.idle();
  assert.deepEqual(began, ['1', '2', '3', '4', '6']);
});

test('a user whose works do not end leaves room for those of others, in their order', async () => {
  const queue = new WorkQueue({ atOnce: 3, maxWaiting: 9, maxWaitingOfOne: 9, atOnceOfOne: 2 });
  const began: string[] = [];
  const end = new Map<string, () => void>();
  const add = (user: string, name: string) =>
    queue.add(user, () => {
      began.push(name);
      return new Promise((resolve) => end.set(name, resolve));
    });
  for (const name of ['a1', 'a2', 'a3', 'a4']) add('ann', name);
  assert.deepEqual(began, ['a1', 'a2']);
  add('bob', 'b1');
  assert.deepEqual(began, ['a1', 'a2', 'b1']);
  add('bob', 'b2');
  for (const name of ['a1', 'b1', 'a2', 'a3', 'b2', 'a4']) {
    await until(() => end.has(name));
    end.get(name)?.();
  }
  await queue.idle();
  assert.deepEqual(began, ['a1', 'a2', 'b1', 'a3', 'b2', 'a4']);
});

test('times are written as Go writes RFC 1123', () => {
  assert.match(
    rfc1123(new Date(Date.UTC(2026, 8, 3, 4, 5, 6))),
    /^(Wed|Thu), 0[234] Sep 2026 \d\d:\d5:06 \S+$/,
  );
});

/** Without half of a pair of surrogates. */
function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString() === text;
}

/**
 * The command encoder against the plainest way to write the same bytes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CommandArgument, CommandEncoder } from '../../src/client/command-encoder.ts';
import { Random } from '../../src/util/random.ts';
import { encodeCommand } from '../helpers/resp-session.ts';

test('commands of all kinds and sizes are written as arrays of bulk strings', () => {
  const random = new Random(3);
  const encoder = new CommandEncoder();
  const expected: Buffer[] = [];
  const taken: Buffer[] = [];
  const argument = (): CommandArgument => {
    const size = random.chance(0.02) ? random.below(60_000) : random.below(120);
    switch (random.below(6)) {
      case 0:
        return random.uint32() - 2 ** 31;
      case 1:
        return 2n ** 64n - 1n;
      case 2:
        return Buffer.alloc(size, random.below(256));
      case 3:
        return 'é€😀'.repeat(size % 30);
      case 4:
        return `${'a'.repeat(size % 60)}ü`;
      default:
        return 'x'.repeat(size);
    }
  };
  for (let i = 0; i < 3_000; i++) {
    const args = Array.from(
      { length: 1 + random.below(random.chance(0.01) ? 1_200 : 6) },
      argument,
    );
    encoder.write(args);
    expected.push(encodeCommand(args.map((arg) => (typeof arg === 'bigint' ? `${arg}` : arg))));
    if (random.chance(0.3)) taken.push(encoder.take());
  }
  taken.push(encoder.take());
  assert.ok(
    Buffer.concat(taken).equals(Buffer.concat(expected)),
    'what was taken early must not change later',
  );
  assert.equal(encoder.length, 0);
});

test('what cannot be an argument is refused', () => {
  const encoder = new CommandEncoder();
  for (const value of [undefined, null, {}, true, () => 1]) {
    assert.throws(() => encoder.write(['SET', value as unknown as string]), TypeError);
  }
});

/** The members of lists are those that JSON.parse finds, whatever is in the texts, and cut JSON is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listMembers } from '../../../src/registry/gossip/json-lists.ts';
import { Malformed } from '../../../src/registry/gossip/wire/raw-msgpack.ts';
import { Random } from '../../../src/util/random.ts';
import { seedNamed } from '../../helpers/seed.ts';

const seed = seedNamed('gossip lists');

test('every object of lists is read as JSON.parse reads it', (context) => {
  context.diagnostic(`RIVULET_SEED=${seed}`);
  const random = new Random(seed);
  for (let count = 0; count < 500; count++) {
    const names = Array.from({ length: random.below(5) }, () => textOf(random));
    const object = Object.fromEntries(
      names.map((name) => [name, random.chance(0.8) ? listOf(random) : anyOf(random, 0)]),
    );
    const spaces = [undefined, 1, '\t', '\r\n '][random.below(4)];
    const json = ` ${JSON.stringify(object, null, spaces)}\n`;
    const expected = Object.entries(object).flatMap(([name, list]) =>
      (Array.isArray(list) ? list : []).map((value) => [name, value]),
    );
    assert.deepEqual(membersOf(json), expected, json);
  }
});

test('an object that is cut anywhere is refused after the members before the cut', () => {
  const json = '{"a":[{"x":"]\\"},"},[1,2]],"b":null,"c\\\\":[3]}';
  assert.equal(membersOf(json).length, 3);
  const bytes = Buffer.from(json);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => membersOf(bytes.subarray(0, length).toString()), Malformed, `${length}`);
  }
});

test('what is no object of values is refused', () => {
  const bad = ['[]', '7', '"a"', '{a:[]}', '{"a"}', '{"a":[1 2]}', '{"a":[]}}', '{"a":[1,]}'];
  bad.push('{"a":[],}', '{"a":[]"b":[]}', '{"\n":[1]}', '{"a":[1]]}', '{"a":[1}', '{,}');
  for (const json of bad) assert.throws(() => membersOf(json), json);
});

test('a member that is no JSON hides no other', () => {
  const found = [...listMembers(Buffer.from('{"a":[nul,{"x":}, "ok" ,[1,,2],7]}'))];
  assert.deepEqual(
    found.map((member) => member?.bytes.toString().trim()),
    ['nul', '{"x":}', '"ok"', '[1,,2]', '7'],
  );
});

function membersOf(json: string): unknown[] {
  return [...listMembers(Buffer.from(json))]
    .filter((member) => member !== null)
    .map(({ name, bytes }) => [name, JSON.parse(bytes.toString())]);
}

function textOf(random: Random): string {
  const letters = ['a', '"', '\\', '\n', ',', ':', '{', '}', '[', ']', 'é', '😀', '\u0001', ' '];
  return Array.from({ length: random.below(8) }, () => letters[random.below(letters.length)]).join(
    '',
  );
}

function listOf(random: Random): unknown[] {
  return Array.from({ length: random.below(5) }, () => anyOf(random, 0));
}

function anyOf(random: Random, depth: number): unknown {
  switch (random.below(depth > 3 ? 4 : 6)) {
    case 0:
      return textOf(random);
    case 1:
      return random.below(1000) - 500.5;
    case 2:
      return null;
    case 3:
      return random.chance(0.5);
    case 4:
      return Array.from({ length: random.below(4) }, () => anyOf(random, depth + 1));
    default: {
      const names = Array.from({ length: random.below(4) }, () => textOf(random));
      return Object.fromEntries(names.map((name) => [name, anyOf(random, depth + 1)]));
    }
  }
}

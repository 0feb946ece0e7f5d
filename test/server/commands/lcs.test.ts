/** LCS against a plain table, beyond one machine word in both directions, and what it costs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import { runServer } from '../running-server.ts';

function plain(a: string, b: string): string {
  const table = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  const at = (i: number, j: number): number => table[i]?.[j] ?? 0;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const best =
        a[i - 1] === b[j - 1] ? at(i - 1, j - 1) + 1 : Math.max(at(i - 1, j), at(i, j - 1));
      (table[i] as Uint32Array)[j] = best;
    }
  }
  let found = '';
  for (let i = a.length, j = b.length; i > 0 && j > 0; ) {
    if (a[i - 1] === b[j - 1]) {
      found = `${a[--i]}${found}`;
      j--;
    } else if (at(i - 1, j) > at(i, j - 1)) i--;
    else j--;
  }
  return found;
}

function text(random: Random, length: number, letters: number): string {
  return Array.from({ length }, () => 'abcdef'[random.below(letters)]).join('');
}

test('LCS finds what a plain table finds, whatever the lengths', async () => {
  await using server = await runServer();
  await using client = await server.connect();
  const random = new Random(20_261);
  for (let round = 0; round < 150; round++) {
    const letters = 1 + random.below(6);
    const edge = () => random.pick([0, 1, 31, 32, 33, 63, 64, 65, random.below(140)]);
    const [a, b] = [text(random, edge(), letters), text(random, edge(), letters)];
    await client.call('MSET', 'a', a, 'b', b);
    const expected = plain(a, b);
    const reply = (await client.call('LCS', 'a', 'b')).toString();
    assert.equal(reply, `$${expected.length}\r\n${expected}\r\n`, `${a} ${b}`);
    const length = (await client.call('LCS', 'a', 'b', 'LEN')).toString();
    assert.equal(length, `:${expected.length}\r\n`);
  }
});

test('LCS of two strings of 8,000 bytes takes a small part of what a step for each pair would', async () => {
  await using server = await runServer();
  await using client = await server.connect();
  const random = new Random(3);
  await client.call('MSET', 'a', text(random, 8000, 4), 'b', text(random, 8000, 4));
  const began = process.cpuUsage();
  await client.call('LCS', 'a', 'b');
  const { user } = process.cpuUsage(began);
  // 64 million pairs took 400 ms.
  assert.ok(user < 150_000, `${user / 1000} ms`);
});

/** A short chaos run on our own server and in memory; `npm run test:chaos` is the long one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backing } from '../../src/conformance/index.ts';
import { fileBacking, memoryBacking } from '../conformance/embedded-backing.ts';
import { remoteBacking } from '../conformance/remote-backing.ts';
import { chaos } from './chaos.ts';
import { History } from './history.ts';

const seed = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(process.env.CHAOS_SECONDS ?? 4);
const kinds: Record<string, () => Promise<Backing>> = {
  memory: memoryBacking,
  file: fileBacking,
  rivulet: () => remoteBacking(),
};

for (const [name, start] of Object.entries(kinds)) {
  test(`${name}: the contract is kept through faults, seed ${seed}`, {
    timeout: (seconds + 100) * 1000,
  }, async () => {
    await using backing = await start();
    const { breaches, handOvers } = await chaos({ backing, seed, seconds });
    assert.deepEqual(breaches, [], `CHAOS_SEED=${seed} CHAOS_SECONDS=${seconds}`);
    assert.ok(handOvers > 100, `${handOvers} hand-overs`);
  });
}

test('the checker finds what is lost, out of order, and counted wrong', () => {
  const group = { name: 'g', ordered: true, topics: ['t'] };
  const history = new History();
  for (const each of ['1', '2', '3']) {
    history.publish('t', each);
    history.acknowledged.add(each);
  }
  const handled = (text: string, attempt: number) => {
    history.handOvers.push({ group: 'g', topic: 't', text, attempt });
    history.handled.push({ group: 'g', topic: 't', text });
  };
  handled('2', 2);
  handled('1', 1);
  const found = history.check([group]).join('; ');
  assert.match(found, /never handled 3/);
  assert.match(found, /attempts of 2 were 2/);
  assert.match(found, /1 of t was handled behind a later one/);
});

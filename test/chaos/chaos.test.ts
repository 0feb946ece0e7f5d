/** A short chaos run in memory, on a directory, on our own server and on Redis; `npm run test:chaos` is the long one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fixture } from '../../src/conformance/index.ts';
import { fileFixture, memoryFixture } from '../conformance/embedded-fixture.ts';
import { redisFixture } from '../conformance/redis/redis-fixture.ts';
import { remoteFixture } from '../conformance/remote-fixture.ts';
import { missing } from '../helpers/requirements.ts';
import { seedNamed } from '../helpers/seed.ts';
import { chaos } from './chaos.ts';
import { History } from './history.ts';

const seed = seedNamed('chaos');
const seconds = Number(process.env.CHAOS_SECONDS ?? 4);
const kinds: Record<string, () => Promise<Fixture>> = {
  memory: memoryFixture,
  file: fileFixture,
  rivulet: () => remoteFixture(),
  // Redis takes too long to recover for the short run.
  ...(process.env.CHAOS_SECONDS === undefined ? {} : { redis: redisFixture }),
};

for (const [name, start] of Object.entries(kinds)) {
  test(`${name}: the contract is kept through faults, seed ${seed}`, {
    timeout: (seconds + 100) * 1000,
    skip: name === 'redis' && missing('redis-server'),
  }, async () => {
    await using fixture = await start();
    const { breaches, handOvers } = await chaos({
      fixture,
      seed,
      seconds,
      countsLostReplies: name === 'redis',
    });
    assert.deepEqual(breaches, [], `RIVULET_SEED=${seed} CHAOS_SECONDS=${seconds}`);
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
    history.handOvers.push({ group: 'g', topic: 't', text, attempt, consumer: 'c', id: text });
    history.handled.push({ group: 'g', topic: 't', text });
  };
  handled('2', 2);
  handled('1', 1);
  const found = history.check([group]).join('; ');
  assert.match(found, /never handled 3/);
  assert.match(found, /attempts of 2 were 2 \(c\)/);
  assert.match(found, /1 of t was handled behind a later one/);
});

test('the checker allows attempts to fall only behind what a consumer could not settle', () => {
  const group = { name: 'g', ordered: false, topics: ['t'] };
  const history = new History();
  for (const [consumer, attempt] of [
    ['first', 1],
    ['first', 2],
    ['second', 1],
  ] as const) {
    history.handOvers.push({ group: 'g', topic: 't', text: 'x', attempt, consumer, id: '1-0' });
  }
  const fallen = ['g: attempts of x were 1 (first),2 (first),1 (second)'];
  assert.deepEqual(history.check([group]), fallen);
  history.unsettled.add('second t 1-0');
  assert.deepEqual(history.check([group]), fallen);
  history.unsettled.add('first t 1-0');
  assert.deepEqual(history.check([group]), []);
});

/**
 * Rivulet beside a real redis-server, and the comparison itself beside a server that is known to be wrong.
 *
 * RIVULET_FULL=1 or `npm run test:differential` sends a million commands; here it is twenty thousand.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { seedOf } from '../helpers/seed.ts';
import { Comparer } from './compare.ts';
import { runDifferential } from './differential.ts';
import type { Target } from './episode.ts';
import { parseTree, serialiseTree } from './reply-tree.ts';

const skip = missing('redis-server');
const COMMANDS = process.env.RIVULET_FULL === '1' ? 1_000_000 : 20_000;

test(`${COMMANDS} random commands get the replies that redis-server gives`, { skip }, async (t) => {
  await using redis = await startRedis();
  await using rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
  const seed = seedOf(t);
  const { report, commands, known } = await runDifferential({
    targets: [
      { name: 'redis', port: redis.port },
      { name: 'rivulet', port: rivulet.port },
    ],
    seed,
    commands: COMMANDS,
  });
  assert.equal(report, undefined, report);
  assert.ok(commands >= COMMANDS);
  t.diagnostic(
    `${commands} commands from seed ${seed}; known differences met: ${JSON.stringify([...known])}`,
  );
});

test('a server that is wrong in one place is found out, and the sequence made short', {
  skip,
}, async () => {
  await using redis = await startRedis();
  await using other = await startRedis();
  const right: Target = { name: 'redis', port: redis.port };
  const wrong: Target = {
    name: 'rivulet',
    port: other.port,
    // Forgets that a pending list may be empty.
    alter: (args, reply) =>
      args[0] === 'XPENDING' && args.length === 3 && String(reply).startsWith('*4\r\n:0')
        ? Buffer.from('*0\r\n')
        : reply,
  };
  const { report } = await runDifferential({ targets: [right, wrong], seed: 5, commands: 20_000 });
  assert.ok(report !== undefined, 'the difference was not found');
  const steps = report.split('\n').filter((line) => /^(>>| {2}) \[/.test(line));
  assert.match(steps.at(-1) ?? '', />> \[\d\] XPENDING/);
  assert.ok(steps.length <= 5, `not made short: ${report}`);
  assert.match(report, /seed \d+; replay/);
});

test('two servers of the same kind never differ', { skip }, async () => {
  await using redis = await startRedis();
  await using other = await startRedis();
  const targets: [Target, Target] = [
    { name: 'redis', port: redis.port },
    { name: 'rivulet', port: other.port },
  ];
  const { report } = await runDifferential({ targets, seed: 77, commands: 4_000 });
  assert.equal(report, undefined, report);
});

test('a tree keeps every byte of a reply', () => {
  const reply = '%2\r\n$1\r\na\r\n*-1\r\n+b\r\n~2\r\n$-1\r\n*2\r\n_\r\n,1.5\r\n';
  assert.equal(serialiseTree(parseTree(Buffer.from(reply))), reply);
});

test('what time decides is not compared, everything beside it is', () => {
  const equal = (redis: string, rivulet: string, ...args: string[]) =>
    new Comparer().areEqual(Buffer.from(redis, 'latin1'), Buffer.from(rivulet, 'latin1'), args);
  assert.ok(equal(':5\r\n', ':9\r\n', 'TTL', 'k'));
  assert.ok(!equal(':-1\r\n', ':9\r\n', 'TTL', 'k'));
  assert.ok(!equal(':5\r\n', ':9\r\n', 'XLEN', 'k'));
  const pending = (idle: number, count: number) =>
    `*1\r\n*4\r\n$3\r\n1-1\r\n$1\r\nc\r\n:${idle}\r\n:${count}\r\n`;
  assert.ok(equal(pending(3, 1), pending(8, 1), 'XPENDING', 's', 'g', '-', '+', '9'));
  assert.ok(!equal(pending(3, 1), pending(3, 2), 'XPENDING', 's', 'g', '-', '+', '9'));
  assert.ok(equal('*2\r\n$1\r\na\r\n$1\r\nb\r\n', '*2\r\n$1\r\nb\r\n$1\r\na\r\n', 'KEYS', '*'));
  const id = (ms: number) => `$15\r\n${ms}-0\r\n`;
  assert.ok(equal(id(1_700_000_000_000), id(1_700_000_000_007), 'XADD', 's', '*', 'a', 'b'));
  assert.ok(!equal(id(1_700_000_000_000), '$3\r\n1-1\r\n', 'XADD', 's', '*', 'a', 'b'));
});

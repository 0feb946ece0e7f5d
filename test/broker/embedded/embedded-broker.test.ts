/** The embedded broker beyond the suite: directories, sharing, restarts, kills. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Delivery } from '../../../src/broker/broker.ts';
import { EmbeddedBroker } from '../../../src/broker/embedded/embedded-broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import {
  collect,
  message,
  numbers,
  publishAll,
  Seen,
  text,
} from '../../../src/conformance/case-context.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

test('a directory keeps messages, places of groups, retries and schedules over a restart', async () => {
  await using directory = temporaryDirectory('embedded');
  const url = `file:${join(directory.path, 'data')}`;
  {
    await using broker = await openBroker(url);
    assert.deepEqual([broker.name, broker.address], ['file', url]);
    await publishAll(broker, 'orders', numbers(0, 10));
    const done = new Seen<string>();
    await broker.subscribe(
      'orders',
      async (delivery) => {
        if (text(delivery) === '3') await delivery.nack({ delayMs: 600 });
        done.add(text(delivery));
      },
      { group: 'g', from: 'earliest' },
    );
    await done.count(10);
    await broker.publish('orders', message('later', 'k', { a: 'ü' }), { delayMs: 800 });
    await publishAll(broker, 'other', numbers(0, 3));
  }
  await using broker = await openBroker(url);
  const { seen } = await collect(broker, 'orders', { group: 'g' });
  assert.deepEqual([...(await seen.count(2))], ['3', 'later']);
  const other = await collect(broker, 'other', { group: 'new', from: 'earliest' });
  assert.deepEqual([...(await other.seen.count(3))], numbers(0, 3));
  assert.equal(seen.length, 2);
});

test('a process killed with messages in its hands: the next one has them at once, nothing is lost', async () => {
  await using directory = temporaryDirectory('embedded');
  const url = `file:${join(directory.path, 'data')}`;
  const program = fileURLToPath(new URL('./embedded-child.js', import.meta.url));
  const child = fork(program, [url], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const [word] = await once(child, 'message');
  assert.equal(word, 'holding');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await using broker = await openBroker(url);
  const seen = new Seen<Delivery>();
  await broker.subscribe('work', (delivery) => seen.add(delivery), { group: 'g' });
  const deliveries = await seen.count(21);
  assert.deepEqual(deliveries.map(text).sort(), [...numbers(0, 20), 'later'].sort());
  // Those that were held have been delivered before; no deadline of an hour is waited for.
  assert.equal(deliveries.filter(({ attempt }) => attempt === 2).length, 5);
  assert.equal(deliveries.filter(({ attempt }) => attempt === 1).length, 16);
});

test('brokers of one name or directory share it, others have their own', async () => {
  await using directory = temporaryDirectory('embedded');
  const path = join(directory.path, 'data');
  for (const [one, two, shares] of [
    ['memory:a', 'memory:a', true],
    ['memory:a', 'memory:b', false],
    ['memory:', 'memory:', false],
    [`file:${path}`, `file://${path}`, true],
  ] as const) {
    await using first = await openBroker(one);
    await using second = await openBroker(two);
    await first.publish('t', message('x'));
    const topics: string[] = [];
    for await (const { topic } of second.topics()) topics.push(topic);
    assert.deepEqual(topics, shares ? ['t'] : [], `${one} and ${two}`);
  }
  await using again = await openBroker('memory:a');
  for await (const { topic } of again.topics())
    assert.fail(`${topic} was forgotten with its last user`);
});

test('a directory that another process has, or that cannot be one, has an error of its kind', async () => {
  await using directory = temporaryDirectory('embedded');
  const url = `file:${join(directory.path, 'data')}`;
  const program = fileURLToPath(new URL('./embedded-child.js', import.meta.url));
  const child = fork(program, [url], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  await once(child, 'message');
  await assert.rejects(openBroker(url), { code: 'CONNECTION_FAILED', message: /in use|process/i });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await (await openBroker(url)).disconnect();
  await assert.rejects(openBroker('file:'), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(openBroker('memory:x', { goMicro: true }), { code: 'UNSUPPORTED' });
});

test('a message given to several groups is stored once and read by each at its own pace', async () => {
  await using broker = new EmbeddedBroker(['memory:']);
  await broker.connect();
  const groups = await Promise.all(
    numbers(0, 20).map((group) => collect(broker, 'news', { group: `g${group}` })),
  );
  await publishAll(broker, 'news', numbers(0, 50));
  for (const { seen } of groups) assert.deepEqual([...(await seen.count(50))], numbers(0, 50));
});

test('what handlers get is theirs: it does not change when the stream goes on', async () => {
  await using broker = new EmbeddedBroker(['memory:']);
  await broker.connect();
  const kept = new Seen<Uint8Array>();
  await broker.subscribe('t', ({ message }) => kept.add(message.body), { group: 'g' });
  const sent = Buffer.from('first');
  await broker.publish('t', { headers: {}, body: sent });
  sent.fill(0);
  await kept.count(1);
  for (let i = 0; i < 500; i++)
    await broker.publish('t', message(`${i} ${'x'.repeat(50)}`), { maxLength: 10 });
  // A publisher may be faster than the handler; then messages are trimmed unread.
  await kept.until((items) => String(items.at(-1)).startsWith('499 '), 'last message');
  assert.equal(Buffer.from(kept.items[0] as Uint8Array).toString(), 'first');
});

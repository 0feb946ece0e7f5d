/**
 * ASK on the real server, by a client that knows nothing of it; and bytes that wait for company.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

// Its last step races with the reader's chunks on a busy machine: at full size until that is told apart.
const skip = process.env.RIVULET_FULL === '1' ? false : 'at full size only: npm test -- --full';

test('ioredis asks a responder: answer, error, nobody there, timeout, unblocked', {
  skip,
}, async () => {
  await using server = await startRivulet();
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const aborted: string[] = [];
  await broker.respond('t', async function* ({ body }, { signal }) {
    const text = Buffer.from(body).toString();
    signal.addEventListener('abort', () => aborted.push(text));
    if (text === 'fail') throw new Error('not today');
    if (text === 'none') return;
    if (text.startsWith('wait'))
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    yield { headers: {}, body: Buffer.from(`${text} back`) };
    yield { headers: {}, body: Buffer.from('and more') };
  });
  const redis = new Redis(server.port);
  const other = new Redis(server.port);
  try {
    const ask = (text: string, timeoutMs = 5000) => redis.call('ASK', 't', timeoutMs, text);
    assert.deepEqual(await ask('there'), ['', 'there back']);
    await assert.rejects(ask('fail'), /^ReplyError: RESPONDER_FAILED not today/);
    assert.equal(await ask('none'), null);
    await assert.rejects(redis.call('ASK', 'u', 100, 'x'), /NORESPONDERS/);
    await assert.rejects(ask('wait 1', 100), /TIMEOUT/);
    const id = await redis.client('ID');
    const waiting = ask('wait 2');
    while ((await other.client('UNBLOCK', id)) !== 1);
    assert.equal(await waiting, null);
    assert.deepEqual(await ask('again'), ['', 'again back']);
    assert.deepEqual(
      aborted.filter((text) => text.startsWith('wait')),
      ['wait 1', 'wait 2'],
    );
  } finally {
    redis.disconnect();
    other.disconnect();
  }
});

test('the replies of REQUEST and REPLY come without anything that follows them', async () => {
  await using server = await startRivulet();
  await using caller = await connect({ port: server.port });
  await using responder = await connect({ port: server.port });
  assert.equal(await responder.call('RESPOND', 't'), 'OK');
  const began = performance.now();
  for (let id = 1; id <= 20; id++) {
    assert.equal(await caller.call('REQUEST', 't', 10_000, 'x'), id);
    assert.equal(await responder.call('REPLY', id, 'LAST', 'y'), 1);
  }
  assert.ok(performance.now() - began < 2000);
});

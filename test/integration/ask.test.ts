/**
 * ASK on the real server, by a client that knows nothing of it; and bytes that wait for company.
 */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/client.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

test('ioredis asks a responder: answer, error, no responder, timeout, unblocked', async () => {
  await using server = await startRivulet();
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const events = new EventEmitter();
  const waiting: string[] = [];
  const aborted: string[] = [];
  await broker.respond('t', async function* ({ body }, { signal }) {
    const text = Buffer.from(body).toString();
    if (text === 'fail') throw new Error('not today');
    if (text === 'none') return;
    if (text.startsWith('wait')) {
      waiting.push(text);
      events.emit(text);
      await once(signal, 'abort');
      aborted.push(text);
    }
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
    const begun = once(events, 'wait 2');
    const answer = ask('wait 2', 60_000);
    await begun;
    assert.equal(await other.client('UNBLOCK', id), 1);
    assert.equal(await answer, null);
    // Its request follows the word that the others were given up.
    assert.deepEqual(await ask('again'), ['', 'again back']);
    // On a machine so busy that the first was given up before it was begun, it never is.
    assert.deepEqual(aborted, waiting);
    assert.equal(aborted.at(-1), 'wait 2');
  } finally {
    redis.disconnect();
    other.disconnect();
  }
});

test('a request that was given up before its handler could begin is not begun', async () => {
  await using server = await startRivulet();
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`);
  const begun: string[] = [];
  await broker.respond('t', async function* ({ body }, { signal }) {
    begun.push(`${Buffer.from(body)}${signal.aborted ? ' too late' : ''}`);
    yield { headers: {}, body };
  });
  await using caller = await RespSession.open(server.port, { protocol: 3 });
  const asked = Number((await caller.text('REQUEST', 't', 5000, 'first')).slice(1));
  // A generator's answer and its end: two pushes. The end left over was taken for the answer to the last.
  for (const kind of ['more', 'end']) assert.match(String(await caller.nextPush()), RegExp(kind));
  for (let id = asked + 1; id <= asked + 20; id++) {
    const [taken, cancelled] = await caller.pipeline([
      ['REQUEST', 't', 5000, 'given up'],
      ['CANCEL', id],
    ]);
    assert.deepEqual([`${taken}`, `${cancelled}`], [`:${id}\r\n`, ':1\r\n']);
  }
  await caller.call('REQUEST', 't', 5000, 'last');
  assert.match(String(await caller.nextPush()), /more\r\n[\s\S]*last/);
  assert.deepEqual(
    begun.filter((text) => text.endsWith('too late')),
    [],
  );
  assert.deepEqual([begun[0], begun.at(-1)], ['first', 'last']);
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

/** Publish/subscribe: the bytes that listeners and publishers get. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  InProcessServer,
  type InProcessSession,
  type Value,
} from '../../helpers/in-process-server.ts';

/** The bytes that a session was sent since the last look, line ends as `|`. */
function sent(session: InProcessSession): string {
  return session.takeBytes().toString('latin1').replaceAll('\r\n', '|');
}

function run(session: InProcessSession, ...args: string[]): string {
  session.reply.release();
  session.run(...args);
  return sent(session);
}

test('subscribing answers once per channel and counts channels and patterns together', () => {
  const r = new InProcessServer().session();
  assert.equal(
    run(r, 'SUBSCRIBE', 'a', 'b', 'a'),
    '*3|$9|subscribe|$1|a|:1|*3|$9|subscribe|$1|b|:2|*3|$9|subscribe|$1|a|:2|',
  );
  assert.equal(run(r, 'PSUBSCRIBE', 'x*'), '*3|$10|psubscribe|$2|x*|:3|');
  assert.equal(run(r, 'SSUBSCRIBE', 'a'), '*3|$10|ssubscribe|$1|a|:1|');
  assert.equal(run(r, 'UNSUBSCRIBE', 'none'), '*3|$11|unsubscribe|$4|none|:3|');
  assert.equal(run(r, 'UNSUBSCRIBE'), '*3|$11|unsubscribe|$1|a|:2|*3|$11|unsubscribe|$1|b|:1|');
  assert.equal(run(r, 'UNSUBSCRIBE'), '*3|$11|unsubscribe|$-1|:1|');
  assert.equal(run(r, 'PUNSUBSCRIBE'), '*3|$12|punsubscribe|$2|x*|:0|');
  assert.equal(run(r, 'SUNSUBSCRIBE'), '*3|$12|sunsubscribe|$1|a|:0|');
});

test('messages reach channels, patterns and shard channels, and PUBLISH counts the receivers', () => {
  const server = new InProcessServer();
  const publisher = server.session();
  const [two, three] = [server.session(2), server.session(3)];
  run(two, 'SUBSCRIBE', 'news');
  run(two, 'PSUBSCRIBE', 'n?ws', 'other');
  run(three, 'SUBSCRIBE', 'news');
  run(three, 'SSUBSCRIBE', 'news');
  assert.equal(publisher.call('PUBLISH', 'news', 'hi'), 3);
  assert.equal(sent(two), '*3|$7|message|$4|news|$2|hi|*4|$8|pmessage|$4|n?ws|$4|news|$2|hi|');
  assert.equal(sent(three), '>3|$7|message|$4|news|$2|hi|');
  assert.equal(publisher.call('SPUBLISH', 'news', 'hi'), 1);
  assert.equal(sent(three), '>3|$8|smessage|$4|news|$2|hi|');
  assert.equal(publisher.call('PUBLISH', 'nobody', 'hi'), 0);
});

test('PUBSUB shows channels, patterns and their subscribers', () => {
  const server = new InProcessServer();
  const [r, a, b] = [server.session(), server.session(), server.session()];
  run(a, 'SUBSCRIBE', 'one', 'two');
  run(b, 'SUBSCRIBE', 'one');
  run(b, 'PSUBSCRIBE', 'p*', 'q*');
  run(a, 'PSUBSCRIBE', 'p*');
  run(a, 'SSUBSCRIBE', 'shard');
  assert.deepEqual(r.call('PUBSUB', 'CHANNELS'), ['one', 'two']);
  assert.deepEqual(r.call('PUBSUB', 'CHANNELS', 't*'), ['two']);
  assert.deepEqual(r.call('PUBSUB', 'NUMSUB', 'one', 'none'), ['one', 2, 'none', 0]);
  assert.equal(r.call('PUBSUB', 'NUMPAT'), 2);
  assert.deepEqual(r.call('PUBSUB', 'SHARDCHANNELS'), ['shard']);
  assert.deepEqual(r.call('PUBSUB', 'SHARDNUMSUB', 'shard'), ['shard', 1]);
});

test('a session that has gone listens no longer', () => {
  const server = new InProcessServer();
  const [r, a] = [server.session(), server.session()];
  run(a, 'SUBSCRIBE', 'one');
  run(a, 'PSUBSCRIBE', 'o*');
  run(a, 'SSUBSCRIBE', 'one');
  a.subscriptions?.clear();
  assert.equal(r.call('PUBLISH', 'one', 'hi'), 0);
  assert.equal(r.call('SPUBLISH', 'one', 'hi'), 0);
  assert.deepEqual(r.call('PUBSUB', 'CHANNELS'), []);
  assert.equal(r.call('PUBSUB', 'NUMPAT'), 0);
});

test('SSUBSCRIBE in a transaction is refused, SUBSCRIBE is not: as in Redis', () => {
  const r = new InProcessServer().session();
  r.call('MULTI');
  r.call('SSUBSCRIBE', 'a');
  r.call('SUBSCRIBE', 'b');
  const [refused, subscribed] = r.call('EXEC') as Value[];
  assert.ok(refused instanceof Error);
  assert.equal(refused.message, "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
  assert.deepEqual(subscribed, ['subscribe', 'b', 1]);
});

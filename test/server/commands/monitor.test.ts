/**
 * MONITOR: the lines of a real redis-server 7.0, times and addresses aside; and what keeps it bounded.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { runServer } from '../running-server.ts';

const BINARY = Buffer.from(Array.from({ length: 256 }, (_, code) => code));

/** What one connection sends; commands that fail, that block and that nobody is to see among them. */
const COMMANDS: readonly (readonly (string | Uint8Array)[])[] = [
  ['SET', 'a', BINARY],
  ['GeT', 'a'],
  ['GET'],
  ['nope'],
  ['INCR', 'a'],
  ['SELECT', '3'],
  ['AUTH', 'secret'],
  ['AUTH', 'somebody', 'secret'],
  ['HELLO', '2', 'SETNAME', 'x', 'AUTH', 'default', 'secret', 'SETNAME', 'auth'],
  ['ACL', 'SETUSER', 'u', '>secret'],
  ['ACL', 'WHOAMI'],
  ['CONFIG', 'GET', 'port'],
  ['CLIENT', 'ID'],
  ['CLIENT', 'LIST'],
  ['MULTI'],
  ['SET', 'b', ''],
  ['MONITOR'],
  ['SELECT', '4'],
  ['EXEC'],
  ['EXEC'],
  ['XADD', 's', '1-1', 'f', 'v'],
  ['XREAD', 'BLOCK', '10', 'STREAMS', 's', '$'],
  ['SLOWLOG', 'LEN'],
  ['MODULE', 'LIST'],
  ['SUBSCRIBE', 'c'],
  ['PING'],
  ['UNSUBSCRIBE', 'c'],
  ['RESET'],
  ['CLIENT', 'INFO'],
  ['ECHO', 'the end'],
];

/** What a connection sees of another one; and what one gets that monitors itself. */
async function watch(port: number): Promise<{ seen: string[]; own: string }> {
  await using monitor = await RespSession.open(port);
  await using client = await RespSession.open(port);
  assert.equal(await monitor.text('MONITOR'), '+OK\r\n');
  for (const command of COMMANDS) await client.call(...command);
  const seen: string[] = [];
  while (!seen.at(-1)?.includes('the end')) seen.push(plain(await monitor.next('a line')));
  const flags = /flags=\w+/.exec(await monitor.text('CLIENT', 'INFO'))?.[0];
  // A second MONITOR says nothing, RESET ends it.
  const [first, pong, line, reset, after] = await client.pipeline([
    ['MONITOR'],
    ['MONITOR'],
    ['PING'],
    ['RESET'],
    ['PING'],
  ]);
  const own = [first, pong, line, reset, after].map((reply) => plain(reply as Buffer)).join('');
  return { seen, own: `${own}${flags}` };
}

function plain(line: Buffer): string {
  return line.toString('latin1').replace(/^\+\d{10}\.\d{6} \[(\d+) 127\.0\.0\.1:\d+\]/, '+T [$1]');
}

test('the same lines as redis-server', { skip: missing('redis-server') }, async () => {
  await using redis = await startRedis();
  await using running = await runServer();
  const expected = await watch(redis.port);
  const actual = await watch(running.port);
  for (const [i, line] of expected.seen.entries()) assert.equal(actual.seen[i], line);
  assert.equal(actual.seen.length, expected.seen.length);
  assert.equal(actual.own, expected.own);
});

test('a monitor that does not read is cut off', async () => {
  await using running = await runServer({
    'client-output-buffer-limit': 'pubsub 1mb 0 0',
  });
  const monitor = await running.connect();
  await monitor.call('MONITOR');
  monitor.socket.pause();
  await using client = await running.connect();
  const value = 'v'.repeat(100_000);
  const { statistics } = running.server.state;
  for (let i = 0; statistics.outputLimitDisconnections === 0; i++) {
    assert.ok(i < 1000, 'it has a hundred megabytes waiting for it');
    await client.call('ECHO', value);
  }
  assert.equal(running.server.state.monitors.any, false);
  assert.match(await client.text('CLIENT', 'LIST'), /^\$\d+\r\nid=\d+ [^\n]*\n\r\n$/);
  await monitor.close();
});

test('the slow log does not show passwords either', async () => {
  await using running = await runServer({ 'slowlog-log-slower-than': '0' });
  await using client = await running.connect();
  await client.call('CONFIG', 'SET', 'maxclients', 1000, 'requirepass', 'secret');
  await client.call('AUTH', 'secret');
  await client.call('ACL', 'SETUSER', 'u', 'on', '>secret');
  const slow = await client.text('SLOWLOG', 'GET');
  assert.ok(!slow.includes('secret'), slow);
  assert.equal(slow.match(/\(redacted\)/g)?.length, 5);
  assert.match(slow, /maxclients\r\n\$4\r\n1000/);
});

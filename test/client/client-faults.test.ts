/** The client library: one bad argument, refused subscriptions, times that timers do not take. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/client/client.ts';
import { FaultyProxy } from '../../src/conformance/index.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';

const bad = { not: 'an argument' } as never;

test('a transaction or pipeline with one bad argument runs none of it, and the next call is right', async () => {
  await using server = await startRivulet();
  await using client = await connect({ port: server.port });
  const commands = [
    ['XADD', 'a', '*', 'f', '1'],
    ['XADD', 'a', '*', 'f', bad],
    ['XADD', 'a', '*', 'f', '3'],
  ];
  await assert.rejects(client.transaction(commands), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(client.pipeline(commands), { code: 'INVALID_ARGUMENT' });
  assert.equal(await client.call('XLEN', 'a'), 0);
  assert.equal(String(await client.call('ECHO', 'x')), 'x');
});

test('subscriptions of every kind keep replies in step, refused ones too', async () => {
  await using server = await startRivulet();
  await using admin = await connect({ port: server.port });
  await admin.call('ACL', 'SETUSER', 'ann', 'on', '>pw', '+@all', '~*', 'resetchannels', '&ok*');
  await using client = await connect({ port: server.port, username: 'ann', password: 'pw' });
  const echo = async (text: string) => assert.equal(String(await client.call('ECHO', text)), text);
  await client.call('SSUBSCRIBE', 'ok-shard');
  await echo('1');
  await assert.rejects(client.call('SUBSCRIBE', 'secret', 'secret2'), {
    code: 'PERMISSION_DENIED',
  });
  await client.call('UNSUBSCRIBE');
  await echo('2');
  await client.call('SUBSCRIBE', 'ok1', 'ok2');
  await assert.rejects(client.call('SUBSCRIBE', 'secret'), { code: 'PERMISSION_DENIED' });
  await client.call('UNSUBSCRIBE');
  await echo('3');
  await client.call('PSUBSCRIBE', 'ok*');
  await client.call('PUNSUBSCRIBE');
  await client.call('PUNSUBSCRIBE');
  await client.call('SUNSUBSCRIBE');
  await echo('4');
  await assert.rejects(client.call('SUBSCRIBE'));
  await assert.rejects(client.call('SSUBSCRIBE'));
  await echo('5');
});

test('names of commands given as bytes mean what they mean as text', async () => {
  await using server = await startRivulet();
  for (const bytes of [
    (text: string) => Buffer.from(text),
    (text: string) => new Uint8Array(Buffer.from(text)),
  ]) {
    await using client = await connect({ port: server.port });
    await client.call(bytes('subscribe'), 'x');
    assert.equal(String(await client.call('ECHO', '1')), '1');
    await client.call(bytes('UNSUBSCRIBE'));
    assert.equal(String(await client.call('ECHO', '2')), '2');
    const blocked = client.call(bytes('XREAD'), bytes('BLOCK'), bytes('0'), 'STREAMS', 'b', '$');
    const late = assert.rejects(blocked);
    assert.equal(String(await client.call('ECHO', '3')), '3', 'it blocks no other caller');
    client.destroy();
    await late;
  }
});

test('a blocking command ends with the client, also while its connection is still being opened', async () => {
  await using server = await startRivulet();
  const command = ['XREAD', 'BLOCK', '0', 'STREAMS', 'never', '$'] as const;
  for (const when of ['opening', 'blocked'] as const) {
    const client = await connect({ port: server.port });
    const blocked = assert.rejects(client.call(...command), { code: 'CLOSED' });
    if (when === 'blocked') await client.call('PING');
    client.destroy();
    await blocked;
  }
  await using client = await connect({ port: server.port });
  await assert.rejects(client.call('XREAD', 'BLOCK', '0', 'STREAMS', bad, '$'), {
    code: 'INVALID_ARGUMENT',
  });
});

test('a command that would take other calls their replies is refused, and they go on', async () => {
  await using server = await startRivulet();
  await using client = await connect({ port: server.port });
  const refused = [
    ['CLIENT', 'REPLY', 'SKIP'],
    ['client', Buffer.from('reply'), 'off'],
    ['MONITOR'],
    ['Reset'],
    [Buffer.from('HELLO'), '2'],
    ['SYNC'],
    ['PSYNC', '?', '-1'],
  ] as const;
  for (const args of refused) {
    await assert.rejects(client.call(...args), { code: 'UNSUPPORTED' });
    await assert.rejects(client.pipeline([['SET', 'a', '1'], args]), { code: 'UNSUPPORTED' });
    assert.equal(String(await client.call('ECHO', 'x')), 'x', String(args[0]));
  }
  assert.equal(await client.call('EXISTS', 'a'), 0, 'a refused pipeline sends nothing');
  assert.ok(await client.call('CLIENT', 'ID'));
});

test('what was unsubscribed stays so over a reconnect, what was subscribed comes back', async () => {
  await using server = await startRivulet();
  await using proxy = await FaultyProxy.start(server.port);
  await using admin = await connect({ port: server.port });
  await using client = await connect({ port: proxy.port, reconnect: { minMs: 5, maxMs: 20 } });
  await client.call('SUBSCRIBE', 'kept', 'left');
  await client.call('PSUBSCRIBE', 'p-kept*', 'p-left*');
  await client.call('SSUBSCRIBE', 's-kept', 's-left');
  await client.call('UNSUBSCRIBE', 'left');
  await client.call('PUNSUBSCRIBE', 'p-left*');
  await client.call('SUNSUBSCRIBE', 's-left');
  const back = new Promise<void>((resolve) => client.once('reconnect', () => resolve()));
  proxy.cut();
  await back;
  await client.call('PING');
  const got: string[] = [];
  const done = new Promise<void>((resolve) => {
    client.on('push', (kind, items) => {
      if (!kind.endsWith('message')) return;
      got.push(String(items[kind === 'pmessage' ? 1 : 0]));
      if (got.at(-1) === 'kept') resolve();
    });
  });
  for (const channel of ['left', 'p-left1', 'p-kept1']) await admin.call('PUBLISH', channel, 'x');
  for (const channel of ['s-left', 's-kept']) await admin.call('SPUBLISH', channel, 'x');
  await admin.call('PUBLISH', 'kept', 'x');
  await done;
  assert.deepEqual(got, ['p-kept1', 's-kept', 'kept']);
});

test('times of Infinity and beyond what timers take are no limit, and do not end at once', async () => {
  await using server = await startRivulet();
  for (const ms of [Number.POSITIVE_INFINITY, 2 ** 31, 1e15, 0]) {
    const options = { port: server.port, timeoutMs: ms, connectTimeoutMs: ms };
    await using client = await connect(options);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(String(await client.call('PING')), 'PONG');
  }
});

test('options of a wrong kind, and misspelt ones, are refused', async () => {
  const wrong: object[] = [
    { timeoutMs: Number.NaN },
    { timeoutMs: -1 },
    { port: 1.5 },
    { db: -1 },
    { maxInFlight: 0.5 },
    { reconnect: { minMs: Number.POSITIVE_INFINITY } },
    { reconnect: { minMs: 10, maxMs: 5 } },
  ];
  for (const options of wrong) await assert.rejects(connect(options), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(connect({ pasword: 'x' } as never), /did you mean password\?/);
});

test('a transaction of a user without MULTI or EXEC runs none of it, and the next call is right', async () => {
  await using server = await startRivulet();
  await using admin = await connect({ port: server.port });
  for (const [name, rule] of [
    ['ann', '-multi'],
    ['bob', '-exec'],
  ] as const) {
    await admin.call('ACL', 'SETUSER', name, 'on', '>pw', '+@all', '~*', rule);
    await using client = await connect({ port: server.port, username: name, password: 'pw' });
    const commands = [
      ['XADD', 'a', '*', 'f', '1'],
      ['XADD', 'a', '*', 'f', '2'],
    ];
    await assert.rejects(client.transaction(commands), /NOPERM/, name);
    assert.equal(await admin.call('XLEN', 'a'), 0, name);
    assert.equal(String(await client.call('ECHO', 'x')), 'x', name);
  }
});

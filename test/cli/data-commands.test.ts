/** Data that moves: mirror, import, backup and restore, stopped in their middle and under load. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { type Client, connect } from '../../src/client/client.ts';
import { ended, startChild } from '../helpers/children.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { MICRO, micro } from './micro.ts';

let server: RivuletServer;
let home: TemporaryDirectory;
before(async () => {
  server = await startRivulet();
  home = temporaryDirectory('moved');
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

const url = (database = 0) => `rivulet://127.0.0.1:${server.port}/${database}`;

async function json(...args: string[]) {
  const { code, stdout, stderr } = await micro([...args, '--json'], { timeoutMs: 120_000 });
  assert.equal(code, 0, `${args}: ${stdout}${stderr}`);
  return JSON.parse(stdout);
}

async function entries(client: Client, topic: string): Promise<string> {
  return JSON.stringify(await client.call('XRANGE', topic, '-', '+'));
}

test('mirror copies entries with their ids, goes on where it was, and adds nothing twice', async () => {
  await using from = await connect({ port: server.port });
  await using to = await connect({ port: server.port, db: 1 });
  const add = (count: number) =>
    from.pipeline(
      Array.from({ length: count }, (_, i) => [
        'XADD',
        'orders',
        '*',
        'n',
        String(i),
        'b',
        Buffer.from([255]),
      ]),
    );
  await add(1300);
  await from.call('XADD', 'other', '*', 'x', 'y');
  const flags = ['mirror', '--from', url(), '--to', url(1), '--topics', 'orders'];
  assert.equal((await json(...flags))[0].copied, 1300);
  assert.equal(await entries(to, 'orders'), await entries(from, 'orders'));
  assert.equal((await json(...flags))[0].copied, 0);
  await add(7);
  assert.equal((await json(...flags))[0].copied, 7);
  assert.equal(await entries(to, 'orders'), await entries(from, 'orders'));
  assert.equal(Number(await to.call('EXISTS', 'other')), 0);
  // A target with entries of its own is not mixed with.
  await to.call('XADD', 'orders', '*', 'own', 'entry');
  const mixed = await micro(flags);
  assert.equal(mixed.code, 1);
  assert.match(mixed.stderr, /not the source's entry/);
  await Promise.all([from.close(), to.close()]);
});

test('a mirror that is killed again and again copies each entry once', async () => {
  await using from = await connect({ port: server.port });
  await using to = await connect({ port: server.port, db: 4 });
  const total = 20_000;
  for (let done = 0; done < total; done += 2000) {
    await from.pipeline(
      Array.from({ length: 2000 }, (_, i) => ['XADD', 'killed', '*', 'n', String(done + i)]),
    );
  }
  const flags = ['mirror', '--from', url(), '--to', url(4), '--topics', 'killed', '--json'];
  const length = async () => Number(await to.call('XLEN', 'killed'));
  for (let kill = 1; kill <= 4; kill++) {
    const child = startChild(process.execPath, [MICRO, ...flags]);
    while ((await length()) < kill * 1500 && child.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    child.kill(kill % 2 === 0 ? 'SIGKILL' : 'SIGINT');
    const code = await ended(child);
    assert.ok([0, 130, 'SIGKILL'].includes(code), `${code}`);
    // What says that it is done is done.
    if (code === 0) assert.equal(await length(), total);
  }
  await json(...flags.slice(0, -1));
  assert.equal((await entries(to, 'killed')) === (await entries(from, 'killed')), true);
  await Promise.all([from.close(), to.close()]);
});

test('a target that holds an entry of its own before the source’s last is not mixed with', async () => {
  await using from = await connect({ port: server.port });
  await using to = await connect({ port: server.port, db: 5 });
  for (const id of ['1-0', '2-0', '9-0']) await from.call('XADD', 'own', id, 'f', id);
  await to.call('XADD', 'own', '5-0', 'other', 'entry');
  const flags = ['mirror', '--from', url(), '--to', url(5), '--topics', 'own'];
  const mixed = await micro(flags);
  assert.equal(mixed.code, 1, mixed.stdout);
  assert.match(mixed.stderr, /not the source's entry/);
  assert.equal(Number(await to.call('XLEN', 'own')), 1);
  // What the source has deleted or trimmed since it was copied is no such entry.
  await to.call('DEL', 'own');
  await json(...flags);
  await from.call('XDEL', 'own', '9-0');
  await from.call('XADD', 'own', '10-0', 'f', '10-0');
  assert.equal((await json(...flags))[0].copied, 1);
  await from.call('XTRIM', 'own', 'MAXLEN', '0');
  await from.call('XADD', 'own', '11-0', 'f', '11-0');
  assert.equal((await json(...flags))[0].copied, 1);
  await Promise.all([from.close(), to.close()]);
});

test('a topic whose name is not UTF-8 is copied under the same bytes', async () => {
  await using from = await connect({ port: server.port, db: 7 });
  await using to = await connect({ port: server.port, db: 6 });
  const name = Buffer.from([0x6f, 0xff, 0xfe]);
  await from.call('XADD', name, '1-0', 'f', 'v');
  await json('mirror', '--from', url(7), '--to', url(6));
  assert.equal(Number(await to.call('XLEN', name)), 1);
  await from.call('DEL', name);
  await Promise.all([from.close(), to.close()]);
});

test('a mirror between other brokers waits for a target that stands still', async () => {
  const place = `file:${join(home.path, 'still')}`;
  const source = await openBroker(place);
  const body = Buffer.from('x');
  await source.publishBatch(
    'still',
    Array.from({ length: 3000 }, () => ({ headers: {}, body })),
  );
  await source.disconnect();
  await using target = await startRivulet({ longTurns: 'it is stopped' });
  await using client = await connect({ port: target.port });
  const to = `rivulet://127.0.0.1:${target.port}`;
  const flags = ['mirror', '--from', place, '--to', to, '--topics', 'still', '--wait', '200ms'];
  const child = startChild(process.execPath, [MICRO, ...flags]);
  await until(async () => Number(await client.call('EXISTS', 'still')) > 0);
  target.process.kill('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.equal(child.exitCode, null, 'a pause is no end');
  target.process.kill('SIGCONT');
  assert.equal(await ended(child), 0);
  assert.equal(Number(await client.call('XLEN', 'still')), 3000);
  await client.close();
});

test('a backup finds the data of a server that was started in another directory', async () => {
  await using elsewhere = temporaryDirectory('elsewhere');
  const child = startChild(
    process.execPath,
    [MICRO, 'server', '--port', '0', '--http-port', '0', '--dir', 'data'],
    { cwd: elsewhere.path },
  );
  let said = '';
  for await (const text of child.stdout!) {
    said += text;
    if (/ready on/.test(said)) break;
  }
  const [, port] = /127\.0\.0\.1:(\d+)/.exec(said) ?? [];
  const target = join(home.path, 'of-relative');
  const done = await json('backup', target, '--broker', `rivulet://127.0.0.1:${port}`);
  assert.equal(done.verified, true);
  const file = join(home.path, 'file');
  writeFileSync(file, 'x');
  assert.equal((await micro(['restore', target, '--dir', file])).code, 2);
  child.kill('SIGTERM');
  assert.equal(await ended(child), 0);
});

test('mirror --follow goes on with what comes, and ends with Ctrl-C', async () => {
  await using client = await connect({ port: server.port });
  await using to = await connect({ port: server.port, db: 3 });
  await client.call('XADD', 'live', '*', 'n', '1');
  const flags = [
    'mirror',
    '--from',
    url(),
    '--to',
    url(3),
    '--topics',
    'live',
    '--follow',
    '--json',
  ];
  const child = startChild(process.execPath, [MICRO, ...flags]);
  let stdout = '';
  child.stdout?.on('data', (text) => {
    stdout += text;
  });
  const arrived = (length: number) =>
    until(async () => Number(await to.call('XLEN', 'live')) >= length);
  await arrived(1);
  await client.call('XADD', 'live', '*', 'n', '2');
  await arrived(2);
  child.kill('SIGINT');
  assert.equal(await ended(child), 0);
  assert.equal(JSON.parse(stdout)[0].copied, 2);
  await Promise.all([client.close(), to.close()]);
});

test('mirror between other brokers publishes each message once', async () => {
  const broker = await openBroker(url());
  for (let i = 0; i < 20; i++) {
    await broker.publish('mixed', { headers: { n: String(i) }, body: Buffer.from(`m${i}`) });
  }
  await broker.disconnect();
  const flags = ['mirror', '--from', url(), '--to', `file:${join(home.path, 'log')}`];
  assert.equal((await json(...flags, '--topics', 'mixed', '--wait', '500ms'))[0].copied, 20);
  const again = await json(...flags, '--topics', 'mixed', '--wait', '500ms');
  assert.equal(again[0].copied, 0);
  const copy = await openBroker(`file:${join(home.path, 'log')}`);
  for await (const { topic, length } of copy.topics()) {
    if (topic === 'mixed') assert.equal(length, 20);
  }
  await copy.disconnect();
});

test('import brings streams with groups and pending lists, strings with their time to live', {
  skip: missing('redis-server'),
}, async () => {
  await using redis = await startRedis();
  await using source = await connect({ port: redis.port, protocol: 2 });
  await using target = await connect({ port: server.port, db: 2 });
  await source.pipeline([
    ...Array.from({ length: 250 }, (_, i) => ['XADD', 'orders', '*', 'n', String(i)]),
    ['XGROUP', 'CREATE', 'orders', 'billing', '0'],
    ['XREADGROUP', 'GROUP', 'billing', 'ann', 'COUNT', '9', 'STREAMS', 'orders', '>'],
    ['SET', 'session', 'abc', 'PX', '600000'],
    ['SET', 'plain', 'x'],
    ['RPUSH', 'list', 'a'],
  ]);
  const from = `redis://127.0.0.1:${redis.port}`;
  const first = await micro(['import', from, '--broker', url(2), '--json']);
  assert.equal(first.code, 1, 'a type that is not there is a failure');
  assert.match(first.stderr, /list is a list/);
  assert.deepEqual(
    { ...JSON.parse(first.stdout) },
    { imported: 3, present: 0, unsupported: 1, failed: 0, gone: 0 },
  );
  assert.equal(await entries(target, 'orders'), await entries(source, 'orders'));
  const pending = (client: Client) => client.call('XPENDING', 'orders', 'billing', '-', '+', '100');
  const ids = (rows: unknown) => (rows as Buffer[][]).map(([id, name]) => `${id} ${name}`);
  assert.deepEqual(ids(await pending(target)), ids(await pending(source)));
  const ttl = Number(await target.call('PTTL', 'session'));
  assert.ok(ttl > 500_000 && ttl <= 600_000, `${ttl}`);
  assert.equal(Number(await target.call('PTTL', 'plain')), -1);
  const again = JSON.parse((await micro(['import', from, '--broker', url(2), '--json'])).stdout);
  assert.deepEqual([again.imported, again.present], [0, 3]);
  await Promise.all([source.close(), target.close()]);
});

test('a backup under load holds what was acknowledged before it, and is verified', async () => {
  await using client = await connect({ port: server.port });
  await client.call('XGROUP', 'CREATE', 'load', 'g', '0', 'MKSTREAM');
  let isOver = false;
  let acknowledged = 0;
  const writers = Array.from({ length: 8 }, async () => {
    while (!isOver) {
      await client.call('XADD', 'load', '*', 'body', 'x'.repeat(2000));
      acknowledged++;
      if (acknowledged % 500 === 0) void client.call('BGSAVE').catch(() => {});
    }
  });
  await until(() => acknowledged >= 1000);
  await client.call('XREADGROUP', 'GROUP', 'g', 'ann', 'COUNT', '5', 'STREAMS', 'load', '>');
  const before = acknowledged;
  const target = join(home.path, 'backup');
  const done = await json('backup', target, '--broker', url());
  isOver = true;
  await Promise.all(writers);
  assert.equal(done.verified, true);
  assert.equal(
    (await micro(['backup', target, '--broker', url()])).code,
    2,
    'nothing is overwritten',
  );
  const data = join(home.path, 'restored');
  await json('restore', target, '--dir', data);
  assert.equal((await micro(['restore', target, '--dir', data])).code, 2, 'not over what is there');
  await using restored = await startRivulet({ directory: data });
  await using copy = await connect({ port: restored.port });
  const length = Number(await copy.call('XLEN', 'load'));
  assert.ok(length >= before, `${length} of ${before}`);
  const ids = JSON.stringify(await copy.call('XRANGE', 'load', '-', '+', 'COUNT', length));
  const whole = JSON.stringify(await client.call('XRANGE', 'load', '-', '+', 'COUNT', length));
  assert.equal(ids === whole, true, 'the entries are the first ones of the source');
  const [pending] = (await copy.call('XPENDING', 'load', 'g')) as [number];
  assert.equal(pending, 5);
  await Promise.all([client.close(), copy.close()]);
  assert.ok(!readdirSync(home.path).some((name) => name.includes('partial')));
});

test('a backup that was damaged or cut is not restored', async () => {
  const target = join(home.path, 'damaged');
  await json('backup', target, '--broker', url());
  const data = join(home.path, 'never');
  const manifest = JSON.parse(readFileSync(join(target, 'manifest.json'), 'utf8'));
  const [segment] = Object.keys(manifest.files).filter((name) => name.endsWith('.rlog'));
  const path = join(target, segment!);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
  const changed = await micro(['restore', target, '--dir', data]);
  assert.match(changed.stderr, /damaged: .*not what was backed up/);
  truncateSync(join(target, 'manifest.json'), 10);
  const cut = await micro(['restore', target, '--dir', data]);
  assert.deepEqual([cut.code, existsSync(data)], [2, false]);
  assert.match(cut.stderr, /no whole backup/);
});

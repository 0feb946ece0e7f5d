/**
 * Clients that others wrote, each in a realistic life of a stream and its group, against the real binary.
 *
 * The scenario: produce orders, read them in a group of two workers, acknowledge some, let one worker
 * vanish and the other claim what it left, look at lag and pending, trim. A client that disconnects
 * while it blocks must not take a message with it.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { runTool } from '../helpers/children.ts';
import { missing, PYTHON } from '../helpers/requirements.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';
import { repositoryRoot } from '../house/source-file.ts';

describe('clients from their packages', () => {
  let server: RivuletServer;
  before(async () => {
    server = await startRivulet();
  });
  after(() => server[Symbol.asyncDispose]());

  for (const protocol of [2, 3] as const) {
    test(`ioredis 6, RESP${protocol}: the life of a group`, async () => {
      const options = { port: server.port, protocol, lazyConnect: true } as const;
      const redis = new Redis(options);
      const blocking = redis.duplicate();
      try {
        await redis.connect();
        const key = `ioredis${protocol}`;
        await redis.xgroup('CREATE', key, 'workers', '$', 'MKSTREAM');
        // Blocks first, is woken by the first order.
        const woken = blocking.xreadgroup(
          'GROUP',
          'workers',
          'ann',
          'COUNT',
          10,
          'BLOCK',
          10_000,
          'STREAMS',
          key,
          '>',
        );
        await isBlocked(() => redis.client('LIST') as Promise<string>);
        const first = await redis.xadd(key, '*', 'order', '0', 'note', 'ünï');
        const [[name, [[id, fields]]]] = entriesOf(await woken);
        assert.deepEqual([name, id, fields], [key, first, ['order', '0', 'note', 'ünï']]);
        const pipeline = redis.pipeline();
        for (let i = 1; i < 500; i++) pipeline.xadd(key, '*', 'order', String(i));
        const added = (await pipeline.exec())?.map(([error, added]) => {
          assert.equal(error, null);
          return String(added);
        }) as string[];
        const [[, bobs]] = entriesOf(
          await redis.xreadgroup('GROUP', 'workers', 'bob', 'COUNT', 200, 'STREAMS', key, '>'),
        );
        assert.deepEqual(
          bobs.map(([id]) => id),
          added.slice(0, 200),
        );
        assert.equal(
          await redis.xack(key, 'workers', ...bobs.slice(0, 150).map(([id]) => id)),
          150,
        );
        const summary = (await redis.xpending(key, 'workers')) as [
          number,
          string,
          string,
          [string, string][],
        ];
        assert.equal(summary[0], 51);
        assert.deepEqual(summary[3], [
          ['ann', '1'],
          ['bob', '50'],
        ]);
        const claimed = (await redis.xautoclaim(key, 'workers', 'ann', 0, '-', 'COUNT', 100)) as [
          string,
          [string, string[]][],
          string[],
        ];
        assert.equal(claimed[0], '0-0');
        assert.equal(claimed[1].length, 51);
        assert.equal(await redis.xlen(key), 500);
        assert.equal(await redis.xtrim(key, 'MAXLEN', 100), 400);
        const result = await redis
          .multi()
          .set(`${key}:n`, 1)
          .incr(`${key}:n`)
          .xadd(key, '*', 'a', 'b')
          .exec();
        assert.deepEqual(result?.slice(0, 2), [
          [null, 'OK'],
          [null, 2],
        ]);
        await assert.rejects(redis.xgroup('CREATE', key, 'workers', '$'), /BUSYGROUP/);
      } finally {
        redis.disconnect();
        blocking.disconnect();
      }
    });

    test(`node-redis 6, RESP${protocol}: the life of a group`, async () => {
      const client = createClient({ url: `redis://127.0.0.1:${server.port}`, RESP: protocol });
      client.on('error', () => {});
      await client.connect();
      const blocking = await client.duplicate().connect();
      try {
        const key = `node-redis${protocol}`;
        await client.xGroupCreate(key, 'workers', '$', { MKSTREAM: true });
        const woken = blocking.xReadGroup(
          'workers',
          'ann',
          { key, id: '>' },
          { BLOCK: 10_000, COUNT: 5 },
        );
        await isBlocked(async () => String(await client.sendCommand(['CLIENT', 'LIST'])));
        const first = await client.xAdd(key, '*', { order: '0' });
        assert.match(JSON.stringify(await woken), new RegExp(`"${first}"`));
        const ids = await Promise.all(
          Array.from({ length: 300 }, (_, i) => client.xAdd(key, '*', { order: String(i + 1) })),
        );
        const read = JSON.stringify(
          await client.xReadGroup('workers', 'bob', { key, id: '>' }, { COUNT: 100 }),
        );
        for (const id of ids.slice(0, 100)) assert.ok(read.includes(id));
        assert.equal(await client.xAck(key, 'workers', ids.slice(0, 60)), 60);
        const pending = await client.xPending(key, 'workers');
        assert.equal(pending.pending, 41);
        assert.equal(pending.firstId, first);
        const claimed = await client.xAutoClaim(key, 'workers', 'ann', 0, '-', { COUNT: 100 });
        assert.equal(claimed.messages.length, 41);
        const [group] = await client.xInfoGroups(key);
        assert.deepEqual([group.name, group.pending, group.lag], ['workers', 41, 200]);
        const stream = await client.xInfoStream(key);
        assert.equal(stream?.length, 301);
        assert.equal(await client.xTrim(key, 'MAXLEN', 100), 201);
        assert.equal((await client.xRange(key, '-', '+'))?.length, 100);
        assert.deepEqual(await client.multi().set(`${key}:n`, '1').incr(`${key}:n`).exec(), [
          'OK',
          2,
        ]);
      } finally {
        blocking.destroy();
        client.destroy();
      }
    });

    test(`redis-cli, RESP${protocol}: commands, pipes and errors`, {
      skip: missing('redis-cli'),
    }, async () => {
      const cli = async (...args: string[]) => {
        const { stdout } = await runTool('redis-cli', [
          `-${protocol}`,
          '-p',
          String(server.port),
          ...args,
        ]);
        return stdout.trim();
      };
      const key = `cli${protocol}`;
      assert.equal(await cli('PING'), 'PONG');
      assert.equal(await cli('XADD', key, '1-1', 'a', 'hello'), '1-1');
      assert.equal(
        await cli('XADD', key, '1-1', 'a', 'b'),
        'ERR The ID specified in XADD is equal or smaller than the target stream top item',
      );
      assert.equal(await cli('XGROUP', 'CREATE', key, 'g', '0'), 'OK');
      assert.match(
        await cli('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', key, '>'),
        /1-1[\s\S]*hello/,
      );
      assert.match(await cli('XINFO', 'STREAM', key), /last-generated-id\s+1-1/);
      const commands = Array.from(
        { length: 1_000 },
        (_, i) => `XADD ${key} ${i + 2}-0 n ${i}\n`,
      ).join('');
      const { stdout } = await runTool('redis-cli', ['-p', String(server.port), '--pipe'], {
        input: commands,
      });
      assert.match(stdout, /errors: 0, replies: 1000/);
      assert.equal(await cli('XLEN', key), '1001');
      assert.match(await cli('--scan', '--pattern', `${key}*`), new RegExp(key));
    });
  }

  test('redis-py: the life of a group', { skip: missing('redis-py') }, async () => {
    const script = join(repositoryRoot, 'test', 'integration', 'redis-py-scenario.py');
    const { code, stdout, stderr } = await runTool(PYTHON, [script, String(server.port)]);
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.match(stdout, /scenario passed/);
  });

  test('redis-benchmark: its own tests and an XADD of ours', {
    skip: missing('redis-benchmark'),
  }, async () => {
    const base = ['-p', String(server.port), '-q', '-n', '5000', '-c', '20', '-P', '8'];
    const own = await runTool('redis-benchmark', [
      ...base,
      '-t',
      'ping_inline,ping_mbulk,set,get,incr,mset',
    ]);
    for (const name of ['PING_INLINE', 'PING_MBULK', 'SET', 'GET', 'INCR', 'MSET']) {
      assert.match(own.stdout, new RegExp(`${name}.*: [\\d.]+ requests per second`));
    }
    assert.doesNotMatch(own.stdout + own.stderr, /error/i);
    const { stdout } = await runTool('redis-benchmark', [
      ...base,
      '-3',
      'XADD',
      'bench',
      '*',
      'f',
      '__data__',
    ]);
    assert.match(stdout, /requests per second/);
    const redis = new Redis({ port: server.port });
    assert.ok((await redis.xlen('bench')) >= 5_000);
    redis.disconnect();
  });

  test('a client that dies while it blocks takes no message with it', async () => {
    const redis = new Redis({ port: server.port });
    const dying = new Redis({ port: server.port, retryStrategy: () => null });
    await redis.xgroup('CREATE', 'dying', 'g', '$', 'MKSTREAM');
    const lost = dying
      .xreadgroup('GROUP', 'g', 'gone', 'BLOCK', 0, 'STREAMS', 'dying', '>')
      .catch(() => 'lost');
    await isBlocked(() => redis.client('LIST') as Promise<string>);
    dying.disconnect();
    assert.equal(await lost, 'lost');
    await until(async () => !/ name= .*flags=b/.test((await redis.client('LIST')) as string));
    const id = String(await redis.xadd('dying', '*', 'a', 'b'));
    const [[, [[delivered]]]] = entriesOf(
      await redis.xreadgroup('GROUP', 'g', 'alive', 'STREAMS', 'dying', '>'),
    );
    assert.equal(delivered, id);
    redis.disconnect();
  });
});

type Entries = [key: string, entries: [id: string, fields: string[]][]][];

/** ioredis gives arrays in RESP2 and a map or an object in RESP3. */
function entriesOf(reply: unknown): Entries {
  if (Array.isArray(reply))
    return (Array.isArray(reply[0]) ? reply : [[reply[0], reply[1]]]) as Entries;
  if (reply instanceof Map) return [...reply.entries()] as Entries;
  return Object.entries(reply as object) as Entries;
}

/** Resolves once the server lists a blocked client. */
async function isBlocked(list: () => Promise<string>): Promise<void> {
  for (;;) {
    if (/flags=b/.test(await list())) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/**
 * Nothing is seen before it is safe: replies wait for the log, over a journal that this test holds.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../../src/engine/engine.ts';
import { runnersOf } from '../../src/server/command/command.ts';
import { allCommands } from '../../src/server/commands/index.ts';
import { Config } from '../../src/server/config/config.ts';
import { Listeners } from '../../src/server/connection/listener.ts';
import { HttpListener } from '../../src/server/observability/http.ts';
import { silentLogger } from '../../src/server/observability/logger.ts';
import { NoPersistence } from '../../src/server/persistence.ts';
import { ServerState } from '../../src/server/server-state.ts';
import type { Journal } from '../../src/storage/log/journal.ts';
import { ByteWriter } from '../../src/util/byte-writer.ts';
import { Random } from '../../src/util/random.ts';
import { systemClock } from '../../src/util/time/clock.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { until } from '../helpers/until.ts';

/** A log whose disk is as slow as the test wants. */
class HeldJournal implements Journal {
  readonly enabled = true;
  refusal: string | null = null;
  readonly unfinished = false;
  readonly unitBytes = 0;
  refusalFor(): string | null {
    return this.refusal;
  }
  boundary(): void {}
  fail(): void {}
  appended = 0;
  durable = 0;
  readonly #writer = new ByteWriter();

  get gate(): number {
    return this.appended;
  }

  get safe(): number {
    return this.durable;
  }

  begin(): ByteWriter {
    this.#writer.clear();
    return this.#writer;
  }

  end(): void {
    this.appended += this.#writer.length + 1;
  }
}

async function start() {
  const journal = new HeldJournal();
  const config = new Config();
  config.assign('port', ['0']);
  const engine = new Engine({ clock: systemClock, random: new Random(1), journal });
  const state = new ServerState({
    engine,
    config,
    commands: allCommands,
    log: silentLogger,
    persistence: new NoPersistence(0),
  });
  const listeners = new Listeners(state, runnersOf(state.table, allCommands));
  await listeners.open();
  const port = listeners.addresses[0]?.port ?? 0;
  return {
    journal,
    state,
    connect: () => RespSession.open(port),
    /** The disk has everything up to this position. */
    durable(position: number) {
      journal.durable = position;
      state.turns.durable();
    },
    async [Symbol.asyncDispose]() {
      listeners.close();
      for (const connection of [...state.connections.values()]) connection.destroy();
      state.close();
    },
  };
}

/** Whether a promise is still open after others had their turns on the loop. */
async function isOpen(promise: Promise<unknown>): Promise<boolean> {
  let open = true;
  promise.then(() => {
    open = false;
  });
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
  return open;
}

test('a reply waits until the write is on disk, and so does the reply to a client that has seen the write', async () => {
  await using server = await start();
  await using writer = await server.connect();
  await using reader = await server.connect();
  assert.equal(await reader.text('GET', 'k'), '$-1\r\n', 'nothing to wait for yet');
  const written = writer.text('SET', 'k', 'v');
  assert.ok(await isOpen(written));
  const seen = reader.text('GET', 'k');
  assert.ok(await isOpen(seen), 'it would tell of a write that may yet be lost');
  assert.ok(await isOpen(written));
  server.durable(server.journal.appended - 1);
  assert.ok(await isOpen(written));
  server.durable(server.journal.appended);
  assert.equal(await written, '+OK\r\n');
  assert.equal(await seen, '$1\r\nv\r\n');
});

test('replies leave as far as the disk has come, in order', async () => {
  await using server = await start();
  await using session = await server.connect();
  const first = session.text('SET', 'a', '1');
  assert.ok(await isOpen(first));
  const middle = server.journal.appended;
  const second = session.text('SET', 'b', '2');
  assert.ok(await isOpen(second));
  server.durable(middle);
  assert.equal(await first, '+OK\r\n');
  assert.ok(await isOpen(second));
  const third = session.text('PING');
  assert.ok(await isOpen(third));
  server.durable(server.journal.appended);
  assert.equal(await second, '+OK\r\n');
  assert.equal(await third, '+PONG\r\n');
});

test('a message, and a woken reader, wait as well', async () => {
  await using server = await start();
  await using reader = await server.connect();
  await using writer = await server.connect();
  const read = reader.text('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$');
  await using listener = await server.connect();
  await listener.call('SUBSCRIBE', 'news');
  const added = writer.text('XADD', 's', '1-1', 'f', 'v');
  const published = writer.text('PUBLISH', 'news', 'x');
  const message = listener.next();
  assert.ok(await isOpen(read));
  assert.ok(await isOpen(message));
  server.durable(server.journal.appended);
  assert.equal(await added, '$3\r\n1-1\r\n');
  assert.equal(await published, ':1\r\n');
  assert.match(await read, /1-1/);
  assert.match((await message).toString(), /news/);
});

test('metrics and the status page wait for the disk as replies do', async () => {
  await using server = await start();
  await using session = await server.connect();
  const http = await HttpListener.open('127.0.0.1', 0, { reason: null }, silentLogger);
  try {
    http.serve(server.state);
    const read = async (path: string): Promise<string> => {
      const response = await fetch(`http://127.0.0.1:${http.port}${path}`);
      assert.equal(response.status, 200);
      return response.text();
    };
    assert.match(await read('/metrics'), /^# HELP /);
    const written = session.text('XADD', 's', '*', 'f', 'v');
    assert.ok(await isOpen(written));
    const scraped = read('/metrics');
    const page = read('/');
    // The liveness probe tells of nothing stored: when it is answered, the others could have been.
    assert.equal(await read('/healthz'), 'ok\n');
    assert.ok(await isOpen(scraped));
    assert.ok(await isOpen(page));
    server.durable(server.journal.appended);
    await Promise.all([written, scraped, page]);
  } finally {
    await http.close();
  }
});

test('a connection that closes while its replies wait gets them first', async () => {
  await using server = await start();
  await using session = await server.connect();
  const written = session.text('SET', 'a', '1');
  const quit = session.text('QUIT');
  assert.ok(await isOpen(quit));
  server.durable(server.journal.appended);
  assert.equal(await written, '+OK\r\n');
  assert.equal(await quit, '+OK\r\n');
  await session.closed;
});

test('a read of a key that was touched and not changed does not wait for a later write', async () => {
  await using server = await start();
  await using client = await server.connect();
  const added = client.text('XADD', 's', '1-1', 'f', 'v');
  const { journal } = server;
  await until(() => journal.appended !== 0);
  await using other = await server.connect();
  // Removes nothing and records nothing.
  const trimmed = other.text('XTRIM', 's', 'MAXLEN', '10');
  const read = other.text('XLEN', 's');
  await (await server.connect()).text('PING');
  server.durable(journal.appended);
  assert.deepEqual(await Promise.all([added, trimmed, read]), [
    '$3\r\n1-1\r\n',
    ':0\r\n',
    ':1\r\n',
  ]);
});

test('a group reader that waits takes nothing while the log refuses writes, and all of it afterwards', async () => {
  await using server = await start();
  const { journal, state } = server;
  await using client = await server.connect();
  journal.durable = Number.MAX_SAFE_INTEGER;
  await client.text('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  await using reader = await server.connect();
  const read = reader.text('XREADGROUP', 'GROUP', 'g', 'c', 'BLOCK', '0', 'STREAMS', 's', '>');
  await until(() => state.engine.blocked.size > 0);
  // The last write that there is room for.
  const added = client.text('XADD', 's', '1-1', 'f', 'v');
  const begin = journal.begin.bind(journal);
  journal.begin = () => {
    journal.refusal = 'No space left on device';
    return begin();
  };
  await added;
  const { appended } = journal;
  for (let n = 0; n < 20; n++) await client.text('PING');
  assert.equal(journal.appended, appended, 'a delivery was recorded');
  assert.equal(state.engine.blocked.size, 1);
  journal.begin = begin;
  journal.refusal = null;
  assert.match(await read, /1-1/);
});

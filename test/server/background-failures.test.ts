/**
 * Nothing that fails outside a command ends the server or keeps its other duties from being done.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { BackgroundFailures } from '../../src/server/background-failures.ts';
import { Config } from '../../src/server/config/config.ts';
import { fitMaxClients } from '../../src/server/file-descriptors.ts';
import { LogFile } from '../../src/server/observability/log-file.ts';
import { PinoLogger } from '../../src/server/observability/pino-logger.ts';
import { runServer } from './running-server.ts';

const CODES = ['EMFILE', 'ENFILE', 'ENOSPC', 'EIO'];

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

test('a tick, a timer, a flush, a memory check or a scrape that fails is noted, and clients are served', async () => {
  await using running = await runServer({ 'http-port': '0' });
  const { state } = running.server;
  await using client = await running.connect();
  const places: [string, object, string][] = [
    ['memory', process, 'memoryUsage'],
    ['tick', state.engine, 'tick'],
    ['flush', state.persistence, 'flush'],
    ['check', state.memory, 'check'],
    ['sample', state.statistics, 'sample'],
    ['next deadline', state.engine, 'nextDeadline'],
  ];
  for (const code of CODES) {
    for (const [name, owner, method] of places) {
      const record = owner as Record<string, unknown>;
      const own = Object.hasOwn(record, method);
      const original = record[method];
      let failed = 0;
      record[method] = () => {
        failed++;
        throw failure(code);
      };
      try {
        // A blocked client's deadline needs the timer, a write the flush.
        const timedOut = client.text('XREAD', 'BLOCK', 150, 'STREAMS', 'none', '$');
        if (name === 'flush') {
          state.engine.journal.appended;
          assert.equal(
            state.failures.attempt('x', () => state.persistence.flush()),
            false,
          );
        }
        for (let tries = 0; failed === 0 && tries < 200; tries++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        assert.ok(failed > 0, `${name} was not called`);
        if (own) record[method] = original;
        else delete record[method];
        assert.match(await timedOut, /^(\*-1|\$-1)/, `${code} in ${name}`);
        assert.equal(await client.text('ECHO', name), `$${name.length}\r\n${name}\r\n`);
      } finally {
        if (own) record[method] = original;
        else delete record[method];
      }
    }
  }
  assert.ok(state.failures.count > 0);
  assert.ok(running.lines.some(({ message }) => message.includes('the server goes on')));
});

test('an exception while a client is read ends that client and no other', async () => {
  await using running = await runServer();
  await using bad = await running.connect();
  await using good = await running.connect();
  const [connection] = running.server.state.connections.values();
  assert.ok(connection);
  Object.defineProperty(connection, 'mustLogIn', {
    get() {
      throw failure('EIO');
    },
  });
  await assert.rejects(bad.call('PING'));
  assert.equal(await good.text('PING'), '+PONG\r\n');
});

test('a failure that repeats is logged once in a while, with its count', () => {
  const lines: { message: string; fields: Readonly<Record<string, unknown>> | undefined }[] = [];
  let now = 0;
  const failures = new BackgroundFailures(
    { write: (_level, message, fields) => void lines.push({ message, fields }) },
    () => now,
  );
  for (let n = 0; n < 1000; n++) {
    now += 20;
    failures.note('the tick', failure('EMFILE'));
  }
  failures.note('the tick', failure('EIO'));
  assert.equal(failures.count, 1001);
  assert.equal(lines.length, 3);
  assert.equal(lines[1]?.fields?.repeated, 499);
  // A logger that throws changes nothing.
  const mute = new BackgroundFailures(
    {
      write() {
        throw failure('ENOSPC');
      },
    },
    () => 0,
  );
  assert.equal(
    mute.attempt('x', () => {
      throw failure('EIO');
    }),
    false,
  );
});

test('lines are written although pino cannot be loaded, or throws', async () => {
  for (const code of CODES) {
    const written: string[] = [];
    const write = LogFile.prototype.write;
    LogFile.prototype.write = (text) => void written.push(text);
    try {
      let loads = 0;
      const log = new PinoLogger('', async (file) => {
        if (++loads === 1) throw failure(code);
        const formatter = pino({}, { write: (text: string) => file.write(text) });
        if (loads === 2) {
          formatter.warn = () => {
            throw failure(code);
          };
        }
        return formatter;
      });
      log.write('warning', 'first', { a: 1 });
      await log.flush();
      log.write('warning', 'second');
      await log.flush();
      const messages = written.map((text) => JSON.parse(text).msg);
      assert.deepEqual(messages, ['first', 'second']);
      for (let n = 0; n < 5000; n++) log.write('notice', `line ${n}`);
      await log.flush();
      assert.equal(written.length, 5002);
    } finally {
      LogFile.prototype.write = write;
    }
  }
});

test('maxclients is lowered to what the limit of open files allows, with 32 kept', () => {
  const said: string[] = [];
  const log = { write: (_level: string, message: string) => void said.push(message) };
  const config = new Config();
  fitMaxClients(config, log, 64, { limit: 1024, open: 28 });
  assert.equal(config.number('maxclients'), 1024 - 28 - 32 - 64);
  assert.match(said[0] ?? '', /maxclients 10000 is lowered to 900/);
  assert.throws(() => config.change([['maxclients', '901']], false), /try with 900/);
  config.change([['maxclients', '100']], false);
  const roomy = new Config();
  fitMaxClients(roomy, log, 64, { limit: 1_000_000, open: 28 });
  assert.equal(roomy.number('maxclients'), 10_000);
  assert.throws(
    () => fitMaxClients(new Config(), log, 64, { limit: 100, open: 28 }),
    /limit of open files is 100/,
  );
});

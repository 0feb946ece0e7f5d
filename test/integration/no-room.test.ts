/**
 * The real server when the ground gives way: no file descriptors, a log file that cannot be written,
 * SIGHUP. It goes on.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { closed } from '../helpers/closed.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

/** Runs the server with at most this many open files. */
const limited = (files: number) => ['bash', '-c', `ulimit -n ${files} && exec "$0" "$@"`];

function silent(port: number, count: number): Socket[] {
  return Array.from({ length: count }, () => {
    const socket = connectSocket({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    return socket;
  });
}

/** Resolves when the server answers again, with a client that was let in. */
async function admitted(port: number): Promise<RespSession> {
  for (let tries = 0; ; tries++) {
    const session = await RespSession.open(port);
    try {
      await session.call('PING');
      assert.equal(await session.text('PING'), '+PONG\r\n');
      return session;
    } catch (error) {
      await session.close();
      if (tries > 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

function isAlive(server: RivuletServer): boolean {
  return server.process.exitCode === null && server.process.signalCode === null;
}

test('more connections than file descriptors, on both ports, end neither the server nor its writes', async () => {
  await using server = await startRivulet({ args: ['--http-port', '0'], within: limited(220) });
  await using first = await RespSession.open(server.port);
  const maxclients = Number(
    /\$\d+\r\n(\d+)\r\n$/.exec(await first.text('CONFIG', 'GET', 'maxclients'))?.[1],
  );
  assert.ok(maxclients > 0 && maxclients < 220 - 32, `maxclients ${maxclients}`);
  assert.match(
    await first.text('CONFIG', 'SET', 'maxclients', 10_000),
    /-ERR CONFIG SET failed .* try with \d+/,
  );
  const sockets = silent(server.port, 400);
  // Longer than a tick and the check of each second.
  const until = performance.now() + 2500;
  while (performance.now() < until) {
    assert.match(await first.text('XADD', 's', '*', 'f', 'v'), /^\$/);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(await first.text('BGSAVE'), '+Background saving started\r\n');
  assert.match(await first.text('INFO'), /rejected_connections:[1-9]/);
  assert.ok(isAlive(server));
  for (const socket of sockets) socket.destroy();
  await using again = await admitted(server.port);
  assert.match(await again.text('XLEN', 's'), /^:\d+/);
  assert.equal(await server.stop(), 0);
});

test('hundreds of connections to the HTTP port leave descriptors for the server', async () => {
  const http = await freeHttpPort();
  await using server = await startRivulet({
    args: ['--http-port', String(http)],
    within: limited(200),
  });
  const sockets = silent(http, 300);
  await using client = await RespSession.open(server.port);
  const until = performance.now() + 1500;
  while (performance.now() < until) {
    assert.match(await client.text('XADD', 's', '*', 'f', 'v'), /^\$/);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const socket of sockets) socket.destroy();
  let status = 0;
  for (let tries = 0; status !== 200 && tries < 200; tries++) {
    status = await fetch(`http://127.0.0.1:${http}/metrics`).then(
      (response) => response.status,
      () => 0,
    );
  }
  assert.equal(status, 200);
  assert.ok(isAlive(server));
});

test('a log file on a full disk loses lines, not the server', async () => {
  await using server = await startRivulet({
    args: ['--appendonly', 'no', '--logfile', '/dev/full', '--loglevel', 'debug'],
  });
  for (let n = 0; n < 3; n++) {
    const attacker = connectSocket({ port: server.port, host: '127.0.0.1' });
    attacker.on('error', () => {});
    attacker.write('POST / HTTP/1.1\r\n\r\n');
    attacker.resume();
    await closed(attacker);
  }
  await using client = await RespSession.open(server.port);
  assert.equal(await client.text('PING'), '+PONG\r\n');
  assert.match(server.output(), /log file '\/dev\/full' cannot be written: ENOSPC/);
  assert.equal(server.output().match(/cannot be written/g)?.length, 1);
  assert.equal(await server.stop(), 0);
});

test('SIGHUP opens the log file again and ends nothing', async () => {
  await using place = temporaryDirectory('logs');
  const file = join(place.path, 'deeper', 'server.log');
  await using server = await startRivulet({ args: ['--appendonly', 'no', '--logfile', file] });
  const attack = async () => {
    const attacker = connectSocket({ port: server.port, host: '127.0.0.1' });
    attacker.on('error', () => {});
    attacker.write('POST / HTTP/1.1\r\n\r\n');
    attacker.resume();
    await closed(attacker);
  };
  const hasLine = async (path: string, line: RegExp) => {
    for (let tries = 0; tries < 400; tries++) {
      if (existsSync(path) && line.test(readFileSync(path, 'utf8'))) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.fail(`no line ${line} in ${path}`);
  };
  await attack();
  await hasLine(file, /SECURITY ATTACK/);
  renameSync(file, `${file}.1`);
  server.process.kill('SIGHUP');
  await hasLine(file, /opened again/);
  await attack();
  await hasLine(file, /SECURITY ATTACK/);
  assert.ok(isAlive(server));
});

test('a log file that cannot be opened keeps the server from starting, with the reason', async () => {
  await assert.rejects(
    startRivulet({ args: ['--appendonly', 'no', '--logfile', '/proc/none/x.log'] }),
    /can't open the log file '\/proc\/none\/x.log'/,
  );
});

async function freeHttpPort(): Promise<number> {
  const { freePort } = await import('../helpers/free-port.ts');
  return freePort();
}

/**
 * A real full disk under the real server: writes are refused and say why, reads go on, room brings
 * the writes back, and nothing acknowledged is lost if the process dies meanwhile.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { freePort } from '../helpers/free-port.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { type RivuletServer, rivuletCommand, startRivulet } from '../helpers/rivulet-server.ts';
import { cannotMount, type SmallDisk, smallDisk } from '../helpers/small-disk.ts';

const skip = cannotMount();
const MiB = 1024 * 1024;
const BODY = 'x'.repeat(1000);
const REFUSED = '-MISCONF Errors writing to the AOF file: No space left on device\r\n';

async function start(disk: SmallDisk): Promise<RivuletServer> {
  const http = String(await freePort());
  return startRivulet({
    directory: `${disk.path}/data`,
    within: disk.within,
    args: ['--log-segment-size', '1mb', '--http-port', http],
  });
}

async function ready(server: RivuletServer): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${server.httpPort}/readyz`);
  return { status: response.status, text: await response.text() };
}

/** Adds entries to `s` until one is refused; returns how many were acknowledged, and the refusal. */
async function addUntilRefused(session: RespSession): Promise<[number, string]> {
  for (let added = 0; added < 40_000; added++) {
    const reply = await session.text('XADD', 's', '*', 'body', BODY);
    if (reply.startsWith('-')) return [added, reply];
  }
  throw new Error('the disk does not fill up');
}

/** Tries a write until it is taken: the server looks for room about once a second. */
async function untilAccepted(session: RespSession): Promise<void> {
  const until = performance.now() + 20_000;
  let reply = '';
  while (performance.now() < until) {
    reply = await session.text('XADD', 's', '*', 'body', BODY);
    if (!reply.startsWith('-')) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`still refused: ${reply}`);
}

test('a full disk: writes are refused, reads go on, it recovers, a death loses nothing', {
  skip,
}, async () => {
  await using disk = await smallDisk(64 * MiB);
  let count = 0;
  {
    await using server = await start(disk);
    await using session = await RespSession.open(server.port);
    await session.call('SET', 'fleeting', 'v', 'PX', '1');
    for (; count < 100; count++) await session.call('XADD', 's', '*', 'body', BODY);
    assert.equal((await ready(server)).status, 200);
    disk.fill();
    // The log looks once a second how much room there is. What it has taken already serves on, for
    // commands that fit into it.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const large = 'x'.repeat(3 * MiB);
    assert.equal(await session.text('SET', 'large', large), REFUSED);
    await session.call('MULTI');
    const parts = Array.from({ length: 40 }, (_, i) => ['SET', `part ${i}`, 'x'.repeat(60_000)]);
    const queued = (await session.pipeline(parts)).map((reply) => reply.toString('latin1'));
    assert.equal(queued[0], '+QUEUED\r\n');
    assert.ok(queued.includes(REFUSED), 'together they do not fit');
    assert.match(await session.text('EXEC'), /^-EXECABORT/);
    assert.equal(await session.text('EXISTS', 'part 0'), ':0\r\n');
    assert.match(await session.text('XADD', 's', '*', 'body', BODY), /^\$/);
    count++;
    const [added, refused] = await addUntilRefused(session);
    count += added;
    assert.equal(refused, REFUSED);
    assert.equal(await session.text('SET', 'k', 'v'), REFUSED);
    assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
    assert.equal(await session.text('GET', 'fleeting'), '$-1\r\n', 'expired, though not recorded');
    assert.match(await session.text('XRANGE', 's', '-', '+', 'COUNT', '1'), /^\*1\r\n/);
    assert.match(await session.text('INFO', 'persistence'), /aof_last_write_status:err/);
    const { status, text } = await ready(server);
    assert.equal(status, 503);
    assert.match(text, /No space left on device/);
    disk.free();
    await untilAccepted(session);
    count++;
    assert.equal((await ready(server)).status, 200);
    disk.fill();
    const [more] = await addUntilRefused(session);
    count += more;
    await server.stop('SIGKILL');
  }
  {
    // The disk is still full: what is there is served, what is new is refused.
    await using server = await start(disk);
    await using session = await RespSession.open(server.port);
    assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
    assert.equal(await session.text('SET', 'k', 'v'), REFUSED);
    assert.equal((await ready(server)).status, 503);
    disk.free();
    await untilAccepted(session);
    count++;
    assert.equal((await ready(server)).status, 200);
    await server.stop('SIGKILL');
  }
  await using server = await start(disk);
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
  assert.equal(await server.stop(), 0);
});

test('a disk that fills up under the load of many clients: each is answered, reads go on, SIGTERM ends it', {
  skip,
}, async () => {
  for (const args of [[], ['--log-segment-size', '1mb'], ['--appendfsync', 'everysec']]) {
    await using disk = await smallDisk(24 * MiB);
    await using server = await startRivulet({
      directory: `${disk.path}/data`,
      within: disk.within,
      args,
    });
    const sessions = await Promise.all(
      Array.from({ length: 20 }, () => RespSession.open(server.port)),
    );
    await using reader = await RespSession.open(server.port);
    let accepted = 0;
    const fillUp = async (session: RespSession, name: number): Promise<void> => {
      const batch = Array.from({ length: 50 }, () => ['XADD', `s${name % 7}`, '*', 'f', BODY]);
      for (;;) {
        const replies = (await session.pipeline(batch)).map((reply) => reply.toString('latin1'));
        accepted += replies.filter((reply) => reply.startsWith('$')).length;
        const refused = replies.filter((reply) => reply.startsWith('-'));
        for (const reply of refused) assert.equal(reply, REFUSED);
        if (refused.length === batch.length) return;
      }
    };
    await Promise.all(sessions.map(fillUp));
    assert.equal(await reader.text('PING'), '+PONG\r\n');
    let stored = 0;
    for (let i = 0; i < 7; i++) stored += Number((await reader.text('XLEN', `s${i}`)).slice(1));
    assert.equal(stored, accepted);
    assert.ok(accepted > 1000, `${accepted} were accepted`);
    for (const session of sessions) await session.close();
    const started = performance.now();
    await server.stop();
    const took = performance.now() - started;
    assert.ok(took < 20_000, `SIGTERM took ${Math.round(took)} ms`);
    disk.fill();
    disk.free();
    await using again = await startRivulet({
      directory: server.directory,
      within: disk.within,
      args,
    });
    await using session = await RespSession.open(again.port);
    let kept = 0;
    for (let i = 0; i < 7; i++) kept += Number((await session.text('XLEN', `s${i}`)).slice(1));
    assert.equal(kept, accepted, 'acknowledged and lost, or the reverse');
  }
});

test('a checkpoint that finds no room fails, and everything is recovered from the log', {
  skip,
}, async () => {
  await using disk = await smallDisk(64 * MiB);
  let count = 0;
  {
    await using server = await start(disk);
    await using session = await RespSession.open(server.port);
    for (; count < 5000; count++) session.call('XADD', 's', '*', 'body', BODY).catch(() => {});
    assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
    disk.fill();
    assert.match(await session.text('SAVE'), /^-ERR.*No space left on device/);
    assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
    disk.free();
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    await server.stop('SIGKILL');
  }
  await using server = await start(disk);
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('XLEN', 's'), `:${count}\r\n`);
});

test('a disk that is full or read-only from the beginning is named in one line', {
  skip,
}, async () => {
  await using disk = await smallDisk(MiB);
  disk.fill();
  const full = await refusal(disk);
  assert.match(full, /^micro: can't start: .*no space left on device/i);
  disk.free();
  disk.remountReadOnly();
  assert.match(
    await refusal(disk),
    /^micro: can't start: .*cannot be written: Read-only file system/,
  );
});

async function refusal(disk: SmallDisk): Promise<string> {
  const { command, args } = rivuletCommand(['--port', '0', '--http-port', '0', '--dir', disk.path]);
  const [first, ...rest] = [...disk.within, command, ...args];
  const { code, stdout, stderr } = await runTool(first, rest, { timeoutMs: 20_000 });
  assert.equal(code, 1, stdout + stderr);
  assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  return stderr;
}

/**
 * Damage within the checkpoint's values, end to end: the real server is killed, a bit of one block of
 * entries flips, the server starts again. Commands that need the block fail with an error that says
 * so; ticks, other streams and the next start go on.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const ENTRIES = 1000;

/** Flips a bit of the text in the checkpoint's file: in each place, as LMDB keeps old versions. */
function damage(directory: string, text: string): void {
  const file = join(directory, 'checkpoint', 'data.mdb');
  const bytes = readFileSync(file);
  const fd = openSync(file, 'r+');
  let found = 0;
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) {
    writeSync(fd, Buffer.of(bytes[at] ^ 1), 0, 1, at);
    found++;
  }
  closeSync(fd);
  assert.ok(found > 0, `${text} is not in the checkpoint`);
}

async function fill(session: RespSession, key: string, firstMs: number): Promise<void> {
  const adds = Array.from({ length: ENTRIES }, (_, i) => [
    'XADD',
    key,
    `${firstMs + i}-0`,
    'field',
    `needle-${key}-${String(i).padStart(5, '0')}`,
  ]);
  for (const reply of await session.pipeline(adds)) assert.match(String(reply), /^\$/);
}

async function info(session: RespSession, field: string): Promise<string | undefined> {
  const text = await session.text('INFO', 'persistence');
  return new RegExp(`^${field}:(.*)\r$`, 'm').exec(text)?.[1];
}

async function until(check: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000;
  while (!(await check())) {
    assert.ok(performance.now() < end, 'it did not come about in 60 s');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('a damaged block fails the commands that need it: ticks, other streams and restarts go on', async () => {
  await using place = temporaryDirectory('damaged');
  const directory = place.path;
  {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    // Due when the server is up again, and not before it is killed.
    const dueAt = Date.now() + 10_000;
    await fill(session, 'aged', dueAt - 70_000);
    await fill(session, 'late', 1);
    await fill(session, 'sound', 1);
    assert.equal(await session.text('XGROUP', 'CREATE', 'aged', 'g', '0'), '+OK\r\n');
    await session.call('XADD', 'late', 'DELAY', '10000', '*', 'field', 'delayed');
    assert.equal(await session.text('XCFGSET', 'aged', 'MAXAGE', '70000'), '+OK\r\n');
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    await server.stop('SIGKILL');
    assert.ok(Date.now() < dueAt, 'the machine is too slow for this test');
  }
  damage(directory, 'needle-aged-00003');
  damage(directory, `needle-late-${String(ENTRIES - 2).padStart(5, '0')}`);
  for (let start = 0; start < 2; start++) {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    await until(async () => Number(await info(session, 'damaged_streams')) === 2);
    assert.match(await session.text('XRANGE', 'aged', '-', '+'), /^-DAMAGED .*checksum/);
    assert.match(await session.text('XREAD', 'STREAMS', 'aged', '0'), /^-DAMAGED /);
    assert.match(
      await session.text('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'aged', '>'),
      /^-DAMAGED /,
    );
    assert.match(await session.text('XTRIM', 'aged', 'MAXLEN', '10'), /^-DAMAGED /);
    // What does not need the block goes on.
    assert.equal(await session.text('XLEN', 'aged'), `:${ENTRIES + 2 * start}\r\n`);
    // The entry is stored, so its id is the reply: an error would make the client add it twice.
    assert.match(await session.text('XADD', 'aged', 'MAXLEN', '10', '*', 'field', 'more'), /^\$/);
    assert.match(await session.text('XADD', 'aged', '*', 'field', 'after'), /^\$/);
    assert.match(await session.text('XREVRANGE', 'aged', '+', '-', 'COUNT', '1'), /after/);
    assert.match(await session.text('XADD', 'late', '*', 'field', 'after'), /^-DAMAGED /);
    assert.match(await session.text('XRANGE', 'late', '-', '+', 'COUNT', '2'), /late-00001/);
    assert.equal(await session.text('XLEN', 'sound'), `:${ENTRIES}\r\n`);
    assert.match(await session.text('XTRIM', 'sound', 'MAXLEN', String(ENTRIES)), /^:0/);
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    assert.match(server.output(), /stream \\?"aged\\?": The checkpoint .* is damaged/);
    await server.stop('SIGKILL');
  }
});

test('a record that needs a damaged block closes its stream: the server starts, the log stays, DEL ends it', async () => {
  await using place = temporaryDirectory('damaged');
  const directory = place.path;
  {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    await fill(session, 's', 1);
    await fill(session, 'sound', 1);
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    assert.equal(await session.text('XDEL', 's', '505-0'), ':1\r\n');
    assert.equal(await session.text('XDEL', 'sound', '505-0'), ':1\r\n');
    assert.match(await session.text('XADD', 's', '*', 'field', 'after'), /^\$/);
    await server.stop('SIGKILL');
  }
  damage(directory, 'needle-s-00502');
  for (let start = 0; start < 2; start++) {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    assert.equal(await info(session, 'damaged_streams'), '1');
    assert.match(await session.text('XLEN', 's'), /^-DAMAGED /);
    assert.match(await session.text('XADD', 's', '*', 'f', 'v'), /^-DAMAGED /);
    assert.equal(await session.text('XLEN', 'sound'), `:${ENTRIES - 1}\r\n`);
    // A checkpoint would give up the log that still holds what the stream lacks.
    assert.match(await session.text('SAVE'), /^-/);
    if (start === 1) {
      assert.equal(await session.text('DEL', 's'), ':1\r\n');
      assert.equal(await session.text('SAVE'), '+OK\r\n');
      assert.equal(await info(session, 'damaged_streams'), '0');
      assert.match(await session.text('XADD', 's', '*', 'f', 'v'), /^\$/);
    }
    await server.stop('SIGKILL');
  }
  await using server = await startRivulet({ directory });
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('XLEN', 's'), ':1\r\n');
  assert.equal(await session.text('XLEN', 'sound'), `:${ENTRIES - 1}\r\n`);
});

test('a copy, made after damage, of a stream that is closed is closed too: the server starts', async () => {
  await using place = temporaryDirectory('damaged');
  const directory = place.path;
  {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    await fill(session, 's', 1);
    await fill(session, 'cold', 1);
    assert.equal(await session.text('XCFGSET', 's', 'MAXLEN', '5000'), '+OK\r\n');
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    assert.equal(await session.text('XDEL', 's', '505-0'), ':1\r\n');
    await session.text('XADD', 'present', '9-9', 'f', 'v');
    for (const [from, to] of [
      ['s', 'copied'],
      ['s', 'present'],
      ['cold', 'copy-of-cold'],
    ]) {
      assert.equal(await session.text('COPY', from, to, 'REPLACE'), ':1\r\n');
      assert.match(await session.text('XADD', to, '5000-1', 'f', 'v'), /^\$/);
    }
    assert.equal(await session.text('XCFGSET', 'copied', 'MAXAGE', '1000000'), '+OK\r\n');
    assert.equal(await session.text('XGROUP', 'CREATE', 'copied', 'g', '0'), '+OK\r\n');
    assert.equal(await session.text('RENAME', 'copied', 'renamed'), '+OK\r\n');
    assert.match(await session.text('XADD', 'renamed', '*', 'f', 'v'), /^\$/);
    assert.equal(await session.text('MOVE', 'renamed', '1'), ':1\r\n');
    assert.equal(await session.text('PEXPIRE', 'present', '100000'), ':1\r\n');
    assert.equal(await session.text('RENAME', 's', 'other'), '+OK\r\n');
    assert.match(await session.text('XADD', 'other', '*', 'f', 'v'), /^\$/);
    await server.stop('SIGKILL');
  }
  damage(directory, 'needle-s-00502');
  damage(directory, 'needle-cold-00502');
  await using server = await startRivulet({ directory });
  await using session = await RespSession.open(server.port);
  assert.equal(await session.text('XLEN', 's'), ':0\r\n');
  assert.equal(await session.text('RENAME', 'other', 's'), '+OK\r\n');
  assert.match(await session.text('XLEN', 's'), /^-DAMAGED /);
  assert.match(await session.text('XLEN', 'present'), /^-DAMAGED /);
  assert.match(await session.text('XLEN', 'copy-of-cold'), /^-DAMAGED /);
  // Only its copy needed the damaged block.
  assert.equal(await session.text('XLEN', 'cold'), `:${ENTRIES}\r\n`);
  assert.equal(await session.text('MOVE', 's', '1'), ':1\r\n');
  await session.text('SELECT', '1');
  assert.match(await session.text('XLEN', 'renamed'), /^-DAMAGED /);
  assert.match(await session.text('XLEN', 's'), /^-DAMAGED /);
});

test('a delivery or claim that meets damage half-way is what the log says after a kill', async () => {
  await using place = temporaryDirectory('damaged');
  const directory = place.path;
  {
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    await fill(session, 's', 1);
    for (const group of ['fresh', 'busy']) await session.text('XGROUP', 'CREATE', 's', group, '0');
    await session.text('XREADGROUP', 'GROUP', 'busy', 'x', 'COUNT', '300', 'STREAMS', 's', '>');
    assert.equal(await session.text('SAVE'), '+OK\r\n');
    await server.stop('SIGKILL');
  }
  damage(directory, 'needle-s-00152');
  const ids = Array.from({ length: 200 }, (_, i) => `${50 + i}-0`);
  const pending = async (session: RespSession): Promise<string> => {
    let all = '';
    for (const group of ['fresh', 'busy']) {
      const rows = await session.text('XPENDING', 's', group, '-', '+', '2000');
      // Without the idle times.
      all += rows.replace(/:\d+\r\n(:\d+\r\n)/g, '$1');
    }
    return all;
  };
  for (const command of [
    ['XREADGROUP', 'GROUP', 'fresh', 'y', 'COUNT', '500', 'STREAMS', 's', '>'],
    ['XCLAIM', 's', 'busy', 'z', '0', ...ids],
    ['XAUTOCLAIM', 's', 'busy', 'w', '0', '0', 'COUNT', '250'],
    ['XREADGROUP', 'GROUP', 'busy', 'v', 'CLAIM', '0', 'COUNT', '250', 'STREAMS', 's', '>'],
    ['XREADGROUP', 'GROUP', 'busy', 'x', 'COUNT', '250', 'STREAMS', 's', '0'],
  ]) {
    let before = '';
    {
      await using server = await startRivulet({ directory });
      await using session = await RespSession.open(server.port);
      const reply = await session.text(...command);
      if (command[2] === 'fresh') assert.match(reply, /needle-s-00099/);
      else assert.match(reply, /^-DAMAGED /);
      before = await pending(session);
      await server.stop('SIGKILL');
    }
    await using server = await startRivulet({ directory });
    await using session = await RespSession.open(server.port);
    assert.equal(await pending(session), before, command.join(' ').slice(0, 60));
    await server.stop('SIGKILL');
  }
});

/**
 * Each numeric argument at the edges of its range, always followed by a replay of the records and by
 * a restart from a checkpoint: what a command accepts, both have to hold.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../src/engine/checkpoint/checkpointer.ts';
import { restoreCheckpoint } from '../../src/engine/checkpoint/restore.ts';
import { Replay } from '../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../src/engine/streams/stream-replay.ts';
import { ByteReader, ByteWriter } from '../../src/util/byte-writer.ts';
import { InProcessServer } from '../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { pictureOf, scheduleOf } from './state-picture.ts';

const FULL = process.env.RIVULET_FULL === '1';
const EDGES = [
  '-1',
  '0',
  '1',
  '2147483648',
  '9007199254740992',
  '72057594037927936',
  '9223372036854775807',
  '18446744073709551615',
  ...(FULL
    ? [
        '-9223372036854775808',
        '2147483647',
        '4294967295',
        '4294967296',
        '9007199254740991',
        '72057594037927935',
        '9223372036854775806',
        '9223372036854775808',
      ]
    : []),
];

/** What each command finds: strings, a stream, a group with pending and released entries, a policy. */
const PRELUDE = [
  'SET str 5',
  'SET other v PX 100000',
  ...Array.from({ length: 12 }, (_, i) => `XADD s 1-${i + 1} f v${i}`),
  'XADD s IDMP p i1 * f v',
  'XGROUP CREATE s g 0',
  'XGROUP CREATE s p 0',
  'XGROUP SETPOLICY s p ACKWAIT 1000 MAXDELIVERIES 3 BACKOFF 10 20 2 DEADLETTER dead',
  'XREADGROUP GROUP g ann COUNT 5 STREAMS s >',
  'XREADGROUP GROUP p ann COUNT 5 STREAMS s >',
  'XNACK s g SILENT IDS 1 1-5',
  'XDEL s 1-3',
];

/** `#` stands for the number. */
const COMMANDS = [
  'SET str v EX #',
  'SET str v PX #',
  'SET str v EXAT #',
  'SET str v PXAT #',
  'SETEX str # v',
  'PSETEX str # v',
  'GETEX str EX #',
  'GETEX str PXAT #',
  'EXPIRE s #',
  'PEXPIRE s #',
  'EXPIREAT s #',
  'PEXPIREAT s #',
  'INCRBY str #',
  'DECRBY str #',
  'XADD s # f v',
  'XADD s #-* f v',
  'XADD s MAXLEN # * f v',
  'XADD s MAXLEN ~ # * f v',
  'XADD s MAXLEN ~ 3 LIMIT # * f v',
  'XADD s MINID # * f v',
  'XADD s MAXLEN # ACKED * f v',
  'XADD s MAXLEN # DELREF * f v',
  'XADD s DELAY # * f v',
  'XADD s AT # * f v',
  'XADD s MAXLEN # DELAY 1500 * f v',
  'XADD s MAXLEN ~ # DELAY 1500 * f v',
  'XADD s MAXLEN ~ 3 LIMIT # DELAY 1500 * f v',
  'XADD s MINID # DELAY 1500 * f v',
  'XADD s MINID ~ # LIMIT # DELAY 1500 * f v',
  'XADD s DELAY # * f v',
  'XADD s IDMP p # * f v',
  'XTRIM s MAXLEN #',
  'XTRIM s MAXLEN ~ 3 LIMIT #',
  'XTRIM s MINID #',
  'XTRIM s MINID ~ # LIMIT #',
  'XSETID s #',
  'XSETID s #-#',
  'XSETID s 18446744073709551615-18446744073709551615 ENTRIESADDED # MAXDELETEDID 0-0',
  'XSETID s 18446744073709551615-18446744073709551615 ENTRIESADDED 99 MAXDELETEDID #-#',
  'XGROUP CREATE s new $ ENTRIESREAD #',
  'XGROUP CREATE s new # ENTRIESREAD #',
  'XGROUP SETID s g $ ENTRIESREAD #',
  'XGROUP SETID s g #',
  'XGROUP SETPOLICY s g ACKWAIT #',
  'XGROUP SETPOLICY s g ACKWAIT 50 MAXDELIVERIES #',
  'XGROUP SETPOLICY s g BACKOFF # # 2',
  'XGROUP SETPOLICY s g BACKOFF 1 # 2',
  'XGROUP SETPOLICY s g BACKOFF 1 50 #',
  'XGROUP SETPOLICY s g BACKOFF 1 50 # JITTER',
  'XREADGROUP GROUP g ann COUNT # STREAMS s >',
  'XREADGROUP GROUP g ann CLAIM # STREAMS s >',
  'XREADGROUP GROUP g bob COUNT # STREAMS s 0',
  'XREADGROUP GROUP g bob STREAMS s #',
  'XACK s g #',
  'XACK s g 1-#',
  'XDEL s #-#',
  'XDEL s 1-#',
  'XCLAIM s g bob # 1-1',
  'XCLAIM s g bob 0 1-1 IDLE #',
  'XCLAIM s g bob 0 1-1 TIME #',
  'XCLAIM s g bob 0 1-1 RETRYCOUNT #',
  'XCLAIM s g bob 0 1-#',
  'XCLAIM s g bob 0 1-11 FORCE TIME # RETRYCOUNT #',
  'XCLAIM s g bob 0 1-1 LASTID #-#',
  'XCLAIM s p bob 0 1-1 IDLE #',
  'XCLAIM s p bob 0 1-1 TIME #',
  'XCLAIM s p bob 0 1-1 RETRYCOUNT #',
  'XAUTOCLAIM s g bob # 0',
  'XAUTOCLAIM s g bob 0 #',
  'XAUTOCLAIM s g bob 0 0 COUNT #',
  'XNACK s g FAIL IDS 1 1-1 RETRYCOUNT #',
  'XNACK s g FATAL IDS 1 1-1 RETRYCOUNT #',
  'XNACK s p FAIL IDS 1 1-1 DELAY #',
  'XNACK s p FAIL IDS 1 1-1 RETRYCOUNT #',
  'XNACK s p FAIL IDS 1 1-1 RETRYCOUNT # DELAY #',
  'XNACK s g FAIL IDS 1 1-# FORCE RETRYCOUNT #',
  'XCFGSET s IDMP-DURATION #',
  'XCFGSET s IDMP-MAXSIZE #',
  'XCFGSET s MAXAGE #',
  'XCFGSET s MAXBYTES #',
  'XCFGSET s MAXLEN #',
  'XIDMPRECORD s p # 1-1',
  'XIDMPRECORD s p id 1-#',
  'COPY s copied DB #',
];

/** What goes on afterwards: what was stored has to work, not only to be read. */
const AFTERWARDS = [
  'XADD s * f again',
  'XADD s MAXLEN ~ 5 * f again',
  'XREADGROUP GROUP g cy COUNT 2 STREAMS s >',
  'XREADGROUP GROUP p cy COUNT 2 STREAMS s >',
  'XAUTOCLAIM s g cy 0 0',
  'COPY s copy REPLACE',
];

interface Outcome {
  readonly server: InProcessServer;
  readonly accepted: boolean;
}

const words = (command: string): string[] => command.split(' ');

function perform(command: string): Outcome {
  const server = new InProcessServer();
  const session = server.session();
  for (const each of PRELUDE) {
    const reply = session.call(...words(each));
    assert.ok(!(reply instanceof Error), `${each}: ${reply}`);
  }
  const reply = session.call(...words(command));
  const accepted = !(reply instanceof Error);
  return { server, accepted };
}

function restoredFrom(server: InProcessServer, store: MemoryCheckpointStore): InProcessServer {
  const copy = new InProcessServer(server.clock.now());
  restoreCheckpoint(copy.engine, checkpointerOf(copy, store));
  return copy;
}

function checkpointerOf(server: InProcessServer, store: MemoryCheckpointStore): Checkpointer {
  return server.engine.attachCheckpoint({
    checkpoint: new MemoryCheckpoint(store),
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
}

function replayedFrom(server: InProcessServer, from = 0, copy?: InProcessServer): InProcessServer {
  const into = copy ?? new InProcessServer(server.clock.now());
  const replay = new Replay(into.engine, streamReplayHandlers);
  for (const { type, body } of server.journal.records.slice(from)) replay.apply(type, body);
  return into;
}

function assertSame(a: InProcessServer, b: InProcessServer, message: string): void {
  assert.deepEqual(pictureOf(a.engine), pictureOf(b.engine), message);
  assert.deepEqual(scheduleOf(a.engine), scheduleOf(b.engine), message);
}

test('each numeric argument at each edge survives a replay and a checkpoint', async () => {
  let accepted = 0;
  const never: string[] = [];
  for (const command of COMMANDS) {
    let taken = 0;
    for (const edge of EDGES) {
      const line = command.replaceAll('#', edge);
      const outcome = perform(line);
      if (!outcome.accepted) continue;
      accepted++;
      taken++;
      await survives(outcome.server, line);
    }
    if (taken === 0) never.push(command);
  }
  assert.deepEqual(never, [], 'a command of the table that is never accepted tests nothing');
  assert.ok(accepted > 250, `${accepted} accepted`);
});

async function survives(server: InProcessServer, line: string): Promise<void> {
  assertSame(replayedFrom(server), server, `${line}: replay`);
  const store = new MemoryCheckpointStore();
  // Replayed into an engine with a checkpointer, as at a start, and stored from there.
  const copy = new InProcessServer(server.clock.now());
  const copied = checkpointerOf(copy, store);
  replayedFrom(server, 0, copy);
  await copied.write();
  assertSame(restoredFrom(server, store), server, `${line}: checkpoint`);
  const again = restoredFrom(server, store);
  const from = server.journal.records.length;
  const session = server.session();
  try {
    for (const each of AFTERWARDS) session.call(...words(each));
    server.advance(2000);
    for (const each of AFTERWARDS) session.call(...words(each));
    server.advance(100_000);
  } catch (cause) {
    throw new Error(`${line}: what follows throws`, { cause });
  }
  again.clock.advance(server.clock.now() - again.clock.now());
  replayedFrom(server, from, again).engine.tick();
  assertSame(again, server, `${line}: checkpoint, then replay`);
  const whole = replayedFrom(server);
  whole.engine.tick();
  assertSame(whole, server, `${line}: replay of everything`);
}

test('a varint holds whole numbers up to 2^64 and no others', () => {
  const numbers = [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 56];
  for (const number of [...numbers, 2 ** 56 - 2 ** 4, 2 ** 62, 2 ** 63, 2 ** 64 - 2 ** 11]) {
    const writer = new ByteWriter(1);
    writer.varint(number);
    assert.equal(new ByteReader(writer.toBuffer()).varint(), number);
  }
  for (const wrong of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 64]) {
    assert.throws(() => new ByteWriter().varint(wrong), RangeError, String(wrong));
  }
  assert.throws(() => new ByteReader(Buffer.alloc(11, 0x80)).varint(), RangeError);
});

test('counts of entries are read back as they were given, over the whole range of 64 bits', () => {
  for (const given of [2n ** 53n + 1n, 2n ** 62n + 1n, 2n ** 63n - 2n, 2n ** 63n - 1n]) {
    const { server } = perform(`XSETID s 9999999999999-0 ENTRIESADDED ${given}`);
    const session = server.session();
    session.call('XGROUP', 'SETID', 's', 'g', '$', 'ENTRIESREAD', String(given - 1n));
    session.call('XGROUP', 'CREATE', 's', 'new', '0', 'ENTRIESREAD', String(given));
    const replayed = replayedFrom(server);
    for (const copy of [server, replayed]) {
      const at = copy.session();
      const dump = at.call('DUMP', 's');
      assert.equal(at.call('RESTORE', 'restored', '0', Buffer.from(String(dump), 'latin1')), 'OK');
      for (const key of ['s', 'restored']) {
        const shown = JSON.stringify(at.call('XINFO', 'STREAM', key, 'FULL', 'COUNT', '1'), asText);
        assert.match(shown, new RegExp(`"entries-added","?${given}\\b`), key);
        assert.match(shown, new RegExp(`"entries-read","?${given - 1n}\\b`), key);
        assert.match(shown, new RegExp(`"entries-read","?${given}\\b`), key);
      }
    }
    // One more is what Redis shows, which counts in 64 bits.
    session.call('XADD', 's', '*', 'f', 'v');
    const shown = JSON.stringify(session.call('XINFO', 'STREAM', 's'), asText);
    const more = BigInt.asIntN(64, given + 1n);
    assert.match(shown, new RegExp(`"entries-added","?${more}\\b`));
  }
});

test('delivery counts are read back as they were given, over the whole range of 64 bits', async () => {
  for (const given of [2n ** 32n - 1n, 2n ** 40n, 2n ** 53n + 1n, 2n ** 56n, 2n ** 63n - 2n]) {
    const { server } = perform(`XCLAIM s g bob 0 1-1 RETRYCOUNT ${given} JUSTID`);
    server.session().call('XNACK', 's', 'g', 'FAIL', 'IDS', 1, '1-2', 'RETRYCOUNT', String(given));
    const store = new MemoryCheckpointStore();
    const copy = new InProcessServer(server.clock.now());
    const copied = checkpointerOf(copy, store);
    replayedFrom(server, 0, copy);
    await copied.write();
    const dumped = new InProcessServer(server.clock.now());
    const dump = Buffer.from(String(server.session().call('DUMP', 's')), 'latin1');
    assert.equal(dumped.session().call('RESTORE', 's', '0', dump), 'OK');
    for (const each of [server, replayedFrom(server), restoredFrom(server, store), dumped]) {
      const rows = each.session().call('XPENDING', 's', 'g', '-', '+', '2') as unknown[][];
      assert.deepEqual(
        rows.map((row) => String(row[3])),
        [String(given), String(given)],
      );
      each.session().call('XAUTOCLAIM', 's', 'g', 'x', '0', '0', 'COUNT', '1');
      const [row] = each.session().call('XPENDING', 's', 'g', '-', '+', '1') as unknown[][];
      const more = row?.[3];
      const expected = given === 2n ** 63n - 2n ? given : given + 1n;
      assert.equal(String(more), String(expected), 'counted up');
    }
  }
});

function asText(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  const { type, data } = (value ?? {}) as { type?: string; data?: number[] };
  return type === 'Buffer' && data !== undefined ? Buffer.from(data).toString('latin1') : value;
}

/**
 * Damaged data directories, end to end: the real server makes one and is killed, the directory is
 * damaged, the server refuses it in one line, `micro repair` shows and salvages, the server starts.
 *
 * Entry n of the stream carries the number n, so what is left must be the numbers 0, 1, 2, ... up to
 * some number, or, where the checkpoint held them, all of them.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { RecordType } from '../../src/engine/log/records.ts';
import { realDisk } from '../../src/storage/disk/real-disk.ts';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { openStore } from '../../src/storage/store.ts';
import { Random } from '../../src/util/random.ts';
import { systemClock } from '../../src/util/time/clock.ts';
import { runTool, type ToolResult } from '../helpers/children.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { rivuletCommand, startRivulet } from '../helpers/rivulet-server.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../helpers/temporary-directory.ts';

const BODY = 'x'.repeat(1000);
/** Enough for three segments: 1 MiB each. */
const ENTRIES = 2800;
const SEGMENTS = ['--log-segment-size', '1mb'];
const SECTOR = 512;

let places: TemporaryDirectory;
/** A directory that a killed server left; tests damage copies of it. */
let original: string;
/** The same, with a checkpoint and a log that starts behind the beginning. */
let checkpointed: string;
let copies = 0;

before(async () => {
  places = temporaryDirectory('repair');
  original = join(places.path, 'original');
  await using server = await startRivulet({ directory: original, args: SEGMENTS });
  await using session = await RespSession.open(server.port);
  await append(session, 0, ENTRIES);
  await server.stop('SIGKILL');
  checkpointed = join(places.path, 'checkpointed');
  await using other = await startRivulet({ directory: checkpointed, args: SEGMENTS });
  await using writer = await RespSession.open(other.port);
  await append(writer, 0, 500);
  await writer.call('SET', 'string', 'needle'.repeat(20));
  assert.equal(await writer.text('SAVE'), '+OK\r\n');
  await append(writer, 500, 600);
  await other.stop('SIGKILL');
});

after(() => places[Symbol.asyncDispose]());

async function append(session: RespSession, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n += 20) {
    const batch = Array.from({ length: Math.min(20, to - n) }, (_, i) => [
      'XADD',
      's',
      `${n + i + 1}-0`,
      'n',
      String(n + i),
      'body',
      BODY,
    ]);
    for (const reply of await session.pipeline(batch)) {
      assert.match(reply.toString('latin1'), /^\$/);
    }
  }
}

function copyOf(source: string): string {
  const path = join(places.path, `copy-${copies++}`);
  cpSync(source, path, { recursive: true, filter: (file) => !/\/lock-[^/]*$/.test(file) });
  return path;
}

function segments(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => name.endsWith('.rlog'));
  return names.sort().map((name) => join(directory, name));
}

function flipBit(file: string, offset: number): void {
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  assert.equal(readSync(fd, byte, 0, 1, offset), 1);
  byte[0] ^= 4;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}

/** The last byte that is not zero. */
function endOf(file: string): number {
  const bytes = readFileSync(file);
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return end;
}

function micro(...words: string[]): Promise<ToolResult> {
  const { command, args } = rivuletCommand([]);
  return runTool(command, [...args.slice(0, -1), ...words], { timeoutMs: 30_000 });
}

function serve(directory: string): Promise<ToolResult> {
  return micro('server', '--port', '0', '--http-port', '0', '--dir', directory, ...SEGMENTS);
}

/** The server's one line. */
async function refusal(directory: string): Promise<string> {
  const { code, stdout, stderr } = await serve(directory);
  assert.equal(code, 1, stdout + stderr);
  const lines = stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, stderr);
  assert.match(lines[0], /^micro: can't start: /);
  return lines[0];
}

interface Json {
  readonly sound: boolean;
  readonly replay: { readonly error: string | null };
  readonly checkpoint: { readonly values: number; readonly damaged: { readonly what: string }[] };
  readonly log: {
    readonly faults: { kind: string; file: string; offset: number; harmless: boolean }[];
    readonly segments: { records: number }[];
  };
  readonly salvage: { readonly aside: string | null; readonly keptFrames: number } | null;
}

async function json(directory: string, ...flags: string[]): Promise<{ code: number; found: Json }> {
  const { code, stdout, stderr } = await micro('repair', directory, '--json', ...flags);
  assert.equal(stderr, '');
  return { code: Number(code), found: JSON.parse(stdout) };
}

/** Starts the server, which must work, and returns the numbers of the entries that are there. */
async function numbersIn(directory: string): Promise<{ numbers: number[]; output: string }> {
  await using server = await startRivulet({ directory, args: SEGMENTS });
  await using session = await RespSession.open(server.port);
  const text = await session.text('XRANGE', 's', '-', '+');
  const numbers = [...text.matchAll(/\$1\r\nn\r\n\$\d+\r\n(\d+)\r\n/g)].map(([, n]) => Number(n));
  assert.equal(await session.text('XLEN', 's'), `:${numbers.length}\r\n`);
  assert.match(await session.text('XADD', 's', '*', 'after', 'repair'), /^\$/);
  const output = server.output();
  assert.equal(await server.stop(), 0);
  return { numbers, output };
}

function assertPrefix(numbers: number[], atLeast: number, below: number): void {
  assert.deepEqual(numbers, Array.from(numbers.keys()));
  assert.ok(numbers.length >= atLeast && numbers.length < below, `${numbers.length} entries`);
}

/** Refused by the server, shown by repair, salvaged by --apply, served again. */
async function assertSalvaged(directory: string, file: string): Promise<number[]> {
  const kept = existsSync(file) ? readFileSync(file) : null;
  const line = await refusal(directory);
  assert.ok(line.includes(kept === null ? directory : file), line);
  assert.match(line, /`micro repair /);
  const shown = await micro('repair', directory);
  assert.equal(shown.code, 1);
  assert.match(shown.stdout, /DAMAGE: .* offset \d+, positions \d+ to/);
  const { code, found } = await json(directory);
  assert.equal(code, 1);
  assert.equal(found.sound, false);
  assert.equal(found.salvage, null);
  assert.equal(await refusal(directory), line, 'showing changes nothing');
  const done = await json(directory, '--apply');
  assert.equal(done.code, 0);
  const aside = done.found.salvage?.aside ?? '';
  assert.ok(aside.startsWith(join(directory, 'damaged-')), aside);
  if (kept !== null) {
    const copy = readFileSync(join(aside, file.slice(directory.length + 1)));
    assert.ok(copy.equals(kept), 'the damaged original is kept');
  }
  const { numbers } = await numbersIn(directory);
  assert.equal((await micro('repair', directory)).code, 0);
  return numbers;
}

test('a flipped bit in the middle of the last segment: everything before it is served again', async () => {
  const directory = copyOf(original);
  const file = segments(directory).at(-1) as string;
  const offset = Math.floor(endOf(file) / 2);
  flipBit(file, offset);
  const line = await refusal(directory);
  const named = Number(/offset (\d+)/.exec(line)?.[1]);
  assert.ok(named <= offset && offset - named < 100_000, `${line}: the bit is at ${offset}`);
  const numbers = await assertSalvaged(directory, file);
  assertPrefix(numbers, 1800, ENTRIES);
});

test('a flipped bit in an older segment: what follows is kept when asked for', async () => {
  const directory = copyOf(original);
  const [first] = segments(directory);
  flipBit(first, 300 * 1024);
  const all = copyOf(directory);
  assertPrefix(await assertSalvaged(directory, first), 200, 400);
  assert.equal((await json(all, '--apply', '--keep-after')).code, 0);
  const { numbers } = await numbersIn(all);
  assert.ok(numbers.length >= ENTRIES - 60 && numbers.length < ENTRIES, `${numbers.length}`);
  assert.equal(numbers.at(-1), ENTRIES - 1);
});

test('a missing segment is named, and what comes before it is served again', async () => {
  const directory = copyOf(original);
  const names = segments(directory);
  assert.ok(names.length >= 3, `only ${names.length} segments`);
  rmSync(names[1]);
  assert.match(await refusal(directory), /misses the log from position \d+ to \d+/);
  assertPrefix(await assertSalvaged(directory, names[1]), 500, 1500);
});

test('a segment cut short in the middle of the log is damage', async () => {
  const directory = copyOf(original);
  const [first] = segments(directory);
  truncateSync(first, 600 * SECTOR);
  assertPrefix(await assertSalvaged(directory, first), 200, 400);
});

test('a segment without a readable header is refused, and salvaged as empty', async () => {
  const directory = copyOf(original);
  const last = segments(directory).at(-1) as string;
  // Both copies of it.
  for (const offset of [12, 20, 268, 276]) flipBit(last, offset);
  const numbers = await assertSalvaged(directory, last);
  assertPrefix(numbers, 1500, ENTRIES);
});

test('a torn end is cut off, reported, and the server starts with everything before it', async () => {
  const directory = copyOf(original);
  const last = segments(directory).at(-1) as string;
  // As a crash in the middle of a write leaves it: the frame's last sectors were never written.
  const end = Math.ceil(endOf(last) / SECTOR) * SECTOR;
  const fd = openSync(last, 'r+');
  writeSync(fd, Buffer.alloc(4 * SECTOR), 0, 4 * SECTOR, end - 4 * SECTOR);
  closeSync(fd);
  const shown = await micro('repair', directory);
  assert.equal(shown.code, 0, shown.stdout);
  assert.match(shown.stdout, /note: .* a write that a crash tore/);
  const { numbers, output } = await numbersIn(directory);
  assertPrefix(numbers, ENTRIES - 40, ENTRIES);
  assert.match(output, /cut/);
  assert.ok(output.includes(last), output);
});

test('a directory whose checksums hold and that cannot start is not sound', async () => {
  const directory = copyOf(checkpointed);
  assert.equal((await json(directory)).found.replay.error, null);
  const store = await openStore({
    disk: realDisk,
    directory,
    clock: systemClock,
    random: new Random(1),
    openCheckpoint: (place) => LmdbCheckpoint.open(place),
  });
  await store.recover(() => {});
  // A removal of a key that never was.
  const record = store.log.begin(RecordType.DEL);
  record.varint(0);
  record.text('never there');
  store.log.end();
  await store.close();
  assert.match(await refusal(directory), /there is no key "never there"/);
  const segmentsBefore = segments(directory).map((file) => statSync(file).size);
  const { code, found } = await json(directory);
  assert.equal(code, 1);
  assert.equal(found.sound, false);
  assert.match(String(found.replay.error), /^at log position \d+: .*there is no key "never there"/);
  assert.deepEqual(found.log.faults, []);
  const shown = await micro('repair', directory);
  assert.equal(shown.code, 1);
  assert.match(shown.stdout, /DAMAGE: no server can start from it/);
  assert.deepEqual(
    segments(directory).map((file) => statSync(file).size),
    segmentsBefore,
    'nothing was changed',
  );
});

test('a segment of a newer version, and a file that is not ours, are refused and left alone', async () => {
  const newer = copyOf(original);
  writeFileSync(join(newer, 'FORMAT'), 'rivulet data, format 9\n');
  assert.match(await refusal(newer), /FORMAT.* 9 .*newer version/);
  const repaired = await micro('repair', newer, '--apply');
  assert.equal(repaired.code, 1);
  assert.match(repaired.stderr, /newer version/);

  const overwritten = copyOf(original);
  const [first] = segments(overwritten);
  writeFileSync(first, 'Dear diary\n'.repeat(1000));
  assert.match(await refusal(overwritten), /log-0+\.rlog has a log segment's name but is not one/);

  const foreign = copyOf(original);
  writeFileSync(join(foreign, 'notes.rlog'), 'mine');
  assert.match(await refusal(foreign), /notes\.rlog/);
  assert.equal((await micro('repair', foreign)).code, 1);
  assert.equal(readFileSync(join(foreign, 'notes.rlog'), 'utf8'), 'mine');

  const letters = copyOf(original);
  writeFileSync(join(letters, 'FORMAT'), 'Dear diary\n');
  assert.match(await refusal(letters), /not a Rivulet data directory/);
  const elsewhere = await micro('repair', places.path);
  assert.equal(elsewhere.code, 3);
  assert.match(elsewhere.stderr, /is not a data directory/);
});

test('a damaged value of the checkpoint is found; the start is refused where it is needed', async () => {
  const directory = copyOf(checkpointed);
  const file = join(directory, 'checkpoint', 'data.mdb');
  assert.equal((await json(directory)).found.sound, true);
  const at = readFileSync(file).lastIndexOf('needleneedle');
  assert.ok(at > 0);
  flipBit(file, at);
  const line = await refusal(directory);
  assert.match(line, /checkpoint in .* is damaged: the value of key \w+ fails its checksum/);
  assert.match(line, /`micro repair /);
  const { code, found } = await json(directory);
  assert.equal(code, 1);
  assert.equal(found.checkpoint.damaged.length, 1);
  assert.match(found.checkpoint.damaged[0].what, /^the description of key \d+$/);
  const shown = await micro('repair', directory);
  assert.match(shown.stdout, /DAMAGE: the description of key \d+ fails its checksum/);
  assert.equal((await micro('repair', directory, '--apply')).code, 1, 'the log cannot mend it');
});

test('a damaged checkpoint is done without while the log reaches back to the beginning', async () => {
  const directory = copyOf(checkpointed);
  const file = join(directory, 'checkpoint', 'data.mdb');
  flipBit(file, readFileSync(file).lastIndexOf('needleneedle'));
  assert.equal(segments(directory).length, 1, 'the first segment is still the current one');
  const done = await json(directory, '--apply', '--drop-checkpoint');
  assert.equal(done.code, 0);
  assert.ok(existsSync(join(done.found.salvage?.aside ?? '', 'checkpoint', 'data.mdb')));
  const { numbers } = await numbersIn(directory);
  assert.equal(numbers.length, 600);
});

test('a checkpoint that was cut is refused without a crash', async () => {
  const directory = copyOf(checkpointed);
  const file = join(directory, 'checkpoint', 'data.mdb');
  truncateSync(file, Math.floor(statSync(file).size / 2));
  assert.match(await refusal(directory), /data\.mdb is cut: \d+ bytes of \d+/);
  const shown = await micro('repair', directory);
  assert.equal(shown.code, 1);
  assert.match(shown.stderr, /--drop-checkpoint rebuilds/);
});

test('a directory that a live server uses is refused, to servers and to repair', async () => {
  await using server = await startRivulet({ args: SEGMENTS });
  await using session = await RespSession.open(server.port);
  await session.call('SET', 'k', 'v');
  assert.match(await refusal(server.directory), new RegExp(`in use by process ${server.pid}`));
  for (const flags of [[], ['--apply']]) {
    const { code, stderr } = await micro('repair', server.directory, ...flags);
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^micro: .*in use by process ${server.pid}.*\\n$`));
  }
  assert.equal(await session.text('GET', 'k'), '$1\r\nv\r\n');
});

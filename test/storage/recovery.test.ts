/**
 * Recovery: seeded crashes at any moment, torn writes sector by sector, flipped bits, missing and
 * foreign files. STORAGE_SEEDS and STORAGE_FIRST_SEED choose the runs.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  FRAME_HEADER,
  LOG_FORMAT,
  SECTOR,
  segmentHeader,
  segmentName,
} from '../../src/storage/log/frame.ts';
import type { SyncPolicy } from '../../src/storage/log/log.ts';
import { recoverLog } from '../../src/storage/log/recovery.ts';
import { Random } from '../../src/util/random.ts';
import { seedsOf } from '../helpers/seed.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';
import { assertConsecutive, DIRECTORY, readBack, Writer } from './storage-helpers.ts';

const SEEDS = Number(process.env.STORAGE_SEEDS ?? 150);

/** One life after another on one disk; after each crash what was acknowledged is there. */
async function lives(
  seed: number,
  policies: readonly SyncPolicy[],
  faults: boolean,
): Promise<void> {
  const random = new Random(seed);
  const disk = new SimulatedDisk({ seed: random.uint32() });
  let acknowledged = 0;
  let checkpoint = 0;
  let checkpointSerial = 0;
  for (let life = 0; life < 4; life++) {
    const writer = new Writer(disk, random.uint32(), {
      policy: random.pick(policies),
      firstSegmentBytes: 4096 << random.below(3),
    });
    const { report, records } = await writer.open(checkpoint);
    const known = records.at(-1)?.position ?? checkpoint;
    assert.ok(report.position >= acknowledged, `${acknowledged} was acknowledged`);
    assert.equal(known, report.position);
    if (records.length > 0) assertConsecutive(records, checkpointSerial);
    writer.serial = checkpointSerial + records.length;
    const serials = new Map<number, number>([[writer.log.appended, writer.serial]]);
    writer.log.onDurable = (position) => {
      acknowledged = Math.max(acknowledged, position);
    };
    const run = async (): Promise<void> => {
      for (let i = random.below(120); i > 0; i--) {
        const action = random.below(10);
        if (action < 6) {
          writer.append(random.chance(0.03) ? random.below(20_000) : random.below(200));
          serials.set(writer.log.appended, writer.serial);
        }
        if (action < 9) writer.log.flush();
        if (action === 9 && random.chance(0.2)) writer.log.setPolicy(random.pick(policies));
        if (random.chance(0.1)) {
          writer.clock.advance(700);
          writer.log.tick();
        }
        for (let steps = random.below(4); steps > 0; steps--) {
          await disk.settle(() => steps-- <= 0);
        }
        if (random.chance(0.02)) {
          // A checkpoint, which the log precedes onto the disk.
          await disk.finish(writer.log.drain());
          checkpoint = writer.log.durable;
          checkpointSerial = serials.get(checkpoint) ?? assert.fail('between records');
          if (random.chance(0.5)) await disk.finish(writer.log.truncateBefore(checkpoint));
        }
      }
      if (random.chance(0.2)) await disk.finish(writer.log.close());
    };
    // A disk that fails ends this life, and nothing else.
    if (faults && random.chance(0.5)) disk.failureRate = 0.005;
    await run().catch((error: unknown) => {
      if (!/^(DISK_FAILED|EIO)$/.test((error as { code: string }).code)) throw error;
    });
    disk.failureRate = 0;
    await disk.crash();
  }
  const { report, records } = await readBack(disk, checkpoint);
  assert.ok(report.position >= acknowledged);
  assertConsecutive(records, checkpointSerial);
}

test(`after crashes at any moment every acknowledged record is there, in order, none half (${SEEDS} seeds)`, async (t) => {
  for (const seed of seedsOf(t, SEEDS)) {
    try {
      await lives(seed, ['always'], false);
      await lives(seed, ['always'], true);
      await lives(seed, ['always', 'everysec', 'no'], true);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
});

/** A log of several segments, all of it acknowledged, then ended by a crash or in order. */
async function written(
  seed: number,
  clean: boolean,
): Promise<{ disk: SimulatedDisk; position: number }> {
  const disk = new SimulatedDisk({ seed });
  const writer = new Writer(disk, seed, { segmentBytes: 8 * 1024 });
  await writer.open();
  for (let i = 0; i < 60; i++) {
    writer.append(writer.random.below(600));
    if (i % 3 === 0) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.drain());
  const position = writer.log.durable;
  if (clean) await disk.finish(writer.log.close());
  else await disk.crash();
  return { disk, position };
}

async function segmentNames(disk: SimulatedDisk): Promise<string[]> {
  const names = await disk.finish(disk.list(DIRECTORY));
  return names.filter((name) => name.endsWith('.rlog')).sort();
}

test('a flipped bit anywhere in acknowledged data is found, with file and offset, or harmless', async (t) => {
  for (const clean of [true, false]) {
    let found = 0;
    for (const seed of seedsOf(t, 150)) {
      const { disk, position } = await written(seed, clean);
      const random = new Random(seed);
      const name = random.pick(await segmentNames(disk));
      const path = `${DIRECTORY}/${name}`;
      const offset = random.below(disk.contents(path).length);
      disk.flipBit(path, offset, random.below(8));
      const read = await readBack(disk).catch((error: unknown) => error);
      if (read instanceof Error) {
        const error = read as Error & { code: string; file?: string; offset?: number };
        assert.match(error.code, /^(LOG_DAMAGED|FOREIGN_FILE)$/, `seed ${seed}: ${error.stack}`);
        assert.equal(error.file, path);
        assert.ok((error.offset ?? -1) <= offset, `seed ${seed}`);
        assert.match(error.message, /log-\d+\.rlog/);
        found++;
      } else {
        // It hit padding or space that was never used.
        const { report, records } = read as Awaited<ReturnType<typeof readBack>>;
        assert.equal(report.position, position, `seed ${seed} clean ${clean}: something was lost`);
        assert.equal(records.length, 60);
      }
    }
    assert.ok(found > 30, `only ${found} found`);
  }
});

/** A log whose last write is on its way when the power goes, with sectors chosen by the test. */
async function torn(sectors: (sector: number, frame: Buffer) => Buffer | null): Promise<{
  disk: SimulatedDisk;
  path: string;
  frameAt: number;
  before: number;
}> {
  const disk = new SimulatedDisk({ seed: 5 });
  const writer = new Writer(disk, 5, { firstSegmentBytes: 64 * 1024 });
  await writer.open();
  for (let i = 0; i < 3; i++) {
    writer.append(100);
    await disk.finish(writer.log.drain());
  }
  const before = writer.log.durable;
  const path = `${DIRECTORY}/${segmentName(0)}`;
  const frameAt = SECTOR * 4;
  // Serial 4 has bytes that are not zero.
  writer.serial = 4;
  writer.append(2000);
  writer.log.flush();
  const frame = disk.contents(path).subarray(frameAt, frameAt + 5 * SECTOR);
  await disk.crash();
  for (let i = 0; i < 5; i++) {
    const bytes = sectors(i, frame.subarray(i * SECTOR, (i + 1) * SECTOR));
    disk.overwrite(path, frameAt + i * SECTOR, bytes ?? Buffer.alloc(SECTOR));
  }
  return { disk, path, frameAt, before };
}

test('a torn write is cut off whichever of its sectors are missing, reported, and gone for good', async () => {
  for (let missing = 1; missing < 31; missing++) {
    const { disk, path, frameAt, before } = await torn((i, bytes) =>
      (missing >> i) & 1 ? null : bytes,
    );
    const { report, records } = await readBack(disk);
    assert.equal(records.length, 3);
    assert.equal(report.position, before);
    assert.deepEqual({ ...report.cut, bytes: 0 }, { file: path, offset: frameAt, bytes: 0 });
    assert.ok(report.cut!.bytes > 0 && report.cut!.bytes <= 5 * SECTOR);
    assert.equal(disk.contents(path).length, frameAt, 'nothing stale is left');
    const again = await readBack(disk);
    assert.equal(again.report.cut, null);
    assert.equal(again.records.length, 3);
  }
});

test('an unacknowledged last write that is there completely is kept', async () => {
  const { disk } = await torn((_, bytes) => bytes);
  const { report, records } = await readBack(disk);
  assert.equal(records.length, 4);
  assert.equal(report.cut, null);
});

test('a last write of which every sector is there and one bit is wrong is damage', async () => {
  for (const at of [3, 20, 44, 700, 2050]) {
    const { disk, path, frameAt } = await torn((i, bytes) => {
      const copy = Buffer.from(bytes);
      if (Math.floor(at / SECTOR) === i) copy[at % SECTOR] ^= 4;
      return copy;
    });
    await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED', file: path, offset: frameAt });
    await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED' }, 'and nothing was changed');
  }
});

test('zeros in a record are not taken for sectors that were never written', async () => {
  const disk = new SimulatedDisk({ seed: 6 });
  const writer = new Writer(disk, 6, { firstSegmentBytes: 64 * 1024 });
  await writer.open();
  writer.serial = 3; // whose bytes are all zero
  writer.append(3000);
  await disk.finish(writer.log.drain());
  await disk.crash();
  const path = `${DIRECTORY}/${segmentName(0)}`;
  disk.flipBit(path, SECTOR + FRAME_HEADER + 8, 0);
  await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED' });
});

test('bytes that a client stores never pass for a frame', async () => {
  const disk = new SimulatedDisk({ seed: 7 });
  const writer = new Writer(disk, 7, { firstSegmentBytes: 64 * 1024 });
  await writer.open();
  writer.append(100);
  await disk.finish(writer.log.drain());
  const path = `${DIRECTORY}/${segmentName(0)}`;
  // A frame of an earlier segment, at a sector's beginning inside a later torn write, claiming that
  // everything was durable.
  const frame = disk.contents(path).subarray(SECTOR, 2 * SECTOR);
  await disk.crash();
  const { report } = await readBack(disk);
  const next = new Writer(disk, 8, { firstSegmentBytes: 64 * 1024 });
  await next.open();
  next.append(100);
  await disk.finish(next.log.drain());
  const nextPath = `${DIRECTORY}/${segmentName(report.position)}`;
  await disk.crash();
  disk.overwrite(nextPath, 3 * SECTOR, frame);
  const read = await readBack(disk);
  assert.equal(read.records.length, 2);
  assert.equal(read.report.cut?.offset, 2 * SECTOR);
});

test('a segment that is missing in the middle or at the beginning is said to be', async () => {
  const { disk } = await written(8, true);
  const names = await segmentNames(disk);
  assert.ok(names.length >= 3);
  await disk.finish(disk.rename(`${DIRECTORY}/${names[1]}`, `${DIRECTORY}/elsewhere`));
  await assert.rejects(readBack(disk), { code: 'LOG_MISSING', message: /misses the log from/ });
  await disk.finish(disk.rename(`${DIRECTORY}/elsewhere`, `${DIRECTORY}/${names[1]}`));
  assert.equal((await readBack(disk)).records.length, 60);
  await disk.finish(disk.remove(`${DIRECTORY}/${names[0]}`));
  await assert.rejects(readBack(disk), { code: 'LOG_MISSING', message: /begins at position/ });
  await assert.rejects(readBack(new SimulatedDisk({ seed: 1 }), 700), { code: 'LOG_MISSING' });
});

test('foreign and newer files are refused, each with its own code', async () => {
  const disk = new SimulatedDisk({ seed: 9 });
  const put = async (name: string, bytes: Buffer): Promise<void> => {
    const file = await disk.finish(disk.open(`${DIRECTORY}/${name}`));
    file.write(bytes, 0, bytes.length, 0, true, () => {});
    await disk.settle();
  };
  await put('log-7.rlog', Buffer.from('x'));
  await assert.rejects(readBack(disk), { code: 'FOREIGN_FILE' });
  await disk.finish(disk.remove(`${DIRECTORY}/log-7.rlog`));
  await put(segmentName(0), Buffer.from('something else entirely'));
  await assert.rejects(readBack(disk), { code: 'FOREIGN_FILE' });
  await put(segmentName(0), segmentHeader(5, 1));
  await assert.rejects(readBack(disk), { code: 'FOREIGN_FILE', message: /renamed/ });
  const header = segmentHeader(0, 1);
  header[8] = LOG_FORMAT + 1;
  header[256] = 0;
  await put(segmentName(0), header);
  await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED' }, 'the checksum comes first');
  const { crc32 } = await import('node:zlib');
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28);
  await put(segmentName(0), header);
  await assert.rejects(readBack(disk), { code: 'NEWER_FORMAT' });
});

test('damage before the checkpoint is warned of and harmless, damage after it is not', async () => {
  const { disk, position } = await written(10, true);
  const names = await segmentNames(disk);
  const last = names.at(-1)!;
  const start = Number(last.slice(4, -5));
  disk.flipBit(`${DIRECTORY}/${last}`, SECTOR + 20, 3);
  const { report } = await readBack(disk, start + 1500);
  assert.equal(report.position, position);
  assert.equal(report.warnings.length, 1);
  assert.match(report.warnings[0], /damaged at offset 512/);
  await assert.rejects(readBack(disk, start), { code: 'LOG_DAMAGED' });
});

test('a log that ends before its checkpoint goes on at the checkpoint', async () => {
  const { disk, position } = await written(11, true);
  const { report, records } = await readBack(disk, position + 1000);
  assert.equal(records.length, 0);
  assert.equal(report.position, position + 1000);
  assert.equal(report.warnings.length, 1);
  const writer = new Writer(disk, 11);
  await writer.open(position + 1000);
  writer.append();
  await disk.finish(writer.log.close());
  const after = await readBack(disk, position + 1000);
  assert.equal(after.records.length, 1);
});

test('progress of a replay rises from 0 to the bytes of the segments from the checkpoint on', async () => {
  const disk = new SimulatedDisk({ seed: 31 });
  const writer = new Writer(disk, 31);
  await writer.open();
  for (let i = 0; i < 1500; i++) {
    writer.append(100);
    if (i % 10 === 0) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.close());
  const { segments } = writer.log;
  assert.ok(segments.length > 3);
  for (const skipped of [0, 2]) {
    const calls: [number, number][] = [];
    await disk.finish(
      recoverLog({
        disk,
        directory: DIRECTORY,
        from: segments[skipped].start,
        visit() {},
        onProgress: (read, total) => calls.push([read, total]),
      }),
    );
    let expected = 0;
    for (const { name } of segments.slice(skipped)) {
      expected += disk.contents(`${DIRECTORY}/${name}`).length;
    }
    assert.ok(calls.length > 100);
    let before = 0;
    for (const [read, total] of calls) {
      assert.equal(total, expected);
      assert.ok(read > before && read <= total, `${before} ${read} ${total}`);
      before = read;
    }
    assert.ok(expected - before <= 1024, `${before} of ${expected} at the end`);
  }
});

/**
 * Repair: what it finds, and that what it leaves starts again with everything it promised.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeInspection, inspect, salvage } from '../../src/storage/repair.ts';
import { Random } from '../../src/util/random.ts';
import { FaultyDisk } from '../helpers/faulty-disk.ts';
import { seedsOf } from '../helpers/seed.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';
import { DIRECTORY, readBack, Writer } from './storage-helpers.ts';

/** Records 0 to 59 in three to a frame and several segments; every third has only zeros. */
async function written(seed: number): Promise<{ disk: SimulatedDisk; positions: number[] }> {
  const disk = new SimulatedDisk({ seed });
  const writer = new Writer(disk, seed, { segmentBytes: 8 * 1024 });
  await writer.open();
  const positions: number[] = [];
  for (let i = 0; i < 60; i++) {
    writer.append(100 + writer.random.below(400));
    positions.push(writer.log.appended);
    if (i % 3 === 2) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.close());
  return { disk, positions };
}

async function segments(disk: SimulatedDisk): Promise<string[]> {
  const names = await disk.finish(disk.list(DIRECTORY));
  return names.filter((name) => name.endsWith('.rlog')).sort();
}

test('a sound log is reported as sound, and salvaging it does nothing', async () => {
  const { disk, positions } = await written(1);
  const options = { disk, directory: DIRECTORY, from: 0 };
  const found = await disk.finish(inspect(options));
  assert.deepEqual(found.faults, []);
  assert.equal(found.soundTo, positions.at(-1));
  assert.equal(
    found.segments.reduce((sum, { records }) => sum + records, 0),
    60,
  );
  assert.match(describeInspection(found), /The log is sound up to position/);
  const report = await disk.finish(salvage({ ...options, keepAfter: false, stamp: 't' }));
  assert.equal(report.aside, null);
});

test('a flipped bit anywhere: salvage makes a log that starts, with everything before and, if asked, after', async (t) => {
  for (const seed of seedsOf(t, 60)) {
    const { disk, positions } = await written(seed);
    const random = new Random(seed);
    const names = await segments(disk);
    const name = random.pick(names);
    const path = `${DIRECTORY}/${name}`;
    const offset = 512 + random.below(disk.contents(path).length - 512);
    const from = random.chance(0.3) ? random.pick(positions) : 0;
    disk.flipBit(path, offset, random.below(8));
    const before = await readBack(disk, from).catch((error: Error) => error);
    const original = disk.contents(path);
    const keepAfter = random.chance(0.5);
    const report = await disk.finish(
      salvage({ disk, directory: DIRECTORY, from, keepAfter, stamp: 't' }),
    );
    const { records } = await readBack(disk, from);
    const serials = records.map((record) => record.serial);
    const all = Array.from({ length: 60 }, (_, i) => i).filter((i) => positions[i] > from);
    if (!(before instanceof Error)) {
      assert.deepEqual(serials, all, `seed ${seed}: it was harmless`);
      continue;
    }
    assert.ok(report.aside !== null, `seed ${seed}`);
    assert.deepEqual(disk.contents(`${report.aside}/${name}`), original, 'the original is kept');
    const lost = all.filter((serial) => !serials.includes(serial));
    // The last frame says that the log was closed, and holds no record.
    assert.ok(lost.length > 0 || report.position === positions.at(-1), `seed ${seed}`);
    if (keepAfter) {
      // One frame of three records, some of them perhaps before the checkpoint.
      assert.ok(lost.length <= 3, `seed ${seed}: lost ${lost}`);
    } else {
      assert.deepEqual(serials, all.slice(0, serials.length), `seed ${seed}: not a prefix`);
      assert.ok(report.droppedFrames < 21);
    }
    const writer = new Writer(disk, seed);
    await writer.open(from);
    writer.append();
    await disk.finish(writer.log.close());
    assert.equal((await readBack(disk, from)).records.length, records.length + 1);
    const after = await disk.finish(inspect({ disk, directory: DIRECTORY, from }));
    assert.ok(after.faults.every((fault) => fault.harmless));
  }
});

test('a missing segment: what comes before it is kept, what comes after it only if asked', async () => {
  for (const keepAfter of [false, true]) {
    for (const at of [0, 1]) {
      const { disk } = await written(2);
      const names = await segments(disk);
      await disk.finish(disk.remove(`${DIRECTORY}/${names[at]}`));
      const found = await disk.finish(inspect({ disk, directory: DIRECTORY, from: 0 }));
      assert.equal(found.faults[0].kind, 'missing');
      assert.match(describeInspection(found), /DAMAGE: .*no segment holds/);
      const total = found.segments.reduce((sum, { records }) => sum + records, 0);
      await disk.finish(salvage({ disk, directory: DIRECTORY, from: 0, keepAfter, stamp: 't' }));
      const { records } = await readBack(disk);
      if (keepAfter) assert.equal(records.length, total);
      else assert.equal(records.length, at === 0 ? 0 : found.segments[0].records);
    }
  }
});

test('a segment whose header is gone costs its own frames only', async () => {
  const { disk } = await written(3);
  const names = await segments(disk);
  for (const at of [12, 268]) disk.flipBit(`${DIRECTORY}/${names[1]}`, at, 0);
  for (const at of [20, 276]) disk.flipBit(`${DIRECTORY}/${names[1]}`, at, 0);
  await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED' });
  const found = await disk.finish(inspect({ disk, directory: DIRECTORY, from: 0 }));
  const total = found.segments.reduce((sum, { records }) => sum + records, 0);
  assert.ok(total > 30 && total < 60);
  await disk.finish(salvage({ disk, directory: DIRECTORY, from: 0, keepAfter: true, stamp: 't' }));
  assert.equal((await readBack(disk)).records.length, total);
});

test('a torn end is only noted', async () => {
  const { disk } = await written(4);
  const writer = new Writer(disk, 4, { firstSegmentBytes: 64 * 1024 });
  const { report } = await writer.open();
  writer.serial = 61;
  writer.append(3000);
  writer.log.flush();
  await disk.crash();
  const name = `${DIRECTORY}/log-${String(report.position).padStart(20, '0')}.rlog`;
  disk.overwrite(name, 512, Buffer.alloc(512));
  disk.overwrite(name, 1024, Buffer.alloc(512, 1));
  const found = await disk.finish(inspect({ disk, directory: DIRECTORY, from: 0 }));
  assert.deepEqual(
    found.faults.map(({ kind, harmless }) => ({ kind, harmless })),
    [{ kind: 'torn', harmless: true }],
  );
});

test('a damaged checkpoint can be done without while the log reaches back to the beginning', async () => {
  const { disk } = await written(5);
  await disk.finish(disk.makeDirectory(`${DIRECTORY}/checkpoint`));
  await disk.finish(disk.open(`${DIRECTORY}/checkpoint/data.mdb`));
  const options = { disk, directory: DIRECTORY, from: 0, keepAfter: false, stamp: 't' };
  const report = await disk.finish(salvage({ ...options, dropCheckpoint: true }));
  assert.equal(report.aside, `${DIRECTORY}/damaged-t`);
  assert.deepEqual(await disk.finish(disk.list(`${report.aside}/checkpoint`)), ['data.mdb']);
  const names = await segments(disk);
  await disk.finish(disk.remove(`${DIRECTORY}/${names[0]}`));
  await assert.rejects(disk.finish(salvage({ ...options, dropCheckpoint: true })), {
    code: 'LOG_MISSING',
  });
});

test('a salvage that the disk refused anywhere has lost nothing: the next one does it', async () => {
  const broken = async (): Promise<SimulatedDisk> => {
    const { disk } = await written(11);
    const [, second] = await segments(disk);
    const path = `${DIRECTORY}/${second}`;
    for (let bit = 0; bit < 8; bit++) disk.flipBit(path, 700, bit);
    await assert.rejects(readBack(disk), { code: 'LOG_DAMAGED' });
    return disk;
  };
  const options = { directory: DIRECTORY, from: 0, keepAfter: false };
  const whole = await broken();
  const counting = new FaultyDisk(whole);
  await whole.finish(salvage({ ...options, disk: counting, stamp: 'whole' }));
  const { records: expected } = await readBack(whole);
  assert.ok(expected.length > 3);
  for (const [operation, count] of [...counting.counts]) {
    for (let at = 1; at <= count; at++) {
      const disk = await broken();
      const faulty = new FaultyDisk(disk);
      faulty.fail(operation, 'EIO', at);
      const failing = salvage({ ...options, disk: faulty, stamp: 'first' });
      await assert.rejects(disk.finish(failing), { code: 'EIO' }, `${operation} ${at}`);
      await disk.finish(salvage({ ...options, disk, stamp: 'second' }));
      const { records } = await readBack(disk);
      assert.deepEqual(records, expected, `${operation} ${at}`);
    }
  }
});

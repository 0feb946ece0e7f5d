/**
 * The log on a simulated disk: group commit, policies, rolling, full and broken disks.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StorageError } from '../../src/storage/storage-error.ts';
import { Random } from '../../src/util/random.ts';
import { seedsOf } from '../helpers/seed.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';
import { assertConsecutive, DIRECTORY, readBack, Writer } from './storage-helpers.ts';

test('records come back in order, with the positions that the log gave them', async () => {
  const disk = new SimulatedDisk({ seed: 1 });
  const writer = new Writer(disk, 1);
  await writer.open();
  const positions: number[] = [];
  for (let i = 0; i < 1000; i++) {
    writer.append();
    positions.push(writer.log.appended);
    if (i % 7 === 0) writer.log.flush();
    if (i % 11 === 0) await disk.settle();
  }
  await disk.finish(writer.log.close());
  assert.equal(writer.log.durable, writer.log.appended);
  const { report, records } = await readBack(disk);
  assert.deepEqual(
    records.map((record) => record.position),
    positions,
  );
  assertConsecutive(records, 0);
  assert.equal(report.clean, true);
  assert.equal(report.cut, null);
  assert.ok(report.segments.length > 3, 'the log has rolled');
});

test('durable does not rise before the write is on disk, and records gather meanwhile', async () => {
  const disk = new SimulatedDisk({ seed: 2 });
  const writer = new Writer(disk, 2);
  await writer.open();
  await disk.settle();
  const risen: number[] = [];
  writer.log.onDurable = (position) => risen.push(position);
  writer.append(10);
  writer.log.flush();
  const first = writer.log.appended;
  writer.append(10);
  writer.append(10);
  writer.log.flush();
  assert.equal(writer.log.gate, writer.log.appended);
  assert.equal(writer.log.durable, 0);
  assert.equal(writer.log.backlog, writer.log.appended);
  assert.equal(disk.waiting, 1, 'one write at a time');
  disk.step();
  assert.deepEqual(risen, [first]);
  assert.equal(disk.waiting, 1, 'the second frame went at once');
  disk.step();
  assert.deepEqual(risen, [first, writer.log.appended]);
  assert.equal(writer.log.frames, 2);
  assert.equal(writer.log.syncTimes.count, 2);
});

test('a record much larger than a segment gets a segment of its own, and the buffers shrink again', async () => {
  const disk = new SimulatedDisk({ seed: 3 });
  const writer = new Writer(disk, 3, { keepBufferBytes: 128 * 1024 });
  await writer.open();
  writer.append(10);
  const body = Buffer.alloc(3_000_000, 7);
  const record = writer.log.begin(9);
  record.f64(1e9);
  record.raw(body, 0, body.length);
  writer.log.end();
  writer.append(10);
  await disk.finish(writer.log.drain());
  for (let i = 0; i < 5; i++) {
    assert.ok(writer.log.begin(1).buffer.length <= 128 * 1024, 'a small buffer again');
    writer.log.end();
    await disk.finish(writer.log.drain());
  }
  const sizes: number[] = [];
  await disk.finish(
    import('../../src/storage/log/recovery.ts').then(({ recoverLog }) =>
      recoverLog({
        disk,
        directory: DIRECTORY,
        from: 0,
        visit: (_type, reader) => sizes.push(reader.end - reader.at),
      }),
    ),
  );
  assert.deepEqual(sizes, [18, body.length + 8, 18, 0, 0, 0, 0, 0]);
});

test('truncateBefore removes exactly the segments that end before the position', async () => {
  const disk = new SimulatedDisk({ seed: 4 });
  const writer = new Writer(disk, 4);
  await writer.open();
  for (let i = 0; i < 2000; i++) {
    writer.append(100);
    if (i % 10 === 0) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.drain());
  const before = writer.log.segments.map((segment) => segment.start);
  assert.ok(before.length >= 4);
  assert.equal(await disk.finish(writer.log.truncateBefore(before[2] - 1)), 1);
  assert.deepEqual(
    writer.log.segments.map((segment) => segment.start),
    before.slice(1),
  );
  const position = before[2] + 500;
  await disk.finish(writer.log.truncateBefore(position));
  assert.equal(writer.log.segments[0].start, before[2]);
  const { records, report } = await readBack(disk, position);
  assert.equal(records.at(-1)?.serial, 1999);
  assert.ok(records[0].position > position && records[0].position - position <= 113);
  assert.equal(report.position, writer.log.appended);
  await assert.rejects(readBack(disk, before[1]), { code: 'LOG_MISSING' });
});

test('a segment whose file is gone counts as removed, and truncation goes on with the next one', async () => {
  const disk = new SimulatedDisk({ seed: 4 });
  const writer = new Writer(disk, 4);
  await writer.open();
  for (let i = 0; i < 2000; i++) {
    writer.append(100);
    if (i % 10 === 0) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.drain());
  const [oldest, second, third] = writer.log.segments;
  await disk.finish(disk.remove(`${DIRECTORY}/${oldest.name}`));
  assert.equal(await disk.finish(writer.log.truncateBefore(third.start)), 2);
  assert.equal(writer.log.segments[0], third);
  const names = await disk.finish(disk.list(DIRECTORY));
  assert.equal(names.includes(second.name), false);
});

test('two truncations at once remove each segment once, and one that fails is tried again', async () => {
  const disk = new SimulatedDisk({ seed: 4 });
  const writer = new Writer(disk, 4);
  await writer.open();
  for (let i = 0; i < 2000; i++) {
    writer.append(100);
    if (i % 10 === 0) await disk.finish(writer.log.drain());
  }
  await disk.finish(writer.log.drain());
  const before = [...writer.log.segments];
  disk.failNext('remove', 'EIO');
  await assert.rejects(disk.finish(writer.log.truncateBefore(before[3].start)), { code: 'EIO' });
  assert.deepEqual(writer.log.segments, before, 'in their order');
  await disk.finish(
    Promise.all([
      writer.log.truncateBefore(before[2].start),
      writer.log.truncateBefore(before[3].start),
    ]),
  );
  assert.deepEqual(writer.log.segments, before.slice(3));
  await readBack(disk, before[3].start);
});

test('a segment too small for its first frame is replaced, and truncation copes with it', async () => {
  const disk = new SimulatedDisk({ seed: 13 });
  const writer = new Writer(disk, 13);
  await writer.open();
  for (let i = 0; i < 3; i++) {
    writer.append(50_000);
    await disk.finish(writer.log.drain());
  }
  const starts = writer.log.segments.map((segment) => segment.start);
  assert.deepEqual(starts, [...new Set(starts)]);
  assert.equal(await disk.finish(writer.log.truncateBefore(writer.log.durable)), 2);
  assert.equal((await readBack(disk, starts[2])).records.length, 1);
});

test('rotate starts a new segment with the next frame', async () => {
  const disk = new SimulatedDisk({ seed: 5 });
  const writer = new Writer(disk, 5);
  await writer.open();
  writer.append();
  await disk.finish(writer.log.drain());
  writer.log.rotate();
  const position = writer.log.appended;
  writer.append();
  await disk.finish(writer.log.drain());
  assert.deepEqual(
    writer.log.segments.map((segment) => segment.start),
    [0, position],
  );
  assert.equal(await disk.finish(writer.log.truncateBefore(position)), 1);
});

test('everysec lets replies leave with the write, syncs once a second, and reports a sync that lags', async () => {
  const disk = new SimulatedDisk({ seed: 6 });
  const writer = new Writer(disk, 6, { policy: 'everysec' });
  await writer.open();
  await disk.settle();
  writer.append();
  writer.log.flush();
  assert.equal(writer.log.gate, writer.log.appended);
  assert.equal(writer.log.safe, 0, 'the operating system has nothing yet');
  await disk.settle();
  assert.equal(writer.log.safe, writer.log.appended);
  assert.equal(writer.log.durable, 0);
  writer.clock.advance(1000);
  writer.log.tick();
  assert.ok(disk.waiting > 0);
  writer.clock.advance(2500);
  writer.log.tick();
  writer.log.tick();
  assert.equal(writer.log.syncLagging, true);
  assert.equal(writer.log.delayedSyncs, 1);
  await disk.settle();
  assert.equal(writer.log.durable, writer.log.appended);
  assert.equal(writer.log.syncLagging, false);
});

test('a change to always syncs what an earlier policy had left', async () => {
  const disk = new SimulatedDisk({ seed: 7 });
  const writer = new Writer(disk, 7, { policy: 'no' });
  await writer.open();
  for (let i = 0; i < 5; i++) {
    writer.append();
    writer.log.flush();
    await disk.settle();
  }
  assert.equal(writer.log.durable, 0);
  writer.log.setPolicy('always');
  writer.append();
  writer.log.flush();
  await disk.settle();
  assert.equal(writer.log.durable, writer.log.appended);
  await disk.crash();
  const { records } = await readBack(disk);
  assertConsecutive(records, 0);
  assert.equal(records.length, 6);
});

for (const operation of ['write', 'sync'] as const) {
  test(`a failed ${operation} is fatal: nothing is acknowledged after it`, async () => {
    const disk = new SimulatedDisk({ seed: 8 });
    const writer = new Writer(disk, 8, { policy: operation === 'write' ? 'always' : 'everysec' });
    await writer.open();
    await disk.settle();
    const fatal: StorageError[] = [];
    writer.log.onFatal = (error) => fatal.push(error);
    writer.append();
    disk.failNext(operation, 'EIO');
    const drained = writer.log.drain();
    const failed = assert.rejects(drained, { code: 'DISK_FAILED' });
    await disk.settle();
    await failed;
    assert.equal(fatal.length, 1);
    assert.match(fatal[0].message, /Input\/output error/);
    assert.equal(writer.log.refusal, 'Input/output error');
    writer.append();
    writer.log.flush();
    writer.clock.advance(5000);
    writer.log.tick();
    await disk.settle();
    assert.equal(writer.log.durable, 0);
    await assert.rejects(writer.log.drain(), { code: 'DISK_FAILED' });
  });
}

test('a full disk refuses before anything is lost, and recovers by itself when there is room', async () => {
  const disk = new SimulatedDisk({ seed: 9, capacity: 64 * 1024 });
  const writer = new Writer(disk, 9);
  await writer.open();
  let written = 0;
  while (writer.log.refusalFor(200) === null) {
    writer.append(100);
    await disk.finish(writer.log.drain());
    await disk.settle();
    assert.ok(++written < 10_000);
  }
  assert.ok(written > 50, `used the space that there is: ${written}`);
  assert.equal(writer.log.refusal, 'No space left on device');
  assert.equal(writer.log.durable, writer.log.appended, 'everything accepted was recorded');
  writer.clock.advance(1100);
  writer.log.tick();
  await disk.settle();
  assert.notEqual(writer.log.refusal, null, 'still full');
  disk.capacity = 1024 * 1024;
  for (let i = 0; i < 3; i++) {
    writer.clock.advance(1100);
    writer.log.tick();
    await disk.settle();
  }
  assert.equal(writer.log.refusal, null);
  writer.append(100);
  await disk.finish(writer.log.drain());
  await disk.crash();
  const { records } = await readBack(disk);
  assert.equal(records.length, written + 1);
});

test('a command too large for the room that is left is refused, a small one is not', async () => {
  const disk = new SimulatedDisk({ seed: 10, capacity: 128 * 1024 });
  const writer = new Writer(disk, 10);
  await writer.open();
  await disk.settle();
  writer.clock.advance(6000);
  writer.log.tick();
  await disk.settle();
  assert.equal(writer.log.refusalFor(100), null);
  assert.equal(writer.log.refusalFor(500_000), 'No space left on device');
});

test('what was gathered when the disk filled up is recorded once there is room', async () => {
  const disk = new SimulatedDisk({ seed: 11, capacity: 40 * 1024 });
  const writer = new Writer(disk, 11);
  await writer.open();
  // As an effect would that is far larger than its command.
  writer.append(60_000);
  writer.log.flush();
  await disk.settle();
  assert.equal(writer.log.durable, 0);
  assert.notEqual(writer.log.refusal, null);
  disk.capacity = 1024 * 1024;
  writer.clock.advance(1100);
  writer.log.tick();
  await disk.settle();
  assert.equal(writer.log.durable, writer.log.appended);
  assert.equal(writer.log.refusal, null);
  const { records } = await readBack(disk);
  assert.equal(records.length, 1);
});

test('a log starts on a full disk, refuses, and takes records when there is room', async () => {
  const disk = new SimulatedDisk({ seed: 12, capacity: 1024 });
  const writer = new Writer(disk, 12);
  await writer.open();
  assert.equal(writer.log.refusal, 'No space left on device');
  disk.capacity = 1024 * 1024;
  for (let i = 0; i < 2; i++) {
    writer.clock.advance(1100);
    writer.log.tick();
    await disk.settle();
  }
  assert.equal(writer.log.refusal, null);
  writer.append();
  await disk.finish(writer.log.drain());
});

test('a log that starts takes nothing of the reserve, but a frame that was promised room may', async () => {
  const reserveBytes = 64 * 1024;
  const disk = new SimulatedDisk({ seed: 13, capacity: reserveBytes + 2 * 1024 });
  const writer = new Writer(disk, 13, { reserveBytes });
  await writer.open();
  await disk.settle();
  assert.equal(writer.log.refusal, 'No space left on device');
  assert.ok((await disk.finish(disk.freeBytes())) >= reserveBytes, 'the reserve is whole');
  disk.capacity = reserveBytes + 256 * 1024;
  writer.clock.advance(1100);
  writer.log.tick();
  await disk.settle();
  writer.clock.advance(1100);
  writer.log.tick();
  await disk.settle();
  assert.equal(writer.log.refusal, null);
  // Accepted, and then another program takes the room.
  assert.equal(writer.log.refusalFor(60_000), null);
  writer.append(60_000);
  const free = await disk.finish(disk.freeBytes());
  disk.capacity = reserveBytes + 256 * 1024 - free + reserveBytes + 4096;
  await disk.finish(writer.log.drain());
  assert.equal(writer.log.durable, writer.log.appended);
  assert.ok((await disk.finish(disk.freeBytes())) < reserveBytes, 'some of the reserve is taken');
});

test('the next segment is filled in step with the one in use, and is ready before that is full', async () => {
  const disk = new SimulatedDisk({ seed: 11 });
  const MiB = 1024 * 1024;
  const writer = new Writer(disk, 11, { firstSegmentBytes: 2 * MiB, segmentBytes: 8 * MiB });
  await writer.open();
  await disk.settle();
  const filled = async () => {
    const spare = (await disk.finish(disk.list(DIRECTORY))).find((name) =>
      name.startsWith('spare-'),
    );
    return spare === undefined ? 0 : disk.contents(`${DIRECTORY}/${spare}`).length;
  };
  const seen: number[] = [await filled()];
  while (writer.log.appended < 1.6 * MiB) {
    writer.append(100_000);
    await disk.finish(writer.log.drain());
    await disk.settle();
    seen.push(await filled());
  }
  assert.ok(seen[0] < MiB, `${seen[0]} bytes before anything was written`);
  const steps = seen.slice(1).map((bytes, i) => bytes - seen[i]);
  assert.ok(Math.max(...steps) <= MiB, `in steps of ${steps}`);
  assert.equal(seen.at(-1), 8 * MiB);
  assert.equal(writer.log.segments.length, 1);
  await disk.finish(writer.log.close());
});

test('without writes the next segment is filled tick by tick', async () => {
  const disk = new SimulatedDisk({ seed: 12 });
  const MiB = 1024 * 1024;
  const writer = new Writer(disk, 12, { firstSegmentBytes: 2 * MiB, segmentBytes: 8 * MiB });
  await writer.open();
  let ticks = 0;
  const ready = async () => {
    const spare = (await disk.finish(disk.list(DIRECTORY))).find((name) =>
      name.startsWith('spare-'),
    );
    return spare !== undefined && disk.contents(`${DIRECTORY}/${spare}`).length === 8 * MiB;
  };
  for (await disk.settle(); !(await ready()); ticks++) {
    assert.ok(ticks < 40);
    writer.clock.advance(100);
    writer.log.tick();
    await disk.settle();
  }
  assert.ok(ticks > 5, `after ${ticks} ticks`);
  await disk.finish(writer.log.close());
  assert.deepEqual(
    (await disk.finish(disk.list(DIRECTORY))).filter((name) => name.startsWith('spare-')),
    [],
  );
});

test('what clients have received replies for survives the death of the process, under each policy', async (t) => {
  for (const seed of seedsOf(t, 60)) {
    const disk = new SimulatedDisk({ seed });
    const random = new Random(seed);
    const policy = random.pick(['always', 'everysec', 'no'] as const);
    let told = 0;
    for (let life = 0; life < 4; life++) {
      const writer = new Writer(disk, seed + life, { policy });
      const { report } = await writer.open();
      assert.ok(report.position >= told, `seed ${seed}: told ${told}, left ${report.position}`);
      for (let i = random.below(60); i > 0; i--) {
        const choice = random.below(10);
        if (choice < 5) writer.append();
        else if (choice < 7) writer.log.flush();
        else if (choice < 9) disk.step();
        else {
          writer.clock.advance(600);
          writer.log.tick();
        }
        await new Promise(setImmediate);
      }
      told = writer.log.safe;
      await disk.kill();
      // Recovery has made it safe for power loss too: the next life begins with one.
      if (random.chance(0.5)) {
        told = (await new Writer(disk, seed, { policy }).open()).report.position;
        await disk.crash();
      }
    }
  }
});

test('a record that was begun and not ended is never written, and nothing after it is recorded', async () => {
  for (const flushes of [true, false]) {
    const disk = new SimulatedDisk({ seed: 21 });
    const writer = new Writer(disk, 21);
    await writer.open();
    for (let i = 0; i < 3; i++) writer.append(50);
    await disk.finish(writer.log.drain());
    const durable = writer.log.durable;
    writer.append(50);
    const fatal: string[] = [];
    writer.log.onFatal = (error: StorageError) => fatal.push(error.message);
    writer.log.begin(7).f64(1234);
    if (flushes) writer.log.flush();
    assert.throws(() => writer.append(10), { code: 'DISK_FAILED' });
    assert.equal(fatal.length, 1);
    assert.match(String(fatal[0]), /^Could not record a change: .* Start again/);
    assert.notEqual(writer.log.refusal, null);
    writer.log.flush();
    await disk.settle();
    assert.equal(writer.log.durable, durable, 'nothing more is acknowledged');
    await disk.kill();
    const { report, records } = await readBack(disk);
    assertConsecutive(records, 0);
    assert.ok(report.position >= durable);
  }
});

test('a growing frame is cut between units, never within one', async () => {
  const disk = new SimulatedDisk({ seed: 22 });
  const writer = new Writer(disk, 22, { splitBytes: 4096 });
  await writer.open();
  await disk.settle();
  const ends = new Set<number>([0]);
  for (let unit = 0; unit < 40; unit++) {
    for (let i = 0; i < 7; i++) writer.append(100);
    writer.log.boundary();
    ends.add(writer.log.appended);
  }
  // No turn of the loop has ended: frames are written all the same.
  assert.equal(disk.waiting, 1);
  await disk.finish(writer.log.drain());
  assert.ok(writer.log.frames >= 5, `${writer.log.frames} frames`);
  let positions = 0;
  for (const { name, start } of writer.log.segments) {
    const { SegmentReader } = await import('../../src/storage/log/segment-reader.ts');
    const reader = await disk.finish(SegmentReader.open(disk, DIRECTORY, name, start));
    while ((await disk.finish(reader.find(() => true))) === 'frame') {
      assert.ok(ends.has(reader.header.position), 'a frame begins where a unit does');
      assert.ok(reader.header.bodyLength <= 4096 + 7 * 120, `${reader.header.bodyLength} bytes`);
      positions++;
      reader.offset += reader.frameBytes;
    }
  }
  assert.ok(positions >= 5);
});

test('what refusalFor lets pass finds room, and each record is acknowledged in the end', async (t) => {
  for (const seed of seedsOf(t, 80)) {
    const random = new Random(seed);
    const capacity = 20_000 + random.below(120_000);
    const disk = new SimulatedDisk({ seed, capacity });
    const writer = new Writer(disk, seed, { reserveBytes: 4096, splitBytes: 2048 });
    await writer.open();
    let refusals = 0;
    for (let i = 0; i < 400; i++) {
      const length = random.chance(0.1) ? random.below(6000) : random.below(300);
      if (writer.log.refusalFor(length + 13) === null) {
        writer.append(length);
        writer.log.boundary();
      } else refusals++;
      if (random.chance(0.2)) writer.log.flush();
      // Slow disk: many commands come while a frame is on its way.
      if (random.chance(0.2)) disk.step();
      if (random.chance(0.1)) {
        writer.clock.advance(100);
        writer.log.tick();
      }
      await new Promise(setImmediate);
    }
    assert.ok(refusals > 0, `seed ${seed}: the disk did not fill up`);
    writer.log.flush();
    for (let step = 0; step < 20 && writer.log.durable < writer.log.appended; step++) {
      await disk.settle();
      writer.clock.advance(1000);
      writer.log.tick();
    }
    assert.equal(writer.log.durable, writer.log.appended, `seed ${seed}: a record found no room`);
  }
});

test('a log whose disk is full lets a shutdown and a checkpoint fail, not wait', async () => {
  const disk = new SimulatedDisk({ seed: 23, capacity: 40_000 });
  const writer = new Writer(disk, 23);
  await writer.open();
  writer.append(60_000);
  const waiting = writer.log.drain();
  await assert.rejects(disk.finish(waiting), { code: 'DISK_FULL' });
  await assert.rejects(writer.log.drain(), { code: 'DISK_FULL' });
  assert.match(String(writer.log.refusal), /No space left/);
  disk.capacity = 1_000_000;
  writer.clock.advance(2000);
  writer.log.tick();
  await disk.settle();
  assert.equal(writer.log.durable, writer.log.appended);
  assert.equal(writer.log.refusal, null);
});

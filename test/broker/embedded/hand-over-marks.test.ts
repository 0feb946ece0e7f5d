/** The file of hand-overs beside a log: what it keeps, and what of it counts. */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { HandOverMarks } from '../../../src/broker/embedded/hand-over-marks.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { StreamId } from '../../../src/stream/stream-id.ts';
import { cannotMount, smallDisk } from '../../helpers/small-disk.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

const key = HandOverMarks.keyOf('orders', 'billing');
const id = StreamId.of(1_700_000_000_000, 7);
const DELIVERED = 1000;

function opened(directory: string): HandOverMarks {
  const marks = HandOverMarks.open(directory);
  assert.ok(marks);
  return marks;
}

test('a mark counts for its entry until the entry is delivered again, and never lowers a count', async () => {
  await using directory = temporaryDirectory('marks');
  // Not closed: as the end of the process leaves it.
  const before = opened(directory.path);
  before.write(key, id, 1, DELIVERED);
  before.write(key, id, 2, DELIVERED + 5);
  assert.equal(before.attemptOf(key, id, DELIVERED, 0), 0, 'the log of this process has it');
  const marks = opened(directory.path);
  assert.equal(marks.attemptOf(key, id, DELIVERED, 0), 2);
  assert.equal(marks.attemptOf(key, id, DELIVERED + 5, 0), 2);
  assert.equal(marks.attemptOf(key, id, DELIVERED + 6, 0), 0, 'delivered again since');
  assert.equal(marks.attemptOf(key, id, DELIVERED, 3), 3);
  assert.equal(marks.attemptOf(key, StreamId.of(1_700_000_000_000, 8), DELIVERED, 0), 0);
  const other = HandOverMarks.keyOf('orders', 'shipping');
  assert.equal(marks.attemptOf(other, id, DELIVERED, 0), 0);
  marks.close();
  marks.write(key, id, 3, DELIVERED);
});

test('later marks replace the oldest, over restarts too', async () => {
  await using directory = temporaryDirectory('marks');
  const first = opened(directory.path);
  for (let seq = 0; seq < 3000; seq++) first.write(key, StreamId.of(1, seq), 1, DELIVERED);
  const second = opened(directory.path);
  for (let seq = 3000; seq < 6000; seq++) second.write(key, StreamId.of(1, seq), 1, DELIVERED);
  const marks = opened(directory.path);
  const counted = (seq: number) => marks.attemptOf(key, StreamId.of(1, seq), DELIVERED, 0);
  assert.deepEqual([0, 1903, 1904, 2999, 3000, 5999].map(counted), [0, 0, 1, 1, 1, 1]);
  for (const each of [first, second, marks]) each.close();
});

test('what is damaged in the file counts for nothing, and the rest counts', async () => {
  await using directory = temporaryDirectory('marks');
  const path = join(directory.path, 'hand-overs');
  writeFileSync(path, 'another program wrote this');
  const before = opened(directory.path);
  before.write(key, StreamId.of(1, 1), 1, DELIVERED);
  before.write(key, StreamId.of(1, 2), 1, DELIVERED);
  before.close();
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(64 + 40) ^ 6, 64 + 40);
  writeFileSync(path, bytes);
  const marks = opened(directory.path);
  assert.equal(marks.attemptOf(key, StreamId.of(1, 1), DELIVERED, 0), 0);
  assert.equal(marks.attemptOf(key, StreamId.of(1, 2), DELIVERED, 0), 1);
  marks.close();
});

test('the file has its room on the disk before the first mark, also one that was only made long', async () => {
  await using directory = temporaryDirectory('marks');
  const path = join(directory.path, 'hand-overs');
  const written = join(directory.path, 'written');
  writeFileSync(written, Buffer.alloc(256 * 1024));
  opened(directory.path).close();
  assert.equal(statSync(path).blocks, statSync(written).blocks);
  truncateSync(path, 0);
  truncateSync(path, 256 * 1024);
  opened(directory.path).close();
  assert.equal(statSync(path).blocks, statSync(written).blocks);
});

test('a broker whose directory has no room for the file delivers without it', async () => {
  await using directory = temporaryDirectory('marks');
  mkdirSync(join(directory.path, 'hand-overs'));
  assert.equal(HandOverMarks.open(directory.path), null);
  await using broker = await openBroker(`file:${directory.path}`);
  const attempts: number[] = [];
  const done = new Promise<void>((resolve) => {
    void broker.subscribe(
      'orders',
      ({ attempt }) => {
        attempts.push(attempt);
        if (attempt === 2) resolve();
        else throw new Error('again');
      },
      { group: 'g', retry: { attempts: 3, backoff: { minMs: 1 } } },
    );
  });
  await broker.publish('orders', { body: 'x' });
  await done;
  assert.deepEqual(attempts, [1, 2]);
});

const ofMounts = { skip: cannotMount() };

test('on a disk that has become full a mark still outlives its process', ofMounts, async () => {
  await using disk = await smallDisk(4 * 1024 * 1024);
  const before = opened(disk.outside);
  disk.fill();
  before.write(key, id, 1, DELIVERED);
  before.close();
  const marks = opened(disk.outside);
  assert.equal(marks.attemptOf(key, id, DELIVERED, 0), 1);
  marks.close();
});

test('a broker whose last writes had no room leaves no file open', ofMounts, async () => {
  await using disk = await smallDisk(40 * 1024 * 1024);
  const broker = await openBroker(`file:${disk.outside}/data`);
  broker.on('warning', () => {});
  disk.fill();
  const body = Buffer.alloc(200_000);
  const published = Array.from({ length: 30 }, () => broker.publish('orders', { body }));
  const settled = Promise.allSettled(published);
  await assert.rejects(broker.disconnect(), { code: 'DISK_FULL' });
  await settled;
  assert.deepEqual(openIn('hand-overs'), []);
});

/** The files of that name which this process has open. */
function openIn(name: string): string[] {
  const open = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return open.filter((path) => path.endsWith(`/${name}`));
}

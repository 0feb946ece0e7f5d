/**
 * Each operation on the names of a data directory fails once, at each place where it is asked for: list,
 * rename, remove, statfs, open, sync of the directory, truncate. Whatever fails, the error says what
 * could not be done, nothing waits for ever, and a later start has every acknowledged record.
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockDirectory } from '../../src/storage/disk/directory-lock.ts';
import type { Disk } from '../../src/storage/disk/disk.ts';
import { realDisk } from '../../src/storage/disk/real-disk.ts';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { openStore, type Store, type StoreOptions } from '../../src/storage/store.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';
import { FaultyDisk, type FaultyOperation } from '../helpers/faulty-disk.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const OPERATIONS: FaultyOperation[] = [
  'list',
  'makeDirectory',
  'open',
  'rename',
  'remove',
  'syncDirectory',
  'freeBytes',
  'truncate',
  'size',
];
/** What passes by itself: room, and file descriptors. */
const PASSING = ['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE'];
const LASTING = ['EIO', 'EACCES'];
/** Where these fail while the log runs, it goes on. */
const NOT_THE_LOG = new Set<FaultyOperation>(['list', 'remove', 'freeBytes', 'truncate', 'size']);

/** A directory on some disk, and what a life in it needs. */
interface Place {
  readonly disk: Disk;
  readonly options: Omit<StoreOptions, 'disk' | 'clock' | 'random'>;
  /** Runs an operation to its end. */
  finish<T>(operation: Promise<T>): Promise<T>;
  /** Lets what the disk has to do be done. */
  settle(): Promise<void>;
}

function simulated(): Place {
  const disk = new SimulatedDisk({ seed: 1 });
  const kept = new MemoryCheckpointStore();
  return {
    disk,
    options: {
      directory: 'data',
      openCheckpoint: async () =>
        new MemoryCheckpoint(kept, { defer: (commit) => disk.enqueue(commit) }),
      firstSegmentBytes: 4096,
      segmentBytes: 4096,
      reserveBytes: 0,
    },
    finish: (operation) => disk.finish(operation),
    settle: () => disk.settle(),
  };
}

function real(directory: string): Place {
  return {
    disk: realDisk,
    options: {
      directory,
      openCheckpoint: (place) => LmdbCheckpoint.open(place),
      lock: lockDirectory,
      firstSegmentBytes: 4096,
      segmentBytes: 4096,
      reserveBytes: 0,
    },
    finish: (operation) => operation,
    settle: () => new Promise((resolve) => setTimeout(resolve, 2)),
  };
}

/** What a life has left: serials that were acknowledged, and what went wrong. */
interface Lived {
  acknowledged: number;
  readonly failures: unknown[];
  fatal: StorageError | null;
  /** What there is when all records are written; 0 = it did not get beyond the opening. */
  wanted: number;
}

const RECORDS = 60;

/** Opens, reads, writes over several segments with a checkpoint between, closes. */
async function live(place: Place, disk: Disk, lived: Lived): Promise<void> {
  const clock = new ManualClock();
  const attempt = async <T>(operation: Promise<T>): Promise<T | undefined> => {
    try {
      return await place.finish(operation);
    } catch (error) {
      lived.failures.push(error);
      return undefined;
    }
  };
  const opening = openStore({ ...place.options, disk, clock, random: new Random(1) });
  const store: Store | undefined = await attempt(opening);
  if (store === undefined) return;
  let serial = Number(store.checkpoint.get(Buffer.from('k')) ?? 0);
  const recovering = store.recover((_type, body) => {
    assert.equal(body.varint(), ++serial, 'in order, each once');
  });
  if ((await attempt(recovering)) === undefined) {
    await attempt(store.close());
    return;
  }
  assert.ok(serial >= lived.acknowledged, `${serial} of ${lived.acknowledged}`);
  lived.wanted = serial + RECORDS;
  const { log } = store;
  log.onFatal = (error) => {
    lived.fatal = error;
  };
  const positions = new Map<number, number>();
  log.onDurable = (position) => {
    lived.acknowledged = Math.max(lived.acknowledged, positions.get(position) ?? 0);
  };
  const pass = async (): Promise<void> => {
    clock.advance(1000);
    log.tick();
    log.flush();
    await place.settle();
  };
  for (let i = 0; i < RECORDS && lived.fatal === null; i++) {
    for (let waits = 0; log.refusal !== null && lived.fatal === null; waits++) {
      assert.ok(waits < 50, `refused for ever: ${log.refusal}`);
      await pass();
    }
    if (lived.fatal !== null) break;
    const writer = log.begin(1);
    writer.varint(++serial);
    writer.raw(Buffer.alloc(300), 0, 300);
    log.end();
    positions.set(log.appended, serial);
    log.flush();
    for (let waits = 0; log.durable < log.appended && lived.fatal === null; waits++) {
      assert.ok(waits < 2000, 'a record waits for ever');
      await pass();
    }
    if (i !== RECORDS / 2 || lived.fatal !== null) continue;
    store.checkpoint.begin();
    store.checkpoint.put(Buffer.from('k'), Buffer.from(String(serial)));
    await attempt(store.checkpoint.commit(log.durable));
    await attempt(store.trim());
  }
  await attempt(store.close());
}

/** Lives in the place with one fault, then without: everything that was acknowledged is there. */
async function faultyLife(
  place: Place,
  operation: FaultyOperation,
  code: string,
  at: number,
): Promise<void> {
  const said = `${operation} ${at} ${code}`;
  await live(place, place.disk, beginning());
  const lived = beginning();
  const disk = new FaultyDisk(place.disk);
  disk.fail(operation, code, at);
  await live(place, disk, lived);
  assert.ok(disk.faults === 1 || at > 1, `${said}: it was not asked for`);
  for (const failure of lived.failures) {
    // Giving up old segments fails as the disk said it; the engine reports that.
    const isTrim = operation === 'remove' && !(failure instanceof StorageError);
    if (isTrim) continue;
    assert.ok(failure instanceof StorageError, `${said}: ${failure}`);
    assert.doesNotMatch(failure.message, /injected/, said);
  }
  if (lived.wanted > 0 && (NOT_THE_LOG.has(operation) || PASSING.includes(code))) {
    assert.equal(lived.fatal, null, `${said}: ${lived.fatal?.message}`);
    assert.equal(lived.acknowledged, lived.wanted, said);
  }
  await readAgain(place, Math.max(RECORDS, lived.acknowledged), said);
}

/** A start without a fault has everything that was acknowledged, in order, each once. */
async function readAgain(place: Place, acknowledged: number, said: string): Promise<void> {
  const opening = openStore({
    ...place.options,
    disk: place.disk,
    clock: new ManualClock(),
    random: new Random(2),
  });
  const store = await place.finish(opening);
  let last = Number(store.checkpoint.get(Buffer.from('k')) ?? 0);
  await place.finish(
    store.recover((_type, body) => {
      const serial = body.varint();
      assert.equal(serial, ++last, said);
    }),
  );
  assert.ok(last >= acknowledged, `${said}: ${last} of ${acknowledged} are there`);
  await place.finish(store.close());
}

function beginning(): Lived {
  return { acknowledged: 0, failures: [], fatal: null, wanted: 0 };
}

/** How often a second life asks for each operation. */
async function asked(place: Place): Promise<ReadonlyMap<FaultyOperation, number>> {
  const disk = new FaultyDisk(place.disk);
  await live(place, place.disk, beginning());
  await live(place, disk, beginning());
  return disk.counts;
}

/** All places, or where there are many the first and some of the others. */
function places(count: number): number[] {
  const all = Array.from({ length: count }, (_, i) => i + 1);
  return all.filter((at) => count < 20 || at < 8 || at % 9 === 0);
}

for (const operation of OPERATIONS) {
  test(`a ${operation} that fails, wherever it is asked for, loses nothing and stops nothing for ever`, async () => {
    const count = (await asked(simulated())).get(operation) ?? 0;
    assert.ok(count > 0, 'a life asks for it');
    for (const code of [...PASSING, ...LASTING]) {
      for (const at of places(count)) await faultyLife(simulated(), operation, code, at);
    }
  });
}

test('the same on a real disk, with LMDB and the lock', async () => {
  await using temporary = temporaryDirectory('directory-faults');
  let lives = 0;
  const fresh = (): Place => {
    const directory = join(temporary.path, `life-${lives++}`);
    mkdirSync(directory);
    return real(directory);
  };
  for (const operation of OPERATIONS) {
    for (const at of [1, 2]) {
      await faultyLife(fresh(), operation, at === 2 ? 'EMFILE' : 'EIO', at);
    }
  }
});

test('a file system that does not tell its free space is written to all the same', async () => {
  const place = simulated();
  const disk = new FaultyDisk(place.disk);
  disk.fail('freeBytes', 'ENOSYS', 1, Number.POSITIVE_INFINITY);
  const lived = beginning();
  await live(place, disk, lived);
  assert.deepEqual(lived.failures, []);
  assert.equal(lived.acknowledged, RECORDS);
});

/**
 * The store: a directory opened, recovered, checkpointed and closed, on a real and a simulated disk.
 */
import assert from 'node:assert/strict';
import * as fsp from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import { lockDirectory } from '../../src/storage/disk/directory-lock.ts';
import type { Disk } from '../../src/storage/disk/disk.ts';
import { realDisk } from '../../src/storage/disk/real-disk.ts';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { openStore, type Store, type StoreOptions } from '../../src/storage/store.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { seedsOf } from '../helpers/seed.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';

let root: string;
before(async () => {
  root = await fsp.mkdtemp(path.join(os.tmpdir(), 'rivulet-store-test-'));
});
after(() => fsp.rm(root, { recursive: true }));

function real(name: string): StoreOptions {
  return {
    disk: realDisk,
    directory: path.join(root, name),
    clock: new ManualClock(),
    random: new Random(1),
    openCheckpoint: (directory) => LmdbCheckpoint.open(directory),
    lock: lockDirectory,
    firstSegmentBytes: 64 * 1024,
    segmentBytes: 256 * 1024,
    reserveBytes: 0,
  };
}

function append(store: Store, text: string): void {
  store.log.begin(1).text(text);
  store.log.end();
}

async function recovered(store: Store): Promise<string[]> {
  const texts: string[] = [];
  await store.recover((type, body) => {
    assert.equal(type, 1);
    texts.push(body.text());
  });
  return texts;
}

test('the names of all that an opening makes are synced: LMDB files, directories, and those above', async () => {
  const directory = path.join(root, 'made', 'with', 'parents');
  const options = real('unused');
  const synced: string[] = [];
  const disk: Disk = {
    ...realDisk,
    syncDirectory: (place) => {
      synced.push(place);
      return realDisk.syncDirectory(place);
    },
  };
  let before = -1;
  const openCheckpoint = async (place: string) => {
    const checkpoint = await LmdbCheckpoint.open(place);
    before = synced.length;
    return checkpoint;
  };
  const store = await openStore({ ...options, disk, directory, openCheckpoint });
  const after = synced.slice(before);
  for (const place of ['checkpoint', '.', '..', '../..', '../../..']) {
    const named = path.join(directory, place);
    assert.ok(after.includes(named), `${named} was not synced, but ${after}`);
  }
  await store.close();
});

test('records survive closing and opening again on a real disk, and a checkpoint makes the log short', async () => {
  const options = real('a');
  let store = await openStore(options);
  assert.deepEqual(await recovered(store), []);
  const texts = Array.from({ length: 5000 }, (_, i) => `record ${i} ${'x'.repeat(i % 300)}`);
  for (const text of texts.slice(0, 4000)) {
    append(store, text);
    if (text.length > 300) await store.log.drain();
  }
  await store.log.drain();
  const position = store.log.durable;
  for (const text of texts.slice(4000)) append(store, text);
  await store.close();
  store = await openStore(options);
  assert.deepEqual(await recovered(store), texts);
  store.checkpoint.begin();
  store.checkpoint.put(Buffer.from('k'), Buffer.from('v'));
  await store.checkpoint.commit(position);
  assert.ok((await store.trim()) > 3);
  await store.close();
  store = await openStore(options);
  assert.equal(store.checkpoint.get(Buffer.from('k'))?.toString(), 'v');
  assert.deepEqual(await recovered(store), texts.slice(4000));
  const files = await fsp.readdir(options.directory);
  assert.equal(files.filter((name) => name.startsWith('lock-')).length, 1);
  await store.close();
  assert.deepEqual(
    (await fsp.readdir(options.directory)).filter((name) => /^(lock|spare|new)-/.test(name)),
    [],
    'nothing is left behind',
  );
});

test('a directory is opened once at a time, and a failed opening gives it back', async () => {
  const options = real('b');
  const store = await openStore(options);
  await store.recover(() => {});
  await assert.rejects(openStore(options), { code: 'DIRECTORY_IN_USE' });
  await store.close();
  const format = path.join(options.directory, 'FORMAT');
  await fsp.writeFile(format, 'rivulet data, format 2\n');
  await assert.rejects(openStore(options), { code: 'NEWER_FORMAT' });
  await fsp.writeFile(format, 'my thesis');
  await assert.rejects(openStore(options), { code: 'FOREIGN_FILE' });
  await fsp.writeFile(format, '');
  await (await openStore(options)).close();
  assert.equal(await fsp.readFile(format, 'utf8'), 'rivulet data, format 1\n');
});

test('a record of a hundred megabytes passes through a real disk', async () => {
  const options = real('huge');
  let store = await openStore(options);
  await store.recover(() => {});
  const body = Buffer.alloc(100_000_000, 'rivulet');
  const writer = store.log.begin(2);
  writer.raw(body, 0, body.length);
  store.log.end();
  append(store, 'after');
  await store.close();
  store = await openStore(options);
  const seen: unknown[] = [];
  await store.recover((type, reader) => {
    if (type === 2) seen.push(reader.raw(reader.end - reader.at).equals(body));
    else seen.push(reader.text());
  });
  assert.deepEqual(seen, [true, 'after']);
  await store.close();
});

test('checkpoint and log together: whatever a crash leaves, nothing is missing and nothing comes twice', async (t) => {
  for (const seed of seedsOf(t, 60)) {
    const random = new Random(seed);
    const disk = new SimulatedDisk({ seed });
    const kept = new MemoryCheckpointStore();
    let acknowledged = 0;
    for (let life = 0; life < 3; life++) {
      const store = await disk.finish(
        openStore({
          disk,
          directory: 'data',
          clock: new ManualClock(),
          random,
          openCheckpoint: async () =>
            new MemoryCheckpoint(kept, { defer: (commit) => disk.enqueue(commit) }),
          firstSegmentBytes: 4096,
          segmentBytes: 16 * 1024,
          reserveBytes: 0,
        }),
      );
      // The state is a counter; every record adds one to it and says what it becomes.
      const saved = store.checkpoint.get(Buffer.from('counter'));
      let counter = saved === undefined ? 0 : Number(saved.toString());
      await disk.finish(
        store.recover((_type, body) => {
          assert.equal(body.varint(), ++counter, `seed ${seed}`);
        }),
      );
      assert.ok(counter >= acknowledged, `seed ${seed}: ${counter} of ${acknowledged}`);
      const at = new Map<number, number>();
      store.log.onDurable = (position) => {
        acknowledged = Math.max(acknowledged, at.get(position) ?? 0);
      };
      for (let i = random.below(80); i > 0; i--) {
        const writer = store.log.begin(1);
        writer.varint(++counter);
        writer.raw(Buffer.alloc(200), 0, random.below(200));
        store.log.end();
        at.set(store.log.appended, counter);
        store.log.flush();
        let steps = random.below(4);
        await disk.settle(() => steps-- <= 0);
        if (random.chance(0.05)) {
          await disk.finish(store.log.drain());
          store.checkpoint.begin();
          store.checkpoint.put(Buffer.from('counter'), Buffer.from(String(counter)));
          const commit = store.checkpoint.commit(store.log.durable);
          if (random.chance(0.5)) {
            await disk.finish(commit);
            await disk.finish(store.trim());
          } else break;
        }
      }
      await disk.crash();
    }
  }
});

test('a damaged FORMAT beside a log says so, and is not taken for a foreign directory', async () => {
  const disk = new SimulatedDisk({ seed: 5 });
  const options = {
    disk,
    directory: 'data',
    clock: new ManualClock(),
    random: new Random(5),
    openCheckpoint: async () => new MemoryCheckpoint(new MemoryCheckpointStore()),
  };
  const store = await disk.finish(openStore(options));
  await disk.finish(store.recover(() => {}));
  await disk.finish(store.close());
  for (const at of [0, 9, 20]) {
    disk.flipBit('data/FORMAT', at, 2);
    await assert.rejects(disk.finish(openStore(options)), {
      code: 'FORMAT_DAMAGED',
      message: /FORMAT is damaged: it says/,
    });
    disk.flipBit('data/FORMAT', at, 2);
  }
  await disk.finish(disk.remove('data/FORMAT'));
  const again = await disk.finish(openStore(options));
  await disk.finish(again.recover(() => {}));
  await disk.finish(again.close());
});

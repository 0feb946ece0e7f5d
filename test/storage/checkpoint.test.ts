/**
 * The checkpoint, both implementations against one naive twin; what LMDB's adds: its thread, crashes
 * between slices, damage, formats.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fsp from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { open } from 'lmdb';
import type { Checkpoint } from '../../src/storage/checkpoint.ts';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { Random } from '../../src/util/random.ts';
import { runTool } from '../helpers/children.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { seedOf } from '../helpers/seed.ts';

let root: string;
before(async () => {
  root = await fsp.mkdtemp(path.join(os.tmpdir(), 'rivulet-checkpoint-test-'));
});
after(() => fsp.rm(root, { recursive: true }));

const END = Buffer.alloc(20, 0xff);
const START = Buffer.from([1]);

let suites = 0;

/** Two ways to open what an earlier one left. */
const implementations: Record<string, () => { reopen: () => Promise<Checkpoint> }> = {
  LMDB: () => {
    const directory = path.join(root, `suite-${++suites}`);
    return { reopen: () => LmdbCheckpoint.open(directory) };
  },
  memory: () => {
    const store = new MemoryCheckpointStore();
    return { reopen: async () => new MemoryCheckpoint(store) };
  },
};

for (const [name, make] of Object.entries(implementations)) {
  describe(`the checkpoint in ${name}`, () => {
    test('holds what a naive twin holds after random transactions, aborts and reopenings', async (t) => {
      const seed = seedOf(t);
      const random = new Random(seed);
      const { reopen } = make();
      let checkpoint = await reopen();
      let twin = new Map<string, string>();
      const key = (): Buffer =>
        Buffer.from([
          1 + random.below(3),
          ...Array.from({ length: random.below(3) }, () => random.below(4) * 80),
        ]);
      for (let round = 0; round < 60; round++) {
        const draft = new Map(twin);
        checkpoint.begin();
        for (let i = random.below(40); i >= 0; i--) {
          const at = key();
          const what = random.below(10);
          if (what < 6) {
            const value = Buffer.alloc(random.below(300), random.below(256));
            checkpoint.put(at, value);
            draft.set(at.toString('latin1'), value.toString('latin1'));
          } else if (what < 9) {
            checkpoint.remove(at);
            draft.delete(at.toString('latin1'));
          } else {
            const to = key();
            checkpoint.removeRange(at, to);
            for (const each of draft.keys()) {
              const bytes = Buffer.from(each, 'latin1');
              if (bytes.compare(at) >= 0 && bytes.compare(to) < 0) draft.delete(each);
            }
          }
        }
        if (random.chance(0.2)) checkpoint.abort();
        else {
          await checkpoint.commit(round + 1);
          twin = draft;
          assert.equal(checkpoint.position, round + 1);
        }
        if (random.chance(0.1)) {
          await checkpoint.close();
          checkpoint = await reopen();
        }
        compare(checkpoint, twin, key, `seed ${seed} round ${round}`);
      }
      await checkpoint.close();
    });

    test('shows nothing of a transaction before its commit', async () => {
      const checkpoint = await make().reopen();
      assert.equal(checkpoint.position, 0);
      checkpoint.begin();
      checkpoint.put(Buffer.from('k'), Buffer.from('one'));
      assert.equal(checkpoint.get(Buffer.from('k')), undefined);
      await checkpoint.commit(7);
      assert.equal(checkpoint.get(Buffer.from('k'))?.toString(), 'one');
      await checkpoint.close();
    });

    test('a value it has returned does not change afterwards', async () => {
      const checkpoint = await make().reopen();
      checkpoint.begin();
      for (let i = 0; i < 50; i++) checkpoint.put(Buffer.from([1, i]), Buffer.alloc(100, i));
      await checkpoint.commit(1);
      const first = checkpoint.get(Buffer.from([1, 3]))!;
      const sought = checkpoint.seekForward(Buffer.from([1, 4]), END)!;
      for (let i = 0; i < 50; i++) checkpoint.get(Buffer.from([1, i]));
      for (const _ of checkpoint.entries(START, END));
      assert.deepEqual(first, Buffer.alloc(100, 3));
      assert.deepEqual(sought, { key: Buffer.from([1, 4]), value: Buffer.alloc(100, 4) });
      await checkpoint.close();
    });
  });
}

function compare(
  checkpoint: Checkpoint,
  twin: Map<string, string>,
  key: () => Buffer,
  message: string,
): void {
  const expected = [...twin].sort(([a], [b]) => (a < b ? -1 : 1));
  const text = ({ key: k, value }: { key: Buffer; value: Buffer }) => [
    k.toString('latin1'),
    value.toString('latin1'),
  ];
  assert.deepEqual([...checkpoint.entries(START, END)].map(text), expected, message);
  for (let i = 0; i < 20; i++) {
    const [a, b] = [key(), key()];
    const [at, limit] = [a.toString('latin1'), b.toString('latin1')];
    assert.equal(checkpoint.get(a)?.toString('latin1'), twin.get(at), message);
    const forward = checkpoint.seekForward(a, b);
    assert.deepEqual(
      forward && text(forward),
      expected.find(([k]) => k >= at && k < limit),
      message,
    );
    const backward = checkpoint.seekBackward(a, b);
    assert.deepEqual(
      backward && text(backward),
      expected.findLast(([k]) => k <= at && k >= limit),
      message,
    );
  }
}

test('a large transaction is held back by `saturated` and arrives whole', async () => {
  const directory = path.join(root, 'large');
  const checkpoint = await LmdbCheckpoint.open(directory);
  checkpoint.begin();
  const value = Buffer.alloc(64 * 1024, 5);
  let waited = 0;
  for (let i = 0; i < 1000; i++) {
    value.writeUInt32LE(i);
    checkpoint.put(Buffer.from(`key ${String(i).padStart(6, '0')}`), value);
    if (checkpoint.saturated) {
      waited++;
      await checkpoint.drained();
      assert.equal(checkpoint.saturated, false);
    }
  }
  checkpoint.put(Buffer.from('huge'), Buffer.alloc(20_000_000, 9));
  assert.ok(waited > 0, 'sixty megabytes do not fit into sixteen');
  assert.equal(checkpoint.get(Buffer.from('huge')), undefined);
  await checkpoint.commit(42);
  assert.equal([...checkpoint.entries(START, END)].length, 1001);
  assert.deepEqual(checkpoint.get(Buffer.from('huge')), Buffer.alloc(20_000_000, 9));
  assert.ok(checkpoint.sizeBytes > 80_000_000);
  checkpoint.begin();
  checkpoint.removeRange(Buffer.from('key '), Buffer.from('key 000998'));
  await checkpoint.commit(43);
  assert.equal([...checkpoint.entries(START, END)].length, 3);
  await checkpoint.close();
});

test('a process killed between slices leaves the last commit', async () => {
  const directory = path.join(root, 'killed');
  const moduleUrl = new URL('../../src/storage/lmdb/lmdb-checkpoint.js', import.meta.url).href;
  const program = `
    const { LmdbCheckpoint } = await import(${JSON.stringify(moduleUrl)});
    const checkpoint = await LmdbCheckpoint.open(${JSON.stringify(directory)});
    checkpoint.begin();
    checkpoint.put(Buffer.from('a'), Buffer.from('old'));
    await checkpoint.commit(5);
    checkpoint.begin();
    checkpoint.put(Buffer.from('a'), Buffer.from('new'));
    for (let i = 0; i < 40; i++) {
      checkpoint.put(Buffer.from('k' + i), Buffer.alloc(1024 * 1024));
      if (checkpoint.saturated) await checkpoint.drained();
    }
    console.log('sent');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const checkpoint = await LmdbCheckpoint.open(directory);
  assert.equal(checkpoint.position, 5);
  assert.deepEqual(
    [...checkpoint.entries(START, END)].map(({ key, value }) => `${key} ${value}`),
    ['a old'],
  );
  checkpoint.begin();
  checkpoint.put(Buffer.from('b'), Buffer.from('more'));
  await checkpoint.commit(6);
  await checkpoint.close();
});

/** Runs a program that has opened a checkpoint, and gives the code that it ends with. */
async function endOf(name: string, body: string): Promise<number | string> {
  const moduleUrl = new URL('../../src/storage/lmdb/lmdb-checkpoint.js', import.meta.url).href;
  const program = `
    const { LmdbCheckpoint } = await import(${JSON.stringify(moduleUrl)});
    const checkpoint = await LmdbCheckpoint.open(${JSON.stringify(path.join(root, name))});
    const put = (megabytes) => {
      for (let i = 0; i < megabytes * 10; i++) checkpoint.put(Buffer.from('k' + i), Buffer.alloc(100_000));
    };
    ${body}`;
  const args = ['--input-type=module', '-e', program];
  const { code } = await runTool(process.execPath, args, { timeoutMs: 120_000 });
  return code;
}

test('an open checkpoint, its thread started or not, does not keep the process alive', async () => {
  const code = await endOf(
    'exit',
    `checkpoint.begin();
    checkpoint.put(Buffer.from('a'), Buffer.from('old'));
    await checkpoint.commit(5);
    checkpoint.begin();
    checkpoint.put(Buffer.from('a'), Buffer.alloc(2_000_000));
    checkpoint.abort();`,
  );
  assert.equal(code, 0);
});

test('a process that ends within a transaction ends, and leaves the last commit', async () => {
  const code = await endOf(
    'mid-way',
    `checkpoint.begin();
    put(1);
    await checkpoint.commit(7);
    checkpoint.begin();
    put(20);
    // The thread is within its transaction when it has taken some of that.
    await checkpoint.drained();
    process.exit(3);`,
  );
  assert.equal(code, 3);
  const checkpoint = await LmdbCheckpoint.open(path.join(root, 'mid-way'));
  assert.equal(checkpoint.position, 7);
  assert.equal([...checkpoint.entries(START, END)].length, 10);
  await checkpoint.close();
});

test('what follows an aborted transaction keeps the process alive to its end', async () => {
  const code = await endOf(
    'after-abort',
    `for (let round = 0; round < 10; round++) {
      checkpoint.begin();
      put(20);
      checkpoint.abort();
      checkpoint.begin();
      put(40);
      await checkpoint.drained();
      await checkpoint.commit(round + 1);
    }
    checkpoint.begin();
    put(20);
    // Closing aborts.
    await checkpoint.close();
    process.exitCode = checkpoint.position;`,
  );
  assert.equal(code, 10);
});

test('a flipped bit in a value is found when the value is read', async () => {
  const directory = path.join(root, 'flipped');
  const checkpoint = await LmdbCheckpoint.open(directory);
  checkpoint.begin();
  checkpoint.put(Buffer.from('key'), Buffer.from('a value to be found in the file'));
  checkpoint.put(Buffer.from('other'), Buffer.from('sound'));
  await checkpoint.commit(1);
  await checkpoint.close();
  const file = path.join(directory, 'data.mdb');
  const bytes = await fsp.readFile(file);
  for (
    let at = bytes.indexOf('a value to be');
    at >= 0;
    at = bytes.indexOf('a value to be', at + 1)
  ) {
    bytes[at] ^= 1;
  }
  await fsp.writeFile(file, bytes);
  const damaged = await LmdbCheckpoint.open(directory);
  assert.throws(() => damaged.get(Buffer.from('key')), { code: 'CHECKPOINT_DAMAGED' });
  assert.throws(() => [...damaged.entries(START, END)], { code: 'CHECKPOINT_DAMAGED' });
  assert.equal(damaged.get(Buffer.from('other'))?.toString(), 'sound');
  await damaged.close();
});

test('a file that is not LMDB’s is refused with a clear error', async () => {
  const directory = path.join(root, 'garbage');
  await fsp.mkdir(directory);
  await fsp.writeFile(path.join(directory, 'data.mdb'), Buffer.alloc(100_000, 0x41));
  await assert.rejects(LmdbCheckpoint.open(directory), { code: 'CHECKPOINT_DAMAGED' });
});

test('a file cut short is reported as damage and does not crash the process', async () => {
  const directory = path.join(root, 'cut');
  const checkpoint = await LmdbCheckpoint.open(directory);
  checkpoint.begin();
  for (let i = 0; i < 2000; i++) {
    checkpoint.put(Buffer.from(`key ${String(i).padStart(5, '0')}`), Buffer.alloc(1000, i));
  }
  await checkpoint.commit(1);
  await checkpoint.close();
  const file = path.join(directory, 'data.mdb');
  const { size } = await fsp.stat(file);
  await fsp.truncate(file, Math.floor(size / 2));
  await assert.rejects(
    async () => {
      const cut = await LmdbCheckpoint.open(directory);
      try {
        for (const _ of cut.entries(START, END));
      } finally {
        await cut.close();
      }
    },
    { code: 'CHECKPOINT_DAMAGED' },
  );
});

test('a checkpoint of a newer format is refused', async () => {
  const directory = path.join(root, 'newer');
  const other = open<Buffer, Buffer>({
    path: directory,
    keyEncoding: 'binary',
    encoding: 'binary',
  });
  await other.put(Buffer.from([0, 0x66]), Buffer.from([2, 0, 0, 0]));
  await other.close();
  await assert.rejects(LmdbCheckpoint.open(directory), { code: 'NEWER_FORMAT' });
});

/**
 * Each rule that a page of LMDB's tree has to keep, broken alone: the fault is found and named. And what
 * is at the limit of a rule is sound.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { open, type RootDatabase } from 'lmdb';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { findTreeDamage } from '../../src/storage/lmdb/lmdb-tree.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const PAGE = 4096;
const HEADER = 24;
const BRANCH = 1;
const LEAF = 2;
const KEYS = 2500;

const BIG = 1;

const place = temporaryDirectory('lmdb-page-faults');
let sound: Buffer;
/** Where the newer meta page starts; the root, another branch below it, and leaves of the tree. */
let meta = 0;
let root = 0;
let leaves: number[] = [];

/** Writes entries in order, in one transaction or more, and returns the file. */
async function treeOf(
  name: string,
  entries: [string, number][],
  transactions = 1,
): Promise<Buffer> {
  const directory = join(place.path, name);
  const checkpoint = await LmdbCheckpoint.open(directory);
  for (let i = 1; i <= transactions; i++) {
    checkpoint.begin();
    for (const [key, bytes] of entries) checkpoint.put(Buffer.from(key), Buffer.alloc(bytes, 7));
    await checkpoint.commit(i);
  }
  await checkpoint.close();
  return readFileSync(join(directory, 'data.mdb'));
}

function damageOf(bytes: Buffer): string | null {
  const path = join(place.path, 'tried.mdb');
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  try {
    return findTreeDamage(fd, PAGE);
  } finally {
    closeSync(fd);
  }
}

const u64 = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64LE(at));
const flags = (page: number): number => sound.readUInt16LE(page * PAGE + 18);
/** Where the node `i` of a page starts. */
const node = (bytes: Buffer, page: number, i: number): number =>
  page * PAGE + HEADER + bytes.readUInt16LE(page * PAGE + HEADER + i * 2);
const child = (page: number, i: number): number => sound.readUInt32LE(node(sound, page, i));
const count = (page: number): number => sound.readUInt16LE(page * PAGE + 20) / 2;

before(async () => {
  const entries = Array.from({ length: KEYS }, (_, i): [string, number] => [
    `key ${String(i).padStart(60, '0')}`,
    40 + (i % 100),
  ]);
  sound = await treeOf('sound', entries);
  meta = u64(sound, 152) >= u64(sound, PAGE + 152) ? 0 : PAGE;
  root = u64(sound, meta + 136);
  assert.equal(flags(root) & (BRANCH | LEAF), BRANCH, 'the root is a branch page');
  let first = root;
  while ((flags(first) & LEAF) === 0) {
    leaves = Array.from({ length: count(first) }, (_, i) => child(first, i));
    first = child(first, 0);
  }
  assert.ok(leaves.length > 3);
});
after(() => place[Symbol.asyncDispose]());

test('a sound tree has no damage, nor has one whose pages are full to the last byte', async () => {
  assert.equal(damageOf(sound), null);
  // Two nodes, each of half of what a page has behind its header: offset, header, key, value, checksum.
  const value = (PAGE - HEADER) / 2 - 2 - 8 - 20 - 4;
  const entries = Array.from({ length: 30 }, (_, i): [string, number] => [
    String(i).padStart(20, '0'),
    value,
  ]);
  const full = await treeOf('full', entries);
  assert.equal(damageOf(full), null);
  const isFull = Array.from({ length: full.length / PAGE - 2 }, (_, i) => (i + 2) * PAGE).some(
    (at) =>
      (full.readUInt16LE(at + 18) & LEAF) !== 0 &&
      u64(full, at) === at / PAGE &&
      full.readUInt16LE(at + 20) === 4 &&
      full.readUInt16LE(at + 22) === 4,
  );
  assert.ok(isFull, 'a page came out full');
});

test('an empty checkpoint has no damage; entries without a root page are damage', async () => {
  const directory = join(place.path, 'empty');
  await (await LmdbCheckpoint.open(directory)).close();
  assert.equal(damageOf(readFileSync(join(directory, 'data.mdb'))), null);
  const empty = Buffer.from(sound);
  empty.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, meta + 136);
  assert.equal(damageOf(empty), `${u64(sound, meta + 128)} entries and no root page`);
  // A commit always has the log position: only what was never committed is empty.
  empty.writeBigUInt64LE(0n, meta + 128);
  assert.equal(damageOf(empty), '0 entries and no root page');
});

const FAULTS: [string, (bytes: Buffer) => string | RegExp][] = [
  [
    'a child beyond the file',
    (bytes) => {
      const beyond = u64(sound, meta + 144) + 1;
      bytes.writeUInt32LE(beyond, node(bytes, root, 1));
      return `page ${beyond} is beyond the file`;
    },
  ],
  [
    'a child that is a meta page',
    (bytes) => {
      bytes.writeUInt32LE(1, node(bytes, root, 1));
      return 'page 1 is beyond the file';
    },
  ],
  [
    'a child that is in the tree already',
    (bytes) => {
      const twice = child(root, 0);
      bytes.writeUInt32LE(twice, node(bytes, root, 1));
      return `page ${twice} is in the tree twice`;
    },
  ],
  [
    'a page with another number',
    (bytes) => {
      bytes.writeBigUInt64LE(BigInt(leaves[1] + 1), leaves[1] * PAGE);
      return `page ${leaves[1]} says another number`;
    },
  ],
  [
    'a leaf that says it is a branch',
    (bytes) => {
      bytes.writeUInt16LE(BRANCH, leaves[1] * PAGE + 18);
      return `page ${leaves[1]} is of another kind`;
    },
  ],
  [
    'a tree that is less deep than the meta page says',
    (bytes) => {
      bytes.writeUInt16LE(sound.readUInt16LE(meta + 102) + 1, meta + 102);
      return /^page \d+ is of another kind$/;
    },
  ],
  [
    'offsets of nodes that reach into the nodes',
    (bytes) => {
      const at = leaves[1] * PAGE;
      bytes.writeUInt16LE(sound.readUInt16LE(at + 22) + 2, at + 20);
      return `page ${leaves[1]} has impossible bounds`;
    },
  ],
  [
    'nodes that begin behind the page',
    (bytes) => {
      bytes.writeUInt16LE(PAGE - HEADER + 2, leaves[1] * PAGE + 22);
      return `page ${leaves[1]} has impossible bounds`;
    },
  ],
  [
    'half an offset of a node',
    (bytes) => {
      const at = leaves[1] * PAGE + 20;
      bytes.writeUInt16LE(sound.readUInt16LE(at) - 1, at);
      return `page ${leaves[1]} has impossible bounds`;
    },
  ],
  [
    'a node of a leaf before the nodes',
    (bytes) => {
      const at = leaves[1] * PAGE;
      bytes.writeUInt16LE(sound.readUInt16LE(at + 22) - 2, at + HEADER + 4);
      return `page ${leaves[1]} has a node outside of it`;
    },
  ],
  [
    'a node of a branch whose header ends behind the page',
    (bytes) => {
      bytes.writeUInt16LE(PAGE - HEADER - 6, root * PAGE + HEADER + 2);
      return `page ${root} has a node outside of it`;
    },
  ],
  [
    'a key that ends behind the page',
    (bytes) => {
      bytes.writeUInt16LE(PAGE, node(bytes, leaves[1], 2) + 6);
      return `page ${leaves[1]} has a node outside of it`;
    },
  ],
  [
    'a value that ends behind the page',
    (bytes) => {
      bytes.writeUInt32LE(PAGE, node(bytes, leaves[1], 0));
      return `page ${leaves[1]} has a value outside of it`;
    },
  ],
  [
    'a page with a flag that LMDB knows and we do not use',
    (bytes) => {
      // Of a page whose keys are all of one length: LMDB would search among other bytes.
      bytes.writeUInt16LE(BRANCH | 0x20, root * PAGE + 18);
      return `page ${root} is of another kind`;
    },
  ],
  [
    'a page that is newer than its parent',
    (bytes) => {
      bytes.writeBigUInt64LE(2n, leaves[1] * PAGE + 8);
      return `page ${leaves[1]} is newer than what refers to it`;
    },
  ],
  [
    'a node that says it is a tree of its own',
    (bytes) => {
      bytes.writeUInt16LE(2, node(bytes, leaves[1], 2) + 4);
      return `page ${leaves[1]} has a node of another kind`;
    },
  ],
  [
    'a value that is shorter than its room',
    (bytes) => {
      const at = node(bytes, leaves[1], 2);
      bytes.writeUInt32LE(bytes.readUInt32LE(at) - 4, at);
      return `page ${leaves[1]} has nodes that overlap, or a gap`;
    },
  ],
  [
    'a key of a branch that is longer than its room',
    (bytes) => {
      const at = node(bytes, root, 1) + 6;
      bytes.writeUInt16LE(bytes.readUInt16LE(at) - 2, at);
      return `page ${root} has nodes that overlap, or a gap`;
    },
  ],
  [
    'meta pages that do not follow each other',
    (bytes) => {
      bytes.writeBigUInt64LE(4n, PAGE - meta + 152);
      return 'the meta pages are of the transactions 4 and 1';
    },
  ],
  [
    'an older meta page, of no entries, that says it is the newer one',
    (bytes) => {
      bytes.writeBigUInt64LE(2n, PAGE - meta + 152);
      return '0 entries and no root page';
    },
  ],
  [
    'a meta page that says it is of no transaction',
    (bytes) => {
      bytes.writeBigUInt64LE(0n, meta + 152);
      return 'the meta pages are of no transaction, and the file has pages';
    },
  ],
  [
    'keys that compare from their ends',
    (bytes) => {
      bytes.writeUInt16LE(2, meta + 100);
      return 'the meta page has flags that are not ours';
    },
  ],
  [
    'a tree without levels that has a root page',
    (bytes) => {
      bytes.writeUInt16LE(0, meta + 102);
      return 'a tree with a root page has no levels';
    },
  ],
  [
    'two keys of a leaf in the wrong order',
    (bytes) => {
      const at = leaves[1] * PAGE + HEADER;
      const [a, b] = [sound.readUInt16LE(at + 4), sound.readUInt16LE(at + 6)];
      bytes.writeUInt16LE(b, at + 4);
      bytes.writeUInt16LE(a, at + 6);
      return `page ${leaves[1]} has keys out of order`;
    },
  ],
  [
    'a key twice',
    (bytes) => {
      const at = leaves[1] * PAGE + HEADER;
      bytes.writeUInt16LE(sound.readUInt16LE(at + 4), at + 6);
      return `page ${leaves[1]} has keys out of order`;
    },
  ],
  [
    'a first key of a leaf before what its parent says',
    (bytes) => {
      bytes[node(bytes, leaves[1], 0) + 8] = 1;
      return `page ${leaves[1]} has keys out of order`;
    },
  ],
  [
    'a last key of a leaf that belongs into the next one',
    (bytes) => {
      const last = count(leaves[1]) - 1;
      bytes[node(bytes, leaves[1], last) + 8] = 255;
      return `page ${leaves[1]} has keys that belong elsewhere`;
    },
  ],
  [
    'keys of a branch in the wrong order',
    (bytes) => {
      bytes[node(bytes, root, 1) + 8] = 255;
      return count(root) > 2
        ? `page ${root} has keys out of order`
        : /^page \d+ has keys (out of order|that belong elsewhere)$/;
    },
  ],
  [
    'a branch without children',
    (bytes) => {
      bytes.writeUInt16LE(0, root * PAGE + 20);
      return `page ${root} is empty`;
    },
  ],
  [
    'another number of entries than the meta page counts',
    (bytes) => {
      const entries = u64(sound, meta + 128);
      bytes.writeBigUInt64LE(BigInt(entries + 1), meta + 128);
      return new RegExp(`^${entries} entries in .* not ${entries + 1} in `);
    },
  ],
  [
    'another number of leaves than the meta page counts',
    (bytes) => {
      const at = meta + 112;
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) + 1n, at);
      return /entries in \d+ leaf and \d+ branch pages, not /;
    },
  ],
  [
    'another number of branches than the meta page counts',
    (bytes) => {
      const at = meta + 104;
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(at) + 1n, at);
      return /entries in \d+ leaf and \d+ branch pages, not /;
    },
  ],
];

for (const [name, make] of FAULTS) {
  test(`${name}: found and named`, () => {
    const bytes = Buffer.from(sound);
    const expected = make(bytes);
    const found = damageOf(bytes);
    if (typeof expected === 'string') assert.equal(found, expected);
    else assert.match(String(found), expected);
  });
}

/** Of a tree with large values and a list of free pages: where they are, broken alone. */
async function busyTree(): Promise<{
  bytes: Buffer;
  leaf: number;
  values: number[];
  list: number;
}> {
  const entries = Array.from({ length: 4 }, (_, i): [string, number] => [`key ${i}`, 5000]);
  const bytes = await treeOf(`busy ${busyTrees++}`, entries, 3);
  const at = u64(bytes, 152) > u64(bytes, PAGE + 152) ? 0 : PAGE;
  const leaf = u64(bytes, at + 136);
  const nodes = Array.from({ length: bytes.readUInt16LE(leaf * PAGE + 20) / 2 }, (_, i) =>
    node(bytes, leaf, i),
  );
  // Where a large value is: behind the node's header and its key.
  const values = nodes
    .filter((each) => (bytes.readUInt16LE(each + 4) & BIG) !== 0)
    .map((each) => each + 8 + bytes.readUInt16LE(each + 6));
  const free = u64(bytes, at + 88);
  const first = node(bytes, free, 0);
  return { bytes, leaf, values, list: first + 8 + bytes.readUInt16LE(first + 6) };
}
let busyTrees = 0;

test('large values and free pages: each page is used once, or free once, or the fault is named', async () => {
  const { bytes, leaf, values, list } = await busyTree();
  assert.equal(damageOf(bytes), null);
  assert.equal(values.length, 4);
  const free = Array.from({ length: u64(bytes, list) }, (_, i) => u64(bytes, list + 8 + i * 8));
  assert.ok(free.length >= 2 && free.every((page) => page >= 2), `${free}`);
  const first = u64(bytes, values[0]);
  const last = Math.max(u64(bytes, 144), u64(bytes, PAGE + 144));
  const faults: [number, number | bigint, string | RegExp][] = [
    [values[1], first, `page ${first} is in the tree twice`],
    [values[0], last, `page ${last} is beyond the file`],
    [values[0], 1, 'page 1 is beyond the file'],
    [values[0] + 8, 9, `page ${leaf} is older than a value of it`],
    [values[0] + 16, 1, `page ${leaf} has a value of 5004 bytes in 1 pages`],
    [list, 100_000, /^page \d+ has a list of free pages that is cut off$/],
    [list + 8, last + 1, new RegExp(`^page \\d+ lists 1 free pages from page ${last + 1} on$`)],
    [list + 8, first, `page ${first} is listed as free and is in use, or listed twice`],
    [list + 8, leaf, `page ${leaf} is listed as free and is in use, or listed twice`],
    [list + 8, free[1], `page ${free[1]} is listed as free and is in use, or listed twice`],
  ];
  for (const [at, value, expected] of faults) {
    const damaged = Buffer.from(bytes);
    damaged.writeBigUInt64LE(BigInt(value), at);
    const found = damageOf(damaged);
    if (typeof expected === 'string') assert.equal(found, expected);
    else assert.match(String(found), expected);
  }
  const unborn = Buffer.from(bytes);
  unborn.writeBigUInt64LE(77n, list - 8);
  assert.match(String(damageOf(unborn)), /lists free pages of a transaction that has not been$/);
});

test('an older meta page that says it is the newer one: its root page does not say so', async () => {
  const { bytes } = await busyTree();
  assert.deepEqual([u64(bytes, 152), u64(bytes, PAGE + 152)], [2, 3]);
  bytes.writeBigUInt64LE(4n, 152);
  const old = u64(bytes, 136);
  assert.equal(damageOf(bytes), `page ${old}, the root, is of the transaction 2, not 4`);
});

test('a long list of free pages in a page of another name: found and named', async () => {
  const entries = Array.from({ length: 400 }, (_, i): [string, number] => [`key ${i}`, 5000]);
  const bytes = await treeOf('long list', entries, 2);
  assert.equal(damageOf(bytes), null);
  const leaf = u64(bytes, 88);
  const nodes = Array.from({ length: bytes.readUInt16LE(leaf * PAGE + 20) / 2 }, (_, i) =>
    node(bytes, leaf, i),
  );
  const long = nodes.find((each) => (bytes.readUInt16LE(each + 4) & BIG) !== 0);
  assert.ok(long !== undefined, 'a list that is a large value');
  const first = u64(bytes, long + 16);
  // Its number, its transaction, how many pages it has.
  for (const at of [0, 8, 20]) {
    const damaged = Buffer.from(bytes);
    damaged[first * PAGE + at] ^= 1;
    assert.equal(damageOf(damaged), `page ${first} says that it is another one`);
  }
});

test('a log position that is wrong or missing is damage, and one without a checksum is read', async () => {
  const directory = join(place.path, 'positions');
  const write = async (change: (environment: RootDatabase<Buffer, Buffer>) => void) => {
    const checkpoint = await LmdbCheckpoint.open(directory);
    checkpoint.begin();
    checkpoint.put(Buffer.from('key'), Buffer.from('value'));
    await checkpoint.commit(4711);
    await checkpoint.close();
    const environment = open<Buffer, Buffer>({
      path: directory,
      noSubdir: false,
      keyEncoding: 'binary',
      encoding: 'binary',
      maxDbs: 1,
      overlappingSync: false,
    });
    change(environment);
    await environment.close();
  };
  const position = Buffer.from([0, 0x70]);
  await write((environment) => {
    const old = Buffer.alloc(8);
    old.writeDoubleLE(815);
    environment.putSync(position, old);
  });
  const checkpoint = await LmdbCheckpoint.open(directory);
  assert.equal(checkpoint.position, 815);
  await checkpoint.close();
  const changes: ((environment: RootDatabase<Buffer, Buffer>) => void)[] = [
    (environment) => {
      const slot = Buffer.from(environment.getBinary(position) as Buffer);
      slot[5] ^= 1;
      environment.putSync(position, slot);
    },
    (environment) => void environment.removeSync(position),
    (environment) => void environment.removeSync(Buffer.from([0, 0x66])),
  ];
  for (const change of changes) {
    await write(change);
    await assert.rejects(LmdbCheckpoint.open(directory), { code: 'CHECKPOINT_DAMAGED' });
    rmSync(directory, { recursive: true });
  }
});

test('a file that ends within a page of the tree: found and named', () => {
  const last = Math.max(root, ...leaves);
  const cut = damageOf(sound.subarray(0, last * PAGE + PAGE - 1));
  assert.equal(cut, `page ${last} is cut off`);
});

test('the newer of the two meta pages is the one that is read', () => {
  const other = PAGE - meta;
  const bytes = Buffer.from(sound);
  bytes.fill(0, other + 24, other + 144);
  assert.equal(damageOf(bytes), null);
});

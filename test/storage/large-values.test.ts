/**
 * One bit turned in the header of a large value's first page, each bit in turn: the value is read, and
 * commits that replace or remove it give away no page of another value. In a child, because LMDB may
 * abort.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbCheckpoint } from '../../src/storage/lmdb/lmdb-checkpoint.ts';
import { runTool } from '../helpers/children.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const PAGE = 4096;
/** Bytes of the header that are damaged: number, transaction, and how many pages. */
const BYTES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23];
const VALUES = BYTES.length * 8 * 2;

function keyOf(i: number): Buffer {
  return Buffer.from(`value ${String(i).padStart(6, '0')}`);
}

/** Replaces and removes what is damaged, in several commits, and prints which keys read wrong. */
function writer(directory: string): string {
  const moduleUrl = new URL('../../src/storage/lmdb/lmdb-checkpoint.js', import.meta.url).href;
  return `
    const { LmdbCheckpoint } = await import(${JSON.stringify(moduleUrl)});
    const keyOf = ${keyOf};
    const expected = new Map(Array.from({ length: ${VALUES} }, (_, i) => [i, i % 256]));
    const wrong = [];
    const compare = (checkpoint, when) => {
      for (const [i, byte] of expected) {
        const value = checkpoint.get(keyOf(i));
        const isSame = byte === null ? value === undefined : value?.length === 5000 && value[0] === byte;
        if (!isSame) wrong.push(when + ' ' + i);
      }
    };
    let checkpoint = await LmdbCheckpoint.open(${JSON.stringify(directory)});
    compare(checkpoint, 'opened');
    for (let round = 0; round < 8; round++) {
      checkpoint.begin();
      for (let i = round * 2; i < ${VALUES}; i += 16) {
        const byte = (i / 2) % 3 === 0 ? null : (i + 100) % 256;
        if (byte === null) checkpoint.remove(keyOf(i));
        else checkpoint.put(keyOf(i), Buffer.alloc(5000, byte));
        expected.set(i, byte);
      }
      await checkpoint.commit(round + 2);
      compare(checkpoint, 'commit ' + round);
    }
    checkpoint.begin();
    checkpoint.removeRange(keyOf(0), keyOf(40));
    for (let i = 0; i < 40; i++) expected.set(i, null);
    await checkpoint.commit(20);
    await checkpoint.close();
    checkpoint = await LmdbCheckpoint.open(${JSON.stringify(directory)});
    compare(checkpoint, 'opened again');
    await checkpoint.close();
    console.log(JSON.stringify(wrong));`;
}

test('a bit turned in the header of a large value does no harm to later commits', async () => {
  await using place = temporaryDirectory('large-values');
  const checkpoint = await LmdbCheckpoint.open(place.path);
  checkpoint.begin();
  for (let i = 0; i < VALUES; i++) checkpoint.put(keyOf(i), Buffer.alloc(5000, i));
  await checkpoint.commit(1);
  await checkpoint.close();
  const path = join(place.path, 'data.mdb');
  const bytes = readFileSync(path);
  // The header of a large value's first page; the value begins behind it.
  const headers: number[] = [];
  for (let at = 2 * PAGE; at < bytes.length; at += PAGE) {
    const isFirst =
      Number(bytes.readBigUInt64LE(at)) === at / PAGE && bytes.readUInt16LE(at + 18) === 4;
    if (isFirst) headers[bytes[at + 24] + (headers[bytes[at + 24]] === undefined ? 0 : 256)] = at;
  }
  assert.equal(headers.filter((at) => at !== undefined).length, VALUES);
  for (let bit = 0; bit < BYTES.length * 8; bit++) {
    bytes[headers[bit * 2] + BYTES[bit >>> 3]] ^= 1 << (bit & 7);
  }
  writeFileSync(path, bytes);
  const { code, stdout, stderr } = await runTool(
    process.execPath,
    ['--input-type=module', '-e', writer(place.path)],
    { timeoutMs: 400_000 },
  );
  assert.equal(code, 0, stderr);
  assert.equal(stdout.trim(), '[]', stderr);
});

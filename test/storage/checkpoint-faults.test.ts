/**
 * The disk under LMDB fails one write of its meta page, which LMDB answers by refusing every later
 * transaction. The fault is injected below Node: a small library in front of libc's pwrite.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { missing } from '../helpers/requirements.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

/** Fails writes to the first two pages of data.mdb while the file that FAIL names exists. */
const FAILING = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(int fd, off_t at) {
  char link[64], path[4096];
  const char *flag = getenv("FAIL");
  if (at >= 8192 || flag == NULL || access(flag, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 8) return 0;
  path[n] = 0;
  if (strcmp(path + n - 8, "data.mdb") != 0) return 0;
  unlink(flag);
  errno = EIO;
  return 1;
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite");
  return fails(fd, at) ? -1 : real(fd, b, n, at);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
  return fails(fd, at) ? -1 : real(fd, b, n, at);
}
`;

test('after one failed write of the meta page, reads and the next checkpoint go on', {
  skip: missing('gcc'),
}, async () => {
  await using place = temporaryDirectory('checkpoint-faults');
  const source = join(place.path, 'failing.c');
  const library = join(place.path, 'failing.so');
  const flag = join(place.path, 'fail');
  writeFileSync(source, FAILING);
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source, '-ldl']);
  const moduleUrl = new URL('../../src/storage/lmdb/lmdb-checkpoint.js', import.meta.url).href;
  const program = `
    import { existsSync, writeFileSync } from 'node:fs';
    const { LmdbCheckpoint } = await import(${JSON.stringify(moduleUrl)});
    const directory = ${JSON.stringify(join(place.path, 'data'))};
    const flag = ${JSON.stringify(flag)};
    let checkpoint = await LmdbCheckpoint.open(directory);
    const put = async (key, value, position) => {
      checkpoint.begin();
      checkpoint.put(Buffer.from(key), Buffer.from(value));
      await checkpoint.commit(position);
    };
    const said = [];
    const get = (key) => String(checkpoint.get(Buffer.from(key)));
    await put('a', 'first', 1);
    for (let round = 0; round < 3; round++) {
      writeFileSync(flag, '');
      await put('a', 'failed', 100).then(() => said.push('committed'), (error) => said.push(error.code));
      said.push(existsSync(flag) ? 'no fault' : 'fault', get('a'), checkpoint.position);
      await put('b', 'after ' + round, 10 + round);
      said.push(get('a'), get('b'), checkpoint.position);
    }
    await checkpoint.close();
    checkpoint = await LmdbCheckpoint.open(directory);
    said.push(get('a'), get('b'), checkpoint.position);
    await checkpoint.close();
    console.log(JSON.stringify(said));`;
  const { code, stdout, stderr } = await runTool(
    process.execPath,
    ['--input-type=module', '-e', program],
    { env: { ...process.env, LD_PRELOAD: library, FAIL: flag }, timeoutMs: 60_000 },
  );
  assert.equal(code, 0, stderr);
  const rounds = [0, 1, 2].flatMap((round) => [
    'CHECKPOINT_FAILED',
    'fault',
    'first',
    round === 0 ? 1 : 9 + round,
    'first',
    `after ${round}`,
    10 + round,
  ]);
  assert.deepEqual(JSON.parse(stdout), [...rounds, 'first', 'after 2', 12]);
});

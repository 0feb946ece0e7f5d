/**
 * The disk under LMDB fails a call, which LMDB may answer by refusing every later transaction. The
 * faults are injected below Node: a small library in front of libc's functions.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runTool } from '../helpers/children.ts';
import { missing } from '../helpers/requirements.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

/**
 * A call fails while the file FAIL/<its name> exists, which says: errno, how often, and the end of the
 * path that is meant; `meta` is a write to the first two pages of that file. The file goes with the last
 * fault.
 */
const FAILING = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <unistd.h>
static int (*real_open)(const char *, int, ...);
static int fails(const char *name, const char *path) {
  char flag[4096], text[512], ending[256];
  int code, left;
  const char *place = getenv("FAIL");
  if (place == NULL || path == NULL) return 0;
  if (!real_open) real_open = dlsym(RTLD_NEXT, "open64");
  snprintf(flag, sizeof flag, "%s/%s", place, name);
  int fd = real_open(flag, O_RDONLY);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  if (sscanf(text, "%d %d %255s", &code, &left, ending) != 3) return 0;
  size_t length = strlen(path), wanted = strlen(ending);
  if (length < wanted || strcmp(path + length - wanted, ending) != 0) return 0;
  if (left <= 1) unlink(flag);
  else {
    fd = real_open(flag, O_WRONLY | O_TRUNC);
    dprintf(fd, "%d %d %s", code, left - 1, ending);
    close(fd);
  }
  errno = code;
  return 1;
}
static int fails_at(const char *name, int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return fails(name, path);
}
#define REAL(type, name, ...) \\
  static type (*real)(__VA_ARGS__); \\
  if (!real) real = dlsym(RTLD_NEXT, name)
#define PWRITE(name) \\
  ssize_t name(int fd, const void *b, size_t n, off_t at) { \\
    REAL(ssize_t, #name, int, const void *, size_t, off_t); \\
    return at < 8192 && fails_at("meta", fd) ? -1 : real(fd, b, n, at); \\
  }
PWRITE(pwrite)
PWRITE(pwrite64)
#define ON_FD(name) \\
  int name(int fd) { \\
    REAL(int, #name, int); \\
    return fails_at(#name, fd) ? -1 : real(fd); \\
  }
ON_FD(fdatasync)
ON_FD(fsync)
#define FTRUNCATE(name) \\
  int name(int fd, off_t length) { \\
    REAL(int, #name, int, off_t); \\
    return fails_at("ftruncate", fd) ? -1 : real(fd, length); \\
  }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)
#define STATFS(name, type) \\
  int name(const char *path, struct type *into) { \\
    REAL(int, #name, const char *, struct type *); \\
    return fails("statfs", path) ? -1 : real(path, into); \\
  }
STATFS(statfs, statfs)
STATFS(statfs64, statfs64)
#define OPEN(name) \\
  int name(const char *path, int flags, ...) { \\
    va_list rest; \\
    va_start(rest, flags); \\
    int mode = va_arg(rest, int); \\
    va_end(rest); \\
    static int (*real)(const char *, int, ...); \\
    if (!real) real = dlsym(RTLD_NEXT, #name); \\
    return fails("open", path) ? -1 : real(path, flags, mode); \\
  }
OPEN(open)
OPEN(open64)
`;

/** Fails each call that LMDB's meta page, its file and its directory need, and what then goes on. */
const FAULTS: Record<string, Record<string, string>> = {
  'a write of the meta page': { meta: '5 1 data.mdb' },
  'a write of the meta page for want of room': { meta: '28 1 data.mdb' },
  'a write of the meta page, and statfs, by which the reason is found': {
    meta: '5 1 data.mdb',
    statfs: '5 1 data',
  },
  'a write of the meta page, and the opening after it': {
    meta: '5 1 data.mdb',
    open: '24 1 data.mdb',
  },
  'a write of the meta page, and many openings after it': {
    meta: '5 1 data.mdb',
    open: '24 5 data.mdb',
  },
  'the opening by which the file is made as long as it says': { open: '24 1 data.mdb' },
};

async function build(place: string): Promise<{ library: string; flags: string }> {
  const source = join(place, 'failing.c');
  const library = join(place, 'failing.so');
  const flags = join(place, 'fail');
  mkdirSync(flags);
  writeFileSync(source, FAILING);
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source, '-ldl']);
  return { library, flags };
}

for (const [what, faults] of Object.entries(FAULTS)) {
  test(`after ${what} has failed, reads and the next checkpoint go on`, {
    skip: missing('gcc'),
  }, async () => {
    await using place = temporaryDirectory('checkpoint-faults');
    const { library, flags } = await build(place.path);
    const moduleUrl = new URL('../../src/storage/lmdb/lmdb-checkpoint.js', import.meta.url).href;
    const program = `
      import { readdirSync, rmSync, writeFileSync } from 'node:fs';
      const { LmdbCheckpoint } = await import(${JSON.stringify(moduleUrl)});
      const directory = ${JSON.stringify(join(place.path, 'data'))};
      const flags = ${JSON.stringify(flags)};
      const faults = ${JSON.stringify(faults)};
      let checkpoint = await LmdbCheckpoint.open(directory);
      const put = async (key, value, position) => {
        checkpoint.begin();
        checkpoint.put(Buffer.from(key), Buffer.from(value));
        await checkpoint.commit(position);
      };
      const said = [];
      const get = (key) => {
        try {
          return String(checkpoint.get(Buffer.from(key)));
        } catch (error) {
          return error.code;
        }
      };
      await put('a', 'first', 1);
      for (let round = 0; round < 3; round++) {
        for (const [name, text] of Object.entries(faults)) writeFileSync(flags + '/' + name, text);
        const position = 10 * (round + 1);
        const outcome = await put('a', 'failed ' + round, position).then(
          () => 'committed',
          (error) => error.code,
        );
        const during = get('a');
        const left = readdirSync(flags);
        for (const name of left) rmSync(flags + '/' + name);
        const after = get('a');
        const at = checkpoint.position;
        await put('b', 'after ' + round, position + 1);
        said.push({ outcome, during, left, after, at, b: get('b'), position: checkpoint.position });
      }
      await checkpoint.close();
      checkpoint = await LmdbCheckpoint.open(directory);
      const end = { b: get('b'), position: checkpoint.position };
      await checkpoint.close();
      console.log(JSON.stringify({ said, end }));`;
    const { code, stdout, stderr } = await runTool(
      process.execPath,
      ['--input-type=module', '-e', program],
      { env: { ...process.env, LD_PRELOAD: library, FAIL: flags }, timeoutMs: 60_000 },
    );
    assert.equal(code, 0, stderr);
    const { said, end } = JSON.parse(stdout);
    let before = 'first';
    let position = 1;
    for (const [round, facts] of said.entries()) {
      const text = JSON.stringify(facts);
      assert.equal(facts.outcome, 'CHECKPOINT_FAILED', text);
      // Where the commit itself was done, its end is what failed: then everything of it is there.
      const isDone = facts.after === `failed ${round}`;
      if (isDone) before = facts.after;
      else assert.equal(facts.after, before, text);
      assert.equal(facts.at, isDone ? 10 * (round + 1) : position, text);
      assert.ok([facts.after, 'CHECKPOINT_FAILED'].includes(facts.during), text);
      assert.equal(facts.b, `after ${round}`, text);
      position = 10 * (round + 1) + 1;
      assert.equal(facts.position, position, text);
    }
    assert.deepEqual(end, { b: 'after 2', position });
  });
}

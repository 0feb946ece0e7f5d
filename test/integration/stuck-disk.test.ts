/**
 * A disk that does not answer: what waits for it, what does not, and how the server ends without it.
 *
 * The fault is injected below Node: a small library in front of libc's pwrite and fdatasync, which holds
 * what is written to the log while the file that HOLD names exists.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ended } from '../helpers/children.ts';
import { missing } from '../helpers/requirements.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';

const HOLDING = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void hold(int fd) {
  char link[64], path[4096];
  const char *flag = getenv("HOLD");
  if (flag == NULL || access(flag, F_OK) != 0) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 5) return;
  path[n] = 0;
  if (strcmp(path + n - 5, ".rlog") != 0) return;
  while (access(flag, F_OK) == 0) usleep(10000);
}
#define WRITE(name) \\
  ssize_t name(int fd, const void *b, size_t n, off_t at) { \\
    static ssize_t (*real)(int, const void *, size_t, off_t); \\
    if (!real) real = dlsym(RTLD_NEXT, #name); \\
    hold(fd); \\
    return real(fd, b, n, at); \\
  }
WRITE(pwrite)
WRITE(pwrite64)
int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
  hold(fd);
  return real(fd);
}
`;

interface Held extends AsyncDisposable {
  readonly server: RivuletServer;
  readonly directory: string;
  /** From here on the disk does not answer. */
  hold(): void;
  release(): void;
  connect(): Promise<RespSession>;
}

async function start(): Promise<Held> {
  const place = temporaryDirectory('stuck-disk');
  const source = join(place.path, 'holding.c');
  const library = join(place.path, 'holding.so');
  const flag = join(place.path, 'hold');
  const directory = join(place.path, 'data');
  writeFileSync(source, HOLDING);
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source, '-ldl']);
  const server = await startRivulet({
    directory,
    within: ['env', `LD_PRELOAD=${library}`, `HOLD=${flag}`],
  });
  return {
    server,
    directory,
    hold: () => writeFileSync(flag, ''),
    release: () => rmSync(flag, { force: true }),
    connect: () => RespSession.open(server.port, { timeoutMs: 60_000 }),
    async [Symbol.asyncDispose]() {
      rmSync(flag, { force: true });
      await server[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    },
  };
}

/** INFO as soon as it says that the disk does not answer. */
async function stalled(session: RespSession): Promise<string> {
  for (;;) {
    const info = await session.text('INFO', 'persistence');
    if (!info.includes('rivulet_disk_stalled_since:0\r\n')) return info;
  }
}

test('a disk that does not answer holds what shows unwritten changes, and nothing else', {
  skip: missing('gcc'),
}, async () => {
  await using held = await start();
  await using writer = await held.connect();
  await writer.pipeline([
    ['SET', 'old', 'safe'],
    ['XADD', 'stream', '1-1', 'f', 'v'],
    ['SET', 'changed', 'before'],
  ]);
  held.hold();
  const answers: string[] = [];
  const written = writer.text('SET', 'changed', 'after').then((text) => answers.push(text));
  await using other = await held.connect();
  const info = await stalled(other);
  assert.match(info, /rivulet_disk_stalled_since:\d{10}\r\n/);
  assert.equal(await other.text('PING'), '+PONG\r\n');
  assert.match(await other.text('INFO'), /# Server/);
  assert.equal(await other.text('GET', 'old'), '$4\r\nsafe\r\n');
  assert.equal(await other.text('XLEN', 'stream'), ':1\r\n');
  assert.match(await other.text('XRANGE', 'stream', '-', '+'), /1-1/);
  await using waiting = await held.connect();
  const read = waiting.text('GET', 'changed').then((text) => answers.push(text));
  assert.match(await other.text('CONFIG', 'GET', 'appendfsync'), /always/);
  assert.match(held.server.output(), /the disk has not answered since \d{4}-\d\d-\d\dT/);
  assert.deepEqual(answers, []);
  held.release();
  await Promise.all([written, read]);
  assert.deepEqual(answers.sort(), ['$5\r\nafter\r\n', '+OK\r\n']);
  await until(() => /the disk answers again/.test(held.server.output()));
  assert.match(await other.text('INFO'), /db0:keys=3/);
});

test('SHUTDOWN NOSAVE ends a server whose disk does not answer; what was acknowledged is there', {
  skip: missing('gcc'),
}, async () => {
  await using held = await start();
  await using writer = await held.connect();
  await writer.call('SET', 'k', 'acknowledged');
  held.hold();
  const unanswered = assert.rejects(writer.call('SET', 'k', 'not acknowledged'));
  await using other = await held.connect();
  await stalled(other);
  const end = assert.rejects(other.call('SHUTDOWN', 'NOSAVE'));
  await ended(held.server.process);
  await Promise.all([unanswered, end]);
  assert.match(held.server.output(), /ending without it/);
  await using next = await startRivulet({ directory: held.directory });
  await using reader = await RespSession.open(next.port);
  assert.equal(await reader.text('GET', 'k'), '$12\r\nacknowledged\r\n');
});

/**
 * A file system of a few megabytes, for tests of full and read-only disks.
 *
 * It is a tmpfs in a mount namespace of its own, held by a child process: programs started `within`
 * see it, this process reaches it through /proc, no other process sees it, and it is gone with the last
 * process that uses it, however the tests end. It needs Linux and root (or the right to `unshare`).
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, rmSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ended, startChild } from './children.ts';
import { temporaryDirectory } from './temporary-directory.ts';

export interface SmallDisk extends AsyncDisposable {
  /** Where programs see it that are started `within`. */
  readonly path: string;
  /** What stands before such a program's command. */
  readonly within: readonly string[];
  /** Where this process sees it. */
  readonly outside: string;
  /** Takes all the room that is left. */
  fill(): void;
  /** Gives that room back. */
  free(): void;
  remountReadOnly(): void;
}

/** For `test(name, { skip: cannotMount() }, ...)`: false, or why a test with a SmallDisk is skipped. */
export function cannotMount(): string | false {
  if (process.platform !== 'linux') return 'needs a small tmpfs, and so Linux';
  const tried = spawnSync('unshare', ['-m', 'true'], { stdio: 'ignore' });
  if (tried.status === 0) return false;
  return 'needs a small tmpfs, and this user may not mount one (unshare -m fails)';
}

export async function smallDisk(bytes: number): Promise<SmallDisk> {
  const place = temporaryDirectory('small');
  const script = `mount -t tmpfs -o size=${bytes} rivulet-test "$1" && echo mounted && exec sleep 3600`;
  const holder = startChild('unshare', ['-m', 'sh', '-c', script, 'sh', place.path]);
  await new Promise<void>((resolve, reject) => {
    const lines = createInterface({ input: holder.stdout as NodeJS.ReadableStream });
    lines.once('line', () => resolve());
    holder.once('exit', (code) => reject(new Error(`mounting failed: exit code ${code}`)));
  });
  const within = ['nsenter', '-t', String(holder.pid), '-m'];
  const outside = `/proc/${holder.pid}/root${place.path}`;
  const ballast = `${outside}/ballast`;
  return {
    path: place.path,
    within,
    outside,
    fill: () => fill(ballast),
    free: () => rmSync(ballast),
    remountReadOnly() {
      const args = [...within.slice(1), 'mount', '-o', 'remount,ro', place.path];
      const { status } = spawnSync(within[0], args);
      if (status !== 0) throw new Error('remounting failed');
    },
    async [Symbol.asyncDispose]() {
      holder.kill('SIGKILL');
      await ended(holder);
      await place[Symbol.asyncDispose]();
    },
  };
}

function fill(path: string): void {
  if (existsSync(path)) throw new Error('it is full already');
  const fd = openSync(path, 'w');
  const piece = Buffer.alloc(64 * 1024, 1);
  try {
    for (let size = piece.length; size >= 1; ) {
      try {
        writeSync(fd, piece, 0, size);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        size >>= 1;
      }
    }
  } finally {
    closeSync(fd);
  }
}

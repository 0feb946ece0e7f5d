/**
 * The file system of the machine, through node:fs.
 *
 * Durable writes go through a second descriptor opened with O_DSYNC: one trip to the thread pool
 * where write and fdatasync would be two. Writes use the callback API: no promise per group commit.
 * Cost measured on NVMe: a durable write of a few KiB into a preallocated file 0.2 ms, an append
 * followed by fdatasync 0.5 ms.
 */
import * as fs from 'node:fs';
import { constants } from 'node:fs';
import * as fsp from 'node:fs/promises';
import type { Disk, DiskFile } from './disk.ts';
import { makeDirectories } from './make-directories.ts';

// The kernel transfers at most 2 GiB - 4 KiB at a time.
const MAX_WRITE = 0x7fff_f000;

export const realDisk: Disk = {
  list: (directory) => fsp.readdir(directory),
  async makeDirectory(directory) {
    await makeDirectories(directory);
  },
  async open(path) {
    const handle = await openDescriptor(path, constants.O_RDWR | constants.O_CREAT);
    return new RealFile(path, handle);
  },
  rename: (from, to) => fsp.rename(from, to),
  async link(from, to) {
    try {
      await fsp.link(from, to);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EXDEV') throw error;
      await fsp.copyFile(from, to, constants.COPYFILE_EXCL);
    }
  },
  remove: (path) => fsp.rm(path),
  async syncDirectory(directory) {
    const handle = await fsp.open(directory, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  async freeBytes(directory) {
    const { bavail, bsize } = await fsp.statfs(directory);
    return bavail * bsize;
  },
};

class RealFile implements DiskFile {
  readonly #path: string;
  readonly #fd: number;
  #throughFd = -1;

  constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  size(): Promise<number> {
    return call((done) => fs.fstat(this.#fd, (error, stat) => done(error, stat?.size)));
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      const bytes = await call<number>((done) =>
        fs.read(
          this.#fd,
          buffer,
          filled,
          Math.min(length - filled, MAX_WRITE),
          offset + filled,
          (error, count) => done(error, count),
        ),
      );
      if (bytes === 0) return buffer.subarray(0, filled);
      filled += bytes;
    }
    return buffer;
  }

  write(
    source: Buffer,
    from: number,
    length: number,
    offset: number,
    durable: boolean,
    done: (error: Error | null) => void,
  ): void {
    if (durable && this.#throughFd < 0) {
      openDescriptor(this.#path, constants.O_RDWR | constants.O_DSYNC).then(
        (fd) => {
          this.#throughFd = fd;
          this.write(source, from, length, offset, durable, done);
        },
        (error: Error) => done(error),
      );
      return;
    }
    const fd = durable ? this.#throughFd : this.#fd;
    const step = (error: Error | null, written: number): void => {
      if (error !== null) {
        done(error);
        return;
      }
      from += written;
      length -= written;
      offset += written;
      if (length === 0) done(null);
      else fs.write(fd, source, from, Math.min(length, MAX_WRITE), offset, step);
    };
    fs.write(fd, source, from, Math.min(length, MAX_WRITE), offset, step);
  }

  truncate(length: number): Promise<void> {
    return call((done) => fs.ftruncate(this.#fd, length, done));
  }

  sync(): Promise<void> {
    return call((done) => fs.fdatasync(this.#fd, done));
  }

  async close(): Promise<void> {
    const through = this.#throughFd;
    this.#throughFd = -1;
    if (through >= 0) await call<void>((done) => fs.close(through, done));
    await call<void>((done) => fs.close(this.#fd, done));
  }
}

function openDescriptor(path: string, flags: number): Promise<number> {
  return call((done) => fs.open(path, flags, 0o640, done));
}

function call<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null ? resolve(value as T) : reject(error)));
  });
}

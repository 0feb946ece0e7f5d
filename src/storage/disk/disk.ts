/**
 * The disk as an argument: what the log needs of a file system, and nothing more.
 *
 * Two implementations: real-disk.ts (node:fs) and the simulation's (loses unsynced writes, tears
 * writes at sectors, flips bits, fills up, fails to sync; one seed, one run).
 * Invariant: a write is on disk when `write(..., durable = true)` or a later `sync` has completed, a
 * created, renamed or removed name when `syncDirectory` has completed; before that a crash may take
 * any part of it. Failures carry the operating system's `code` (ENOSPC, EIO, ...).
 */
export interface Disk {
  /** The names in a directory, in no order. */
  list(directory: string): Promise<string[]>;
  /** Creates the directory and its parents; no error when it is there. */
  makeDirectory(directory: string): Promise<void>;
  /** Opens for reading and writing, creating an empty file where there is none. */
  open(path: string): Promise<DiskFile>;
  /** Replaces `to` where it exists, atomically. */
  rename(from: string, to: string): Promise<void>;
  /** A second name for the file (or a copy of it, where the file system has no links). */
  link(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  syncDirectory(directory: string): Promise<void>;
  /** Bytes that may still be written to the file system holding `directory`. */
  freeBytes(directory: string): Promise<number>;
}

export interface DiskFile {
  size(): Promise<number>;
  /** Shorter than `length` only where the file ends. */
  read(offset: number, length: number): Promise<Buffer>;
  /**
   * Writes all of `length` bytes, or calls back with the error. With `durable` it calls back only
   * once they are on disk. The source must not change before. A callback and not a promise: this is
   * the one call that every group commit makes.
   */
  write(
    source: Buffer,
    from: number,
    length: number,
    offset: number,
    durable: boolean,
    done: (error: Error | null) => void,
  ): void;
  truncate(length: number): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** `DiskFile.write` of a whole buffer as a promise, for everything but the hot path. */
export function writeAll(
  file: DiskFile,
  source: Buffer,
  offset: number,
  durable: boolean,
): Promise<void> {
  return new Promise((resolve, reject) => {
    file.write(source, 0, source.length, offset, durable, (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}

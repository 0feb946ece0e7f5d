/**
 * The disk as an argument: what the log needs of a file system, and nothing more.
 *
 * Two implementations: real-disk.ts (node:fs) and simulated-disk.ts (loses unsynced writes, tears
 * writes at sectors, flips bits, fills up, fails to sync; one seed, one run).
 * Invariant: a write is on disk when `write(..., durable = true)` or a later `sync` has resolved, a
 * created, renamed or removed name when `syncDirectory` has resolved; before that a crash may take
 * any part of it.
 */
export interface Disk {
  list(directory: string): Promise<string[]>;
  makeDirectory(directory: string): Promise<void>;
  /** Opens for reading and writing, creating an empty file where there is none. */
  open(path: string): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  syncDirectory(directory: string): Promise<void>;
  /** Bytes that may still be written to the file system holding `directory`. */
  freeBytes(directory: string): Promise<number>;
}

export interface DiskFile {
  size(): Promise<number>;
  read(offset: number, length: number): Promise<Buffer>;
  /** Writes all of `length` bytes or rejects. With `durable` it resolves only once they are on disk. */
  write(
    source: Buffer,
    from: number,
    length: number,
    offset: number,
    durable: boolean,
  ): Promise<void>;
  truncate(length: number): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

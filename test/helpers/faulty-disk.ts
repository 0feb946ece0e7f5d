/**
 * A disk of which one operation fails, in front of another disk.
 *
 * Holds: how often each operation was asked for, and which one fails. The fault comes before the
 * operation reaches the disk behind, so nothing of it is done.
 */
import type { Disk, DiskFile } from '../../src/storage/disk/disk.ts';

export type FaultyOperation =
  | 'list'
  | 'makeDirectory'
  | 'open'
  | 'rename'
  | 'link'
  | 'remove'
  | 'syncDirectory'
  | 'freeBytes'
  | 'truncate'
  | 'size'
  | 'read';

export class FaultyDisk implements Disk {
  /** How often each operation was asked for. */
  readonly counts = new Map<FaultyOperation, number>();
  /** How many have failed. */
  faults = 0;
  readonly #disk: Disk;
  #operation: FaultyOperation | null = null;
  #code = '';
  #first = 0;
  #last = 0;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** The calls number `first` to `last` of the operation, counted from the disk's first, fail. */
  fail(operation: FaultyOperation, code: string, first: number, last = first): void {
    this.#operation = operation;
    this.#code = code;
    this.#first = first;
    this.#last = last;
  }

  list(directory: string): Promise<string[]> {
    return this.#run('list', directory, () => this.#disk.list(directory));
  }

  makeDirectory(directory: string): Promise<void> {
    return this.#run('makeDirectory', directory, () => this.#disk.makeDirectory(directory));
  }

  async open(path: string): Promise<DiskFile> {
    const file = await this.#run('open', path, () => this.#disk.open(path));
    return {
      size: () => this.#run('size', path, () => file.size()),
      read: (offset, length) => this.#run('read', path, () => file.read(offset, length)),
      write: (...args) => file.write(...args),
      truncate: (length) => this.#run('truncate', path, () => file.truncate(length)),
      sync: () => file.sync(),
      close: () => file.close(),
    };
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run('rename', to, () => this.#disk.rename(from, to));
  }

  link(from: string, to: string): Promise<void> {
    return this.#run('link', to, () => this.#disk.link(from, to));
  }

  remove(path: string): Promise<void> {
    return this.#run('remove', path, () => this.#disk.remove(path));
  }

  syncDirectory(directory: string): Promise<void> {
    return this.#run('syncDirectory', directory, () => this.#disk.syncDirectory(directory));
  }

  freeBytes(directory: string): Promise<number> {
    return this.#run('freeBytes', directory, () => this.#disk.freeBytes(directory));
  }

  #run<T>(operation: FaultyOperation, path: string, run: () => Promise<T>): Promise<T> {
    const count = (this.counts.get(operation) ?? 0) + 1;
    this.counts.set(operation, count);
    if (operation !== this.#operation || count < this.#first || count > this.#last) return run();
    this.faults++;
    const error = new Error(`${this.#code}: injected, ${operation} '${path}'`);
    return Promise.reject(Object.assign(error, { code: this.#code }));
  }
}

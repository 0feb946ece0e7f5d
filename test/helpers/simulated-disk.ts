/**
 * A disk that misbehaves on purpose, and the same way for the same seed.
 *
 * It keeps apart what programs see and what a crash would leave. `crash` takes, of every sector with
 * unsynced versions, any one of them or the old one, and of the changes to names that were not
 * synced a random prefix. `kill` ends the program alone: what it had handed over stays, because the
 * page cache survives, and of writes that were not completed any part may be there. It delays
 * completions and runs them in random order, fails writes and syncs, fills up, flips bits.
 * Invariant: nothing happens by itself. An operation completes when `step` (or `settle`) runs it, so
 * one seed is one run, and a crash can fall between any two completions.
 * Sectors (512 bytes) are written whole or not at all. Cost: memory for every byte ever written.
 */

import type { Disk, DiskFile } from '../../src/storage/disk/disk.ts';
import { Random } from '../../src/util/random.ts';

const SECTOR = 512;

export interface SimulatedDiskOptions {
  readonly seed: number;
  /** Bytes that fit. @default unlimited */
  readonly capacity?: number;
  /** Chance that a durable write or a sync fails with EIO. @default 0 */
  readonly failureRate?: number;
}

/** What can be made to fail; 'sync' is that of files and of directories. */
export type DiskOperation =
  | 'write'
  | 'sync'
  | 'truncate'
  | 'list'
  | 'open'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'freeBytes';

/** A file's contents, whatever its names. */
class Inode {
  visible: Buffer = Buffer.alloc(0);
  length = 0;
  /** What is on the platter: length and bytes. */
  safe: Buffer = Buffer.alloc(0);
  safeLength = 0;
  /** Versions of sectors that are written and not synced, oldest first. */
  readonly loose = new Map<number, Buffer[]>();
  /** Lengths that the file has had since the last sync. */
  readonly looseLengths: number[] = [];
  /** Sectors that take space. */
  readonly allocated = new Set<number>();
}

interface PendingWrite {
  readonly inode: Inode;
  readonly offset: number;
  readonly before: Buffer;
  readonly lengthBefore: number;
}

interface NameChange {
  readonly directory: string;
  apply(names: Map<string, Inode>): void;
}

export class SimulatedDisk implements Disk {
  readonly #random: Random;
  #capacity: number;
  #failureRate: number;
  #used = 0;
  #life = 0;
  #names = new Map<string, Inode>();
  #safeNames = new Map<string, Inode>();
  #looseNames: NameChange[] = [];
  readonly #directories = new Set<string>();
  #queue: (() => void)[] = [];
  /** Writes that were begun and not completed, with what was there before them. */
  readonly #writing = new Set<PendingWrite>();
  #failNext: { operation: DiskOperation; code: string } | null = null;

  constructor(options: SimulatedDiskOptions) {
    this.#random = new Random(options.seed);
    this.#capacity = options.capacity ?? Number.POSITIVE_INFINITY;
    this.#failureRate = options.failureRate ?? 0;
  }

  // The simulator's side.

  /** Operations that wait to be completed. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Completes one waiting operation, chosen at random; false when none waits. */
  step(): boolean {
    if (this.#queue.length === 0) return false;
    const [operation] = this.#queue.splice(this.#random.below(this.#queue.length), 1);
    operation();
    return true;
  }

  /** Completes operations, and those that follow from them, until none is left or `enough` says so. */
  async settle(enough: () => boolean = () => false): Promise<void> {
    for (;;) {
      await microtasks();
      if (enough() || !this.step()) return;
    }
  }

  /** Runs an operation of the program to its end. */
  async finish<T>(operation: Promise<T>): Promise<T> {
    let over = false;
    operation.then(
      () => {
        over = true;
      },
      () => {
        over = true;
      },
    );
    await this.settle(() => over);
    if (!over) throw new Error('the operation waits for something that no disk operation brings');
    return operation;
  }

  /**
   * Power loss: what was not synced is lost, kept or half kept; waiting operations never complete.
   * Promises that could go on without the disk do so first, so that nothing of the dead program is
   * left that could touch the disk in its next life.
   */
  async crash(): Promise<void> {
    await microtasks();
    const random = this.#random;
    this.#life++;
    this.#queue = [];
    this.#writing.clear();
    this.#failNext = null;
    const kept = random.below(this.#looseNames.length + 1);
    for (const change of this.#looseNames.slice(0, kept)) change.apply(this.#safeNames);
    this.#looseNames = [];
    this.#names = new Map(this.#safeNames);
    this.#used = 0;
    for (const inode of new Set(this.#names.values())) {
      this.#loseUnsynced(inode);
      this.#used += inode.allocated.size * SECTOR;
    }
  }

  /**
   * The program dies, as by kill -9: completed operations stay, of each write in flight a random
   * number of its first sectors, and waiting operations never complete. Power may be lost later.
   */
  async kill(): Promise<void> {
    await microtasks();
    this.#life++;
    this.#queue = [];
    this.#failNext = null;
    for (const { inode, offset, before, lengthBefore } of [...this.#writing].reverse()) {
      const sectors = this.#random.below(before.length / SECTOR + 1) * SECTOR;
      const done = this.#random.pick([0, before.length, Math.min(sectors, before.length)]);
      before.copy(inode.visible, offset + done, done);
      inode.length = Math.max(lengthBefore, done === 0 ? 0 : offset + done);
      inode.looseLengths.push(inode.length);
      const last = Math.floor((offset + before.length - 1) / SECTOR);
      for (let at = Math.floor(offset / SECTOR); at <= last; at++) loosen(inode, at);
    }
    this.#writing.clear();
  }

  #loseUnsynced(inode: Inode): void {
    const random = this.#random;
    // The length is one that the file has had; sectors within it are any of their versions.
    const lengths = [inode.safeLength, ...inode.looseLengths];
    const length = random.pick(lengths);
    const reach = Math.max(length, inode.safeLength);
    const safe = Buffer.alloc(sectorEnd(reach));
    inode.safe.copy(safe, 0, 0, Math.min(inode.safe.length, safe.length));
    for (const [sector, versions] of inode.loose) {
      const pick = random.below(versions.length + 1);
      if (pick > 0 && sector * SECTOR < safe.length) versions[pick - 1].copy(safe, sector * SECTOR);
    }
    safe.fill(0, length);
    inode.safe = safe;
    inode.safeLength = length;
    inode.visible = Buffer.from(safe);
    inode.length = length;
    inode.loose.clear();
    inode.looseLengths.length = 0;
    for (const sector of inode.allocated) {
      if (sector * SECTOR >= length) inode.allocated.delete(sector);
    }
  }

  /** The next write or sync fails with this code of the operating system. */
  failNext(operation: DiskOperation, code: string): void {
    this.#failNext = { operation, code };
  }

  set capacity(bytes: number) {
    this.#capacity = bytes;
  }

  set failureRate(rate: number) {
    this.#failureRate = rate;
  }

  /** Flips one bit of what is stored at that place. */
  flipBit(path: string, offset: number, bit: number): void {
    const inode = this.#inode(path);
    for (const bytes of [inode.visible, inode.safe]) {
      if (offset < bytes.length) bytes[offset] ^= 1 << bit;
    }
  }

  /** Overwrites stored bytes behind everybody's back. */
  overwrite(path: string, offset: number, bytes: Uint8Array): void {
    const inode = this.#inode(path);
    inode.visible.set(bytes, offset);
    inode.safe.set(bytes, offset);
  }

  /** What a program would read now. */
  contents(path: string): Buffer {
    const inode = this.#inode(path);
    return Buffer.from(inode.visible.subarray(0, inode.length));
  }

  // Disk.

  list(directory: string): Promise<string[]> {
    return this.#later(() => {
      this.#maybeFail('list');
      const prefix = `${directory}/`;
      const names = new Set<string>();
      for (const path of [...this.#names.keys(), ...this.#directories]) {
        if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split('/')[0]);
      }
      return [...names];
    });
  }

  makeDirectory(directory: string): Promise<void> {
    return this.#later(() => {
      this.#directories.add(directory);
    });
  }

  open(path: string): Promise<DiskFile> {
    return this.#later(() => {
      this.#maybeFail('open');
      if (!this.#names.has(path)) {
        const inode = new Inode();
        this.#changeNames(parent(path), (names) => names.set(path, inode));
      }
      return new SimulatedFile(this, this.#inode(path));
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#later(() => {
      this.#maybeFail('rename');
      if (this.#directories.has(from)) {
        this.#renameDirectory(from, to);
        return;
      }
      const inode = this.#inode(from);
      const replaced = this.#names.get(to);
      this.#changeNames(parent(to), (names) => {
        names.delete(from);
        names.set(to, inode);
      });
      if (replaced !== undefined) this.#release(replaced);
    });
  }

  link(from: string, to: string): Promise<void> {
    return this.#later(() => {
      const inode = this.#inode(from);
      if (this.#names.has(to)) throw systemError('EEXIST', `link ${to}`);
      this.#changeNames(parent(to), (names) => names.set(to, inode));
    });
  }

  remove(path: string): Promise<void> {
    return this.#later(() => {
      this.#maybeFail('remove');
      const inode = this.#inode(path);
      this.#changeNames(parent(path), (names) => names.delete(path));
      this.#release(inode);
    });
  }

  syncDirectory(directory: string): Promise<void> {
    return this.#later(() => {
      this.#maybeFail('sync');
      this.#maybeFail('syncDirectory');
      // As a journal does: what came before in any directory is on disk with it.
      const last = this.#looseNames.findLastIndex((change) => change.directory === directory);
      for (const change of this.#looseNames.splice(0, last + 1)) change.apply(this.#safeNames);
    });
  }

  freeBytes(): Promise<number> {
    return this.#later(() => {
      this.#maybeFail('freeBytes');
      return Math.max(0, this.#capacity - this.#used);
    });
  }

  // What the files need.

  /** @internal */
  later<T>(operation: () => T): Promise<T> {
    return this.#later(operation);
  }

  /** Something else that takes its time and dies with a crash: a commit of a MemoryCheckpoint, say. */
  enqueue(operation: () => void): void {
    const life = this.#life;
    this.#queue.push(() => {
      if (life === this.#life) operation();
    });
  }

  /** @internal Marks the sectors as unsynced and takes their space; throws ENOSPC when full. */
  store(inode: Inode, bytes: Buffer, offset: number): void {
    const first = Math.floor(offset / SECTOR);
    const last = Math.floor((offset + bytes.length - 1) / SECTOR);
    for (let sector = first; sector <= last; sector++) {
      if (inode.allocated.has(sector)) continue;
      if (this.#used + SECTOR > this.#capacity) throw systemError('ENOSPC', 'write');
      inode.allocated.add(sector);
      this.#used += SECTOR;
    }
    grow(inode, offset + bytes.length);
    bytes.copy(inode.visible, offset);
    if (offset + bytes.length > inode.length) {
      inode.length = offset + bytes.length;
      inode.looseLengths.push(inode.length);
    }
    for (let sector = first; sector <= last; sector++) loosen(inode, sector);
  }

  /** @internal A write begins: what stands there now. Returns what to call when it is completed. */
  begin(inode: Inode, offset: number, length: number): () => void {
    grow(inode, offset + length);
    const before = Buffer.from(inode.visible.subarray(offset, offset + length));
    const write = { inode, offset, before, lengthBefore: inode.length };
    this.#writing.add(write);
    return () => this.#writing.delete(write);
  }

  /** @internal */
  maybeFail(operation: DiskOperation): void {
    this.#maybeFail(operation);
  }

  /** @internal */
  truncate(inode: Inode, length: number): void {
    grow(inode, length);
    inode.visible.fill(0, length);
    inode.length = length;
    inode.looseLengths.push(length);
    for (const sector of [...inode.allocated]) {
      if (sector * SECTOR >= length) {
        inode.allocated.delete(sector);
        this.#used -= SECTOR;
      }
    }
    if (length % SECTOR !== 0) loosen(inode, Math.floor(length / SECTOR));
  }

  #maybeFail(operation: DiskOperation): void {
    if (this.#failNext?.operation === operation) {
      const { code } = this.#failNext;
      this.#failNext = null;
      throw systemError(code, operation);
    }
    const isData = operation === 'write' || operation === 'sync';
    if (isData && this.#failureRate > 0 && this.#random.chance(this.#failureRate)) {
      throw systemError('EIO', operation);
    }
  }

  #later<T>(operation: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.enqueue(() => {
        try {
          resolve(operation());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw systemError('ENOENT', path);
    return inode;
  }

  #changeNames(directory: string, apply: (names: Map<string, Inode>) => void): void {
    apply(this.#names);
    this.#looseNames.push({ directory, apply });
  }

  #renameDirectory(from: string, to: string): void {
    this.#directories.delete(from);
    this.#directories.add(to);
    this.#changeNames(parent(to), (names) => {
      for (const [path, inode] of [...names]) {
        if (!path.startsWith(`${from}/`)) continue;
        names.delete(path);
        names.set(to + path.slice(from.length), inode);
      }
    });
  }

  #release(inode: Inode): void {
    for (const each of this.#names.values()) if (each === inode) return;
    this.#used -= inode.allocated.size * SECTOR;
  }
}

class SimulatedFile implements DiskFile {
  readonly #disk: SimulatedDisk;
  readonly #inode: Inode;

  constructor(disk: SimulatedDisk, inode: Inode) {
    this.#disk = disk;
    this.#inode = inode;
  }

  size(): Promise<number> {
    return this.#disk.later(() => this.#inode.length);
  }

  read(offset: number, length: number): Promise<Buffer> {
    return this.#disk.later(() => {
      const end = Math.min(offset + length, this.#inode.length);
      return Buffer.from(this.#inode.visible.subarray(offset, Math.max(offset, end)));
    });
  }

  write(
    source: Buffer,
    from: number,
    length: number,
    offset: number,
    durable: boolean,
    done: (error: Error | null) => void,
  ): void {
    const disk = this.#disk;
    // From here on a crash may find any of its sectors written.
    let failure: Error | null = null;
    const completed = disk.begin(this.#inode, offset, length);
    try {
      disk.store(this.#inode, source.subarray(from, from + length), offset);
    } catch (error) {
      failure = error as Error;
    }
    disk.enqueue(() => {
      completed();
      if (failure === null) {
        try {
          disk.maybeFail('write');
          if (durable) secure(this.#inode, Math.floor(offset / SECTOR), offset + length);
        } catch (error) {
          failure = error as Error;
        }
      }
      done(failure);
    });
  }

  truncate(length: number): Promise<void> {
    return this.#disk.later(() => {
      this.#disk.maybeFail('truncate');
      this.#disk.truncate(this.#inode, length);
    });
  }

  sync(): Promise<void> {
    // Covers what was written before it was asked for: later versions of sectors stay loose.
    const inode = this.#inode;
    const versions = new Map([...inode.loose].map(([sector, list]) => [sector, list.length]));
    const lengths = inode.looseLengths.length;
    const { length } = inode;
    return this.#disk.later(() => {
      this.#disk.maybeFail('sync');
      growSafe(inode, inode.length);
      for (const [sector, count] of versions) keep(inode, sector, count);
      inode.looseLengths.splice(0, lengths);
      inode.safeLength = length;
    });
  }

  close(): Promise<void> {
    return this.#disk.later(() => {});
  }
}

/** Notes the sector's present contents as one more version that a crash may find. */
function loosen(inode: Inode, sector: number): void {
  const at = sector * SECTOR;
  grow(inode, at + SECTOR);
  const versions = inode.loose.get(sector);
  const bytes = Buffer.from(inode.visible.subarray(at, at + SECTOR));
  if (versions === undefined) inode.loose.set(sector, [bytes]);
  else versions.push(bytes);
}

/** The oldest `count` versions of a sector are superseded by the last of them, now on the platter. */
function keep(inode: Inode, sector: number, count: number): void {
  const versions = inode.loose.get(sector);
  if (versions === undefined || count === 0) return;
  const taken = versions.splice(0, Math.min(count, versions.length));
  growSafe(inode, (sector + 1) * SECTOR);
  taken.at(-1)?.copy(inode.safe, sector * SECTOR);
  if (versions.length === 0) inode.loose.delete(sector);
}

/** A write-through: these sectors, and the length that reaches them, are on the platter. */
function secure(inode: Inode, firstSector: number, end: number): void {
  const last = Math.floor((end - 1) / SECTOR);
  for (let sector = firstSector; sector <= last; sector++) {
    keep(inode, sector, inode.loose.get(sector)?.length ?? 0);
  }
  if (end > inode.safeLength) {
    inode.safeLength = end;
    growSafe(inode, end);
    for (let i = inode.looseLengths.length - 1; i >= 0; i--) {
      if (inode.looseLengths[i] <= end) inode.looseLengths.splice(i, 1);
    }
  }
}

function grow(inode: Inode, length: number): void {
  inode.visible = enlarged(inode.visible, length);
}

function growSafe(inode: Inode, length: number): void {
  inode.safe = enlarged(inode.safe, length);
}

function enlarged(buffer: Buffer, length: number): Buffer {
  if (length <= buffer.length) return buffer;
  const larger = Buffer.alloc(sectorEnd(Math.max(length, buffer.length * 2)));
  buffer.copy(larger);
  return larger;
}

function sectorEnd(length: number): number {
  return Math.ceil(length / SECTOR) * SECTOR;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code });
}

/**
 * Lets every promise that can go on do so, however long the chain, without a timer: a tick asked for
 * within a microtask comes when no microtask is left. The first tick only makes sure that we are in
 * one.
 */
async function microtasks(): Promise<void> {
  await new Promise<void>((resolve) => process.nextTick(resolve));
  await new Promise<void>((resolve) => process.nextTick(resolve));
}

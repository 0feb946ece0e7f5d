/**
 * How LMDB holds a checkpoint: what main thread and worker have to agree on.
 *
 *   key 00 'f'   u32 format version
 *   key 00 'p'   f64 log position of the last commit
 *   any other    the value
 *
 * After each value follows the crc32 of key and value, because LMDB checks nothing itself. The first
 * two may be without it: older data.
 */
import * as fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { open, type RootDatabase } from 'lmdb';
import { crc32Within } from '../../util/crc32.ts';
import { CHECKSUM_BYTES } from '../checkpoint-changes.ts';
import { StorageError } from '../storage-error.ts';
import { LargeValues } from './large-values.ts';
import { findTreeDamage } from './lmdb-tree.ts';

export const CHECKPOINT_FORMAT = 1;
export const FORMAT_KEY = Buffer.from([0, 0x66]);
export const POSITION_KEY = Buffer.from([0, 0x70]);

export type Environment = RootDatabase<Buffer, Buffer>;

/** Places in the memory that the two threads share. */
export const SIGNAL = {
  /** Counted up and notified with every message, so that the worker can sleep on it. */
  messages: 0,
  /** 1 while the worker is within a transaction; notified when it is not any more. */
  inTransaction: 1,
  /** 1 when the process ends: the transaction that is open is given up, and none is begun. */
  ending: 2,
  places: 3,
} as const;

/**
 * The map is reserved once, far larger than any disk here: address space costs nothing, and growing
 * it while another thread reads would move the ground under that thread. Where the address space is
 * limited (ulimit -v), the smaller sizes serve.
 */
const MAP_SIZES = [2 ** 40, 2 ** 37, 2 ** 34, 2 ** 32];

/** How values that are read come out of LMDB's own buffer, which the next read overwrites. */
export interface ValueReader {
  encode(value: Buffer): Buffer;
  /** `bytes` holds the value in its first `length` bytes. */
  decode(bytes: Uint8Array, length: number): Buffer | undefined;
}

/** Opens the environment; both threads do so with the same settings. */
export function openEnvironment(directory: string, reader?: ValueReader): Environment {
  for (const mapSize of MAP_SIZES) {
    try {
      return open<Buffer, Buffer>({
        path: directory,
        noSubdir: false,
        keyEncoding: 'binary',
        ...(reader === undefined ? { encoding: 'binary' } : { encoder: reader }),
        mapSize,
        maxDbs: 1,
        // A commit returns when it is on disk; nothing may be pending when the log is trimmed.
        overlappingSync: false,
      });
    } catch (error) {
      const last = mapSize === MAP_SIZES.at(-1);
      if (last || !/memory|ENOMEM/i.test(String((error as Error).message))) throw error;
    }
  }
  throw new Error('unreachable: the last size throws');
}

// Where LMDB's meta page (as the `lmdb` package lays it out) keeps what is checked below.
const META_MAGIC = { at: 24, value: 0xbeefc0de };
const META_VERSION = { at: 28, value: 2 };
const META_PAGE_SIZE = 48;
const META_LAST_PAGE = 144;
const META_BYTES = 160;

/** Pages that a file may be short by when it is opened: see `extendEnvironmentFile`. */
const SHORT_PAGES = 16;

/**
 * Looks at the file before LMDB does, because LMDB trusts it: a foreign file, or one that was cut,
 * crashes the process. So does damage in the pages of its tree (lmdb-tree.ts). Throws
 * CHECKPOINT_DAMAGED. Values have their own checksums.
 */
export function checkEnvironmentFile(directory: string): void {
  const path = `${directory}/data.mdb`;
  if (!fs.existsSync(path)) return;
  withFile(path, (fd) => {
    const { size } = fs.fstatSync(fd);
    // LMDB writes both meta pages at once; before that the file is empty.
    if (size === 0) return;
    const shape = readShape(fd);
    if (shape === null) {
      throw damagedCheckpoint(directory, `${path} does not begin as LMDB's files do`);
    }
    const missing = (shape.bytes - size) / shape.pageSize;
    if (missing > SHORT_PAGES) {
      throw damagedCheckpoint(directory, `${path} is cut: ${size} bytes of ${shape.bytes}`);
    }
    if (missing > 0) fs.ftruncateSync(fd, shape.bytes);
    const fault = findTreeDamage(fd, shape.pageSize);
    if (fault !== null) throw damagedCheckpoint(directory, `in ${path}, ${fault}`);
  });
}

/**
 * After a commit: makes the file as long as its last page says. Pages that were freed in the
 * transaction that made them are never written, so without this a sound file may be short, and could
 * not be told from one that was cut.
 */
export function extendEnvironmentFile(directory: string): void {
  withFile(`${directory}/data.mdb`, (fd) => {
    const shape = readShape(fd);
    if (shape !== null && fs.fstatSync(fd).size < shape.bytes) fs.ftruncateSync(fd, shape.bytes);
  });
}

/** For the thread that writes; the environment is open. */
export function openLargeValues(directory: string): LargeValues {
  const fd = fs.openSync(`${directory}/data.mdb`, 'r+');
  const shape = readShape(fd);
  if (shape === null) {
    fs.closeSync(fd);
    throw damagedCheckpoint(directory, "its file does not begin as LMDB's files do");
  }
  return new LargeValues(fd, shape.pageSize);
}

function withFile(path: string, use: (fd: number) => void): void {
  const fd = fs.openSync(path, 'r+');
  try {
    use(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function readShape(fd: number): { pageSize: number; bytes: number } | null {
  const first = readMeta(fd, 0);
  const second = first === null ? null : readMeta(fd, first.pageSize);
  if (first === null || second === null || second.pageSize !== first.pageSize) return null;
  const { pageSize } = first;
  return { pageSize, bytes: (Math.max(first.lastPage, second.lastPage) + 1) * pageSize };
}

function readMeta(fd: number, at: number): { pageSize: number; lastPage: number } | null {
  const meta = Buffer.alloc(META_BYTES);
  if (fs.readSync(fd, meta, 0, META_BYTES, at) < META_BYTES) return null;
  const pageSize = meta.readUInt32LE(META_PAGE_SIZE);
  const lastPage = Number(meta.readBigUInt64LE(META_LAST_PAGE));
  const sound =
    meta.readUInt32LE(META_MAGIC.at) === META_MAGIC.value &&
    meta.readUInt32LE(META_VERSION.at) === META_VERSION.value &&
    pageSize >= 512 &&
    pageSize <= 65536 &&
    lastPage * pageSize < MAP_SIZES[0];
  return sound ? { pageSize, lastPage } : null;
}

/**
 * The log position of the last commit, 0 where there has been none. Throws NEWER_FORMAT, and
 * CHECKPOINT_DAMAGED: a position that is wrong would replay too much of the log, or too little.
 */
export function readPosition(environment: Environment, directory: string): number {
  const format = ownValue(environment, FORMAT_KEY, 4, directory)?.readUInt32LE();
  if (format !== undefined && format > CHECKPOINT_FORMAT) {
    throw new StorageError(
      'NEWER_FORMAT',
      `The checkpoint in ${directory} was written in format ${format} by a newer ` +
        `version; this one knows up to format ${CHECKPOINT_FORMAT}. Start the newer version.`,
      { file: directory },
    );
  }
  const position = ownValue(environment, POSITION_KEY, 8, directory)?.readDoubleLE();
  if (position !== undefined && format !== undefined) return position;
  for (const _ of environment.getKeys({ limit: 1 })) {
    throw damagedCheckpoint(directory, 'it has entries, and no format or log position');
  }
  return 0;
}

/** A value of `bytes` bytes that is not a user's; undefined where there is none. */
function ownValue(
  environment: Environment,
  key: Buffer,
  bytes: number,
  directory: string,
): Buffer | undefined {
  const slot = environment.getBinary(key);
  return slot === undefined || slot.length === bytes
    ? slot
    : checkedValue(key, Buffer.from(slot), directory);
}

/** The value of `sealValue` for one of the keys that are not a user's. */
export function sealedValue(key: Buffer, value: Buffer): Buffer {
  const slot = Buffer.concat([value, Buffer.alloc(CHECKSUM_BYTES)]);
  sealValue(key, slot);
  return slot;
}

/** Writes the checksum of key and value into the last four bytes of `slot`. */
export function sealValue(key: Uint8Array, slot: Buffer): void {
  const end = slot.length - CHECKSUM_BYTES;
  slot.writeUInt32LE(crc32(slot.subarray(0, end), crc32(key)), end);
}

/** Whether the checksum at the end of a value, from `from` to `to`, is that of key and value. */
export function isSound(key: Uint8Array, slot: Buffer, from = 0, to = slot.length): boolean {
  const end = to - CHECKSUM_BYTES;
  if (end < from) return false;
  const crc =
    end - from <= SHORT
      ? crc32Within(slot, from, end, crc32Within(key, 0, key.length))
      : crc32(slot.subarray(from, end), crc32(key));
  return crc === slot.readUInt32LE(end);
}

/** Up to here our own crc32 is faster than zlib's and a view. */
const SHORT = 256;

/** Throws CHECKPOINT_DAMAGED where the checksum at the end of a value is wrong. */
export function checkValue(
  key: Uint8Array,
  slot: Buffer,
  from: number,
  to: number,
  directory: string,
): void {
  if (isSound(key, slot, from, to)) return;
  const name = Buffer.from(key).toString('hex');
  throw damagedCheckpoint(directory, `the value of key ${name} fails its checksum`);
}

/** The value in `slot` without its checksum; throws CHECKPOINT_DAMAGED where it is wrong. */
export function checkedValue(key: Uint8Array, slot: Buffer, directory: string): Buffer {
  checkValue(key, slot, 0, slot.length, directory);
  return slot.subarray(0, slot.length - CHECKSUM_BYTES);
}

export function damagedCheckpoint(directory: string, what: string, cause?: unknown): StorageError {
  return new StorageError(
    'CHECKPOINT_DAMAGED',
    `The checkpoint in ${directory} is damaged: ${what}. Restore it from a backup together with ` +
      'the log. `micro repair DIR` shows whether the log alone still holds everything.',
    { file: directory, cause },
  );
}

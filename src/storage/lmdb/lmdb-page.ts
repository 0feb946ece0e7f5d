/**
 * How LMDB (as the `lmdb` package builds it) lays out its file: two meta pages, then pages of trees, of
 * large values, and free ones.
 *
 *     page    u64 number, u64 txn, u16 pad, u16 flags, u16 lower, u16 upper, then u16 offsets of nodes,
 *             these three from the header's end
 *     node    u16 u16 u16 size or child's number, u16 length of key, key, value
 *     value   in the node, or (flag BIG) u64 first page, u64 txn, u64 pages that hold nothing else
 *     first page of a large value: a page's header with u32 number of pages instead of lower and upper
 */
import * as fs from 'node:fs';

export const HEADER = 24;
export const BRANCH = 1;
export const LEAF = 2;
export const NODE_HEADER = 8;
/** The value is elsewhere; the node holds where. */
export const BIG = 1;
export const BIG_BYTES = 24;

/** Where a meta page keeps what is used here, from the page's start. */
export const FREE_TREE = 48;
export const MAIN_TREE = 96;
export const TREE = {
  flags: 4,
  depth: 6,
  branches: 8,
  leaves: 16,
  overflows: 24,
  entries: 32,
  root: 40,
};
export const LAST_PAGE = 144;
const TXN = 152;
const META_BYTES = 160;

export interface Meta {
  readonly bytes: Buffer;
  readonly txn: number;
  /** The page's number. */
  readonly page: number;
}

/** The two meta pages, the newer one first. */
export function readMetas(fd: number, pageSize: number): [newer: Meta, older: Meta] {
  const [even, odd] = [0, 1].map((page): Meta => {
    const bytes = Buffer.alloc(META_BYTES);
    fs.readSync(fd, bytes, 0, META_BYTES, page * pageSize);
    return { bytes, txn: u64(bytes, TXN), page };
  });
  return odd.txn > even.txn ? [odd, even] : [even, odd];
}

/** The root page that a meta page names for the tree at `tree`; null where the tree is empty. */
export function rootOf(meta: Meta, tree: number): number | null {
  const at = tree + TREE.root;
  const isNone = u32(meta.bytes, at) === 0xffff_ffff && u32(meta.bytes, at + 4) === 0xffff_ffff;
  return isNone ? null : u64(meta.bytes, at);
}

export function u16(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

export function u32(bytes: Uint8Array, at: number): number {
  return i32(bytes, at) >>> 0;
}

/** Above 2^53 not exact. Most are small, and small numbers cost no memory. */
export function u64(bytes: Uint8Array, at: number): number {
  const high = u32(bytes, at + 4);
  return high === 0 ? u32(bytes, at) : u32(bytes, at) + high * 0x1_0000_0000;
}

export function i64(bytes: Uint8Array, at: number): number {
  const high = i32(bytes, at + 4);
  return high === 0 ? u32(bytes, at) : u32(bytes, at) + high * 0x1_0000_0000;
}

function i32(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

/** Where a large value is, as the node says whose bytes from `at` on hold that. */
export interface LargeValue {
  readonly first: number;
  readonly txn: number;
  readonly pages: number;
}

export function largeValueAt(bytes: Uint8Array, at: number): LargeValue {
  return { first: u64(bytes, at), txn: u64(bytes, at + 8), pages: u64(bytes, at + 16) };
}

/** Whether the header of a first page says where the value is, as the node does. */
export function isHeaderOf(header: Uint8Array, { first, txn, pages }: LargeValue): boolean {
  return u64(header, 0) === first && u64(header, 8) === txn && u32(header, 20) === pages;
}

/** Puts right what `isHeaderOf` compares. */
export function writeHeader(header: Buffer, { first, txn, pages }: LargeValue): void {
  header.writeBigUInt64LE(BigInt(first), 0);
  header.writeBigUInt64LE(BigInt(txn), 8);
  header.writeUInt32LE(pages, 20);
}

/** The number of the child that the node at `node` of a branch page refers to. */
export function childOf(bytes: Uint8Array, node: number): number {
  return u32(bytes, node) + u16(bytes, node + 4) * 0x1_0000_0000;
}

/** Below 0, 0 or above, as the first key comes before the second, is the same or comes after it. */
export function compareBytes(
  a: Uint8Array,
  aFrom: number,
  aTo: number,
  b: Uint8Array,
  bFrom: number,
  bTo: number,
): number {
  const lengths = aTo - aFrom - (bTo - bFrom);
  const end = lengths < 0 ? aTo : aFrom + (bTo - bFrom);
  for (let i = aFrom, j = bFrom; i < end; i++, j++) {
    if (a[i] !== b[j]) return a[i] - b[j];
  }
  return lengths;
}

/** A page of a tree; its buffer is used again for other pages. */
export class TreePage {
  readonly bytes: Buffer;
  /** How many nodes there are. */
  count = 0;
  /** Where nodes begin. */
  upper = 0;

  constructor(pageSize: number) {
    this.bytes = Buffer.alloc(pageSize);
  }

  /** False where the file ends before the page does. */
  read(fd: number, number: number): boolean {
    const { bytes } = this;
    const read = fs.readSync(fd, bytes, 0, bytes.length, number * bytes.length);
    this.upper = HEADER + u16(bytes, 22);
    this.count = u16(bytes, 20) >>> 1;
    return read === bytes.length;
  }

  get number(): number {
    return u64(this.bytes, 0);
  }

  get txn(): number {
    return u64(this.bytes, 8);
  }

  get flags(): number {
    return u16(this.bytes, 18);
  }

  /** Whether the offsets of nodes end before the nodes, and these within the page. */
  get hasBounds(): boolean {
    const lower = u16(this.bytes, 20);
    return lower % 2 === 0 && HEADER + lower <= this.upper && this.upper <= this.bytes.length;
  }

  /** Where the i-th node begins. */
  node(i: number): number {
    return HEADER + u16(this.bytes, HEADER + i * 2);
  }

  /** Where the key of the node at `node` ends; -1 where it does not lie within the page. */
  keyEnd(node: number): number {
    const { bytes, upper } = this;
    if (node < upper || node + NODE_HEADER > bytes.length) return -1;
    const end = node + NODE_HEADER + u16(bytes, node + 6);
    return end > bytes.length ? -1 : end;
  }
}

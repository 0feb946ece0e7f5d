/**
 * Looks at LMDB's trees of pages before LMDB does, because LMDB trusts them: a damaged page ends the
 * process (SIGABRT), hides a part of the tree without a word, or gives pages that are in use to the
 * next transaction.
 *
 *     page    u64 number, u64 txn, u16 pad, u16 flags, u16 lower, u16 upper, then u16 offsets of nodes,
 *             these three from the header's end
 *     node    u16 u16 u16 size or child's number, u16 length of key, key, value
 *     value   in the node, or (flag BIG) u64 first page, u64 txn, u64 pages that hold nothing else
 *
 * There are two trees: the entries, and the pages that are free, by the transaction that freed them.
 * What is checked, for those that the newer meta page names: each page says its own number and kind,
 * no other flag, and no later transaction than its parent; nodes fill their part of the page without
 * a gap; keys ascend and lie within what the parent says; no page is used twice, or used and free;
 * there are as many entries and pages as the meta page counts. Values have checksums of their own.
 * What cannot be found: bytes that mean nothing; a key or separator that is another one but still in
 * order (the checksum of a value covers its key); a page as it was some transactions ago, where counts
 * and order happen to be the same.
 * Cost: one read of each page of the trees: about 1 MB for 15,000 blocks of entries. Pages that only
 * hold values are not read.
 */
import * as fs from 'node:fs';

const HEADER = 24;
const BRANCH = 1;
const LEAF = 2;
const NODE_HEADER = 8;
/** The value is elsewhere; the node holds where. */
const BIG = 1;
const BIG_BYTES = 24;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
/** The only flag of a tree here: keys of the free pages are numbers. */
const INTEGER_KEYS = 0x08;
/** How keys compare, whether one has several values, a fixed place in memory, encryption. */
const FLAGS_THAT_MATTER = 0x20ff;

/** Where a meta page keeps what is used here, from the page's start. */
const FREE_TREE = 48;
const MAIN_TREE = 96;
const TREE = { flags: 4, depth: 6, branches: 8, leaves: 16, overflows: 24, entries: 32, root: 40 };
const LAST_PAGE = 144;
const TXN = 152;
const META_BYTES = 160;

/** Why the trees are damaged; null when they are sound. */
export function findTreeDamage(fd: number, pageSize: number): string | null {
  const metas = [0, pageSize].map((at) => {
    const meta = Buffer.alloc(META_BYTES);
    fs.readSync(fd, meta, 0, META_BYTES, at);
    return meta;
  });
  const [even, odd] = metas.map((meta) => Number(meta.readBigUInt64LE(TXN)));
  // Transactions write the two in turn, the even ones the first; before any, both say 0.
  const isNewer = odd > even ? 1 : 0;
  const txn = Math.max(even, odd);
  if (txn > 0 && (Math.abs(even - odd) !== 1 || txn % 2 !== isNewer)) {
    return `the meta pages are of the transactions ${even} and ${odd}`;
  }
  const meta = metas[isNewer];
  const file = new File(fd, pageSize, Number(meta.readBigUInt64LE(LAST_PAGE)));
  return (
    new Walk(file, null).check(meta, MAIN_TREE, txn) ??
    new Walk(file, file.free).check(meta, FREE_TREE, txn) ??
    file.findFreeInUse()
  );
}

/** The pages of the file, and what each is used for. */
class File {
  readonly pageSize: number;
  /** First page and number of pages, in pairs. */
  readonly free: number[] = [];
  readonly #fd: number;
  readonly #lastPage: number;
  /** One bit a page. */
  readonly #used: Uint8Array;

  constructor(fd: number, pageSize: number, lastPage: number) {
    this.#fd = fd;
    this.pageSize = pageSize;
    this.#lastPage = lastPage;
    this.#used = new Uint8Array((lastPage >>> 3) + 1);
  }

  /** These pages are in a tree; says what is wrong with that. */
  use(first: number, count: number): string | null {
    if (!this.has(first, count)) return `page ${first} is beyond the file`;
    for (let page = first; page < first + count; page++) {
      if (this.#isUsed(page)) return `page ${page} is in the tree twice`;
      this.#used[page >>> 3] |= 1 << (page & 7);
    }
    return null;
  }

  has(first: number, count: number): boolean {
    return first >= 2 && count >= 1 && first + count - 1 <= this.#lastPage;
  }

  /** null where the file ends before. */
  read(first: number, bytes: number): Buffer | null {
    const page = Buffer.alloc(bytes);
    const read = fs.readSync(this.#fd, page, 0, bytes, first * this.pageSize);
    return read < bytes ? null : page;
  }

  /** After both walks: a free page is in no tree, and is listed once. */
  findFreeInUse(): string | null {
    for (let i = 0; i < this.free.length; i += 2) {
      const [first, count] = [this.free[i], this.free[i + 1]];
      for (let page = first; page < first + count; page++) {
        if (this.#isUsed(page))
          return `page ${page} is listed as free and is in use, or listed twice`;
        this.#used[page >>> 3] |= 1 << (page & 7);
      }
    }
    return null;
  }

  #isUsed(page: number): boolean {
    return (this.#used[page >>> 3] & (1 << (page & 7))) !== 0;
  }
}

class Walk {
  #branches = 0;
  #leaves = 0;
  #overflows = 0;
  #entries = 0;
  readonly #file: File;
  /** The last transaction. */
  #txn = 0;
  /** Not null: keys are numbers of transactions, and values list pages, which are added to this. */
  readonly #free: number[] | null;

  constructor(file: File, free: number[] | null) {
    this.#file = file;
    this.#free = free;
  }

  /** The tree that the meta page describes at `at`; `txn`: the last transaction. */
  check(meta: Buffer, at: number, txn: number): string | null {
    this.#txn = txn;
    const count = (field: number) => Number(meta.readBigUInt64LE(at + field));
    const flags = meta.readUInt16LE(at + TREE.flags) & FLAGS_THAT_MATTER;
    if (flags !== (this.#free === null ? 0 : INTEGER_KEYS)) {
      return 'the meta page has flags that are not ours';
    }
    const entries = count(TREE.entries);
    if (meta.readBigUInt64LE(at + TREE.root) === NO_PAGE) {
      return entries === 0 ? null : `${entries} entries and no root page`;
    }
    const depth = meta.readUInt16LE(at + TREE.depth);
    if (depth === 0) return 'a tree with a root page has no levels';
    const fault = this.#visit(count(TREE.root), depth, null, null, txn);
    if (fault !== null) return fault;
    const [branches, leaves] = [count(TREE.branches), count(TREE.leaves)];
    if (this.#branches !== branches || this.#leaves !== leaves || this.#entries !== entries) {
      return (
        `${this.#entries} entries in ${this.#leaves} leaf and ${this.#branches} branch pages, ` +
        `not ${entries} in ${leaves} and ${branches}`
      );
    }
    const overflows = count(TREE.overflows);
    if (this.#overflows === overflows) return null;
    return `${this.#overflows} pages of large values, not ${overflows}`;
  }

  /** The subtree of this page, `levels` deep; its keys are >= from and < to (null = no bound). */
  #visit(
    number: number,
    levels: number,
    from: Buffer | null,
    to: Buffer | null,
    parentTxn: number,
  ): string | null {
    const fault = this.#file.use(number, 1);
    if (fault !== null) return fault;
    const bytes = this.#file.read(number, this.#file.pageSize);
    if (bytes === null) return `page ${number} is cut off`;
    const page = new Page(bytes);
    const kind = levels > 1 ? BRANCH : LEAF;
    if (page.number !== number) return `page ${number} says another number`;
    if (page.flags !== kind) return `page ${number} is of another kind`;
    if (page.txn > parentTxn) return `page ${number} is newer than what refers to it`;
    if (!page.hasBounds) return `page ${number} has impossible bounds`;
    return kind === LEAF
      ? this.#visitLeaf(page, from, to)
      : this.#visitBranch(page, levels, from, to);
  }

  #visitLeaf(page: Page, from: Buffer | null, to: Buffer | null): string | null {
    this.#leaves++;
    this.#entries += page.count;
    const { number, bytes } = page;
    let previous = from;
    for (let i = 0; i < page.count; i++) {
      const node = page.node(i);
      const key = this.#keyOf(page, node);
      if (key === null) return `page ${number} has a node outside of it`;
      const flags = bytes.readUInt16LE(node + 4);
      if ((flags & ~BIG) !== 0) return `page ${number} has a node of another kind`;
      const size = bytes.readUInt32LE(node);
      const value = node + NODE_HEADER + key.length;
      const end = value + (flags === BIG ? BIG_BYTES : size);
      if (end > bytes.length) return `page ${number} has a value outside of it`;
      page.fills(node, end);
      if (this.#free !== null && !(txnOf(key) <= this.#txn)) {
        return `page ${number} lists free pages of a transaction that has not been`;
      }
      // The first key may be where the parent says that the page begins; later ones come after it.
      const order = previous === null ? 1 : key.compare(previous);
      if (order < 0 || (order === 0 && i > 0)) return `page ${number} has keys out of order`;
      previous = key;
      const fault = this.#visitValue(page, value, size, flags === BIG);
      if (fault !== null) return fault;
    }
    if (previous !== null && to !== null && page.count > 0 && previous.compare(to) >= 0) {
      return `page ${number} has keys that belong elsewhere`;
    }
    return page.hasGap() ? `page ${number} has nodes that overlap, or a gap` : null;
  }

  /** The value that begins at `at`, or the pages that it is in. */
  #visitValue(page: Page, at: number, size: number, isBig: boolean): string | null {
    const { bytes, number } = page;
    if (!isBig) {
      return this.#free === null ? null : this.#list(number, bytes.subarray(at, at + size));
    }
    const [first, txn, count] = [0, 8, 16].map((i) => Number(bytes.readBigUInt64LE(at + i)));
    const { pageSize } = this.#file;
    if (size > count * pageSize - HEADER) {
      return `page ${number} has a value of ${size} bytes in ${count} pages`;
    }
    if (txn > page.txn) return `page ${number} is older than a value of it`;
    const fault = this.#file.use(first, count);
    if (fault !== null) return fault;
    this.#overflows += count;
    if (this.#free === null) return null;
    const whole = this.#file.read(first, HEADER + size);
    if (whole === null) return `page ${first} is cut off`;
    return this.#list(first, whole.subarray(HEADER));
  }

  /**
   * A list of free pages: how many numbers follow, then these: a page, or less than zero how many pages
   * there are from the next number on, or 0 for nothing.
   */
  #list(number: number, list: Buffer): string | null {
    const room = list.length / 8 - 1;
    const count = room >= 0 ? Number(list.readBigUInt64LE(0)) : 1;
    if (count > room || !Number.isInteger(room)) {
      return `page ${number} has a list of free pages that is cut off`;
    }
    for (let i = 1; i <= count; i++) {
      let first = Number(list.readBigInt64LE(i * 8));
      if (first === 0) continue;
      const length = first < 0 ? -first : 1;
      if (first < 0) {
        i++;
        if (i * 8 + 8 > list.length)
          return `page ${number} has a list of free pages that is cut off`;
        first = Number(list.readBigInt64LE(i * 8));
      }
      if (!this.#file.has(first, length)) {
        return `page ${number} lists ${length} free pages from page ${first} on`;
      }
      this.#free?.push(first, length);
    }
    return null;
  }

  #visitBranch(page: Page, levels: number, from: Buffer | null, to: Buffer | null): string | null {
    this.#branches++;
    const { number, bytes, count } = page;
    const keys: (Buffer | null)[] = [];
    const children: number[] = [];
    for (let i = 0; i < count; i++) {
      const node = page.node(i);
      // The first key of a branch page means nothing: all that is before the second goes there.
      const key = i === 0 ? page.keyOf(node) : this.#keyOf(page, node);
      if (key === null) return `page ${number} has a node outside of it`;
      page.fills(node, node + NODE_HEADER + key.length);
      children.push(bytes.readUInt32LE(node) + bytes.readUInt16LE(node + 4) * 0x1_0000_0000);
      keys.push(i === 0 ? from : key);
      const before = keys[i - 1] ?? null;
      if (i > 0 && before !== null && key.compare(before) <= 0) {
        return `page ${number} has keys out of order`;
      }
    }
    const last = keys.at(-1) ?? null;
    if (count > 1 && last !== null && to !== null && last.compare(to) >= 0) {
      return `page ${number} has keys that belong elsewhere`;
    }
    if (count === 0) return `page ${number} is empty`;
    if (page.hasGap()) return `page ${number} has nodes that overlap, or a gap`;
    for (const [i, child] of children.entries()) {
      const end = i + 1 < count ? keys[i + 1] : to;
      const fault = this.#visit(child, levels - 1, keys[i], end ?? null, page.txn);
      if (fault !== null) return fault;
    }
    return null;
  }

  /** The key of a node, as bytes that compare as the keys of this tree do. */
  #keyOf(page: Page, node: number): Buffer | null {
    const key = page.keyOf(node);
    if (this.#free === null || key === null) return key;
    return key.length === 8 ? Buffer.from(key).swap64() : null;
  }
}

/** The transaction that a key of the free pages, its bytes swapped, stands for. */
function txnOf(key: Buffer): number {
  return Number(key.readBigUInt64BE());
}

/** A page of a tree. */
class Page {
  readonly number: number;
  readonly bytes: Buffer;
  /** How many nodes there are. */
  readonly count: number;
  /** Where nodes begin. */
  readonly #upper: number;
  /** From where to where the nodes that were seen go, as one number each, so that they sort. */
  readonly #nodes: Float64Array;
  #seen = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.number = Number(bytes.readBigUInt64LE(0));
    this.#upper = HEADER + bytes.readUInt16LE(22);
    this.count = bytes.readUInt16LE(20) >>> 1;
    this.#nodes = new Float64Array(this.hasBounds ? this.count : 0);
  }

  get txn(): number {
    return Number(this.bytes.readBigUInt64LE(8));
  }

  get flags(): number {
    return this.bytes.readUInt16LE(18);
  }

  /** Whether the offsets of nodes end before the nodes, and these within the page. */
  get hasBounds(): boolean {
    const lower = this.bytes.readUInt16LE(20);
    return lower % 2 === 0 && HEADER + lower <= this.#upper && this.#upper <= this.bytes.length;
  }

  /** Where the i-th node begins. */
  node(i: number): number {
    return HEADER + this.bytes.readUInt16LE(HEADER + i * 2);
  }

  /** The key of the node at `node`; null where it does not lie within the page. */
  keyOf(node: number): Buffer | null {
    const { bytes } = this;
    if (node < this.#upper || node + NODE_HEADER > bytes.length) return null;
    const at = node + NODE_HEADER;
    const end = at + bytes.readUInt16LE(node + 6);
    return end > bytes.length ? null : bytes.subarray(at, end);
  }

  /** A node goes from `from` to `to`. */
  fills(from: number, to: number): void {
    this.#nodes[this.#seen++] = from * 0x1_0000_0000 + to;
  }

  /** Whether the nodes seen are not side by side to the end of the page, each of even length. */
  hasGap(): boolean {
    let at = this.#upper;
    for (const node of this.#nodes.sort()) {
      if (Math.floor(node / 0x1_0000_0000) !== at) return true;
      at = node % 0x1_0000_0000;
      at += at % 2;
    }
    return at !== this.bytes.length;
  }
}

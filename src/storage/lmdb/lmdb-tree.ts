/**
 * Looks at LMDB's trees of pages (lmdb-page.ts) before LMDB does, because LMDB trusts them: a damaged
 * page ends the process (SIGABRT), hides a part of the tree without a word, or gives pages that are in
 * use to the next transaction.
 *
 * There are two trees: the entries, and the pages that are free, by the transaction that freed them.
 * What is checked, for those that the newer meta page names: the last transaction wrote the root of the
 * entries; each page says its own number and kind, no other flag, and no later transaction than its
 * parent; nodes fill their part of the page without a gap; keys ascend and lie within what the parent
 * says; no page is used twice, or used and free; there are as many entries and pages as the meta page
 * counts. Each value has its own checksum. large-values.ts repairs the page headers of large values.
 * What cannot be found: bytes that mean nothing; a key or separator that is another one but still in
 * order (the checksum of a value covers its key); a page as it was some transactions ago, where counts
 * and order happen to be the same; a newer meta page that says it is the older one, which is what a
 * failed write of it leaves too: the state before is read, and the log after it is replayed or missed.
 * Cost: one read of each page of the trees: about 1 MB for 15,000 blocks of entries. Pages that only
 * hold values are not read.
 */
import * as fs from 'node:fs';
import {
  BIG,
  BIG_BYTES,
  BRANCH,
  childOf,
  compareBytes,
  FREE_TREE,
  HEADER,
  i64,
  isHeaderOf,
  LAST_PAGE,
  LEAF,
  largeValueAt,
  MAIN_TREE,
  type Meta,
  NODE_HEADER,
  readMetas,
  rootOf,
  TREE,
  TreePage,
  u16,
  u32,
  u64,
} from './lmdb-page.ts';

/** The only flag of a tree here: keys of the free pages are numbers. */
const INTEGER_KEYS = 0x08;
/** How keys compare, whether one has several values, a fixed place in memory, encryption. */
const FLAGS_THAT_MATTER = 0x20ff;

/** Why the trees are damaged; null when they are sound. */
export function findTreeDamage(fd: number, pageSize: number): string | null {
  const [newer, older] = readMetas(fd, pageSize);
  const { txn } = newer;
  // Transactions write the two in turn, the even ones the first; before any, both say 0.
  if (txn > 0 && (txn - older.txn !== 1 || txn % 2 !== newer.page)) {
    const [even, odd] = newer.page === 0 ? [newer, older] : [older, newer];
    return `the meta pages are of the transactions ${even.txn} and ${odd.txn}`;
  }
  const lastPage = u64(newer.bytes, LAST_PAGE);
  if (txn === 0 && Math.max(lastPage, u64(older.bytes, LAST_PAGE)) > 1) {
    return 'the meta pages are of no transaction, and the file has pages';
  }
  const file = new File(fd, pageSize, lastPage);
  return (
    new Walk(file, null).check(newer, MAIN_TREE) ??
    new Walk(file, file.free).check(newer, FREE_TREE) ??
    file.findFreeInUse()
  );
}

/** The pages of the file, and what each is used for. */
class File {
  readonly pageSize: number;
  readonly fd: number;
  /** First page and number of pages, in pairs. */
  readonly free: number[] = [];
  readonly #lastPage: number;
  /** One bit a page. */
  readonly #used: Uint8Array;

  constructor(fd: number, pageSize: number, lastPage: number) {
    this.fd = fd;
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
    const read = fs.readSync(this.fd, page, 0, bytes, first * this.pageSize);
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

/** A key in the buffer of a page. */
interface Key {
  readonly bytes: Buffer;
  readonly from: number;
  readonly to: number;
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
  /** One buffer for each level of the tree, the leaves' first: a parent's is whole while its children are visited. */
  readonly #pages: TreePage[] = [];
  readonly #room: NodeRoom;

  constructor(file: File, free: number[] | null) {
    this.#file = file;
    this.#free = free;
    this.#room = new NodeRoom(file.pageSize);
  }

  /** The tree that the newer meta page describes at `tree`. */
  check(meta: Meta, tree: number): string | null {
    this.#txn = meta.txn;
    const count = (field: number) => u64(meta.bytes, tree + field);
    const flags = u16(meta.bytes, tree + TREE.flags) & FLAGS_THAT_MATTER;
    if (flags !== (this.#free === null ? 0 : INTEGER_KEYS)) {
      return 'the meta page has flags that are not ours';
    }
    const entries = count(TREE.entries);
    const root = rootOf(meta, tree);
    if (root === null) {
      // Each commit writes the log position: the entries have a root, which is of that transaction.
      const isEmpty = entries === 0 && (this.#free !== null || meta.txn === 0);
      return isEmpty ? null : `${entries} entries and no root page`;
    }
    const depth = u16(meta.bytes, tree + TREE.depth);
    if (depth === 0) return 'a tree with a root page has no levels';
    const fault = this.#visit(root, depth, null, null, meta.txn);
    if (fault !== null) return fault;
    const [branches, leaves] = [count(TREE.branches), count(TREE.leaves)];
    if (this.#branches !== branches || this.#leaves !== leaves || this.#entries !== entries) {
      return (
        `${this.#entries} entries in ${this.#leaves} leaf and ${this.#branches} branch pages, ` +
        `not ${entries} in ${leaves} and ${branches}`
      );
    }
    const overflows = count(TREE.overflows);
    if (this.#overflows !== overflows) {
      return `${this.#overflows} pages of large values, not ${overflows}`;
    }
    const { txn } = this.#pages[depth - 1];
    if (this.#free !== null || txn === meta.txn) return null;
    return `page ${root}, the root, is of the transaction ${txn}, not ${meta.txn}`;
  }

  /** The subtree of this page, `levels` deep; its keys are >= from and < to (null = no bound). */
  #visit(
    number: number,
    levels: number,
    from: Key | null,
    to: Key | null,
    parentTxn: number,
  ): string | null {
    const fault = this.#file.use(number, 1);
    if (fault !== null) return fault;
    this.#pages[levels - 1] ??= new TreePage(this.#file.pageSize);
    const page = this.#pages[levels - 1];
    if (!page.read(this.#file.fd, number)) return `page ${number} is cut off`;
    const kind = levels > 1 ? BRANCH : LEAF;
    if (page.number !== number) return `page ${number} says another number`;
    if (page.flags !== kind) return `page ${number} is of another kind`;
    if (page.txn > parentTxn) return `page ${number} is newer than what refers to it`;
    if (!page.hasBounds) return `page ${number} has impossible bounds`;
    return kind === LEAF
      ? this.#visitLeaf(page, number, from, to)
      : this.#visitBranch(page, number, levels, from, to);
  }

  #visitLeaf(page: TreePage, number: number, from: Key | null, to: Key | null): string | null {
    const { bytes, count } = page;
    this.#leaves++;
    this.#entries += count;
    let previousFrom = 0;
    let previousTo = 0;
    for (let i = 0; i < count; i++) {
      const node = page.node(i);
      const keyFrom = node + NODE_HEADER;
      const keyTo = page.keyEnd(node);
      if (keyTo < 0 || !this.#isKey(keyTo - keyFrom)) {
        return `page ${number} has a node outside of it`;
      }
      const flags = u16(bytes, node + 4);
      if ((flags & ~BIG) !== 0) return `page ${number} has a node of another kind`;
      const size = u32(bytes, node);
      const end = keyTo + (flags === BIG ? BIG_BYTES : size);
      if (end > bytes.length) return `page ${number} has a value outside of it`;
      this.#room.fill(node, end);
      if (this.#free !== null && u64(bytes, keyFrom) > this.#txn) {
        return `page ${number} lists free pages of a transaction that has not been`;
      }
      // The first key may be where the parent says that the page begins; later ones come after it.
      if (i > 0) {
        const order = this.#compare(bytes, keyFrom, keyTo, bytes, previousFrom, previousTo);
        if (order <= 0) return `page ${number} has keys out of order`;
      } else if (from !== null) {
        const order = this.#compare(bytes, keyFrom, keyTo, from.bytes, from.from, from.to);
        if (order < 0) return `page ${number} has keys out of order`;
      }
      previousFrom = keyFrom;
      previousTo = keyTo;
      const fault =
        flags === BIG
          ? this.#visitLargeValue(page, number, keyTo, size)
          : this.#free === null
            ? null
            : this.#list(number, bytes.subarray(keyTo, end));
      if (fault !== null) return fault;
    }
    if (to !== null && count > 0) {
      const order = this.#compare(bytes, previousFrom, previousTo, to.bytes, to.from, to.to);
      if (order >= 0) return `page ${number} has keys that belong elsewhere`;
    }
    return this.#room.isFilledFrom(page.upper)
      ? null
      : `page ${number} has nodes that overlap, or a gap`;
  }

  /** The pages that the node refers to at `at`. */
  #visitLargeValue(page: TreePage, number: number, at: number, size: number): string | null {
    const { bytes } = page;
    const { pageSize } = this.#file;
    const [first, pages] = [u64(bytes, at), u64(bytes, at + 16)];
    if (size > pages * pageSize - HEADER) {
      return `page ${number} has a value of ${size} bytes in ${pages} pages`;
    }
    if (u64(bytes, at + 8) > page.txn) return `page ${number} is older than a value of it`;
    const fault = this.#file.use(first, pages);
    if (fault !== null) return fault;
    this.#overflows += pages;
    if (this.#free === null) return null;
    const whole = this.#file.read(first, HEADER + size);
    if (whole === null) return `page ${first} is cut off`;
    if (!isHeaderOf(whole, largeValueAt(bytes, at))) {
      return `page ${first} says that it is another one`;
    }
    return this.#list(first, whole.subarray(HEADER));
  }

  /**
   * A list of free pages: how many numbers follow, then these: a page, or less than zero how many pages
   * there are from the next number on, or 0 for nothing.
   */
  #list(number: number, list: Buffer): string | null {
    const room = list.length / 8 - 1;
    const count = room >= 0 ? u64(list, 0) : 1;
    if (count > room || !Number.isInteger(room)) {
      return `page ${number} has a list of free pages that is cut off`;
    }
    for (let i = 1; i <= count; i++) {
      let first = i64(list, i * 8);
      if (first === 0) continue;
      const length = first < 0 ? -first : 1;
      if (first < 0) {
        i++;
        if (i * 8 + 8 > list.length)
          return `page ${number} has a list of free pages that is cut off`;
        first = i64(list, i * 8);
      }
      if (!this.#file.has(first, length)) {
        return `page ${number} lists ${length} free pages from page ${first} on`;
      }
      this.#free?.push(first, length);
    }
    return null;
  }

  #visitBranch(
    page: TreePage,
    number: number,
    levels: number,
    from: Key | null,
    to: Key | null,
  ): string | null {
    const { bytes, count } = page;
    this.#branches++;
    // The first key of a branch page means nothing: all that is before the second goes there.
    const starts: (Key | null)[] = [];
    for (let i = 0; i < count; i++) {
      const node = page.node(i);
      const key = { bytes, from: node + NODE_HEADER, to: page.keyEnd(node) };
      if (key.to < 0 || (i > 0 && !this.#isKey(key.to - key.from))) {
        return `page ${number} has a node outside of it`;
      }
      this.#room.fill(node, key.to);
      starts.push(i === 0 ? from : key);
      const before = i === 0 ? null : starts[i - 1];
      if (before !== null && this.#compareKeys(key, before) <= 0) {
        return `page ${number} has keys out of order`;
      }
    }
    const last = starts.at(-1) ?? null;
    if (count > 1 && last !== null && to !== null && this.#compareKeys(last, to) >= 0) {
      return `page ${number} has keys that belong elsewhere`;
    }
    if (count === 0) return `page ${number} is empty`;
    if (!this.#room.isFilledFrom(page.upper)) {
      return `page ${number} has nodes that overlap, or a gap`;
    }
    const { txn } = page;
    for (let i = 0; i < count; i++) {
      const child = childOf(bytes, page.node(i));
      const end = i + 1 < count ? starts[i + 1] : to;
      const fault = this.#visit(child, levels - 1, starts[i], end, txn);
      if (fault !== null) return fault;
    }
    return null;
  }

  /** Whether a key of this tree may have so many bytes. */
  #isKey(bytes: number): boolean {
    return this.#free === null || bytes === 8;
  }

  #compareKeys(a: Key, b: Key): number {
    return this.#compare(a.bytes, a.from, a.to, b.bytes, b.from, b.to);
  }

  #compare(a: Buffer, aFrom: number, aTo: number, b: Buffer, bFrom: number, bTo: number): number {
    if (this.#free !== null) return u64(a, aFrom) - u64(b, bFrom);
    return compareBytes(a, aFrom, aTo, b, bFrom, bTo);
  }
}

/** What the nodes of one page fill. */
class NodeRoom {
  readonly #bytes: number;
  /** Where the node ends that begins at twice the index; 0 for none. */
  readonly #ends: Uint32Array;
  #nodes = 0;
  #isOdd = false;

  constructor(pageSize: number) {
    this.#bytes = pageSize;
    this.#ends = new Uint32Array(pageSize >>> 1);
  }

  fill(from: number, to: number): void {
    this.#nodes++;
    if (from % 2 !== 0) this.#isOdd = true;
    this.#ends[from >>> 1] = to;
  }

  /** Whether the nodes are side by side from `upper` to the end of the page, each of even length. */
  isFilledFrom(upper: number): boolean {
    if (this.#isOdd) return false;
    let at = upper;
    while (at < this.#bytes) {
      const end = this.#ends[at >>> 1];
      if (end === 0) return false;
      this.#ends[at >>> 1] = 0;
      this.#nodes--;
      at = end + (end % 2);
    }
    return this.#nodes === 0;
  }
}

/**
 * The headers of large values' pages, put right before LMDB trusts them. LMDB frees the pages that the
 * header of a value's first page names: one bit turned there gives away pages of other values, or ends
 * the process. The node that refers to the value says the same (lmdb-page.ts), and was checked at the
 * opening; the pages themselves are as many as all data, so they are not read then.
 * Invariant: between `begin` and the commit, `ensure` has been called for a key before its value is
 * replaced or removed.
 * Cost: a search in the tree of the last commit, whose branch pages are kept, for each key (about 3 us),
 * and one read of 24 bytes where there is a large value, of pages that LMDB reads next.
 */
import * as fs from 'node:fs';
import {
  BIG,
  childOf,
  compareBytes,
  HEADER,
  isHeaderOf,
  LEAF,
  largeValueAt,
  MAIN_TREE,
  NODE_HEADER,
  readMetas,
  rootOf,
  TREE,
  TreePage,
  u16,
  writeHeader,
} from './lmdb-page.ts';

/** Branch pages that are kept within a transaction. */
const KEPT_PAGES = 1024;

export class LargeValues {
  readonly #fd: number;
  readonly #pageSize: number;
  #closed = false;
  readonly #header = Buffer.alloc(HEADER);
  #root: number | null = null;
  #levels = 0;
  readonly #branches = new Map<number, TreePage>();
  readonly #leaf: TreePage;
  /** The leaf's number; 0 for none. */
  #leafNumber = 0;

  /** `fd`: the open data file, for reading and writing; it is closed with this. */
  constructor(fd: number, pageSize: number) {
    this.#fd = fd;
    this.#pageSize = pageSize;
    this.#leaf = new TreePage(pageSize);
  }

  /** A transaction begins: values are where the last commit put them. */
  begin(): void {
    const [meta] = readMetas(this.#fd, this.#pageSize);
    this.#root = rootOf(meta, MAIN_TREE);
    this.#levels = u16(meta.bytes, MAIN_TREE + TREE.depth);
    this.#branches.clear();
    this.#leafNumber = 0;
  }

  /** The value of `key`, if it has one, is about to be replaced or removed. */
  ensure(key: Uint8Array): void {
    const leaf = this.#leafOf(key);
    if (leaf === null) return;
    const node = nodeOf(leaf, key);
    if (node < 0 || (u16(leaf.bytes, node + 4) & BIG) === 0) return;
    const value = largeValueAt(leaf.bytes, leaf.keyEnd(node));
    const at = value.first * this.#pageSize;
    fs.readSync(this.#fd, this.#header, 0, HEADER, at);
    if (isHeaderOf(this.#header, value)) return;
    writeHeader(this.#header, value);
    fs.writeSync(this.#fd, this.#header, 0, HEADER, at);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    fs.closeSync(this.#fd);
  }

  /** The leaf page that holds the key if any does. */
  #leafOf(key: Uint8Array): TreePage | null {
    let number = this.#root;
    if (number === null) return null;
    for (let level = this.#levels; level > 1; level--) {
      const page = this.#branch(number);
      number = childOf(page.bytes, page.node(childFor(page, key)));
    }
    if (number !== this.#leafNumber) {
      this.#leafNumber = number;
      this.#leaf.read(this.#fd, number);
    }
    return this.#leaf.flags === LEAF ? this.#leaf : null;
  }

  #branch(number: number): TreePage {
    const kept = this.#branches.get(number);
    if (kept !== undefined) return kept;
    if (this.#branches.size >= KEPT_PAGES) this.#branches.clear();
    const page = new TreePage(this.#pageSize);
    page.read(this.#fd, number);
    this.#branches.set(number, page);
    return page;
  }
}

/** Which node of a branch page the key is below: the last one that does not come after it. */
function childFor(page: TreePage, key: Uint8Array): number {
  let [low, high] = [0, page.count - 1];
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (compareAt(page, page.node(middle), key) <= 0) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Where the node of the key begins; -1 where there is none. */
function nodeOf(page: TreePage, key: Uint8Array): number {
  let [low, high] = [0, page.count - 1];
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const node = page.node(middle);
    const order = compareAt(page, node, key);
    if (order === 0) return node;
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

function compareAt(page: TreePage, node: number, key: Uint8Array): number {
  return compareBytes(page.bytes, node + NODE_HEADER, page.keyEnd(node), key, 0, key.length);
}

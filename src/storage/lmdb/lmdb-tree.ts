/**
 * Looks at LMDB's tree of pages before LMDB does, because LMDB trusts it: a damaged page ends the
 * process (SIGABRT), or hides a part of the tree without a word.
 *
 *     page    u64 number, u64 txn, u16 pad, u16 flags, u16 lower, u16 upper, then u16 offsets of nodes,
 *             these three from the header's end
 *     node    u16 u16 u16 size or child's number, u16 length of key, key, value
 *
 * What is checked, for the tree that the newer meta page names: each page says its own number and
 * kind; nodes lie within their page; keys ascend and lie within what the parent says; no page is in
 * the tree twice; there are as many entries and pages as the meta page counts. Values have checksums
 * of their own. Pages that only hold values are not read.
 * Cost: one read of each page of the tree: about 1 MB for 15,000 blocks of entries.
 */
import * as fs from 'node:fs';

const HEADER = 24;
const BRANCH = 1;
const LEAF = 2;
const NODE_HEADER = 8;
/** The value is elsewhere; the node holds where. */
const BIG = 1;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

/** Where a meta page keeps what is used here, from the page's start. */
const MAIN = { depth: 102, branches: 104, leaves: 112, entries: 128, root: 136 };
const LAST_PAGE = 144;
const TXN = 152;
const META_BYTES = 160;

/** Why the tree is damaged; null when it is sound. */
export function findTreeDamage(fd: number, pageSize: number): string | null {
  const meta = newerMeta(fd, pageSize);
  const root = meta.readBigUInt64LE(MAIN.root);
  const entries = Number(meta.readBigUInt64LE(MAIN.entries));
  if (root === NO_PAGE) return entries === 0 ? null : `${entries} entries and no root page`;
  const walk = new Walk(fd, pageSize, Number(meta.readBigUInt64LE(LAST_PAGE)));
  const fault = walk.visit(Number(root), meta.readUInt16LE(MAIN.depth), null, null);
  if (fault !== null) return fault;
  const branches = Number(meta.readBigUInt64LE(MAIN.branches));
  const leaves = Number(meta.readBigUInt64LE(MAIN.leaves));
  if (walk.branches !== branches || walk.leaves !== leaves || walk.entries !== entries) {
    return (
      `${walk.entries} entries in ${walk.leaves} leaf and ${walk.branches} branch pages, ` +
      `not ${entries} in ${leaves} and ${branches}`
    );
  }
  return null;
}

function newerMeta(fd: number, pageSize: number): Buffer {
  const [a, b] = [0, pageSize].map((at) => {
    const meta = Buffer.alloc(META_BYTES);
    fs.readSync(fd, meta, 0, META_BYTES, at);
    return meta;
  });
  return a.readBigUInt64LE(TXN) >= b.readBigUInt64LE(TXN) ? a : b;
}

class Walk {
  branches = 0;
  leaves = 0;
  entries = 0;
  readonly #fd: number;
  readonly #pageSize: number;
  readonly #lastPage: number;
  readonly #seen = new Set<number>();

  constructor(fd: number, pageSize: number, lastPage: number) {
    this.#fd = fd;
    this.#pageSize = pageSize;
    this.#lastPage = lastPage;
  }

  /** The subtree of this page, `levels` deep; its keys are >= from and < to (null = no bound). */
  visit(number: number, levels: number, from: Buffer | null, to: Buffer | null): string | null {
    if (!(number >= 2 && number <= this.#lastPage)) return `page ${number} is beyond the file`;
    if (this.#seen.has(number)) return `page ${number} is in the tree twice`;
    this.#seen.add(number);
    const page = Buffer.alloc(this.#pageSize);
    if (fs.readSync(this.#fd, page, 0, page.length, number * page.length) < page.length) {
      return `page ${number} is cut off`;
    }
    const flags = page.readUInt16LE(18);
    // These two, and the offsets of nodes, count from the header's end.
    const lower = HEADER + page.readUInt16LE(20);
    const upper = HEADER + page.readUInt16LE(22);
    const kind = flags & (BRANCH | LEAF);
    if (Number(page.readBigUInt64LE(0)) !== number) return `page ${number} says another number`;
    if (kind !== (levels > 1 ? BRANCH : LEAF)) return `page ${number} is of another kind`;
    if (lower > upper || upper > page.length || lower % 2 !== 0) {
      return `page ${number} has impossible bounds`;
    }
    const count = (lower - HEADER) / 2;
    return kind === LEAF
      ? this.#visitLeaf(number, page, count, upper, from, to)
      : this.#visitBranch(number, page, count, upper, levels, from, to);
  }

  #visitLeaf(
    number: number,
    page: Buffer,
    count: number,
    upper: number,
    from: Buffer | null,
    to: Buffer | null,
  ): string | null {
    this.leaves++;
    this.entries += count;
    let previous = from;
    for (let i = 0; i < count; i++) {
      const node = HEADER + page.readUInt16LE(HEADER + i * 2);
      const key = keyOf(page, node, upper);
      if (key === null) return `page ${number} has a node outside of it`;
      const size = page.readUInt32LE(node);
      const isBig = (page.readUInt16LE(node + 4) & BIG) !== 0;
      const end = node + NODE_HEADER + key.length + (isBig ? 8 : size);
      if (end > page.length) return `page ${number} has a value outside of it`;
      // The first key may be where the parent says that the page begins; later ones come after it.
      const order = previous === null ? 1 : key.compare(previous);
      if (order < 0 || (order === 0 && i > 0)) return `page ${number} has keys out of order`;
      previous = key;
    }
    if (previous !== null && to !== null && count > 0 && previous.compare(to) >= 0) {
      return `page ${number} has keys that belong elsewhere`;
    }
    return null;
  }

  #visitBranch(
    number: number,
    page: Buffer,
    count: number,
    upper: number,
    levels: number,
    from: Buffer | null,
    to: Buffer | null,
  ): string | null {
    this.branches++;
    const keys: (Buffer | null)[] = [];
    const children: number[] = [];
    for (let i = 0; i < count; i++) {
      const node = HEADER + page.readUInt16LE(HEADER + i * 2);
      const key = keyOf(page, node, upper);
      if (key === null) return `page ${number} has a node outside of it`;
      children.push(page.readUInt32LE(node) + page.readUInt16LE(node + 4) * 0x1_0000_0000);
      // The first key of a branch page means nothing: all that is before the second goes there.
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
    for (const [i, child] of children.entries()) {
      const end = i + 1 < count ? keys[i + 1] : to;
      const fault = this.visit(child, levels - 1, keys[i], end ?? null);
      if (fault !== null) return fault;
    }
    return null;
  }
}

/** The key of the node at `node`; null where it does not lie within the page. */
function keyOf(page: Buffer, node: number, upper: number): Buffer | null {
  if (node < upper || node + NODE_HEADER > page.length) return null;
  const length = page.readUInt16LE(node + 6);
  const at = node + NODE_HEADER;
  return at + length > page.length ? null : page.subarray(at, at + length);
}

/**
 * A compressed radix tree over 128-bit ids: blocks by their first id.
 *
 * Only branchings are nodes. What lies between two branchings (Redis's compressed nodes) is not
 * stored: every leaf carries its own key, so a search skips to the byte at which keys part and
 * compares the whole key once, at the leaf. A tree of one leaf has no node at all.
 *
 *        ids 0000-01, 0000-02, 00ff-00 (shortened to three bytes each):
 *
 *          [depth 1]              keys part at byte 1
 *           00/   \ff
 *       [depth 2]  leaf 00ff00
 *        01/  \02
 *      leaf    leaf
 *
 * `nodeCount` is what Redis's rax would count for the same keys (XINFO STREAM radix-tree-nodes): one
 * for each branching, each leaf, and each run of one or more bytes without a branching; an empty rax
 * has one node. rax splits on insert and compresses again on delete, so its shape, like ours, depends
 * on the set of keys only.
 * Cost: O(16) a search; memory about 150 bytes a branching and 16 bytes a child.
 */
import type { StreamId } from './stream-id.ts';

/** A leaf carries its key as four signed 32-bit quarters: signed, because V8 boxes larger ones. */
export interface RadixLeaf {
  readonly key0: number;
  readonly key1: number;
  readonly key2: number;
  readonly key3: number;
}

const KEY_BYTES = 16;

class Branching<L extends RadixLeaf> {
  /** The byte of the key at which the children part. */
  readonly depth: number;
  /** Ascending; children[i] holds the keys with bytes[i] there. Always two or more. */
  bytes: number[];
  children: (Branching<L> | L)[];

  constructor(depth: number, bytes: number[], children: (Branching<L> | L)[]) {
    this.depth = depth;
    this.bytes = bytes;
    this.children = children;
  }
}

type Child<L extends RadixLeaf> = Branching<L> | L;

export class RadixTree<L extends RadixLeaf> {
  #root: Child<L> | undefined = undefined;
  #size = 0;
  #nodeCount = 0;

  get size(): number {
    return this.#size;
  }

  /** What Redis's rax of these keys would count. */
  get nodeCount(): number {
    return this.#nodeCount === 0 ? 1 : this.#nodeCount;
  }

  /** The leaf with exactly this key. */
  find(id: StreamId): L | undefined {
    let at = this.#root;
    while (at instanceof Branching) {
      const i = indexOf(at.bytes, idByte(id, at.depth));
      if (i < 0) return undefined;
      at = at.children[i];
    }
    return at !== undefined && compareToId(at, id) === 0 ? at : undefined;
  }

  first(): L | undefined {
    return this.#root === undefined ? undefined : leftmost(this.#root);
  }

  last(): L | undefined {
    return this.#root === undefined ? undefined : rightmost(this.#root);
  }

  /** The last leaf with key <= id. */
  floor(id: StreamId): L | undefined {
    return this.#seek(id, false, true);
  }

  /** The first leaf with key >= id. */
  ceiling(id: StreamId): L | undefined {
    return this.#seek(id, true, true);
  }

  /** The last leaf with key < id. */
  lower(id: StreamId): L | undefined {
    return this.#seek(id, false, false);
  }

  /** The first leaf with key > id. */
  higher(id: StreamId): L | undefined {
    return this.#seek(id, true, false);
  }

  #seek(id: StreamId, up: boolean, inclusive: boolean): L | undefined {
    if (this.#root === undefined) return undefined;
    // The leaf that shares most with the id tells where the id parts from the tree.
    let near: Child<L> = this.#root;
    while (near instanceof Branching) {
      const i = indexOf(near.bytes, idByte(id, near.depth));
      near = near.children[Math.max(i, 0)];
    }
    const parting = firstDifference(near, id);
    if (parting === KEY_BYTES && inclusive) return near;
    // Walk down again as far as the id and the tree agree; `beside` is the nearest subtree on the
    // wanted side of that path.
    let beside: Child<L> | undefined;
    let at: Child<L> = this.#root;
    while (at instanceof Branching && at.depth < parting) {
      const i = indexOf(at.bytes, idByte(id, at.depth));
      const sibling = up ? at.children[i + 1] : i > 0 ? at.children[i - 1] : undefined;
      if (sibling !== undefined) beside = sibling;
      at = at.children[i];
    }
    if (parting < KEY_BYTES) {
      if (at instanceof Branching && at.depth === parting) {
        const i = ~indexOf(at.bytes, idByte(id, parting));
        const child = up ? at.children[i] : i > 0 ? at.children[i - 1] : undefined;
        if (child !== undefined) beside = child;
      } else if (leafByte(near, parting) > idByte(id, parting) === up) {
        // The whole subtree below lies on one side of the id.
        beside = at;
      }
    }
    if (beside === undefined) return undefined;
    return up ? leftmost(beside) : rightmost(beside);
  }

  /** Adds a leaf; false when the key is there already. */
  insert(leaf: L): boolean {
    if (this.#root === undefined) {
      this.#root = leaf;
      this.#size = 1;
      this.#nodeCount = nodesBelow(-1, KEY_BYTES);
      return true;
    }
    let near: Child<L> = this.#root;
    while (near instanceof Branching) {
      const i = indexOf(near.bytes, leafByte(leaf, near.depth));
      near = near.children[Math.max(i, 0)];
    }
    const parting = firstDifferenceOfLeaves(near, leaf);
    if (parting === KEY_BYTES) return false;
    let parent: Branching<L> | undefined;
    let slot = 0;
    let at: Child<L> = this.#root;
    while (at instanceof Branching && at.depth < parting) {
      parent = at;
      slot = indexOf(at.bytes, leafByte(leaf, at.depth));
      at = at.children[slot];
    }
    const byte = leafByte(leaf, parting);
    if (at instanceof Branching && at.depth === parting) {
      const i = ~indexOf(at.bytes, byte);
      at.bytes = inserted(at.bytes, i, byte);
      at.children = inserted<Child<L>>(at.children, i, leaf);
    } else {
      const parentDepth = parent === undefined ? -1 : parent.depth;
      const other = leafByte(near, parting);
      const branching: Branching<L> =
        other < byte
          ? new Branching<L>(parting, [other, byte], [at, leaf])
          : new Branching<L>(parting, [byte, other], [leaf, at]);
      if (parent === undefined) this.#root = branching;
      else parent.children[slot] = branching;
      this.#nodeCount +=
        nodesBelow(parentDepth, parting) +
        nodesBelow(parting, depthOf(at)) -
        nodesBelow(parentDepth, depthOf(at));
    }
    this.#nodeCount += nodesBelow(parting, KEY_BYTES);
    this.#size++;
    return true;
  }

  /** Removes the leaf with this key and returns it. */
  remove(id: StreamId): L | undefined {
    let grandparent: Branching<L> | undefined;
    let parentSlot = 0;
    let parent: Branching<L> | undefined;
    let slot = 0;
    let at = this.#root;
    while (at instanceof Branching) {
      const i = indexOf(at.bytes, idByte(id, at.depth));
      if (i < 0) return undefined;
      grandparent = parent;
      parentSlot = slot;
      parent = at;
      slot = i;
      at = at.children[i];
    }
    if (at === undefined || compareToId(at, id) !== 0) return undefined;
    this.#size--;
    if (parent === undefined) {
      this.#root = undefined;
      this.#nodeCount = 0;
      return at;
    }
    this.#nodeCount -= nodesBelow(parent.depth, KEY_BYTES);
    if (parent.children.length > 2) {
      parent.bytes.splice(slot, 1);
      parent.children.splice(slot, 1);
      return at;
    }
    const rest = parent.children[1 - slot];
    if (grandparent === undefined) this.#root = rest;
    else grandparent.children[parentSlot] = rest;
    const above = grandparent === undefined ? -1 : grandparent.depth;
    this.#nodeCount +=
      nodesBelow(above, depthOf(rest)) -
      nodesBelow(above, parent.depth) -
      nodesBelow(parent.depth, depthOf(rest));
    return at;
  }

  clear(): void {
    this.#root = undefined;
    this.#size = 0;
    this.#nodeCount = 0;
  }

  /** Every leaf, ascending. The tree must not change meanwhile. */
  *leaves(): Generator<L, void, undefined> {
    const path: { node: Branching<L>; next: number }[] = [];
    let at = this.#root;
    while (at !== undefined) {
      while (at instanceof Branching) {
        path.push({ node: at, next: 1 });
        at = at.children[0];
      }
      yield at;
      while (
        path.length > 0 &&
        path[path.length - 1].next === path[path.length - 1].node.bytes.length
      )
        path.pop();
      const step = path[path.length - 1];
      at = step === undefined ? undefined : step.node.children[step.next++];
    }
  }
}

/** Negative, zero or positive as the leaf's key is before, equal to or after the id. */
export function compareToId(leaf: RadixLeaf, id: StreamId): number {
  const key0 = leaf.key0 >>> 0;
  if (key0 !== id.msHi) return key0 - id.msHi;
  const key1 = leaf.key1 >>> 0;
  if (key1 !== id.msLo) return key1 - id.msLo;
  const key2 = leaf.key2 >>> 0;
  if (key2 !== id.seqHi) return key2 - id.seqHi;
  return (leaf.key3 >>> 0) - id.seqLo;
}

/** rax's nodes for a node at byte `depth` below a branching at byte `parent`: itself and the run above it. */
function nodesBelow(parent: number, depth: number): number {
  return depth > parent + 1 ? 2 : 1;
}

function depthOf<L extends RadixLeaf>(child: Child<L>): number {
  return child instanceof Branching ? child.depth : KEY_BYTES;
}

function leftmost<L extends RadixLeaf>(at: Child<L>): L {
  while (at instanceof Branching) at = at.children[0];
  return at;
}

function rightmost<L extends RadixLeaf>(at: Child<L>): L {
  while (at instanceof Branching) at = at.children[at.children.length - 1];
  return at;
}

/** Where `byte` stands, or, when it does not, the complement (~) of where it would. */
function indexOf(bytes: number[], byte: number): number {
  let low = 0;
  let high = bytes.length - 1;
  // Streams grow at their end: the last child is by far the likeliest.
  if (bytes[high] === byte) return high;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = bytes[middle];
    if (found === byte) return middle;
    if (found < byte) low = middle + 1;
    else high = middle - 1;
  }
  return ~low;
}

/**
 * The array with one item more. Small ones are copied to their exact size, because V8 reserves
 * room for sixteen more when it grows one in place, and most branchings have few children.
 */
function inserted<T>(items: T[], at: number, item: T): T[] {
  if (items.length < 16) {
    const copy = new Array<T>(items.length + 1);
    for (let i = 0; i < at; i++) copy[i] = items[i];
    copy[at] = item;
    for (let i = at; i < items.length; i++) copy[i + 1] = items[i];
    return copy;
  }
  if (at === items.length) items.push(item);
  else items.splice(at, 0, item);
  return items;
}

function leafByte(leaf: RadixLeaf, depth: number): number {
  const shift = 24 - ((depth & 3) << 3);
  if (depth < 4) return (leaf.key0 >>> shift) & 255;
  if (depth < 8) return (leaf.key1 >>> shift) & 255;
  if (depth < 12) return (leaf.key2 >>> shift) & 255;
  return (leaf.key3 >>> shift) & 255;
}

function idByte(id: StreamId, depth: number): number {
  const shift = 24 - ((depth & 3) << 3);
  if (depth < 4) return (id.msHi >>> shift) & 255;
  if (depth < 8) return (id.msLo >>> shift) & 255;
  if (depth < 12) return (id.seqHi >>> shift) & 255;
  return (id.seqLo >>> shift) & 255;
}

/** The first byte at which the two differ; KEY_BYTES when they are equal. */
function firstDifference(leaf: RadixLeaf, id: StreamId): number {
  return differingByte(
    leaf.key0 ^ id.msHi,
    leaf.key1 ^ id.msLo,
    leaf.key2 ^ id.seqHi,
    leaf.key3 ^ id.seqLo,
  );
}

function firstDifferenceOfLeaves(a: RadixLeaf, b: RadixLeaf): number {
  return differingByte(a.key0 ^ b.key0, a.key1 ^ b.key1, a.key2 ^ b.key2, a.key3 ^ b.key3);
}

function differingByte(xor0: number, xor1: number, xor2: number, xor3: number): number {
  if (xor0 !== 0) return Math.clz32(xor0) >> 3;
  if (xor1 !== 0) return 4 + (Math.clz32(xor1) >> 3);
  if (xor2 !== 0) return 8 + (Math.clz32(xor2) >> 3);
  if (xor3 !== 0) return 12 + (Math.clz32(xor3) >> 3);
  return KEY_BYTES;
}

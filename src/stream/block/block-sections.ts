/**
 * How many blocks a stream has where: its ids cut into sections of up to 256 blocks.
 *
 *     section   from ─ b b b b b b ─ last      from ─ b b b ─ last      ...
 *               blocks, cold, live, bytes      the same of its blocks
 *
 * A section knows how many of its blocks are cold, so a search for a cold block passes a section of
 * resident ones without a look at the checkpoint, and reads the first ids of a section that has cold
 * ones in one go (block-index.ts). The counts are also the proof of completeness: a checkpoint that
 * shows another number of blocks than a section counts is damaged. Sections whose blocks are all cold
 * leave a stream whole, unread.
 * Invariants: every block begins within [from, last] of exactly one section; sections ascend and none
 * is empty; `live` and `bytes` leave out the open last block of the stream, and are NaN where they are
 * not known (streams of an older format).
 * Cost: about 200 bytes a section; O(log sections) to find one.
 */

import type { RadixLeaf } from '../radix-tree.ts';
import { StreamId } from '../stream-id.ts';
import type { Block } from './block.ts';

/** Changed by tests only, and only between streams. */
export const sectionLimits = { blocks: 256 };

/** Lists of first ids kept in memory per stream, of up to 4 KiB each. */
const LISTS = 64;

export class Section {
  /** No block of it begins before. */
  readonly from: StreamId;
  /** No block of it begins after. */
  readonly last: StreamId;
  blocks = 0;
  cold = 0;
  /** Live entries of its blocks. */
  live = 0;
  /** Redis's bytes of its blocks that have live entries. */
  bytes = 0;
  /** The first ids of its cold blocks, ascending, four halves each; null while not read. */
  list: Uint32Array | null = null;

  constructor(from: StreamId, last: StreamId) {
    this.from = from.clone();
    this.last = last.clone();
  }

  /** A block begins or ceases to be counted. */
  count(block: Block, sign: 1 | -1): void {
    this.live += sign * block.live;
    if (block.live > 0) this.bytes += sign * block.listpackBytes;
  }

  /** How many of the listed ids are below `id`. Only while there is a list. */
  rank(id: StreamId): number {
    const list = this.list as Uint32Array;
    let low = 0;
    let high = this.cold;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareListed(list, middle, id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  readListed(i: number, into: StreamId): StreamId {
    const list = this.list as Uint32Array;
    return into.set(list[i * 4], list[i * 4 + 1], list[i * 4 + 2], list[i * 4 + 3]);
  }

  /** A block of it becomes cold. */
  addCold(leaf: RadixLeaf): void {
    const { list } = this;
    if (list !== null) {
      const at = this.rank(idOf(leaf));
      const grown = list.length >= (this.cold + 1) * 4 ? list : new Uint32Array(list.length + 64);
      if (grown !== list) grown.set(list);
      grown.copyWithin((at + 1) * 4, at * 4, this.cold * 4);
      writeId(grown, at, probe);
      this.list = grown;
    }
    this.cold++;
  }

  /** A cold block of it is cold no more. */
  removeCold(leaf: RadixLeaf): void {
    const { list } = this;
    if (list !== null) {
      const at = this.rank(idOf(leaf));
      list.copyWithin(at * 4, (at + 1) * 4, this.cold * 4);
    }
    this.cold--;
  }
}

export class BlockSections {
  readonly all: Section[] = [];
  /** Sections with a list, the one read longest ago first. */
  #listed: Section[] = [];

  /** The place of the section that a block with this first id is in, or would be in. */
  placeOf(id: StreamId): number {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.all[middle].from.compare(id) <= 0) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  of(leaf: RadixLeaf): Section {
    return this.all[this.placeOf(idOf(leaf))];
  }

  /** A block after all others. */
  append(leaf: RadixLeaf): Section {
    const id = idOf(leaf);
    let section = this.all.at(-1);
    if (section === undefined || section.blocks >= sectionLimits.blocks) {
      section = new Section(id, id);
      this.all.push(section);
    } else {
      section.last.copy(id);
    }
    section.blocks++;
    return section;
  }

  /** A block, counted out already, leaves. */
  removeFrom(section: Section): void {
    section.blocks--;
    if (section.blocks === 0) this.drop(section);
  }

  drop(section: Section): void {
    this.all.splice(this.placeOf(section.from), 1);
    section.list = null;
  }

  /** Takes over what was read; older lists make room. */
  keepList(section: Section, list: Uint32Array): void {
    section.list = list;
    this.#listed = this.#listed.filter((other) => other !== section && other.list !== null);
    this.#listed.push(section);
    if (this.#listed.length > LISTS) (this.#listed.shift() as Section).list = null;
  }

  /** Lets go of all lists: they are read again when they are needed. */
  forgetLists(): void {
    for (const section of this.#listed) section.list = null;
    this.#listed = [];
  }

  get listBytes(): number {
    let bytes = 0;
    for (const { list } of this.#listed) bytes += list?.byteLength ?? 0;
    return bytes;
  }
}

export function writeId(list: Uint32Array, i: number, id: StreamId): void {
  list[i * 4] = id.msHi;
  list[i * 4 + 1] = id.msLo;
  list[i * 4 + 2] = id.seqHi;
  list[i * 4 + 3] = id.seqLo;
}

function compareListed(list: Uint32Array, i: number, id: StreamId): number {
  const at = i * 4;
  if (list[at] !== id.msHi) return list[at] - id.msHi;
  if (list[at + 1] !== id.msLo) return list[at + 1] - id.msLo;
  if (list[at + 2] !== id.seqHi) return list[at + 2] - id.seqHi;
  return list[at + 3] - id.seqLo;
}

/** Scratch: valid until the next call. */
function idOf(leaf: RadixLeaf): StreamId {
  return probe.set(leaf.key0 >>> 0, leaf.key1 >>> 0, leaf.key2 >>> 0, leaf.key3 >>> 0);
}

const probe = new StreamId();

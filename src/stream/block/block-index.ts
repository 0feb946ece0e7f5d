/**
 * The blocks of one stream in order, wherever they are: resident ones in the radix tree, cold ones
 * behind `cold`.
 *
 * The checkpoint holds every block as of some time ago, so an old version of a resident block and
 * blocks removed since may come back from it. Therefore the stream itself knows how many blocks are
 * cold in each section (block-sections.ts). The first ids in a section that has cold ones are read
 * once, less those that are resident or removed; the number that is left must be the number that the
 * section counts, or the checkpoint is damaged. From then on each search is one in memory, and reading
 * a block one look-up by its name. While `coldCount` is 0 nothing is ever looked up, and neither is
 * anything beyond `coldLast`.
 * `coldNodes` keeps what the cold blocks add to Redis's count of tree nodes: measured when a block is
 * evicted or taken back, estimated evenly when a cold block goes. So the sum is exact while no block
 * is cold, and otherwise may be off by the branchings that cold keys share with newer ones. It is
 * exact again once the last cold block has gone or come back.
 * Cost: that of the radix tree; one list of at most 256 names per section, then a look-up
 * and import per cold block. A search never reads blocks that it does not return.
 */
import type { RivuletError } from '../../errors.ts';
import { compareToId, RadixTree } from '../radix-tree.ts';
import { StreamId } from '../stream-id.ts';
import type { StreamMetadata, StreamSection } from '../stream-metadata.ts';
import type { Block } from './block.ts';
import type { BlockChanges } from './block-changes.ts';
import { damaged } from './block-damage.ts';
import { BlockSections, Section, sectionLimits, writeId } from './block-sections.ts';
import { type ColdBlocks, noColdBlocks } from './cold-blocks.ts';

export class BlockIndex {
  readonly tree: RadixTree<Block> = new RadixTree<Block>();
  cold: ColdBlocks = noColdBlocks;
  coldCount = 0;
  coldNodes = 0;
  /** No entry of a cold block has a greater id. */
  readonly coldLast: StreamId = new StreamId();
  /** null while no block is cold and one section would do. */
  #sections: BlockSections | null = null;
  /** The first section holds any number of blocks, as an older format kept it. */
  #undivided = false;
  readonly #ledger: BlockChanges;

  constructor(ledger: BlockChanges) {
    this.#ledger = ledger;
  }

  get count(): number {
    return this.tree.size + this.coldCount;
  }

  /** What Redis's rax of these blocks would count. */
  get nodeCount(): number {
    if (this.coldCount === 0) return this.tree.nodeCount;
    // A leaf each and a root at least; at most a leaf, a branching and the runs before both.
    const estimate = residentNodes(this.tree) + this.coldNodes;
    return Math.min(Math.max(estimate, this.count + 1), this.count * 4);
  }

  /** Memory that the bookkeeping of cold blocks takes. */
  get listBytes(): number {
    return this.#sections === null ? 0 : this.#sections.listBytes;
  }

  isResident(block: Block): boolean {
    return this.coldCount === 0 || this.tree.find(block.readFirstId(probe)) === block;
  }

  /** Whether no block is before this one. Reads no block. */
  isFirst(block: Block): boolean {
    const resident = this.tree.first();
    if (resident !== undefined && compareToId(resident, block.readFirstId(probe)) < 0) return false;
    if (this.coldCount === 0) return true;
    return !this.#locateUp(MIN) || compareToId(block, located) <= 0;
  }

  first(): Block | undefined {
    const resident = this.tree.first();
    if (this.coldCount === 0) return resident;
    if (!this.#locateUp(MIN)) throw this.#missing();
    return this.#smaller(resident);
  }

  /**
   * Sets `into` to the first id of the first block after the one that begins with `id` (null: of the
   * very first), without reading that block. False when there is none.
   */
  nextFirstId(id: StreamId | null, into: StreamId): boolean {
    const resident = id === null ? this.tree.first() : this.tree.higher(id);
    let found = false;
    if (this.coldCount > 0 && (id === null || id.compare(this.coldLast) < 0)) {
      found = id === null ? this.#locateUp(MIN) : this.#locateAbove(id);
    }
    if (found && (resident === undefined || compareToId(resident, located) > 0)) {
      into.copy(located);
      return true;
    }
    resident?.readFirstId(into);
    return resident !== undefined;
  }

  last(): Block | undefined {
    const resident = this.tree.last();
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    if (!this.#locateDown(this.coldLast)) throw this.#missing();
    return this.#greater(resident);
  }

  /** An id that no entry of any block is after. */
  lastPacked(into: StreamId): StreamId {
    const resident = this.tree.last();
    if (resident === undefined) return into.copy(this.coldLast);
    resident.readLastId(into);
    return into.compare(this.coldLast) < 0 ? into.copy(this.coldLast) : into;
  }

  /** The last block whose first id is <= `id`. */
  floor(id: StreamId): Block | undefined {
    const resident = this.tree.floor(id);
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    return this.#locateDown(id) ? this.#greater(resident) : resident;
  }

  /** As `floor`, but may leave out cold blocks none of whose entries can be at or after `id`. */
  floorFor(id: StreamId): Block | undefined {
    if (this.coldCount === 0 || id.compare(this.coldLast) > 0) return this.tree.floor(id);
    return this.floor(id);
  }

  /** The first block whose first id is > `id`. */
  higher(id: StreamId): Block | undefined {
    const resident = this.tree.higher(id);
    if (this.coldCount === 0 || id.compare(this.coldLast) >= 0) return resident;
    return this.#locateAbove(id) ? this.#smaller(resident) : resident;
  }

  /** The first cold block whose first id is >= `id`. */
  coldFrom(id: StreamId): Block | undefined {
    if (this.coldCount === 0 || id.compare(this.coldLast) > 0) return undefined;
    return this.#locateUp(id) ? this.#read() : undefined;
  }

  /** The last cold block whose first id is <= `id`, where no resident one is between. */
  coldFloor(id: StreamId): Block | undefined {
    if (this.coldCount === 0 || id.compare(this.coldLast) > 0 || !this.#locateDown(id)) return;
    const resident = this.tree.floor(id);
    if (resident !== undefined && compareToId(resident, located) > 0) return;
    return this.#read();
  }

  /** The last block whose first id is < `id`. */
  lower(id: StreamId): Block | undefined {
    const resident = this.tree.lower(id);
    if (this.coldCount === 0) return resident;
    if (resident !== undefined && compareToId(resident, this.coldLast) >= 0) return resident;
    const below = probe.copy(id);
    return below.decrement() && this.#locateDown(below) ? this.#greater(resident) : resident;
  }

  /** A block after all others joins: resident, and `sealed` unless it is open to entries. */
  append(block: Block, sealed: boolean): void {
    if (this.#sections === null && this.tree.size >= sectionLimits.blocks) this.#divide(null);
    this.tree.insert(block);
    const section = this.#sections?.append(block);
    if (sealed) section?.count(block, 1);
  }

  /** The stream's last block is closed (sign 1), or takes entries again (-1). */
  seal(block: Block, sign: 1 | -1): void {
    this.#sections?.of(block).count(block, sign);
  }

  /** A sealed block has lost a live entry; Redis's size of it changed by `bytes`. */
  buried(block: Block, bytes: number): void {
    const section = this.#sections?.of(block);
    if (section === undefined) return;
    section.live--;
    section.bytes += bytes;
  }

  /** A cold block becomes resident, to be changed. */
  adopt(block: Block): void {
    const before = residentNodes(this.tree);
    this.tree.insert(block);
    this.#sectionsOfCold().of(block).removeCold(block);
    this.#uncount(block, residentNodes(this.tree) - before);
    block.stored = true;
  }

  /** A resident block becomes cold. `open`: the stream's last block, while it takes entries. */
  evict(block: Block, open: Block | null): void {
    this.#sections ?? this.#divide(open);
    const section = (this.#sections as BlockSections | null)!.of(block);
    if (block === open) section.count(block, 1);
    const before = residentNodes(this.tree);
    this.tree.remove(block.readFirstId(probe));
    this.coldNodes += before - residentNodes(this.tree);
    this.coldCount++;
    section.addCold(block);
    block.readLastId(probe);
    if (probe.compare(this.coldLast) > 0) this.coldLast.copy(probe);
  }

  /** A block, resident or cold, leaves the stream. `open` as for `evict`. */
  remove(block: Block, resident: boolean, open: Block | null): void {
    const sections = this.#sections;
    const section = sections?.of(block);
    if (block !== open) section?.count(block, -1);
    if (resident) {
      this.tree.remove(block.readFirstId(probe));
    } else {
      section?.removeCold(block);
      this.#uncount(block, Math.round(this.coldNodes / this.coldCount));
    }
    if (section !== undefined) sections?.removeFrom(section);
  }

  /** The first section, when all its blocks are cold and it is known how much is in them. */
  coldHead(): Section | undefined {
    const first = this.coldCount === 0 ? undefined : this.#sections?.all[0];
    if (first === undefined || first.cold < first.blocks) return undefined;
    return Number.isNaN(first.live) ? undefined : first;
  }

  /** Whether every entry of the first section is before `id`. */
  headIsBefore(id: StreamId): boolean {
    const next = this.#sectionsOfCold().all[1];
    return next === undefined ? this.lastPacked(probe).compare(id) < 0 : next.from.compare(id) <= 0;
  }

  /** The first section, whose blocks are all cold, leaves the stream. */
  removeHead(section: Section): void {
    const nodes = Math.round((this.coldNodes * section.cold) / this.coldCount);
    this.#sectionsOfCold().drop(section);
    this.coldCount -= section.cold;
    this.coldNodes = this.coldCount === 0 ? 0 : this.coldNodes - nodes;
    if (this.coldCount === 0) this.coldLast.setMin();
  }

  /** Lets go of the lists of cold blocks, which are read again when they are needed. */
  forgetLists(): void {
    this.#sections?.forgetLists();
  }

  /** What a checkpoint keeps of the sections; none when one would do. `open` as for `evict`. */
  sections(open: Block | null): StreamSection[] {
    if (this.count <= sectionLimits.blocks) return [];
    const all = this.#sections?.all ?? [];
    return all.map(({ from, last, blocks, live, bytes }, i) => {
      const tail = i === all.length - 1 && open !== null ? open : null;
      const tailBytes = tail === null || tail.live === 0 ? 0 : tail.listpackBytes;
      return { from, last, blocks, live: live + (tail?.live ?? 0), bytes: bytes + tailBytes };
    });
  }

  /** An index whose blocks are all cold. */
  restore(cold: ColdBlocks, metadata: StreamMetadata): void {
    this.cold = cold;
    this.coldCount = metadata.blocks;
    this.coldNodes = metadata.nodes;
    this.coldLast.copy(metadata.lastPacked);
    if (metadata.blocks === 0) return;
    this.#sections = new BlockSections();
    const { length, nodeBytes, blocks } = metadata;
    const whole = { from: MIN, last: metadata.lastPacked, blocks, live: length, bytes: nodeBytes };
    this.#undivided = metadata.sections.length === 0 && blocks > sectionLimits.blocks;
    for (const read of metadata.sections.length === 0 ? [whole] : metadata.sections) {
      const section = new Section(read.from, read.last);
      section.blocks = section.cold = read.blocks;
      section.live = read.live;
      section.bytes = read.bytes;
      this.#sections.all.push(section);
    }
  }

  /** Makes the sections of a stream that is wholly in memory. */
  #divide(open: Block | null): void {
    this.#sections = new BlockSections();
    for (const block of this.tree.leaves()) {
      const section = this.#sections.append(block);
      if (block !== open) section.count(block, 1);
    }
  }

  /** Cuts the one section of an older format, whose blocks are all cold, into sections. */
  #divideStored(): void {
    const whole = this.#listed(0);
    this.#undivided = false;
    const { all } = this.#sectionsOfCold();
    const parts: Section[] = [];
    for (let i = 0; i < whole.cold; i += sectionLimits.blocks) {
      const end = Math.min(whole.cold, i + sectionLimits.blocks);
      const from = whole.readListed(i, new StreamId());
      const part = new Section(from, whole.readListed(end - 1, new StreamId()));
      part.blocks = part.cold = end - i;
      part.live = part.bytes = Number.NaN;
      parts.push(part);
    }
    whole.list = null;
    all.splice(0, 1, ...parts);
  }

  #sectionsOfCold(): BlockSections {
    if (this.#sections === null) throw new Error('a cold block without a section');
    return this.#sections;
  }

  #uncount(block: Block, nodes: number): void {
    this.coldCount--;
    this.coldNodes = this.coldCount === 0 ? 0 : this.coldNodes - nodes;
    // When the last cold block goes, the others are all before it.
    if (block.compareLast(this.coldLast) >= 0) block.readFirstId(this.coldLast).decrement();
    if (this.coldCount === 0) this.coldLast.setMin();
  }

  /** Sets `located` to the first id of the first cold block at or after `id`; false = none. */
  #locateUp(id: StreamId): boolean {
    if (this.#undivided) this.#divideStored();
    const { all } = this.#sectionsOfCold();
    for (let i = this.#sectionsOfCold().placeOf(id); i < all.length; i++) {
      if (all[i].cold === 0) continue;
      const section = this.#listed(i);
      const at = section.rank(id);
      if (at === section.cold) continue;
      section.readListed(at, located);
      return true;
    }
    return false;
  }

  #locateAbove(id: StreamId): boolean {
    const above = probe.copy(id);
    return above.increment() && this.#locateUp(above);
  }

  /** Sets `located` to the first id of the last cold block at or before `id`; false = none. */
  #locateDown(id: StreamId): boolean {
    if (this.#undivided) this.#divideStored();
    const { all } = this.#sectionsOfCold();
    for (let i = this.#sectionsOfCold().placeOf(id); i >= 0; i--) {
      if (all[i].cold === 0) continue;
      const section = this.#listed(i);
      let at = section.rank(id);
      if (at === section.cold || !section.readListed(at, located).equals(id)) at--;
      if (at < 0) continue;
      section.readListed(at, located);
      return true;
    }
    return false;
  }

  /** The i-th section with the first ids of its cold blocks. */
  #listed(i: number): Section {
    const sections = this.#sectionsOfCold();
    const section = sections.all[i];
    if (section.list !== null) return section;
    const list = new Uint32Array(section.cold * 4);
    let found = 0;
    this.cold.firstIds(section.from, section.last, (id) => {
      if (this.tree.find(id) !== undefined || this.#ledger.isForgotten(id)) return;
      if (found < section.cold) writeId(list, found, id);
      found++;
    });
    if (found !== section.cold) throw this.#miscounted(section, found);
    sections.keepList(section, list);
    return section;
  }

  #smaller(resident: Block | undefined): Block {
    if (resident !== undefined && compareToId(resident, located) < 0) return resident;
    return this.#read();
  }

  #greater(resident: Block | undefined): Block {
    if (resident !== undefined && compareToId(resident, located) > 0) return resident;
    return this.#read();
  }

  #read(): Block {
    const block = this.cold.read(located);
    if (block === undefined || compareToId(block, located) !== 0) throw this.#missing();
    return block;
  }

  #missing(): RivuletError {
    return damaged(`the block of entries that begins with ${located} is not there`);
  }

  #miscounted({ from, last, cold }: Section, found: number): RivuletError {
    return damaged(`${cold} blocks of entries between ${from} and ${last} are ${found}`);
  }
}

const MIN = StreamId.min();

function residentNodes(tree: RadixTree<Block>): number {
  return tree.size === 0 ? 0 : tree.nodeCount;
}

/** Where a search ended. */
const located = new StreamId();
const probe = new StreamId();

/**
 * A stream: entries in ascending order of id, packed into blocks, found through a radix tree.
 *
 * One block is one Redis node: it is cut exactly where Redis 7.0.15 cuts (listpack-size.ts), so trim
 * results and radix-tree counts are Redis's. Blocks may be resident or cold (cold-blocks.ts); the
 * last one, `#tail`, has a buffer that grows, the others lie in shared chunks.
 * Invariants: `length` = live entries; `firstId` = the first live entry's id, 0-0 when there is none;
 * `lastId` never goes down but by `setId`; a block has at least one entry or tombstone.
 * Layout is state: where blocks begin and how full the last one is survives `export` and `restore`,
 * so a trim or an append replayed after a restart does what it did before.
 * Cost: append O(1) amortised, no allocation but for a new block; has/remove O(log blocks + entries
 * of a block).
 */
import type { Arguments } from '../util/arguments.ts';
import { plus, type Whole } from '../util/whole.ts';
import { Block, CLEAN } from './block/block.ts';
import { BlockChanges, type FrozenChanges } from './block/block-changes.ts';
import { compact, isSparse } from './block/block-compaction.ts';
import { BlockCursor } from './block/block-cursor.ts';
import { isDamage } from './block/block-damage.ts';
import { BlockIndex } from './block/block-index.ts';
import type { Section } from './block/block-sections.ts';
import { makeGrowable, writeEntry, writeFields } from './block/block-writer.ts';
import { ChunkStore } from './block/chunk-store.ts';
import type { ColdBlocks } from './block/cold-blocks.ts';
import { TOMBSTONE } from './block/entry-format.ts';
import { LARGEST_NODE, type NodeLimits } from './block/node-limits.ts';
import { StreamHead } from './stream-head.ts';
import { StreamId } from './stream-id.ts';
import { readMetadata, type StreamMetadata, writeMetadata } from './stream-metadata.ts';

/** What a resident block costs beside its bytes: the object and its share of the tree. */
const BLOCK_OVERHEAD = 320;
/** A buffer larger than this is not kept for the next block. */
const LARGEST_SPARE = 16_384;

/** Where an appended entry went. */
export type NodePlace = 'last node' | 'new node';

export class Stream {
  /** last-generated-id. Change it with `append` or `setId` only, as all public ids here. */
  readonly lastId: StreamId = new StreamId();
  /** recorded-first-entry-id. */
  readonly firstId: StreamId = new StreamId();
  /** max-deleted-entry-id. */
  readonly maxDeletedId: StreamId = new StreamId();
  /** Live entries. */
  length = 0;
  /** entries-added. */
  entriesAdded: Whole = 0;
  /**
   * What the nodes that have live entries would take as Redis's listpacks, their tombstones included;
   * cold ones count too. (Whether a node of nothing but tombstones is there is not defined.)
   */
  nodeBytes = 0;
  readonly limits: NodeLimits;
  /** @internal Block order and changes, for the iterator and the trim. */
  readonly ledger: BlockChanges = new BlockChanges();
  /** @internal */
  readonly index: BlockIndex = new BlockIndex(this.ledger);
  /** @internal For the trim; null until an entry has gone. */
  head: StreamHead | null = null;
  /** The last block, while it has its own buffer. */
  #tail: Block | null = null;
  /** The buffer that the next tail will use. */
  #spare: Uint8Array | null = null;
  #chunks: ChunkStore | null = null;
  /** Bytes of resident blocks other than the tail. */
  #sealedBytes = 0;

  /** `limits` is held by reference. */
  constructor(limits: NodeLimits) {
    this.limits = limits;
  }

  /** XINFO STREAM radix-tree-keys. */
  get radixTreeKeys(): number {
    return this.index.count;
  }

  /** XINFO STREAM radix-tree-nodes; exact while no block is cold. */
  get radixTreeNodes(): number {
    return this.index.nodeCount;
  }

  /**
   * Appends one entry whose field/value pairs are args[from .. to). The caller has made sure that
   * `id` > lastId and that the pairs are whole and at least one. Whether the entry begins a node is
   * decided by the limits, or by `where` when a record is replayed: the limits may have changed since.
   * Returns where it went.
   */
  append(
    id: StreamId,
    args: Arguments,
    from: number,
    to: number,
    where: NodePlace | null = null,
  ): NodePlace {
    let block = this.#tail;
    if (block === null && this.index.count > 0) block = this.index.last() ?? null;
    let begins = block === null;
    if (block !== null) {
      begins = where === null ? this.#isFull(block, args, from, to) : where === 'new node';
    }
    if (block === null || begins) {
      block = this.#begin(id, args, from, to);
    } else if (block !== this.#tail) {
      this.#reopen(block);
    } else if (block.epoch !== this.ledger.epoch) {
      this.ledger.beforeChange(block);
    }
    const before = block.live > 0 ? block.listpackBytes : 0;
    writeEntry(block, id, args, from, to);
    this.nodeBytes += block.listpackBytes - before;
    this.entriesAdded = plus(this.entriesAdded, 1);
    this.lastId.copy(id);
    if (this.length++ === 0) this.firstId.copy(id);
    return begins ? 'new node' : 'last node';
  }

  /** Whether a live entry has this id. */
  has(id: StreamId): boolean {
    if (this.length === 0 || id.compare(this.firstId) < 0) return false;
    const block = this.index.floorFor(id);
    return block !== undefined && this.#seekInBlock(block, id);
  }

  /** XDEL of one id: false when there is no such live entry. Raises maxDeletedId. */
  remove(id: StreamId): boolean {
    if (this.length === 0 || id.compare(this.firstId) < 0) return false;
    const block = this.index.floorFor(id);
    if (block === undefined || !this.#seekInBlock(block, id)) return false;
    if (block.live === 1) {
      this.removeBlock(block);
    } else {
      if (this.makeResident(block)) this.#seekInBlock(block, id);
      this.markDeleted(block, cursor);
      this.compact(block);
    }
    if (id.compare(this.maxDeletedId) > 0) this.maxDeletedId.copy(id);
    if (id.equals(this.firstId)) this.refreshFirstId();
    return true;
  }

  /** XSETID. `entriesAdded` < 0 and `maxDeletedId` null or 0-0 leave theirs as they are. */
  setId(lastId: StreamId, entriesAdded: Whole = -1, maxDeletedId: StreamId | null = null): void {
    this.lastId.copy(lastId);
    if (entriesAdded >= 0) this.entriesAdded = entriesAdded;
    if (maxDeletedId !== null && !maxDeletedId.isZero()) this.maxDeletedId.copy(maxDeletedId);
  }

  /** Sets `into` to the last live entry's id, or to 0-0 and returns false when there is none. */
  lastNonDeletedId(into: StreamId): boolean {
    if (this.length === 0) {
      into.setMin();
      return false;
    }
    let block = this.#tail ?? this.index.last();
    while (block !== undefined) {
      if (block.live > 0) {
        if (block.deleted === 0) block.readLastId(into);
        else {
          this.#lastLive(block, into);
        }
        return true;
      }
      block = this.index.lower(block.readFirstId(into));
    }
    throw new Error(`a stream of ${this.length} entries has none`);
  }

  #lastLive(block: Block, into: StreamId): void {
    for (let stretch = block.steps?.count ?? 0; stretch >= 0; stretch--) {
      let found = false;
      cursor.attachStretch(block, stretch);
      while (cursor.next()) {
        if ((cursor.header & TOMBSTONE) !== 0) continue;
        into.copy(cursor.id);
        found = true;
      }
      if (found) return;
    }
  }

  /** Redis's streamRangeHasTombstones: whether maxDeletedId lies in [start, end] and may matter. */
  rangeHasTombstones(start: StreamId, end: StreamId): boolean {
    if (this.length === 0 || this.maxDeletedId.isZero()) return false;
    return start.compare(this.maxDeletedId) <= 0 && this.maxDeletedId.compare(end) <= 0;
  }

  /**
   * A copy for COPY: same entries, same node layout, all resident. Sealed blocks share their bytes
   * until one of the two changes them. Cost: O(blocks).
   */
  copy(): Stream {
    const { index } = this;
    const blocks = index.coldCount === 0 ? index.tree.leaves() : this.blocks();
    const tail = this.#tail;
    return Stream.#build(this.#metadata(), this.limits, function* copies() {
      for (const block of blocks) {
        yield block === tail || !index.isResident(block) ? block.twin() : block.share();
      }
    });
  }

  // What the checkpointer uses. Blocks are named by their first id.

  /** Blocks that live only in the checkpoint. */
  get coldCount(): number {
    return this.index.coldCount;
  }

  /** Bytes of resident blocks, their bookkeeping included: an estimate for the block budget. */
  get residentBytes(): number {
    const tail = this.#tail === null ? 0 : this.#tail.bytes.length;
    const blocks = this.index.tree.size * BLOCK_OVERHEAD;
    return this.#sealedBytes + tail + blocks + this.index.listBytes;
  }

  /** The first cold block that begins at `id` or after it, read; undefined when there is none. */
  coldBlockFrom(id: StreamId): Block | undefined {
    return this.index.coldFrom(id);
  }

  /** The cold block that may hold `id`, read; undefined when there is none. */
  coldBlockOf(id: StreamId): Block | undefined {
    return this.index.coldFloor(id);
  }

  /** Where cold blocks are found. */
  get coldBlocks(): ColdBlocks {
    return this.index.cold;
  }

  /**
   * Bytes of memory that the resident blocks hold, for MEMORY USAGE: whole chunks, as a chunk is free
   * when all its blocks are gone.
   */
  get heldBytes(): number {
    const tail = this.#tail === null ? 0 : this.#tail.bytes.length;
    const blocks = this.index.tree.size * BLOCK_OVERHEAD;
    return (this.#chunks?.heldBytes ?? 0) + tail + blocks + this.index.listBytes;
  }

  /**
   * Called with a block frozen and not yet captured, before it changes or goes: export it at once,
   * then call `captured`.
   */
  get onFrozenBlockChange(): ((block: Block) => void) | null {
    return this.ledger.onFrozenBlockChange;
  }

  set onFrozenBlockChange(hook: ((block: Block) => void) | null) {
    this.ledger.onFrozenBlockChange = hook;
  }

  /** Whether `freeze` would have anything to hand out. */
  get hasBlockChanges(): boolean {
    return this.ledger.hasChanges;
  }

  /**
   * Starts a checkpoint of this stream: freezes the blocks changed since the previous one and returns
   * what is gone. O(1) but for single removals. Apply the removals before the blocks.
   */
  freeze(): FrozenChanges {
    return this.ledger.freeze();
  }

  /** A frozen block that has still to be captured; undefined when there is none. */
  nextFrozen(): Block | undefined {
    return this.ledger.nextFrozen();
  }

  /** The block's bytes as of the freeze have been taken. */
  captured(block: Block): void {
    this.ledger.captured(block);
  }

  /** The checkpoint begun by `freeze` is durable: what was captured and not changed since is clean. */
  committed(): void {
    this.ledger.committed();
  }

  /** The checkpoint begun by `freeze` failed: its changes count as new again. */
  aborted(): void {
    this.ledger.aborted();
  }

  /** Resident blocks that are clean, oldest first: candidates for `evict`. Collect before evicting. */
  *evictable(): Generator<Block, void, undefined> {
    for (const block of this.index.tree.leaves()) if (block.epoch === CLEAN) yield block;
  }

  /** Drops a clean block from memory; false when it is not clean or not resident. */
  evict(block: Block): boolean {
    if (block.epoch !== CLEAN) return false;
    if (this.index.tree.find(block.readFirstId(scratch)) !== block) return false;
    this.index.evict(block, this.#tail);
    this.#forgetBytes(block);
    return true;
  }

  /**
   * Evicts clean blocks, oldest first, until about `bytes` are free; returns how many bytes that were.
   * Their memory comes back when the whole chunk that they share is free.
   */
  evictOldest(bytes: number): number {
    const before = this.residentBytes;
    let block = this.index.tree.first();
    while (block !== undefined && before - this.residentBytes < bytes) {
      const next: Block | undefined = this.index.tree.higher(block.readFirstId(scratch));
      this.evict(block);
      block = next;
    }
    return before - this.residentBytes;
  }

  /** All blocks in order, cold ones read one at a time. The stream must not change meanwhile. */
  *blocks(): Generator<Block, void, undefined> {
    const at = new StreamId();
    let block = this.index.first();
    while (block !== undefined) {
      yield block;
      block = this.index.higher(block.readFirstId(at));
    }
  }

  /** Everything but the blocks: ids, counters, layout. Versioned. */
  export(): Buffer {
    return writeMetadata(this.#metadata());
  }

  /** A stream whose blocks are all cold. Throws RangeError where the metadata is damaged. */
  static restore(metadata: Buffer, cold: ColdBlocks, limits: NodeLimits): Stream {
    const read = readMetadata(metadata);
    const stream = new Stream(limits);
    stream.#adoptMetadata(read);
    stream.index.restore(cold, read);
    return stream;
  }

  /** A stream from its metadata and all its blocks, resident. For RESTORE. Throws RangeError on damage. */
  static assemble(metadata: Buffer, blocks: Iterable<Block>, limits: NodeLimits): Stream {
    const read = readMetadata(metadata);
    const stream = Stream.#build(read, limits, () => blocks);
    let live = 0;
    for (const block of stream.index.tree.leaves()) live += block.live;
    if (live !== read.length || stream.index.count !== read.blocks) {
      throw new RangeError(
        `stream is damaged: ${stream.index.count} blocks of ${live} entries, not ${read.blocks} of ${read.length}`,
      );
    }
    stream.refreshFirstId();
    return stream;
  }

  /** Gives a stream made by the constructor, `copy` or `assemble` the place where evicted blocks are found. */
  attachColdBlocks(cold: ColdBlocks): void {
    this.index.cold = cold;
  }

  // For trim.ts.

  /**
   * @internal Takes a block, tombstones and all, out of the stream.
   */
  removeBlock(block: Block): void {
    const resident = this.index.isResident(block);
    const isFirst = this.index.isFirst(block);
    if (resident) this.ledger.beforeRemove(block, isFirst);
    else this.ledger.forget(block, isFirst);
    this.index.remove(block, resident, this.#tail);
    if (resident) this.#forgetBytes(block);
    this.length -= block.live;
    if (block.live > 0) this.nodeBytes -= block.listpackBytes;
  }

  /** @internal Takes the first section, whose blocks are all cold, out of the stream, unread. */
  removeHead(section: Section): void {
    this.ledger.forgetUpTo(section.last);
    this.index.removeHead(section);
    this.length -= section.live;
    this.nodeBytes -= section.bytes;
  }

  /**
   * @internal Before the block is changed: a cold one becomes resident. Its bytes then move into a
   * chunk, as do those that a copy of the stream shares. True when they moved.
   */
  makeResident(block: Block): boolean {
    const isResident = this.index.isResident(block);
    if (isResident && !block.shared) return false;
    if (!isResident) {
      this.index.adopt(block);
      block.epoch = CLEAN;
      this.#sealedBytes += block.length;
    }
    this.#chunks ??= new ChunkStore();
    if (isResident) this.#chunks.release(block);
    this.#chunks.place(block);
    block.shared = false;
    return true;
  }

  /**
   * @internal Gives back what deleted entries of a block take, when that is much and the block is
   * resident: the stream neither counts nor keeps the bytes of a cold one.
   */
  compact(block: Block): void {
    if (block === this.#tail || !isSparse(block) || !this.index.isResident(block)) return;
    this.head?.forget();
    this.#sealedBytes -= block.length;
    this.#chunks ??= new ChunkStore();
    this.#chunks.release(block);
    compact(block);
    this.#chunks.keep(block);
    this.#sealedBytes += block.length;
  }

  /** @internal Marks the live entry of a resident block that `at` stands on as deleted. */
  markDeleted(block: Block, at: BlockCursor): void {
    if (block.epoch !== this.ledger.epoch) this.ledger.beforeChange(block);
    const before = block.listpackBytes;
    block.markDeleted(at.headerAt, at.bodyEnd - at.bodyAt);
    const bytes = (block.live > 0 ? block.listpackBytes : 0) - before;
    this.nodeBytes += bytes;
    if (block !== this.#tail) this.index.buried(block, bytes);
    this.length--;
  }

  /**
   * @internal After the first live entry has gone. Where the first block is damaged, `firstId` is
   * where that block begins: the removal is done, and a read of that block fails with the damage.
   */
  refreshFirstId(): void {
    this.firstId.setMin();
    if (this.length === 0) {
      this.head?.forget();
      return;
    }
    try {
      this.#findFirst();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#guessFirst();
    }
  }

  #guessFirst(): void {
    try {
      this.index.nextFirstId(null, this.firstId);
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }

  #findFirst(): void {
    let block = this.index.first();
    while (block !== undefined && block.live === 0) {
      block = this.index.higher(block.readFirstId(scratch));
    }
    if (block === undefined) throw new Error(`a stream of ${this.length} entries has no blocks`);
    this.head ??= new StreamHead();
    this.head.find(cursor, block);
    this.firstId.copy(cursor.id);
  }

  /** Whether Redis would begin a new node for this entry (streamAppendItem). */
  #isFull(block: Block, args: Arguments, from: number, to: number): boolean {
    const { maxEntries, maxBytes } = this.limits;
    const { lengths } = args;
    let bytes = block.listpackBytes;
    for (let i = from; i < to; i++) bytes += lengths[i];
    if (bytes >= (maxBytes > 0 && maxBytes < LARGEST_NODE ? maxBytes : LARGEST_NODE)) return true;
    return maxEntries > 0 && block.live + block.deleted >= maxEntries;
  }

  /** Moves `cursor` to the live entry with this id; false when the block has none. */
  #seekInBlock(block: Block, id: StreamId): boolean {
    if (block.compareLast(id) < 0) return false;
    if (this.head === null) cursor.attach(block);
    else this.head.attach(cursor, block);
    cursor.skipTo(block, id);
    return cursor.seek(id) && cursor.id.equals(id) && (cursor.header & TOMBSTONE) === 0;
  }

  #begin(id: StreamId, args: Arguments, from: number, to: number): Block {
    this.#seal();
    const block = new Block(id);
    if (this.#spare !== null) {
      block.bytes = this.#spare;
      this.#spare = null;
    }
    writeFields(block, args, from, to);
    this.ledger.added(block);
    this.index.append(block, false);
    this.#tail = block;
    return block;
  }

  /** Moves the tail's bytes into a chunk: another block follows it. */
  #seal(): void {
    const block = this.#tail;
    if (block === null) return;
    const buffer = block.bytes;
    this.#chunks ??= new ChunkStore();
    this.#chunks.place(block);
    this.#sealedBytes += block.length;
    this.index.seal(block, 1);
    this.#tail = null;
    if (buffer.length <= LARGEST_SPARE) this.#spare = buffer;
  }

  /** The last block, found in a chunk or in the checkpoint, takes entries again. */
  #reopen(block: Block): void {
    this.makeResident(block);
    if (block.epoch !== this.ledger.epoch) this.ledger.beforeChange(block);
    this.#sealedBytes -= block.length;
    this.#chunks?.release(block);
    this.index.seal(block, -1);
    makeGrowable(block, this.#spare);
    this.#spare = null;
    this.#tail = block;
  }

  #forgetBytes(block: Block): void {
    if (block !== this.#tail) {
      this.#sealedBytes -= block.length;
      this.#chunks?.release(block);
      return;
    }
    if (block.bytes.length <= LARGEST_SPARE) this.#spare = block.bytes;
    this.#tail = null;
  }

  #metadata(): StreamMetadata {
    return {
      lastId: this.lastId,
      firstId: this.firstId,
      maxDeletedId: this.maxDeletedId,
      lastPacked: this.index.lastPacked(new StreamId()),
      length: this.length,
      entriesAdded: this.entriesAdded,
      nodeBytes: this.nodeBytes,
      blocks: this.index.count,
      nodes: this.index.count === 0 ? 0 : this.index.nodeCount,
      sections: this.index.sections(this.#tail),
    };
  }

  #adoptMetadata(read: StreamMetadata): void {
    this.lastId.copy(read.lastId);
    this.firstId.copy(read.firstId);
    this.maxDeletedId.copy(read.maxDeletedId);
    this.length = read.length;
    this.entriesAdded = read.entriesAdded;
    this.nodeBytes = read.nodeBytes;
  }

  /** A stream of these blocks, which become its own. */
  static #build(read: StreamMetadata, limits: NodeLimits, blocks: () => Iterable<Block>): Stream {
    const stream = new Stream(limits);
    stream.#adoptMetadata(read);
    stream.nodeBytes = 0;
    stream.#chunks = new ChunkStore();
    let previous: Block | undefined;
    for (const block of blocks()) {
      if (previous !== undefined && previous.compareLast(block.readFirstId(scratch)) >= 0) {
        throw new RangeError('stream is damaged: blocks overlap or are out of order');
      }
      previous = block;
      if (block.shared) stream.#chunks.borrow(block);
      else stream.#chunks.place(block);
      stream.#sealedBytes += block.length;
      if (block.live > 0) stream.nodeBytes += block.listpackBytes;
      stream.ledger.added(block);
      stream.index.append(block, true);
    }
    return stream;
  }
}

const cursor = new BlockCursor();
const scratch = new StreamId();

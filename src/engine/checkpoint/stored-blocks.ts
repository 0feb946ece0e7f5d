/**
 * Where a stream finds its cold blocks: in the last committed checkpoint.
 *
 * One StoredBlocks per stream, one BlockReader per engine. The reader remembers the last block read
 * of each stream, because readers of old entries come back to the block they were in; and each stream
 * keeps what was read for a command that is about to run (read-ahead.ts).
 * Cost: one look-up in the checkpoint and one decoding per block that is not remembered.
 */
import { RivuletError } from '../../errors.ts';
import type { Checkpoint } from '../../storage/checkpoint.ts';
import { StorageError } from '../../storage/storage-error.ts';
import { Block } from '../../stream/block/block.ts';
import { damaged } from '../../stream/block/block-damage.ts';
import type { ColdBlocks } from '../../stream/block/cold-blocks.ts';
import { compareToId } from '../../stream/radix-tree.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { blockName, blocksEnd } from './checkpoint-keys.ts';

/** Streams whose last read block is remembered; a block is a few kilobytes. */
const REMEMBERED = 64;
/** What a kept block takes beside its bytes. */
const BLOCK_OVERHEAD = 600;

export class BlockReader {
  readonly checkpoint: Checkpoint;
  /** Blocks read since the start, for metrics. */
  reads = 0;
  /** The reads ahead that hold blocks. */
  readonly ahead = new Set<{ restart(): void }>();
  /** Bytes of the blocks that are kept for them. */
  aheadBytes = 0;
  private readonly recent = new Map<number, Block>();

  constructor(checkpoint: Checkpoint) {
    this.checkpoint = checkpoint;
  }

  decode(value: Buffer): Block {
    this.reads++;
    try {
      return Block.import(value);
    } catch (error) {
      throw damaged((error as Error).message, error);
    }
  }

  get(name: Buffer): Buffer | undefined {
    try {
      return this.checkpoint.get(name);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      throw new RivuletError('STORAGE_DAMAGED', error.message, { cause: error });
    }
  }

  remembered(uid: number): Block | undefined {
    return this.recent.get(uid);
  }

  remember(uid: number, block: Block): void {
    this.recent.delete(uid);
    if (this.recent.size === REMEMBERED) {
      for (const oldest of this.recent.keys()) {
        this.recent.delete(oldest);
        break;
      }
    }
    this.recent.set(uid, block);
  }

  /** After a commit: what is stored may differ from what was read. */
  forgetAll(): void {
    this.recent.clear();
    for (const ahead of this.ahead) ahead.restart();
  }
}

export class StoredBlocks implements ColdBlocks {
  readonly reader: BlockReader;
  /** How many reads ahead of this stream are under way. */
  keepers = 0;
  private readonly uid: number;
  /** By the first id. */
  private kept: Map<string, Block> | null = null;
  private keptBytes = 0;

  constructor(reader: BlockReader, uid: number) {
    this.reader = reader;
    this.uid = uid;
  }

  /**
   * Keeps a block that was read until `forgetKept`. It counts as long as it is kept, whoever has read it:
   * reads ahead of one stream may follow each other without a gap.
   */
  keep(block: Block): void {
    this.kept ??= new Map();
    const name = nameOf(block.readFirstId(found));
    if (this.kept.has(name)) return;
    this.kept.set(name, block);
    const bytes = block.length + BLOCK_OVERHEAD;
    this.keptBytes += bytes;
    this.reader.aheadBytes += bytes;
  }

  forgetKept(): void {
    this.kept = null;
    this.reader.aheadBytes -= this.keptBytes;
    this.keptBytes = 0;
  }

  read(id: StreamId): Block | undefined {
    const { reader, uid } = this;
    const recent = reader.remembered(uid);
    if (recent !== undefined && compareToId(recent, id) === 0) return recent;
    const kept = this.kept?.get(nameOf(id));
    if (kept !== undefined) return kept;
    const value = reader.get(blockName(uid, id));
    if (value === undefined) return undefined;
    const block = reader.decode(value);
    reader.remember(uid, block);
    return block;
  }

  firstIds(from: StreamId, last: StreamId, visit: (id: StreamId) => void): void {
    const { reader, uid } = this;
    const end = after.copy(last).increment() ? blockName(uid, after) : blocksEnd(uid);
    reader.checkpoint.keys(blockName(uid, from), end, (name) => visit(found.fromKey(name, 9)));
  }
}

function nameOf({ msHi, msLo, seqHi, seqLo }: StreamId): string {
  return `${msHi},${msLo},${seqHi},${seqLo}`;
}

const after = new StreamId();
const found = new StreamId();

/**
 * Where a stream finds its cold blocks: in the last committed checkpoint.
 *
 * One StoredBlocks per stream, one BlockReader per engine. The reader remembers the last blocks read
 * by searches backwards, because readers of old entries come back to the block they were in.
 * Cost: one search of the checkpoint's tree and one decoding per block that is not remembered.
 */
import type { Checkpoint } from '../storage/checkpoint.ts';
import { Block } from '../stream/block.ts';
import type { ColdBlocks } from '../stream/cold-blocks.ts';
import { StreamId } from '../stream/stream-id.ts';
import { blockName, blocksBegin, blocksEnd } from './checkpoint-keys.ts';

/** Streams whose last read block is remembered; a block is a few kilobytes. */
const REMEMBERED = 64;

export class BlockReader {
  readonly checkpoint: Checkpoint;
  /** Blocks read since the start, for metrics. */
  reads = 0;
  private readonly recent = new Map<number, Block>();

  constructor(checkpoint: Checkpoint) {
    this.checkpoint = checkpoint;
  }

  decode(value: Buffer): Block {
    this.reads++;
    return Block.import(value);
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

  /** After a commit or an eviction: what is stored may differ from what was read. */
  forgetAll(): void {
    this.recent.clear();
  }
}

export class StoredBlocks implements ColdBlocks {
  private readonly reader: BlockReader;
  private readonly uid: number;

  constructor(reader: BlockReader, uid: number) {
    this.reader = reader;
    this.uid = uid;
  }

  firstAtOrAfter(id: StreamId): Block | undefined {
    const { checkpoint } = this.reader;
    const entry = checkpoint.seekForward(blockName(this.uid, id), blocksEnd(this.uid));
    return entry === undefined ? undefined : this.reader.decode(entry.value);
  }

  lastAtOrBefore(id: StreamId): Block | undefined {
    const { reader, uid } = this;
    // Stored blocks do not overlap: the one whose range holds the id is the last at or before it.
    const recent = reader.remembered(uid);
    if (recent !== undefined) {
      const starts = recent.readFirstId(bound).compare(id) <= 0;
      if (starts && recent.readLastId(bound).compare(id) >= 0) return recent;
    }
    const entry = reader.checkpoint.seekBackward(blockName(uid, id), blocksBegin(uid));
    if (entry === undefined) return undefined;
    const block = reader.decode(entry.value);
    reader.remember(uid, block);
    return block;
  }
}

const bound = new StreamId();

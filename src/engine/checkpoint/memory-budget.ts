/**
 * Keeps the streams' resident blocks within a budget: clean ones leave memory, cold ones first.
 *
 * `maxmemory` bounds the whole process; blocks get BLOCK_SHARE of it, the rest is for keys, strings,
 * groups, pending entries, buffers and the garbage collector's room. Where the rest needs more, blocks
 * get less (`squeeze`), down to SQUEEZED of their share. Without `maxmemory`, or with
 * `appendonly no`, nothing is evicted. A dirty block cannot go before a checkpoint has it, so when
 * evicting is not enough one is asked for.
 *
 * Which blocks are evicted: a hand moves over the streams, as a clock's. A stream not used since the hand
 * came by last loses every clean block; one in use keeps its newest ones. When a whole round of that
 * has not been enough, the next one spares no stream. Within a stream the oldest go first, which also
 * empties the chunks that hold the blocks.
 * Invariant: `bytes` is the sum of what each stream had when the hand passed it last.
 * Cost: a bounded number of streams and blocks a call.
 */
import type { Block } from '../../stream/block/block.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import type { Keyspace } from '../keyspace/keyspace.ts';
import type { StreamValue } from '../streams/stream-value.ts';

const BLOCK_SHARE = 0.5;
const LEAST_SHARE = 0.1;
/** How much of its share a squeezed budget gets back per tick. */
const REGAINED = 0.005;
/** Evicting stops at this share of the budget, so that it does not begin again at every call. */
const LOW_WATER = 0.95;
/** Beyond this share of the budget, writers are faster than blocks can leave: `pressed`. */
const CEILING = 1.25;
/** Newest blocks that a stream in use keeps in a sparing round. */
const KEPT = 16;
/** What a flushed key gives back at least, bytes: its entry, name and value. */
const FREED_PER_KEY = 250;
/** Streams looked at and blocks evicted per call: about a millisecond's work. */
const STREAMS_PER_CALL = 2000;
const BLOCKS_PER_CALL = 1000;
/** A checkpoint is asked for only when the log has grown by so much since the last one. */
const WORTHWHILE_LOG = 1024 * 1024;

/** What the budget reads of the engine. */
export interface MemorySource {
  readonly databases: readonly { readonly keyspace: Keyspace }[];
  /** Unix seconds of the turn. */
  readonly seconds: number;
  /** Without one no block is ever evicted. */
  readonly checkpointer: { readonly logLength: number; request(): void } | undefined;
}

export class MemoryBudget {
  /** Bytes of resident blocks. */
  bytes = 0;
  /** Blocks evicted since the start. */
  evicted = 0;
  /** Blocks are over budget and are being made to leave. */
  evicting = false;
  private limit = 0;
  /** The limit while nothing squeezes it. */
  private share = 0;
  private readonly engine: MemorySource;
  /** Bytes that were given back, by deleting and the like, since the caller set it to 0. */
  freed = 0;
  private hand: Iterator<KeyEntry>;
  /** That of the stream at which the hand is. */
  private keyspace: Keyspace | null = null;
  private sparing = true;
  /** Unix seconds at which the hand began this round, and the one before. */
  private roundBegan = 0;
  private lastRoundBegan = 0;

  constructor(engine: MemorySource) {
    this.engine = engine;
    this.hand = this.allStreams();
  }

  /** Bytes that resident blocks may take; 0 = any number. */
  get budget(): number {
    return this.limit;
  }

  /** So far over budget that writers should wait. */
  get overLimit(): boolean {
    return this.isOver(CEILING);
  }

  /** CONFIG SET maxmemory, in bytes; 0 = no limit. */
  setMaxMemory(bytes: number): void {
    this.share = Math.floor(bytes * BLOCK_SHARE);
    this.limit = this.share;
  }

  /** Bytes in use above the limit, of blocks or other things. False when blocks cannot help. */
  shrink(bytes: number): boolean {
    const least = Math.floor(this.share * LEAST_SHARE);
    if (this.bytes <= least || this.engine.checkpointer === undefined) return false;
    this.limit = Math.max(least, Math.floor(Math.min(this.limit, this.bytes) - bytes));
    this.evicting = this.isOver(LOW_WATER);
    return true;
  }

  /** What squeezed it is over. */
  grow(): void {
    this.limit = Math.min(this.share, Math.ceil(this.limit + this.share * REGAINED));
  }

  /** A stream was entered into a keyspace. */
  add(keyspace: Keyspace, entry: KeyEntry): void {
    keyspace.streams.add(entry);
  }

  /** It was taken out of its keyspace. */
  remove(keyspace: Keyspace, entry: KeyEntry, value: StreamValue): void {
    keyspace.streams.delete(entry);
    keyspace.countedBytes -= value.countedBytes;
    this.bytes -= value.countedBytes;
    this.freed += value.countedBytes;
    value.countedBytes = 0;
  }

  /** The keyspace was flushed: nothing of it is looked at again. */
  flushed(keyspace: Keyspace): void {
    this.bytes -= keyspace.countedBytes;
    this.freed += keyspace.countedBytes + keyspace.table.size * FREED_PER_KEY;
    keyspace.countedBytes = 0;
    keyspace.streams.clear();
    this.keyspace = null;
    this.hand = this.allStreams();
  }

  /** Moves the hand on; ten times a second, more often while memory is short. */
  tick(): void {
    let streams = Math.min(STREAMS_PER_CALL, this.streamCount);
    let blocks = BLOCKS_PER_CALL;
    this.evicting = this.isOver(this.evicting ? LOW_WATER : 1);
    // An iterator that is not moved on keeps all that was in its set since, however long ago it went.
    if (streams === 0) this.hand = this.allStreams();
    for (; streams > 0 && blocks > 0; streams--) {
      const next = this.hand.next();
      if (next.done) {
        this.endRound();
        continue;
      }
      blocks -= this.pass(next.value, blocks);
    }
  }

  private isOver(share: number): boolean {
    return this.limit > 0 && this.bytes > this.limit * share && !!this.engine.checkpointer;
  }

  /** Counts a stream and, when blocks are to go, evicts up to `limit` of its; returns how many. */
  private pass(entry: KeyEntry, limit: number): number {
    const value = entry.value as StreamValue;
    let evicted = 0;
    if (this.evicting && value.isMade) {
      const inUse = entry.accessed >= this.lastRoundBegan;
      evicted = evictOldest(value, limit, this.sparing && inUse ? KEPT : 0);
      this.evicted += evicted;
    }
    this.count(value, evicted > 0);
    if (this.evicting) this.evicting = this.isOver(LOW_WATER);
    return evicted;
  }

  private count(value: StreamValue, wasEvicted: boolean): void {
    if (!value.isMade) return;
    const { residentBytes } = value.stream;
    const more = residentBytes - value.countedBytes;
    this.bytes += more;
    if (this.keyspace !== null) this.keyspace.countedBytes += more;
    value.countedBytes = residentBytes;
    if (more < 0 && !wasEvicted) this.freed -= more;
  }

  private get streamCount(): number {
    let count = 0;
    for (const { keyspace } of this.engine.databases) count += keyspace.streams.size;
    return count;
  }

  private *allStreams(): Generator<KeyEntry> {
    for (const { keyspace } of this.engine.databases) {
      for (const entry of keyspace.streams) {
        this.keyspace = keyspace;
        yield entry;
      }
    }
  }

  private endRound(): void {
    this.hand = this.allStreams();
    this.lastRoundBegan = this.roundBegan;
    this.roundBegan = this.engine.seconds;
    if (!this.evicting) {
      this.sparing = true;
      return;
    }
    const { checkpointer } = this.engine;
    if (this.sparing) this.sparing = false;
    else if (checkpointer !== undefined && checkpointer.logLength >= WORTHWHILE_LOG) {
      checkpointer.request();
    }
  }
}

/** Evicts up to `limit` clean blocks, the newest `kept` resident ones left out. */
function evictOldest(value: StreamValue, limit: number, kept: number): number {
  const { stream } = value;
  const most = Math.min(limit, stream.radixTreeKeys - stream.coldCount - kept);
  if (most <= 0) return 0;
  const chosen: Block[] = [];
  for (const block of stream.evictable()) {
    if (chosen.length === most) break;
    chosen.push(block);
  }
  let evicted = 0;
  for (const block of chosen) if (stream.evict(block)) evicted++;
  return evicted;
}

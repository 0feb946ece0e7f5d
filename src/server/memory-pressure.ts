/**
 * What happens to commands that add to memory when there is too little of it.
 *
 * Blocks of streams can be evicted, but only blocks that a checkpoint holds, and records that wait for the
 * log take memory until the disk has them. While one of these can still free memory, such commands are held,
 * as CLIENT PAUSE holds commands: a producer that is faster than the disk is slowed down to the disk's speed,
 * and a stream may become larger than memory. When something else takes the memory (strings, pending entries,
 * keys), or nothing was freed for NO_PROGRESS_MS, they are refused with Redis's OOM error.
 *
 * The algorithm of `check`, ten times a second, a hundred times while commands are held:
 *   1. `used` above `maxmemory`, or blocks above their share, is too much.
 *   2. Part of `used` may be garbage. So first garbage is collected; the buffers that this frees are gone after
 *      SWEEPING_MS, at #exactAt. If `used` is still too much then, and no block was evicted meanwhile, all of it
 *      is in use: the share of the blocks is lowered by what is missing.
 *   3. If blocks cannot shrink by that much, no memory can be freed: commands are refused.
 * Garbage is collected too when much was deleted, and before INFO reports how much is in use, so that
 * deleted data does not count.
 *
 * Cost: one flag per command; a check takes some tens of microseconds. Collecting takes at most COLLECTING of
 * the time.
 */
import type { Engine } from '../engine/engine.ts';
import { releaseScratch } from '../util/scratch.ts';
import { collectGarbage, type MemoryUse, memoryInUse } from './observability/memory-use.ts';
import type { Persistence } from './persistence.ts';

/** Time between checks while commands are held, ms. */
const CHECK_MS = 10;
/** Commands are held no longer than this without any memory being freed, ms. */
const NO_PROGRESS_MS = 15_000;
/** Share of the time that collecting garbage may take; also when data was deleted; least time between two, ms. */
const COLLECTING = 0.02;
const COLLECTING_FREED = 0.1;
const COLLECT_PAUSE_MS = 250;
const COLLECT_FREED_PAUSE_MAX_MS = 2000;
/** Bytes deleted since the last collection for which garbage is collected. */
const COLLECT_FREED_BYTES = 8 * 1024 * 1024;
/** The same before memory in use is reported to a client. */
const REPORT_FREED_BYTES = 1024 * 1024;
/** The least such share of the memory in use; not applied before a report. */
const COLLECT_FREED_SHARE = 0.05;
/** A larger heap is not collected before a report: it takes too long. */
const REPORT_HEAP_MAX = 256 * 1024 * 1024;
/** V8 frees the buffers that were collected on another thread, within this time, ms. */
const SWEEPING_MS = 50;
/** Blocks shrink by this share of maxmemory more than is missing. */
const SPARE = 0.05;

export interface HeldCommand {
  /** Memory is available, or will not be soon: the command is to be checked again. */
  memoryAvailable(): void;
}

export class MemoryPressure {
  /** Commands that may add to memory are held or refused. */
  short = false;
  /** They are held; otherwise refused. */
  holding = false;
  /** Bytes; 0 = no limit. */
  limit = 0;
  /** Commands held since the start. */
  heldBack = 0;
  readonly #engine: Engine;
  readonly #persistence: Persistence;
  readonly #monotonic: () => number;
  #held: HeldCommand[] = [];
  /** Monotonic ms since which nothing was freed although memory is short; null = it is not short. */
  #noProgressSince: number | null = null;
  /** Bytes evicted and written at the last check. */
  #progress = 0;
  #timer: NodeJS.Timeout | null = null;
  /** Blocks cannot shrink by what is missing. */
  #blocksExhausted = false;
  /** Monotonic ms from which garbage may be collected again. */
  #collectAt = 0;
  /** The same because data was deleted. */
  #collectFreedAt = 0;
  #collectFreedPauseMs = COLLECT_PAUSE_MS;
  /** Monotonic ms from which `used` holds no garbage; Infinity = unknown. Valid while #evictedBefore is unchanged. */
  #exactAt = Number.POSITIVE_INFINITY;
  #evictedBefore = 0;

  constructor(engine: Engine, persistence: Persistence, monotonic: () => number) {
    this.#engine = engine;
    this.#persistence = persistence;
    this.#monotonic = monotonic;
  }

  /** Calls `memoryAvailable` once, when the command may be checked again. */
  hold(command: HeldCommand): void {
    this.heldBack++;
    this.#held.push(command);
  }

  /** Decides whether commands run, wait or are refused. Returns the bytes in use. */
  check(): number {
    const { memory } = this.#engine;
    const { used } = memoryInUse();
    const now = this.#monotonic();
    const over = this.limit > 0 && used > this.limit;
    const wasHolding = this.holding;
    if (!over) this.#reset();
    if (
      memory.freed > Math.max(COLLECT_FREED_BYTES, used * COLLECT_FREED_SHARE) &&
      now >= this.#collectFreedAt
    ) {
      this.#collect(now);
    }
    if (over || memory.overLimit) {
      const freeable = this.#freeMemory(over, used, now);
      const written = this.#engine.journal.appended - this.#persistence.backlog;
      const progress = memory.evicted + written;
      if (this.#noProgressSince === null || progress !== this.#progress)
        this.#noProgressSince = now;
      this.#progress = progress;
      this.holding = freeable && now - this.#noProgressSince < NO_PROGRESS_MS;
      this.short = over || this.holding;
      if (this.holding) this.#timer ??= setTimeout(this.#checkAgain, CHECK_MS);
    } else {
      this.short = this.holding = false;
      this.#noProgressSince = null;
      memory.grow();
    }
    if (wasHolding && !this.holding) this.#release();
    return used;
  }

  /** MEMORY PURGE: collects all garbage now. */
  purge(): void {
    this.#collect(this.#monotonic());
  }

  /**
   * The memory in use, for a client: garbage is collected first when data was deleted or memory is short,
   * unless the heap is so large that this would take longer than a command may.
   */
  report(): MemoryUse {
    const now = this.#monotonic();
    const use = memoryInUse();
    const isShort = this.limit > 0 && use.used > this.limit * 0.5 && now >= this.#collectAt;
    const isFreed = this.#engine.memory.freed > REPORT_FREED_BYTES && now >= this.#collectFreedAt;
    if ((!isShort && !isFreed) || use.heap > REPORT_HEAP_MAX) return use;
    this.#collect(now);
    return memoryInUse();
  }

  /** Whether memory may be freed soon. */
  #freeMemory(over: boolean, used: number, now: number): boolean {
    const { checkpointer, memory } = this.#engine;
    if (!over || memory.overLimit || memory.evicting) return true;
    // A running checkpoint takes memory and frees more when it ends, as garbage: `used` is not exact.
    if (checkpointer?.running) this.#exactAt = Number.POSITIVE_INFINITY;
    // Records are freed when the log has written them.
    if (checkpointer?.running || used - this.#persistence.backlog <= this.limit) return true;
    if (now >= this.#collectAt) this.#collect(now);
    if (now >= this.#exactAt) {
      // Only once: later there is new garbage, such as refused commands.
      this.#exactAt = Number.POSITIVE_INFINITY;
      // All of it is in use: blocks have to shrink.
      if (memory.evicted === this.#evictedBefore)
        this.#blocksExhausted = !memory.shrink(used - this.limit * (1 - SPARE));
    }
    return !this.#blocksExhausted;
  }

  /** There is enough memory: what was found out before is void. */
  #reset(): void {
    this.#blocksExhausted = false;
    this.#exactAt = Number.POSITIVE_INFINITY;
  }

  #collect(began: number): void {
    const { memory } = this.#engine;
    // Scratch objects may refer to data that was deleted since.
    releaseScratch();
    collectGarbage();
    // Something else, such as a checkpoint, may still refer to part of the deleted data. So half of its bytes
    // are counted again for the next collection, after a pause that doubles, until too few are left.
    memory.freed = Math.floor(memory.freed / 2);
    const repeats = memory.freed > REPORT_FREED_BYTES;
    this.#collectFreedPauseMs = repeats
      ? Math.min(2 * this.#collectFreedPauseMs, COLLECT_FREED_PAUSE_MAX_MS)
      : COLLECT_PAUSE_MS;
    // Until #exactAt commands are held, so that they make no new garbage.
    this.#blocksExhausted = false;
    const ended = this.#monotonic();
    this.#collectAt = ended + Math.max(COLLECT_PAUSE_MS, (ended - began) / COLLECTING);
    const pause = Math.max(this.#collectFreedPauseMs, (ended - began) / COLLECTING_FREED);
    this.#collectFreedAt = ended + pause;
    this.#exactAt = ended + SWEEPING_MS;
    this.#evictedBefore = this.#engine.memory.evicted;
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#release();
  }

  readonly #checkAgain = (): void => {
    this.#timer = null;
    this.#engine.memory.tick();
    this.check();
  };

  #release(): void {
    const held = this.#held;
    this.#held = [];
    for (const command of held) command.memoryAvailable();
  }
}

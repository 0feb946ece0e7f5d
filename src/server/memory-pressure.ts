/**
 * What happens to commands that add to memory when there is too little of it.
 *
 * Blocks of streams can leave memory, but no faster than checkpoints are written, and what waits for
 * the log no faster than the disk takes it. So while these are what is in the way, such commands are
 * held back, as those of a client in CLIENT PAUSE are, until there is room: a producer that is faster
 * than the disk is slowed down to the disk's speed, and a stream may become larger than memory. When
 * something else is in the way (strings, pending entries, keys), or nothing moves any more, they are
 * refused with Redis's OOM error.
 *
 * What is in use is in part garbage, and V8 collects it when it likes: so before anything is refused it
 * is told to. It is told to as well after much was deleted, and before memory is reported, so that what
 * is reported is what is held: a producer that waits for memory to go down does not wait for ever.
 * Cost: the dispatch loop looks at one flag; a check is some tens of microseconds, ten times a second,
 * a hundred times while memory is short. Collecting takes COLLECTING of the time at most.
 */
import type { Engine } from '../engine/engine.ts';
import { releaseScratch } from '../util/scratch.ts';
import { collectGarbage, type MemoryUse, memoryInUse } from './memory-use.ts';
import type { Persistence } from './persistence.ts';

/** How often room is made while memory is short, ms. */
const RELIEF_MS = 10;
/** Longest time that commands are held back for without a block leaving. */
const PATIENCE_MS = 15_000;
/** Share of the time that collecting garbage may take, and how long after one the next may be, ms. */
const COLLECTING = 0.02;
const COLLECTING_FREED = 0.1;
const COLLECT_AGAIN_MS = 250;
const FREED_AGAIN_AT_MOST_MS = 2000;
/** What was given back since the last collection is worth one: at least so many bytes. */
const FREED_WORTH = 8 * 1024 * 1024;
/** The same where a client asks. */
const FREED_REPORTED = 1024 * 1024;
/** The same as a share of what is in use, while no client asks. */
const FREED_SHARE = 0.05;
/** A larger heap is not collected for a client that asks how much is in use: it takes too long. */
const HEAP_COLLECTED = 256 * 1024 * 1024;
/** Buffers that were collected are given back on another thread, which takes so long, ms. */
const SWEEPING_MS = 50;
/** Blocks make room for so much more than is missing, as a share of maxmemory. */
const SPARE = 0.05;

export interface Held {
  /** There is room again, or no hope for it: the command may be looked at once more. */
  roomAgain(): void;
}

export class MemoryPressure {
  /** Commands that may add to memory cannot simply run. */
  short = false;
  /** They are to be held back; otherwise refused. */
  holding = false;
  /** Bytes; 0 = no limit. */
  limit = 0;
  /** Commands held back since the start. */
  heldBack = 0;
  readonly #engine: Engine;
  readonly #persistence: Persistence;
  readonly #monotonic: () => number;
  #held: Held[] = [];
  /** Monotonic ms since when nothing has left although there is too little; null when there is enough. */
  #since: number | null = null;
  #progress = 0;
  #timer: NodeJS.Timeout | null = null;
  /** Blocks have made all the room they can. */
  #hopeless = false;
  #collectAt = 0;
  /** The same where something was given back: what was is not given back again. */
  #collectFreedAt = 0;
  #freedAgainMs = COLLECT_AGAIN_MS;
  /** When what is in use is no garbage, unless more blocks have left than these. */
  #exactAt = Number.POSITIVE_INFINITY;
  #evictedBefore = 0;

  constructor(engine: Engine, persistence: Persistence, monotonic: () => number) {
    this.#engine = engine;
    this.#persistence = persistence;
    this.#monotonic = monotonic;
  }

  /** Calls back once, when the answer may be another. */
  hold(held: Held): void {
    this.heldBack++;
    this.#held.push(held);
  }

  /** Looks at what is in use; returns it, in bytes. */
  check(): number {
    const { memory } = this.#engine;
    const { used } = memoryInUse();
    const now = this.#monotonic();
    const over = this.limit > 0 && used > this.limit;
    const wasHolding = this.holding;
    if (!over) this.#forget();
    if (memory.freed > Math.max(FREED_WORTH, used * FREED_SHARE) && now >= this.#collectFreedAt) {
      this.#collect(now);
    }
    if (over || memory.pressed) {
      const hope = this.#makeRoom(over, used, now);
      const written = this.#engine.journal.appended - this.#persistence.backlog;
      const progress = memory.evicted + written;
      if (this.#since === null || progress !== this.#progress) this.#since = now;
      this.#progress = progress;
      this.holding = hope && now - this.#since < PATIENCE_MS;
      this.short = over || this.holding;
      if (this.holding) this.#timer ??= setTimeout(this.#relieve, RELIEF_MS);
    } else {
      this.short = this.holding = false;
      this.#since = null;
      memory.relax();
    }
    if (wasHolding && !this.holding) this.#release();
    return used;
  }

  /** MEMORY PURGE: collects all garbage now. */
  purge(): void {
    this.#collect(this.#monotonic());
  }

  /**
   * What is in use, for a client that asks: without garbage, where something was given back and
   * collecting takes no longer than a command may.
   */
  report(): MemoryUse {
    const now = this.#monotonic();
    const use = memoryInUse();
    const isShort = this.limit > 0 && use.used > this.limit * 0.5 && now >= this.#collectAt;
    const isFreed = this.#engine.memory.freed > FREED_REPORTED && now >= this.#collectFreedAt;
    if ((!isShort && !isFreed) || use.heap > HEAP_COLLECTED) return use;
    this.#collect(now);
    return memoryInUse();
  }

  /** Whether there may be room soon. */
  #makeRoom(over: boolean, used: number, now: number): boolean {
    const { checkpointer, memory } = this.#engine;
    if (!over || memory.pressed || memory.evicting) return true;
    // A checkpoint under way takes some memory itself, and frees more when it ends: in garbage, first.
    if (checkpointer?.running) this.#exactAt = Number.POSITIVE_INFINITY;
    // What the log has not written yet goes by itself.
    if (checkpointer?.running || used - this.#persistence.backlog <= this.limit) return true;
    if (now >= this.#collectAt) this.#collect(now);
    if (now >= this.#exactAt) {
      // Once: what is counted later is again in part garbage, such as commands that were refused.
      this.#exactAt = Number.POSITIVE_INFINITY;
      // It is all in use, then: blocks have to make room for what is not blocks.
      if (memory.evicted === this.#evictedBefore)
        this.#hopeless = !memory.squeeze(used - this.limit * (1 - SPARE));
    }
    return !this.#hopeless;
  }

  /** What was found out holds no longer. */
  #forget(): void {
    this.#hopeless = false;
    this.#exactAt = Number.POSITIVE_INFINITY;
  }

  #collect(began: number): void {
    const { memory } = this.#engine;
    // What the last commands worked on may be deleted since, and would be kept.
    releaseScratch();
    collectGarbage();
    // Something else, a checkpoint for one, may still refer to a part of it: so half of it counts as
    // freed once more, later each time, until too little is left.
    memory.freed = Math.floor(memory.freed / 2);
    const again = memory.freed > FREED_REPORTED;
    this.#freedAgainMs = again
      ? Math.min(2 * this.#freedAgainMs, FREED_AGAIN_AT_MOST_MS)
      : COLLECT_AGAIN_MS;
    // Until it is known whether that was enough commands are held, so that they make no new garbage.
    this.#hopeless = false;
    const ended = this.#monotonic();
    this.#collectAt = ended + Math.max(COLLECT_AGAIN_MS, (ended - began) / COLLECTING);
    const pause = Math.max(this.#freedAgainMs, (ended - began) / COLLECTING_FREED);
    this.#collectFreedAt = ended + pause;
    this.#exactAt = ended + SWEEPING_MS;
    this.#evictedBefore = this.#engine.memory.evicted;
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#release();
  }

  readonly #relieve = (): void => {
    this.#timer = null;
    this.#engine.memory.tick();
    this.check();
  };

  #release(): void {
    const held = this.#held;
    this.#held = [];
    for (const one of held) one.roomAgain();
  }
}

/**
 * The table of a database's keys: a chained hash table over bytes, grown and shrunk in small steps.
 *
 *   main  [b0 b1 b2 ... bn]          while resizing, buckets below `moved` live in `target`,
 *   target[b0 b1 ... b2n]            every other operation moves one more; then target becomes main
 *
 * Invariant: a key is in exactly one chain; while resizing, in `main` when its main bucket is at or
 * above `moved`, else in `target`. So a look-up walks one chain.
 * Cost: find, add and remove O(1) and without allocation; no operation ever moves more than a few
 * buckets, and buckets come in segments allocated when first used, so a table of 10^7 keys grows
 * without a pause. The entry found last is remembered: the commands on one key in a row compare its
 * bytes and hash nothing.
 * Source: Redis's dict.c, whose SCAN guarantee this keeps: a key present during the whole scan is
 * visited at least once, whatever resizing happens in between.
 */
import type { Random } from '../../util/random.ts';
import { KeyEntry, type Value } from './key-entry.ts';
import { hashKey } from './key-hash.ts';
import type { KeyspaceId } from './keyspace-id.ts';

const SEGMENT_BITS = 12;
const SEGMENT_SIZE = 1 << SEGMENT_BITS;
const SEGMENT_MASK = SEGMENT_SIZE - 1;
const MIN_BUCKETS = 4;
const MAX_BUCKETS = 2 ** 30;
/** Empty buckets one step may skip, as in Redis: a step is bounded even in a sparse table. */
const EMPTY_VISITS = 10;

export class KeyTable {
  size = 0;
  private readonly seed0: number;
  private readonly seed1: number;
  private main = new Buckets(MIN_BUCKETS);
  private target: Buckets | null = null;
  private moved = 0;
  private paused = 0;
  private last: KeyEntry | undefined;
  private readonly keys = new KeyBytes();

  constructor(random: Random) {
    this.seed0 = random.uint32() | 0;
    this.seed1 = random.uint32() | 0;
  }

  find(buffer: Uint8Array, from: number, length: number): KeyEntry | undefined {
    const last = this.last;
    if (last !== undefined && sameBytes(last.key, buffer, from, length)) return last;
    if (this.target !== null) this.step(1);
    const hash = hashKey(buffer, from, length, this.seed0, this.seed1);
    const buckets = this.home(hash);
    let entry = buckets.get(hash & buckets.mask);
    while (entry !== undefined) {
      if (entry.hash === hash && sameBytes(entry.key, buffer, from, length)) {
        this.last = entry;
        return entry;
      }
      entry = entry.next;
    }
    return undefined;
  }

  /** Adds a key that is not in the table; its bytes are copied. */
  add(buffer: Uint8Array, from: number, length: number, value: Value, space: KeyspaceId): KeyEntry {
    const hash = hashKey(buffer, from, length, this.seed0, this.seed1);
    const entry = new KeyEntry(this.keys.copy(buffer, from, length), hash, value, space);
    this.insert(entry);
    return entry;
  }

  /** Adds an entry taken out of a table (this one or another) under a key that is not in this one. */
  adopt(entry: KeyEntry, key: Uint8Array): void {
    entry.key = this.keys.copy(key, 0, key.length);
    entry.hash = hashKey(key, 0, key.length, this.seed0, this.seed1);
    this.insert(entry);
  }

  /** Takes an entry out; it must be in. */
  remove(entry: KeyEntry): void {
    if (this.target !== null) this.step(1);
    if (this.last === entry) this.last = undefined;
    const buckets = this.home(entry.hash);
    const index = entry.hash & buckets.mask;
    let at = buckets.get(index);
    if (at === entry) {
      buckets.set(index, entry.next);
    } else {
      while (at !== undefined && at.next !== entry) at = at.next;
      if (at === undefined) throw new Error('the entry is not in this key table');
      at.next = entry.next;
    }
    entry.next = undefined;
    this.size--;
    if (this.target === null && this.size * 8 < this.main.count && this.main.count > MIN_BUCKETS) {
      this.resize(powerOfTwo(this.size));
    }
  }

  /**
   * Visits one bucket (of both tables while resizing: the small one's and all that it splits into)
   * and returns the next cursor; 0 = the scan is complete. `visit` may remove entries.
   */
  scan(cursor: number, visit: (entry: KeyEntry) => void): number {
    this.paused++;
    try {
      const target = this.target;
      if (target === null) {
        const mask = this.main.mask;
        visitChain(this.main.get(cursor & mask), visit);
        return nextCursor(cursor, mask);
      }
      const [small, large] =
        this.main.mask < target.mask ? [this.main, target] : [target, this.main];
      visitChain(small.get(cursor & small.mask), visit);
      do {
        visitChain(large.get(cursor & large.mask), visit);
        cursor = nextCursor(cursor, large.mask);
      } while ((cursor & (small.mask ^ large.mask)) !== 0);
      return cursor;
    } finally {
      this.paused--;
    }
  }

  /** A random entry: a random used bucket, then a random place in its chain, as Redis chooses. */
  randomEntry(random: Random): KeyEntry | undefined {
    if (this.size === 0) return undefined;
    if (this.target !== null) this.step(1);
    let head: KeyEntry | undefined;
    while (head === undefined) {
      const target = this.target;
      let index = random.below(this.main.count + (target === null ? 0 : target.count));
      if (index < this.main.count) {
        head = this.main.get(index);
      } else {
        index -= this.main.count;
        head = target?.get(index);
      }
    }
    let length = 0;
    for (let at: KeyEntry | undefined = head; at !== undefined; at = at.next) length++;
    for (let skip = random.below(length); skip > 0; skip--) head = head?.next;
    return head;
  }

  /** Every entry, in no order. The table must not change meanwhile; pauses resizing itself. */
  *entries(): Generator<KeyEntry> {
    this.paused++;
    try {
      for (const buckets of [this.main, this.target]) {
        if (buckets === null) continue;
        for (let i = 0; i < buckets.count; i++) {
          for (let at = buckets.get(i); at !== undefined; ) {
            const next: KeyEntry | undefined = at.next;
            yield at;
            at = next;
          }
        }
      }
    } finally {
      this.paused--;
    }
  }

  /** Sizes an empty table for this number of keys, which are then added without resizing. */
  reserve(keys: number): void {
    if (this.size === 0) this.main = new Buckets(powerOfTwo(Math.min(keys, MAX_BUCKETS)));
  }

  /** True while buckets are still to be moved: the tick then calls `step` with a larger count. */
  get resizing(): boolean {
    return this.target !== null;
  }

  /** Moves up to `count` used buckets. */
  step(count: number): void {
    const target = this.target;
    if (target === null || this.paused > 0) return;
    const main = this.main;
    let empty = count * EMPTY_VISITS;
    while (count > 0 && this.moved < main.count) {
      let entry = main.get(this.moved);
      if (entry === undefined) {
        this.moved++;
        if (--empty === 0) break;
        continue;
      }
      main.set(this.moved, undefined);
      while (entry !== undefined) {
        const next: KeyEntry | undefined = entry.next;
        target.prepend(entry);
        entry = next;
      }
      this.moved++;
      count--;
    }
    if (this.moved === main.count) {
      this.main = target;
      this.target = null;
    }
  }

  /** Bytes of the bucket arrays, for MEMORY STATS. */
  get overheadBytes(): number {
    return (this.main.count + (this.target === null ? 0 : this.target.count)) * 8;
  }

  private insert(entry: KeyEntry): void {
    if (this.target !== null) this.step(1);
    this.home(entry.hash).prepend(entry);
    this.size++;
    this.last = entry;
    if (this.target === null && this.size > this.main.count) this.resize(powerOfTwo(this.size));
  }

  /** The buckets in which a key with this hash is, or would be. */
  private home(hash: number): Buckets {
    const target = this.target;
    const main = this.main;
    return target !== null && (hash & main.mask) < this.moved ? target : main;
  }

  private resize(count: number): void {
    if (this.paused > 0 || count === this.main.count || count > MAX_BUCKETS) return;
    this.target = new Buckets(count);
    this.moved = 0;
  }
}

/** A power of two of chain heads, in segments that are allocated when first written. */
class Buckets {
  readonly count: number;
  readonly mask: number;
  private readonly segments: (KeyEntry | undefined)[][];

  constructor(count: number) {
    this.count = count;
    this.mask = count - 1;
    this.segments = [];
    const segments = Math.max(1, count >>> SEGMENT_BITS);
    for (let i = 0; i < segments; i++) this.segments.push(NO_SEGMENT);
  }

  get(index: number): KeyEntry | undefined {
    const segment = this.segments[index >>> SEGMENT_BITS];
    return segment === NO_SEGMENT ? undefined : segment[index & SEGMENT_MASK];
  }

  set(index: number, entry: KeyEntry | undefined): void {
    let segment = this.segments[index >>> SEGMENT_BITS];
    if (segment === NO_SEGMENT) {
      if (entry === undefined) return;
      segment = new Array(Math.min(this.count, SEGMENT_SIZE)).fill(undefined);
      this.segments[index >>> SEGMENT_BITS] = segment;
    }
    segment[index & SEGMENT_MASK] = entry;
  }

  prepend(entry: KeyEntry): void {
    const index = entry.hash & this.mask;
    entry.next = this.get(index);
    this.set(index, entry);
  }
}

const NO_SEGMENT: (KeyEntry | undefined)[] = [];

/**
 * Room for the bytes of keys, cut from slabs: a Buffer with its own memory costs some hundred
 * bytes more than the key. A slab lives as long as one key in it; long keys get their own memory.
 */
class KeyBytes {
  private slab = Buffer.alloc(0);
  private used = 0;
  private nextSlab = 256;

  copy(source: Uint8Array, from: number, length: number): Buffer {
    if (length > MAX_KEY_IN_SLAB) {
      const own = Buffer.allocUnsafeSlow(length);
      own.set(source.subarray(from, from + length));
      return own;
    }
    if (this.used + length > this.slab.length) {
      this.slab = Buffer.allocUnsafeSlow(Math.max(this.nextSlab, length));
      this.nextSlab = Math.min(this.nextSlab * 2, MAX_SLAB);
      this.used = 0;
    }
    const at = this.used;
    this.used = at + length;
    for (let i = 0; i < length; i++) this.slab[at + i] = source[from + i];
    return this.slab.subarray(at, this.used);
  }
}

const MAX_KEY_IN_SLAB = 256;
const MAX_SLAB = 16 * 1024;

/** From the end backwards, where keys of one application differ, four bytes at a time. */
function sameBytes(key: Buffer, buffer: Uint8Array, from: number, length: number): boolean {
  if (key.length !== length) return false;
  let i = length - 1;
  for (; i >= 3; i -= 4) {
    const at = from + i;
    const difference =
      (key[i] ^ buffer[at]) |
      (key[i - 1] ^ buffer[at - 1]) |
      (key[i - 2] ^ buffer[at - 2]) |
      (key[i - 3] ^ buffer[at - 3]);
    if (difference !== 0) return false;
  }
  for (; i >= 0; i--) if (key[i] !== buffer[from + i]) return false;
  return true;
}

function visitChain(entry: KeyEntry | undefined, visit: (entry: KeyEntry) => void): void {
  while (entry !== undefined) {
    const next: KeyEntry | undefined = entry.next;
    visit(entry);
    entry = next;
  }
}

/**
 * Adds one to the cursor's bits from the highest of the mask downwards. Buckets are so visited in an
 * order in which all buckets that a smaller table's bucket splits into come together.
 */
function nextCursor(cursor: number, mask: number): number {
  return reverseBits(reverseBits(cursor | ~mask) + 1) >>> 0;
}

function reverseBits(value: number): number {
  value = ((value >>> 1) & 0x5555_5555) | ((value & 0x5555_5555) << 1);
  value = ((value >>> 2) & 0x3333_3333) | ((value & 0x3333_3333) << 2);
  value = ((value >>> 4) & 0x0f0f_0f0f) | ((value & 0x0f0f_0f0f) << 4);
  value = ((value >>> 8) & 0x00ff_00ff) | ((value & 0x00ff_00ff) << 8);
  return (value >>> 16) | (value << 16);
}

/** The smallest power of two that is at least `size`, and at least the smallest table. */
function powerOfTwo(size: number): number {
  let count = MIN_BUCKETS;
  while (count < size) count *= 2;
  return count;
}

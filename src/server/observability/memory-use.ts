/**
 * How much memory the process uses, as `maxmemory` and INFO count it.
 *
 * `used` is V8's heap, garbage included, plus the buffers outside it. The buffers are counted by their
 * allocator (`arrayBuffers`). V8's own sum (`external`) falls only at a collection, which a quiet server does
 * late: with that sum, writers would be refused although memory is free.
 * Cost: some tens of microseconds, so the dispatch loop looks at a flag that housekeeping sets.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export interface MemoryUse {
  readonly used: number;
  readonly rss: number;
  readonly heap: number;
  readonly heapTotal: number;
}

let last: NodeJS.MemoryUsage | null = null;

/** Never throws: where the system cannot be asked (no file descriptor left), the last answer counts. */
export function memoryInUse(): MemoryUse {
  try {
    last = process.memoryUsage();
  } catch {
    const { used_heap_size, total_heap_size, external_memory } = getHeapStatistics();
    last = {
      rss: last?.rss ?? total_heap_size + external_memory,
      heapUsed: used_heap_size,
      heapTotal: total_heap_size,
      external: external_memory,
      arrayBuffers: last?.arrayBuffers ?? external_memory,
    };
  }
  const { rss, heapUsed, heapTotal, arrayBuffers } = last;
  return { used: heapUsed + arrayBuffers, rss, heap: heapUsed, heapTotal };
}

let collect: ((options?: { type: 'minor' }) => void) | null = null;

/**
 * Has V8 collect all garbage, so that `memoryInUse` is exact: some ms per 100 MB of heap. Buffers are
 * given back on another thread; the short second collection waits for that.
 */
export function collectGarbage(): void {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as typeof collect;
  }
  collect?.();
  collect?.({ type: 'minor' });
}

/**
 * How much memory the process uses, as `maxmemory` and INFO count it.
 *
 * Used = what V8 holds on its heap plus buffers outside it. Cost: some tens of microseconds, so the
 * dispatch loop looks at a flag that housekeeping sets.
 */
export interface MemoryUse {
  readonly used: number;
  readonly rss: number;
  readonly heap: number;
  readonly heapTotal: number;
}

export function memoryInUse(): MemoryUse {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  return { used: heapUsed + external, rss, heap: heapUsed, heapTotal };
}

/**
 * Facts about this process: memory, threads, and the time that its garbage collector took.
 *
 * Invariant: counting begins with the first service of the process and costs nothing per call.
 */
import { readFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';

let gcMs = 0;
let observer: PerformanceObserver | null = null;

/** Begins to count garbage collection. Idempotent. */
export function countGarbageCollection(): void {
  if (observer !== null) return;
  observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) gcMs += duration;
  });
  observer.observe({ entryTypes: ['gc'] });
}

export function processFacts(): { memory: number; threads: number; gcNs: number } {
  return { memory: process.memoryUsage.rss(), threads: threadCount(), gcNs: gcMs * 1e6 };
}

/** Linux says how many; elsewhere the main thread is what is known. */
function threadCount(): number {
  try {
    return Number(/^Threads:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 1);
  } catch {
    return 1;
  }
}

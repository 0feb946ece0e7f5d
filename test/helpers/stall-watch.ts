/**
 * Watches a server's event loop for turns that hold it: preloaded into its process by `--import`.
 *
 * A turn counts by the processor time that the main thread took, not by the clock, so that a machine
 * that runs other work at the same time changes nothing. Linux tells that time per thread.
 * A turn that took too long is one line on standard error, with its length and when it began (Unix ms):
 * `stall: 240 ms from 1700000000123`. The turn in which the server became ready is not of interest.
 */
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import type { RivuletServer } from './rivulet-server.ts';

/** For `nodeArgs` of `startRivulet`. */
export const STALL_WATCH: readonly string[] = ['--import', import.meta.url];

/** A turn may take as much processor time, ms. */
const LONGEST_TURN_MS = 100;
const EVERY_MS = 10;

/** Where a test is about something else: beside other work the same turn takes up to twice as much. */
export const BESIDE_OTHERS_MS = 400;

/** What `fixedWork` takes where the limits were set, ms. */
const WORK_MS = 8;

/** How many times as much processor time this machine takes now; at least 1. */
function slowness(): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    const from = process.cpuUsage();
    fixedWork();
    const { user, system } = process.cpuUsage(from);
    least = Math.min(least, (user + system) / 1000);
  }
  return Math.max(1, least / WORK_MS);
}

function fixedWork(): number {
  const cells = new Int32Array(4096);
  let state = 1;
  for (let n = 0; n < 4_000_000; n++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    cells[state >>> 20] = cells[n & 4095]! + state;
  }
  return state;
}

/** Turns of the loop that took longer than so many ms, on a fast machine, since the server was ready. */
export function stallsOf(server: RivuletServer, longerThan = LONGEST_TURN_MS): number[] {
  const stalls: number[] = [];
  for (const line of server.output().split('\n')) {
    const [, ms, from] = /^stall: (\d+) ms from (\d+)$/.exec(line) ?? [];
    if (Number(ms) > longerThan && Number(from) > server.readyAt) stalls.push(Number(ms));
  }
  if (stalls.length === 0) return stalls;
  const limit = longerThan * slowness();
  return stalls.filter((ms) => ms > limit);
}

/** Processor time of the main thread, ms; null where the system does not tell. */
function processorTime(): number | null {
  try {
    const path = `/proc/self/task/${process.pid}/schedstat`;
    return Number(readFileSync(path, 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return null;
  }
}

function watch(): void {
  let used = processorTime();
  let at = performance.now();
  setInterval(() => {
    const now = performance.now();
    const usedNow = processorTime();
    if (used !== null && usedNow !== null) {
      // A timer that is late by so much, and a thread that worked all that time: one long turn.
      const turn = Math.min(now - at - EVERY_MS, usedNow - used);
      if (turn > LONGEST_TURN_MS) {
        const from = Math.floor(performance.timeOrigin + at);
        process.stderr.write(`stall: ${Math.round(turn)} ms from ${from}\n`);
      }
    }
    used = processorTime();
    at = performance.now();
  }, EVERY_MS).unref();
}

const preloaded = process.execArgv.some((arg) => arg === import.meta.url);
if (preloaded && isMainThread) watch();

/**
 * Load for both sides: redis-benchmark's, and filling a stream.
 */
import type { Client } from '../src/client/client.ts';
import { runTool } from '../test/helpers/children.ts';
import { VALUE } from './row.ts';

export interface Load {
  readonly port: number;
  readonly requests: number;
  readonly connections?: number;
  readonly pipeline?: number;
  /** `__rand_int__` in the command becomes a number below this. */
  readonly random?: number;
}

/** Runs redis-benchmark with this command and returns requests per second. */
export async function redisBenchmark(load: Load, ...command: string[]): Promise<number> {
  const { port, requests, connections = 50, pipeline = 1, random } = load;
  const args = ['-p', port, '-n', requests, '-c', connections, '-P', pipeline, '--csv'].map(String);
  if (random !== undefined) args.push('-r', String(random));
  const result = await runTool('redis-benchmark', [...args, ...command], { timeoutMs: 900_000 });
  // The last line: "command","requests per second","average latency",...
  const last = result.stdout.trim().split('\n').at(-1) ?? '';
  const rate = Number(/",?"([0-9.]+)"/.exec(last)?.[1]);
  if (!(rate > 0)) throw new Error(`redis-benchmark printed: ${result.stdout}${result.stderr}`);
  return rate;
}

/** Appends entries `first-0`, `first+1-0` ..., one field with a 32-byte value each. */
export async function fillStream(
  client: Client,
  key: string,
  count: number,
  first = 1,
): Promise<void> {
  const BATCH = 5_000;
  for (let from = first; from < first + count; from += BATCH) {
    const size = Math.min(BATCH, first + count - from);
    await Promise.all(
      Array.from({ length: size }, (_, i) => client.call('XADD', key, `${from + i}-0`, 'f', VALUE)),
    );
  }
}

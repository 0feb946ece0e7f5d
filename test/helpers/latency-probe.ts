/**
 * How long a bystander waits: a thread that sends PING, one at a time, while something else goes on.
 *
 * A thread of its own, because the thread of the test is busy making the load.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { RespSession } from './resp-session.ts';

export interface Latency {
  readonly count: number;
  /** Milliseconds. */
  readonly median: number;
  readonly p99: number;
  readonly max: number;
}

/** Runs `work` and returns its result with the latency that a bystander had meanwhile. */
export async function withLatency<T>(
  port: number,
  work: () => Promise<T>,
): Promise<{ result: T; latency: Latency }> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { port } });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  await Promise.race([failed, new Promise((resolve) => worker.once('message', resolve))]);
  const result = await Promise.race([failed, work()]);
  worker.postMessage('stop');
  const latency = await Promise.race([
    failed,
    new Promise<Latency>((resolve) => worker.once('message', resolve)),
  ]);
  await worker.terminate();
  return { result, latency };
}

if (!isMainThread && parentPort !== null && typeof workerData?.port === 'number') {
  let isStopped = false;
  parentPort.once('message', () => {
    isStopped = true;
  });
  const session = await RespSession.open(workerData.port, { timeoutMs: 60_000 });
  await session.call('PING');
  parentPort.postMessage('ready');
  const samples: number[] = [];
  while (!isStopped) {
    const startedAt = performance.now();
    await session.call('PING');
    samples.push(performance.now() - startedAt);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  samples.sort((a, b) => a - b);
  const at = (fraction: number) => samples[Math.floor((samples.length - 1) * fraction)];
  parentPort.postMessage({
    count: samples.length,
    median: at(0.5),
    p99: at(0.99),
    max: at(1),
  } satisfies Latency);
  await session.close();
}

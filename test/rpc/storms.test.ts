/** Ten thousand calls that their callers leave at once: nothing of them is left on either side. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';

const Storm = contract('test.storm', {
  S: {
    Hang: unary<undefined, string>({ timeoutMs: 600_000 }),
    Ticks: serverStream<undefined, number>({ timeoutMs: 600_000 }),
  },
});

/** Timers and sockets that Node counts. */
function held(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

for (const [transport, many] of [
  ['local', 10_000],
  ['tcp', 10_000],
  ['grpc', 2000],
] as const) {
  test(`${many} calls that are cancelled leave no handler, timer, stream or socket behind (${transport})`, async () => {
    const registry = new MemoryRegistry();
    const own = { environment: false, args: false, registry, transport } as const;
    await using node = createService({ ...own, name: 'test.storm', maxConcurrentCalls: 2 * many });
    let begun = 0;
    let aborted = 0;
    let onAllBegun = () => {};
    let onAllAborted = () => {};
    const hang = (signal: AbortSignal) =>
      new Promise<never>((_, reject) => {
        begun++;
        if (begun === many) onAllBegun();
        signal.addEventListener('abort', () => {
          aborted++;
          reject(signal.reason);
          if (aborted === many) onAllAborted();
        });
      });
    node.handle(Storm, {
      S: {
        Hang: (_request, { signal }) => hang(signal),
        // biome-ignore lint/correctness/useYield: it sends nothing
        async *Ticks(_request, { signal }) {
          await hang(signal);
        },
      },
    });
    await node.start();
    await using caller = createService({
      ...own,
      bulkhead: { maxConcurrent: many },
      requestTimeoutMs: 600_000,
    });
    const { S } = caller.client(Storm);
    // The connection and what it keeps are there before the count.
    await caller.call('test.storm', 'Debug.Health', {}, { timeoutMs: 60_000 });
    await turn();
    const before = held();
    const allBegun = new Promise<void>((resolve) => {
      onAllBegun = resolve;
    });
    const allAborted = new Promise<void>((resolve) => {
      onAllAborted = resolve;
    });
    const end = new AbortController();
    const calls = Array.from({ length: many }, (_, index) =>
      index % 2 === 0
        ? S.Hang(undefined, { signal: end.signal })
        : S.Ticks(undefined, { signal: end.signal }).next(),
    );
    const outcomes = Promise.allSettled(calls);
    await allBegun;
    end.abort();
    for (const { status } of await outcomes) assert.equal(status, 'rejected');
    await allAborted;
    await until(() => node.server.running === 0);
    await turn();
    const after = held();
    for (const [name, count] of Object.entries(after)) {
      // One timer serves all deadlines, and stays set until it fires.
      const most = (before[name] ?? 0) + (name === 'Timeout' ? 2 : 0);
      if (name === 'Immediate') continue;
      assert.ok(count <= most, `${count} of ${name}, ${before[name] ?? 0} before`);
    }
  });
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

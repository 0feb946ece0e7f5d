/** A rolling restart under load fails no call and breaks no stream, on each transport. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { memoryFixture } from '../conformance/embedded-fixture.ts';

const Work = contract('work', {
  Work: {
    // Not idempotent: only what reached no handler may be sent again.
    Do: unary<{ n: number }, { n: number }>(),
    List: serverStream<{ count: number }, number>(),
  },
});
const own = { environment: false, args: false } as const;

for (const transport of ['local', 'tcp', 'grpc', 'http', 'broker', 'auto']) {
  test(`${transport}: nodes are replaced one by one while calls and streams run`, async () => {
    await using fixture = await memoryFixture();
    const broker = await fixture.open();
    const registry = new MemoryRegistry();
    const shared = { ...own, registry, broker, transport };
    let runs = 0;
    const start = async (): Promise<Service> => {
      const service = createService({ ...shared, name: 'work', drainTimeoutMs: 10_000 });
      service.handle(Work, {
        Work: {
          async Do({ n }) {
            runs++;
            await delay(n % 5);
            return { n };
          },
          async *List({ count }) {
            for (let n = 0; n < count; n++) {
              await delay(1);
              yield n;
            }
          },
        },
      });
      await service.start();
      return service;
    };
    const nodes = [await start(), await start(), await start()];
    await using caller = createService({ ...shared, name: 'caller' });
    const { Do, List } = caller.client(Work).Work;
    await Do({ n: 0 });
    runs = 0;
    let isOver = false;
    let calls = 0;
    let streams = 0;
    const failures: unknown[] = [];
    const call = async () => {
      while (!isOver) {
        const n = calls++;
        const reply = await Do({ n }).catch((error) => void failures.push(error));
        if (reply !== undefined) assert.equal(reply.n, n);
      }
    };
    const read = async () => {
      while (!isOver) {
        streams++;
        let expected = 0;
        try {
          for await (const n of List({ count: 20 })) assert.equal(n, expected++);
          assert.equal(expected, 20);
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const hasStreams = transport !== 'broker' && transport !== 'http';
    const load = Promise.all([
      ...Array.from({ length: 16 }, call),
      ...Array.from({ length: hasStreams ? 4 : 0 }, read),
    ]);
    for (let round = 0; round < 2; round++) {
      for (let index = 0; index < nodes.length; index++) {
        await delay(30);
        const before = nodes[index] as Service;
        nodes[index] = await start();
        await before.stop();
      }
    }
    isOver = true;
    await load;
    await Promise.all(nodes.map((node) => node.stop()));
    assert.deepEqual(
      failures.slice(0, 3),
      [],
      `${failures.length} of ${calls} calls, ${streams} streams`,
    );
    assert.ok(calls > 100 && (streams > 4 || !hasStreams), `${calls} calls, ${streams} streams`);
    assert.equal(runs, calls, 'each call ran once');
  });
}

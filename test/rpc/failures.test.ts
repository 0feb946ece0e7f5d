/**
 * Bad days of a call, each with the time within which its caller knows: nodes that are killed, stopped
 * and cut off, brokers and direct ways that go, clocks that are wrong. Nodes are processes.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FaultyProxy } from '../../src/conformance/index.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { Failing, type FailingNode, NAME, startNode } from './failing-node.ts';

const TTL_MS = 600_000;
let server: RivuletServer;
let url = '';

before(async () => {
  server = await startRivulet();
  url = `rivulet://127.0.0.1:${server.port}`;
});
after(() => server.stop('SIGKILL'));

interface Setup extends AsyncDisposable {
  readonly registry: MemoryRegistry;
  readonly client: Service;
}

/** A client whose registry knows these nodes. */
async function caller(
  transport: string,
  records: readonly ServiceRecord[],
  broker: string | undefined = transport === 'tcp' ? undefined : url,
): Promise<Setup> {
  const registry = new MemoryRegistry();
  for (const record of records) await registry.register(record, { ttlMs: TTL_MS });
  const client = createService({
    name: 'test.caller',
    registry,
    transport,
    ...(broker === undefined ? {} : { broker }),
  });
  await client.start();
  return {
    registry,
    client,
    async [Symbol.asyncDispose]() {
      await client.stop();
      await registry.close();
    },
  };
}

/** The record with the direct address of its node at another port. */
function moved(record: ServiceRecord, port: number): ServiceRecord {
  const address = `127.0.0.1:${port}`;
  const nodes = record.nodes.map((node) => ({
    ...node,
    address,
    metadata: { ...node.metadata, 'rivulet.tcp': address },
  }));
  return { ...record, nodes };
}

function portOf({ nodes }: ServiceRecord): number {
  return Number(nodes[0]?.metadata['rivulet.tcp']?.split(':').at(-1));
}

async function took(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

for (const { transport, killedMs } of [
  { transport: 'tcp', killedMs: 50 },
  { transport: 'broker', killedMs: 5000 },
]) {
  const node = (): Promise<FailingNode> =>
    startNode({ transport, ...(transport === 'broker' ? { broker: url } : {}) });

  describe(`over ${transport}`, () => {
    test(`a node that is killed in a call is known to be lost within ${killedMs} ms`, async () => {
      const times: number[] = [];
      // A machine that is busy elsewhere delays one, not each of ten.
      for (let round = 0; round < 10; round++) {
        await using one = await node();
        await using setup = await caller(transport, [one.record]);
        const call = setup.client.client(Failing).Srv.Hang(undefined, { timeoutMs: 30_000 });
        const lost = assert.rejects(call, { code: 'RESPONDER_LOST', sent: 'maybe' });
        await one.begun(1);
        one.signal('SIGKILL');
        times.push(await took(() => lost));
        if (times.some((time) => time <= killedMs)) break;
      }
      assert.ok(Math.min(...times) <= killedMs, `${times.map(Math.round).join(', ')} ms`);
    });

    test('a call of an idempotent method goes on at another node', async () => {
      await using one = await node();
      await using two = await node();
      await using setup = await caller(transport, [one.record, two.record]);
      const { HangOnce } = setup.client.client(Failing).Srv;
      // Until the first one has it.
      for (;;) {
        const call = HangOnce({ pid: one.pid }, { timeoutMs: 30_000 });
        const other = await Promise.race([call, one.begun(1).then(() => null)]);
        if (other !== null) {
          assert.equal(other.pid, two.pid);
          continue;
        }
        one.signal('SIGKILL');
        assert.equal((await call).pid, two.pid);
        break;
      }
    });

    test('a node that is stopped costs its callers their deadline, and serves again when it goes on', async () => {
      await using one = await node();
      await using setup = await caller(transport, [one.record]);
      const { Who } = setup.client.client(Failing).Srv;
      await Who({});
      one.signal('SIGSTOP');
      const time = await took(() =>
        assert.rejects(Who({}, { timeoutMs: 400 }), { code: 'TIMEOUT', sent: 'maybe' }),
      );
      assert.ok(time >= 390 && time < 10_000, `${time} ms`);
      one.signal('SIGCONT');
      assert.equal((await Who({}, { timeoutMs: 20_000 })).pid, one.pid);
    });

    test('a node that is killed in a stream is an error at the next read, within 5 s', async () => {
      await using one = await node();
      await using setup = await caller(transport, [one.record]);
      const ticks = setup.client.client(Failing).Srv.Ticks();
      for (let n = 0; n < 5; n++) assert.equal((await ticks.next()).value, n);
      one.signal('SIGKILL');
      const time = await took(async () => {
        const error = await (async () => {
          for await (const _ of ticks);
          return new Error('the stream ended in silence');
        })().catch((thrown) => thrown);
        assert.equal(error.code, 'RESPONDER_LOST', String(error));
        assert.equal(error.sent, 'maybe');
      });
      assert.ok(time < 5000, `${time} ms`);
    });

    test('a node whose date is an hour off changes nothing', async () => {
      for (const dateOffMs of [3_600_000, -3_600_000]) {
        await using one = await startNode({
          transport,
          dateOffMs,
          ...(transport === 'broker' ? { broker: url } : {}),
        });
        await using setup = await caller(transport, [one.record]);
        const { Srv } = setup.client.client(Failing);
        const { remainingMs } = await Srv.Who({}, { timeoutMs: 8000 });
        assert.ok(remainingMs > 0 && remainingMs <= 8000, `${remainingMs} ms`);
        await assert.rejects(Srv.Hang(undefined, { timeoutMs: 200 }), { code: 'TIMEOUT' });
      }
    });
  });
}

describe('ways that go', () => {
  test('a connection that swallows everything counts as lost within 4 s', async () => {
    await using one = await startNode({ transport: 'tcp' });
    await using proxy = await FaultyProxy.start(portOf(one.record));
    await using setup = await caller('tcp', [moved(one.record, proxy.port)]);
    const { Srv } = setup.client.client(Failing);
    await Srv.Who({});
    const call = Srv.Hang(undefined, { timeoutMs: 60_000 });
    const lost = assert.rejects(call, { code: 'RESPONDER_LOST', sent: 'maybe' });
    await one.begun(1);
    proxy.mode = 'black hole';
    // Three seconds of silence, and the second in which it is looked for.
    const time = await took(() => lost);
    assert.ok(time < 4500, `${time} ms`);
  });

  test('the direct way is cut: calls go on over the broker, the first 200 ms later at most', async () => {
    await using one = await startNode({ transport: 'auto', broker: url });
    await using proxy = await FaultyProxy.start(portOf(one.record));
    const record = moved(one.record, proxy.port);
    let setup = await caller('auto', [record]);
    // On a busy machine the first dial may take its 200 ms: another client has the direct way.
    for (let tries = 0; tries < 10; tries++) {
      await setup.client.client(Failing).Srv.Who({});
      if (proxy.connections === 1) break;
      await setup[Symbol.asyncDispose]();
      setup = await caller('auto', [record]);
    }
    await using _setup = setup;
    const { Srv } = setup.client.client(Failing);
    assert.equal(proxy.connections, 1);
    proxy.mode = 'refuse';
    proxy.cut();
    const first = await took(() => Srv.Who({}));
    assert.ok(first < 1000, `${first} ms`);
    for (let n = 0; n < 20; n++) assert.equal((await Srv.Who({})).pid, one.pid);
    assert.equal(proxy.connections, 0);
    const echo = Srv.Echo(['a', 'b']);
    const replies: string[] = [];
    for await (const reply of echo) replies.push(reply);
    assert.deepEqual(replies, ['a', 'b']);
  });

  test('a dial that is late goes over the broker at once', async () => {
    await using one = await startNode({ transport: 'auto', broker: url });
    await using proxy = await FaultyProxy.start(portOf(one.record));
    proxy.mode = 'black hole';
    await using setup = await caller('auto', [moved(one.record, proxy.port)]);
    const { Srv } = setup.client.client(Failing);
    const first = await took(() => Srv.Who({}));
    assert.ok(first >= 190 && first < 1500, `${first} ms`);
    const next: number[] = [];
    // A machine that is busy elsewhere delays one, not each of five.
    for (let n = 0; n < 5; n++) next.push(await took(() => Srv.Who({})));
    assert.ok(Math.min(...next) < 190, `${next} ms: the dial was waited for again`);
  });

  test('the broker is killed: calls over the direct way do not notice', async () => {
    const own = await startRivulet();
    try {
      const broker = `rivulet://127.0.0.1:${own.port}`;
      await using one = await startNode({ transport: 'auto', broker });
      await using setup = await caller('auto', [one.record], broker);
      const { Srv } = setup.client.client(Failing);
      await Srv.Who({});
      const ticks = Srv.Ticks();
      await ticks.next();
      await own.stop('SIGKILL');
      for (let n = 0; n < 50; n++) {
        assert.ok((await took(() => Srv.Who({}))) < 1000);
        assert.equal((await ticks.next()).done, false);
      }
      ticks.cancel();
    } finally {
      await own.stop('SIGKILL');
    }
  });

  test('a node that is not there is passed over without a failed call', async () => {
    await using one = await startNode({ transport: 'auto', broker: url });
    const gone = await startNode({ transport: 'auto', broker: url });
    await using setup = await caller('auto', [one.record, gone.record]);
    await gone[Symbol.asyncDispose]();
    const { Srv } = setup.client.client(Failing);
    for (let n = 0; n < 30; n++) assert.equal((await Srv.Who({})).pid, one.pid);
    assert.equal(NAME, one.record.name);
  });
});

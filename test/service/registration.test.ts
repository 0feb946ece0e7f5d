/** The registration of a node whose check fails, or whose check or registry never answers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { NodeTable } from '../../src/registry/node-table.ts';
import type { RegisterOptions, ServiceRecord } from '../../src/registry/registry.ts';
import { unary } from '../../src/rpc/contract.ts';
import { Registration } from '../../src/service/registration.ts';
import { createService } from '../../src/service/service.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

const RECORD: ServiceRecord = {
  name: 'test.registration',
  version: '1',
  metadata: {},
  endpoints: [],
  nodes: [{ id: 'n1', address: '127.0.0.1:1', metadata: {} }],
};
const TIMES = { ttlMs: 90_000, intervalMs: 30_000 };
const never = () => new Promise<never>(() => {});

function world(check?: () => Promise<void> | void) {
  const clock = new VirtualScheduler();
  const table = new NodeTable(clock);
  const registry = new MemoryRegistry(clock, table);
  const states: (string | null)[] = [];
  const onState = (error: Error | null) => states.push(error === null ? null : error.message);
  const options = { ...TIMES, onState, ...(check === undefined ? {} : { check }) };
  const nodes = async () =>
    (await registry.getService(RECORD.name)).flatMap((each) => each.nodes).length;
  return { clock, registry, states, options, nodes };
}

test('a node whose check begins to reject leaves the registry, and returns when it passes', async () => {
  let isFit = true;
  const w = world(() => {
    if (!isFit) throw new Error('not fit');
  });
  const registration = new Registration(w.registry, RECORD, w.clock, w.options);
  await registration.start();
  assert.equal(await w.nodes(), 1);
  isFit = false;
  await w.clock.advance(30_000);
  assert.equal(registration.isRegistered, false);
  assert.equal(await w.nodes(), 0);
  isFit = true;
  await w.clock.advance(10_000);
  assert.equal(registration.isRegistered, true);
  assert.equal(await w.nodes(), 1);
  assert.deepEqual(w.states, ['not fit', null]);
  await registration.stop();
  assert.equal(await w.nodes(), 0);
});

test('a check that never answers counts as failed, and the next one is made', async () => {
  let checks = 0;
  const w = world(() => (++checks === 2 ? never() : undefined));
  const registration = new Registration(w.registry, RECORD, w.clock, w.options);
  await registration.start();
  await w.clock.advance(60_000);
  assert.equal(registration.isRegistered, false);
  await w.clock.advance(1000);
  assert.equal(registration.isRegistered, true);
  await registration.stop();
});

test('a check that never answers holds no stop, of a start either', async () => {
  const registry = new MemoryRegistry();
  const service = createService({
    environment: false,
    args: false,
    name: 'test.registration',
    registry,
    transport: 'local',
    registerCheck: never,
  });
  service.server.add('A.B', unary(), () => null);
  const starting = service.start();
  await new Promise((resolve) => setTimeout(resolve, 50));
  await service.stop();
  await starting;
  assert.equal(service.isRegistered, false);
});

test('a registry that never answers holds a stop for five seconds, and what it does later is undone', async () => {
  const w = world();
  let goOn = () => {};
  class Late extends MemoryRegistry {
    override async register(record: ServiceRecord, options: RegisterOptions): Promise<void> {
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      await super.register(record, options);
    }
  }
  const table = new NodeTable(w.clock);
  const registry = new Late(w.clock, table);
  const registration = new Registration(registry, RECORD, w.clock, w.options);
  const starting = registration.start();
  const stopping = registration.stop();
  await w.clock.advance(5000);
  await stopping;
  await starting;
  goOn();
  await w.clock.advance(1);
  assert.deepEqual(await registry.getService(RECORD.name), []);
});

test('a stop whose drain is shorter waits for a registry that never answers no longer than that', async () => {
  for (const [drainMs, mostMs] of [
    [2000, 2000],
    [0, 1000],
    [60_000, 5000],
  ] as const) {
    const w = world();
    class Silent extends MemoryRegistry {
      override deregister(): Promise<void> {
        return never();
      }
    }
    const registry = new Silent(w.clock, new NodeTable(w.clock));
    const registration = new Registration(registry, RECORD, w.clock, w.options);
    await registration.start();
    let hasStopped = false;
    const stopping = registration.stop(drainMs).then(() => {
      hasStopped = true;
    });
    await w.clock.advance(mostMs - 1);
    assert.equal(hasStopped, false, `drain ${drainMs}`);
    await w.clock.advance(1);
    await stopping;
  }
});

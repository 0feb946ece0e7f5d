/** The registry suite on a real nats-server, and go-micro's forms of questions and answers. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { type RegistryFixture, registryConformance } from '../../src/conformance/registry/suite.ts';
import { type NatsBus, natsRegistryFrom } from '../../src/registry/nats.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { startNats } from '../helpers/nats-server.ts';
import { missing } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';

const skip = missing('nats-server');
const runner = { describe, test, before, after };
const quiet = { onWarning: () => {} };
const yes = () => true;
const no = () => false;

/** A connection of another program. */
async function stranger(url: string): Promise<NatsBus> {
  const name: string = '@rivulet/nats';
  return (
    (await import(name)) as { openRegistryBus(url: string): Promise<NatsBus> }
  ).openRegistryBus(url);
}

if (skip !== false) test('the registry suite on nats', { skip }, () => {});
else
  registryConformance({
    name: 'nats',
    runner,
    factory: async (): Promise<RegistryFixture> => {
      const server = await startNats();
      const node = server.nodes[0]!;
      const other = await stranger(node.url);
      return {
        open: async () => natsRegistryFrom(node.url, quiet),
        kill: (registry) => registry.close(),
        stop: () => node.kill(),
        start: () => node.start(),
        writeForeign: async (_service, bytes) => {
          const text = Buffer.from(bytes).toString('utf8');
          // It may still be on its way back after an outage.
          await until(() => other.publish('micro.nats.watch', text).then(yes, no));
        },
        expirySlackMs: 1000,
        [Symbol.asyncDispose]: async () => {
          await other.close();
          await server[Symbol.asyncDispose]();
        },
      };
    },
  });

test('calls of the nats registry keep to timeoutMs where the server says nothing, and so does its close', async () => {
  const { connections, address, close } = await silentServer();
  const clock = new VirtualScheduler(1);
  const registry = natsRegistryFrom(`nats://${address}`, {
    ...quiet,
    scheduler: clock,
    timeoutMs: 300,
  });
  const calls = [
    () => registry.getService('x'),
    () => registry.listServices(),
    () => registry.register(somewhere, { ttlMs: 60_000 }),
  ];
  for (const call of calls) {
    let error: { code?: string } | null = null;
    const failing = call().catch((each) => {
      error = each;
    });
    await clock.advance(299);
    assert.equal(error, null);
    await clock.advance(1);
    // It waits for nothing but the virtual clock.
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal((error as { code?: string } | null)?.code, 'REGISTRY_UNAVAILABLE');
    await failing;
  }
  await registry.close();
  close();
  for (const socket of connections) socket.destroy();
});

const somewhere: ServiceRecord = {
  name: 'go.micro.srv.x',
  version: 'latest',
  metadata: {},
  endpoints: [],
  nodes: [{ id: 'x-1', address: '127.0.0.1:40001', metadata: {} }],
};

async function silentServer() {
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    socket.on('error', () => {});
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { connections, address: `127.0.0.1:${port}`, close: () => server.close() };
}

describe('nats', { skip }, () => {
  const record = (id: string): ServiceRecord => ({
    name: 'go.micro.srv.x',
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: { protocol: 'grpc' } }],
  });

  test("we answer and announce on the subjects of go-micro's core and of its plugins", async () => {
    await using server = await startNats();
    const url = server.nodes[0]!.url;
    await using registry = await openRegistry(url);
    const go = await stranger(url);
    const announced: Record<string, { Action: string; Service: { name: string } | null }[]> = {};
    const seen = new Promise<void>((resolve) => {
      for (const subject of ['micro.nats.watch', 'micro.registry.nats.watch']) {
        go.subscribe(subject, (text) => {
          announced[subject] = [...(announced[subject] ?? []), JSON.parse(text)];
          if (Object.values(announced).flat().length === 4) resolve();
        });
      }
    });
    await go.publish('flushed', '');
    await registry.register(record('n'), { ttlMs: 60_000 });
    for (const prefix of ['micro.nats', 'micro.registry.nats']) {
      const get = JSON.stringify({ Action: 'get', Service: { name: 'go.micro.srv.x' } });
      const [answer] = await go.query(`${prefix}.query`, get, 1000);
      const { name, nodes, metadata } = JSON.parse(answer as string);
      assert.deepEqual([name, nodes.length, metadata], ['go.micro.srv.x', 1, {}]);
      const list = JSON.stringify({ Action: 'list', Service: null });
      assert.equal((await go.query(`${prefix}.query`, list, 300)).length, 1);
      for (const wrong of ['', '{', 'null', '{"Action":"get","Service":null}', '{"Action":"x"}']) {
        assert.deepEqual(await go.query(`${prefix}.query`, wrong, 50), []);
      }
    }
    await registry.deregister(record('n'));
    await seen;
    for (const each of Object.values(announced)) {
      assert.deepEqual(
        each.map(({ Action }) => Action),
        ['create', 'delete'],
      );
      assert.ok(
        each.every(({ Service }) => Service !== null),
        'a null service ends Go processes',
      );
    }
    await go.close();
  });

  test("a Go process's node is found by its answer, and no process at all is an empty list at once", async () => {
    await using server = await startNats();
    const url = server.nodes[0]!.url;
    const go = await stranger(url);
    const answer = JSON.stringify({ ...record('go'), metadata: null, endpoints: null });
    go.subscribe('micro.registry.nats.query', (_text, reply) => {
      if (reply === null) return;
      void go.publish(reply, answer);
      void go.publish(reply, answer);
      void go.publish(reply, '{"name":');
    });
    await go.publish('flushed', '');
    await using registry = natsRegistryFrom(url, quiet);
    const [found] = await registry.getService('go.micro.srv.x');
    assert.deepEqual(
      found?.nodes.map(({ id }) => id),
      ['go'],
    );
    await go.close();
  });
});

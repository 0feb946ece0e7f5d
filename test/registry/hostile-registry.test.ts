/**
 * What stands at a registry's address is no registry, or answers half, slowly or with nonsense: each
 * call ends with REGISTRY_UNAVAILABLE within its limit, and never with an empty list.
 */
import assert from 'node:assert/strict';
import { createServer as createHttp, request } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import { consulRegistryFrom } from '../../src/registry/consul/consul.ts';
import { etcdRegistryFrom } from '../../src/registry/etcd/etcd.ts';
import { eurekaRegistryFrom } from '../../src/registry/eureka/eureka.ts';
import { natsRegistryFrom } from '../../src/registry/nats.ts';
import type { Registry, ServiceRecord } from '../../src/registry/registry.ts';
import { zookeeperRegistryFrom } from '../../src/registry/zookeeper/zookeeper.ts';
import { startPeer } from '../helpers/tcp-peer.ts';
import { ConsulModel } from './models/consul-model.ts';

const own = { onWarning: () => {}, timeoutMs: 500 };

const registries: readonly { name: string; isHttp: boolean; open(at: string): Registry }[] = [
  { name: 'etcd', isHttp: false, open: (at) => etcdRegistryFrom(at, own) },
  { name: 'consul', isHttp: true, open: (at) => consulRegistryFrom(at, own) },
  { name: 'eureka', isHttp: true, open: (at) => eurekaRegistryFrom(at, { ...own, pollMs: 50 }) },
  { name: 'zookeeper', isHttp: false, open: (at) => zookeeperRegistryFrom(at, own) },
  { name: 'nats', isHttp: false, open: (at) => natsRegistryFrom(`nats://${at}`, own) },
];

const reply = (body: string, more = '') =>
  `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${more}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** What a peer does with a connection. */
const peers: readonly { name: string; isHttp: boolean; act(socket: Socket): void }[] = [
  { name: 'accepts and says nothing', isHttp: false, act: () => {} },
  { name: 'closes at once', isHttp: false, act: (socket) => socket.end() },
  {
    name: 'greets as SSH',
    isHttp: false,
    act: (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'),
  },
  {
    name: 'sends bytes of no protocol',
    isHttp: false,
    act: (socket) => socket.write(Buffer.alloc(3000, 0xa5)),
  },
  {
    name: 'answers with half a reply',
    isHttp: true,
    act: (socket) =>
      socket.once('data', () => {
        socket.end('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{"Service":');
      }),
  },
  {
    name: 'begins a reply and never ends it',
    isHttp: true,
    act: (socket) =>
      socket.on('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{"Service":');
      }),
  },
  ...['', '{', 'null', '7', '"x"', '{}', '[7', '<html>sign in</html>'].map((body) => ({
    name: `answers everything with ${JSON.stringify(body)}`,
    isHttp: true,
    act: (socket: Socket) => void socket.on('data', () => socket.write(reply(body))),
  })),
  ...[404, 500, 503].map((status) => ({
    name: `answers everything with a page and ${status}`,
    isHttp: true,
    act: (socket: Socket) =>
      void socket.on('data', () =>
        socket.write(reply('<html>no such page</html>').replace('200 OK', `${status} Something`)),
      ),
  })),
];

const record = (name: string, id: string): ServiceRecord => ({
  name,
  version: '1',
  metadata: {},
  endpoints: [],
  nodes: [{ id, address: '127.0.0.1:40001', metadata: {} }],
});

for (const { name, isHttp, open } of registries) {
  test(`${name} at an address where something else listens ends with REGISTRY_UNAVAILABLE`, async () => {
    const meant = peers.filter((peer) => isHttp || !peer.isHttp);
    await Promise.all(
      meant.map(async (peer) => {
        await using at = await startPeer(peer.act);
        await using registry = open(at.address);
        const calls = [
          () => registry.getService('any'),
          // An empty map is a list of Consul's without services.
          ...(name === 'consul' && peer.name.includes('{}') ? [] : [() => registry.listServices()]),
          // A registration has no special reply: a peer that answers every request with success has taken it.
          ...(peer.name.includes('with "') ? [] : [register]),
        ];
        function register() {
          return registry.register(record('any', 'any-1'), { ttlMs: 60_000 });
        }
        const fails = (call: () => Promise<unknown>) =>
          assert.rejects(call, (error: Error & { code?: string }) => {
            assert.equal(error.code, 'REGISTRY_UNAVAILABLE', `a peer that ${peer.name}: ${error}`);
            return true;
          });
        await Promise.all(calls.map(fails));
      }),
    );
  });
}

test('a watch whose registry begins to answer with nonsense reports no node as gone', async () => {
  let nonsense = false;
  await using model = new ConsulModel();
  await model.start();
  const good = await startFront(model.port, () => nonsense);
  const registry = consulRegistryFrom(good.address, own);
  const writer = consulRegistryFrom(`127.0.0.1:${model.port}`, own);
  const events = registry.watch('watched')[Symbol.asyncIterator]();
  await registry.getService('watched');
  await writer.register(record('watched', 'a'), { ttlMs: 60_000 });
  assert.equal((await events.next()).value?.action, 'create');
  nonsense = true;
  // The blocking query ends with this change, and what follows is nonsense.
  await writer.register(record('watched', 'b'), { ttlMs: 60_000 });
  await good.refused;
  nonsense = false;
  const next = (await events.next()).value;
  assert.deepEqual([next?.action, next?.service.nodes[0]?.id], ['create', 'b']);
  await registry.close();
  await writer.close();
  await good[Symbol.asyncDispose]();
});

/** Hands requests to a port, and answers `{}` by itself while `isNonsense`; `refused`: it has done so twice. */
async function startFront(
  port: number,
  isNonsense: () => boolean,
): Promise<{ readonly address: string; readonly refused: Promise<void> } & AsyncDisposable> {
  let answered = 0;
  let done = () => {};
  const refused = new Promise<void>((resolve) => {
    done = resolve;
  });
  const front = createHttp((incoming, response) => {
    const nonsense = () => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      if (++answered >= 2) done();
    };
    if (isNonsense()) {
      nonsense();
      return;
    }
    const { method, url, headers } = incoming;
    const outgoing = request({ port, host: '127.0.0.1', method, path: url, headers }, (from) => {
      if (isNonsense()) {
        from.resume();
        nonsense();
        return;
      }
      response.writeHead(from.statusCode ?? 500, from.headers);
      from.pipe(response);
    });
    outgoing.on('error', () => response.destroy());
    incoming.pipe(outgoing);
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(front.address() as AddressInfo).port}`,
    refused,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => front.close(resolve));
      front.closeAllConnections();
      await closed;
    },
  };
}

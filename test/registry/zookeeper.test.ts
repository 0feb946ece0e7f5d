/** The registry suite on a real ZooKeeper, and what only ZooKeeper has: paths, sessions, packets. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { registryConformance } from '../../src/conformance/registry/suite.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { JuteWriter } from '../../src/registry/zookeeper/jute.ts';
import {
  ZookeeperRegistry,
  zookeeperRegistryFrom,
} from '../../src/registry/zookeeper/zookeeper.ts';
import { ZookeeperClient } from '../../src/registry/zookeeper/zookeeper-client.ts';
import type { Scheduler } from '../../src/util/time/scheduler.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { freePort } from '../helpers/free-port.ts';
import { missing } from '../helpers/requirements.ts';
import { startZookeeper, type ZookeeperNode } from '../helpers/zookeeper-server.ts';

const skip = missing('zookeeper');
const runner = { describe, test, before, after };
const quiet = { onWarning: () => {}, sessionTimeoutMs: 2000 };

if (skip !== false) test('the registry suite on zookeeper', { skip }, () => {});
else
  registryConformance({
    name: 'zookeeper',
    runner,
    factory: async () => {
      const node = await startZookeeper();
      const client = clientOf(node.port);
      let foreign = 0;
      return {
        open: async () => zookeeperRegistryFrom(`127.0.0.1:${node.port}`, quiet),
        kill: (registry) => registry.close(),
        stop: () => node.kill(),
        start: () => node.start(),
        empty: () => node.empty(),
        writeForeign: async (service, bytes) => {
          const folder = `/micro-registry/${service}`;
          await client.create('/micro-registry', Buffer.alloc(0), false);
          await client.create(folder, Buffer.alloc(0), false);
          await client.create(`${folder}/foreign-${foreign++}`, Buffer.from(bytes), false);
        },
        shortestTtlMs: 1000,
        expirySlackMs: 4000,
        maxRecordBytes: 1024 * 1024 - 4096,
        [Symbol.asyncDispose]: async () => {
          client.close();
          await node[Symbol.asyncDispose]();
        },
      };
    },
  });

describe('zookeeper', { skip }, () => {
  let node: ZookeeperNode;
  before(async () => {
    node = await startZookeeper();
  });
  after(() => node?.[Symbol.asyncDispose]());
  const url = () => `zookeeper://127.0.0.1:${node.port}`;

  test('path and value of a node are those of go-micro, and it belongs to a session', async () => {
    await using registry = await openRegistry(url());
    const client = clientOf(node.port);
    try {
      const record = recordOf('go.micro.api.userservices', 'a/b');
      await registry.register(record, { ttlMs: 90_000 });
      const path = '/micro-registry/go.micro.api.userservices/a-b';
      assert.equal(
        (await client.data(path))?.toString(),
        '{"name":"go.micro.api.userservices","version":"latest","metadata":{},"endpoints":[],"nodes":[{"id":"a/b","address":"127.0.0.1:40001","metadata":{"protocol":"mucp"}}]}',
      );
      assert.notEqual((await client.stat(path))?.owner, 0n);
      await registry.deregister(record);
      assert.equal(await client.stat(path), null);
    } finally {
      client.close();
    }
  });

  test('names that no path of ZooKeeper can hold are refused, and nobody has them', async () => {
    await using registry = await openRegistry(url());
    for (const name of ['.', '..', 'a\u0085', 'rocket-\u{1f680}']) {
      const wrong = { code: 'INVALID_ARGUMENT' };
      await assert.rejects(registry.register(recordOf(name, 'n'), { ttlMs: 60_000 }), wrong, name);
      const byId = {
        ...recordOf('good', 'n'),
        nodes: [{ id: name, address: '10.0.0.5:40001', metadata: {} }],
      };
      await assert.rejects(registry.register(byId, { ttlMs: 60_000 }), wrong, name);
      assert.deepEqual(await registry.getService(name), []);
      await registry.deregister(byId);
    }
    // Those that go-micro has, in other alphabets too, are not.
    const record = recordOf('go.micro.srv.gr\u00fc\u00dfe', 'n');
    await registry.register(record, { ttlMs: 60_000 });
    assert.equal((await registry.getService(record.name)).length, 1);
  });

  test('a node that go-micro wrote to stay becomes one that goes with this process', async () => {
    const client = clientOf(node.port);
    try {
      await client.create('/micro-registry', Buffer.alloc(0), false);
      await client.create('/micro-registry/stays', Buffer.alloc(0), false);
      const path = '/micro-registry/stays/n';
      await client.create(path, Buffer.from('{"name":"stays","nodes":null}'), false);
      await using registry = await openRegistry(url());
      await registry.register(recordOf('stays', 'n'), { ttlMs: 60_000 });
      assert.notEqual((await client.stat(path))?.owner, 0n);
    } finally {
      client.close();
    }
  });

  test('a session that ended while the process stood still comes back with its nodes', async () => {
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, quiet);
    await using other = await openRegistry(url());
    const record = recordOf('expired', 'n');
    await registry.register(record, { ttlMs: 60_000 });
    const watch = other.watch('expired')[Symbol.asyncIterator]();
    await other.getService('expired');
    // A server that stands still for longer than the session ends it when it goes on.
    node.signal('SIGSTOP');
    await setTimeout(3000);
    node.signal('SIGCONT');
    const deadline = Date.now() + 20_000;
    for (;;) {
      const found = await other.getService('expired').catch(() => []);
      if (found.length === 1) break;
      assert.ok(Date.now() < deadline, 'the node comes back without a renewal');
      await setTimeout(50);
    }
    await watch.return?.();
  });

  test('a node that is not renewed goes at its TTL though its process lives', async () => {
    await using registry = await openRegistry(url());
    const record = recordOf('lapsed', 'n');
    const watch = registry.watch('lapsed')[Symbol.asyncIterator]();
    await registry.getService('lapsed');
    await registry.register(record, { ttlMs: 300 });
    assert.equal((await watch.next()).value?.action, 'create');
    assert.equal((await watch.next()).value?.action, 'delete');
  });

  test('what was to go while the server could not be reached goes when it can be', async () => {
    // A port that refuses, so that the session outlives the cut.
    const door = await Door.open(node.port);
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${door.port}`, {
      sessionTimeoutMs: 10_000,
    });
    const client = clientOf(node.port);
    try {
      const path = (id: string) => `/micro-registry/cut/${id}`;
      await registry.register(recordOf('cut', 'lapsed'), { ttlMs: 500 });
      await registry.register(recordOf('cut', 'deregistered'), { ttlMs: 60_000 });
      await registry.register(recordOf('cut', 'kept'), { ttlMs: 60_000 });
      const owner = (await client.stat(path('kept')))?.owner;
      await door.shut();
      const gone = recordOf('cut', 'deregistered');
      await assert.rejects(registry.deregister(gone), { code: 'REGISTRY_UNAVAILABLE' });
      await setTimeout(600);
      await door.open();
      const deadline = Date.now() + 30_000;
      for (const id of ['lapsed', 'deregistered']) {
        while ((await client.stat(path(id))) !== null) {
          assert.ok(Date.now() < deadline, `${id} is there though it was to go`);
          await setTimeout(50);
        }
      }
      assert.equal((await client.stat(path('kept')))?.owner, owner, 'the session is the same');
    } finally {
      client.close();
      await door.shut();
    }
  });

  test('a renewal that is in flight when the TTL passes keeps its node', async () => {
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, {
      sessionTimeoutMs: 10_000,
      timeoutMs: 10_000,
    });
    const record = recordOf('under-way', 'n');
    await registry.register(record, { ttlMs: 500 });
    node.signal('SIGSTOP');
    const renewal = registry.register(record, { ttlMs: 60_000 });
    await setTimeout(600);
    node.signal('SIGCONT');
    await renewal;
    assert.equal((await registry.getService('under-way')).length, 1);
  });

  test('a TTL that is longer than a timer can be is kept', async () => {
    const longest = 2 ** 31 - 1;
    let fired = () => {};
    const isFired = new Promise<void>((resolve) => {
      fired = resolve;
    });
    // The first timer that is too long fires at once, as after 24.8 days.
    const scheduler: Scheduler = {
      ...systemScheduler,
      after: (ms, run, keepsAlive) => {
        if (ms <= longest) return systemScheduler.after(ms, run, keepsAlive);
        return systemScheduler.after(1, () => {
          if (fired === isOver) return;
          run();
          fired();
          fired = isOver;
        });
      },
    };
    const isOver = () => {};
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, { scheduler });
    await registry.register(recordOf('long', 'n'), { ttlMs: 60 * 24 * 3600_000 });
    await isFired;
    assert.equal((await registry.getService('long')).length, 1);
  });

  test('a server that is down is passed over', async () => {
    const down = await freePort();
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${down},127.0.0.1:${node.port}`);
    await registry.register(recordOf('several', 'n'), { ttlMs: 60_000 });
    assert.equal((await registry.getService('several')).length, 1);
  });

  test('a ZooKeeper that does not answer is REGISTRY_UNAVAILABLE within the limit', async () => {
    await using registry = zookeeperRegistryFrom(`127.0.0.1:${node.port}`, { timeoutMs: 500 });
    await registry.getService('any');
    node.signal('SIGSTOP');
    try {
      const begin = performance.now();
      await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
      assert.ok(performance.now() - begin < 10_000);
    } finally {
      node.signal('SIGCONT');
    }
  });
});

test('peers that speak something else end in an error of their own, and hold nothing', async () => {
  const hostile = [
    Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    Buffer.from([0, 0, 0, 4, 0, 0]),
    Buffer.from([0x7f, 0xff, 0xff, 0xff, 1]),
    Buffer.from([0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(0),
  ];
  for (const bytes of hostile) {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.end(bytes);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const registry = new ZookeeperRegistry({ servers: [`127.0.0.1:${port}`], timeoutMs: 1000 });
    await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
    await registry.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a request ends within timeoutMs however long the session of the server is', async () => {
  await using server = await PlayedServer.start((socket) => socket.write(welcome(1n, 3600_000)));
  await using registry = zookeeperRegistryFrom(`127.0.0.1:${server.port}`, { timeoutMs: 300 });
  const begin = performance.now();
  await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
  assert.ok(performance.now() - begin < 20_000);
});

test('a server that is silent for a while ends no session', async () => {
  const sessions: bigint[] = [];
  let tell = () => {};
  const isBack = new Promise<void>((resolve) => {
    tell = resolve;
  });
  await using server = await PlayedServer.start((socket, session) => {
    sessions.push(session);
    // The first connection ends, the second one gets no answer.
    if (sessions.length === 1) socket.end(welcome(7n, 10_000));
    else if (sessions.length === 3) tell();
  });
  await using registry = zookeeperRegistryFrom(`127.0.0.1:${server.port}`, { timeoutMs: 300 });
  await assert.rejects(registry.getService('any'), { code: 'REGISTRY_UNAVAILABLE' });
  await isBack;
  assert.deepEqual(sessions, [0n, 7n, 7n]);
});

test('a server that takes no session for a while, as one without a quorum, ends none', async () => {
  const sessions: bigint[] = [];
  let tell = () => {};
  const isBack = new Promise<void>((resolve) => {
    tell = resolve;
  });
  await using server = await PlayedServer.start((socket, session) => {
    sessions.push(session);
    // A session that begins, three rounds without a quorum, and the quorum is back.
    if (sessions.length === 1) socket.end(welcome(7n, 10_000));
    else if (sessions.length < 8) socket.end();
    else tell();
  });
  await using registry = zookeeperRegistryFrom(`127.0.0.1:${server.port}`, { timeoutMs: 2000 });
  await registry.getService('any').catch(() => {});
  await isBack;
  // Each round asks for the session, then for a new one, which is not given either.
  assert.deepEqual(sessions.slice(0, 8), [0n, 7n, 0n, 7n, 0n, 7n, 0n, 7n]);
});

test('a server that is behind, and so refuses the session, does not end it while another takes it', async () => {
  const asked: string[] = [];
  let tell = () => {};
  const isBack = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const played = (name: string, act: (socket: Socket, count: number) => void) => {
    let count = 0;
    return PlayedServer.start((socket, session) => {
      asked.push(`${name} ${session}`);
      act(socket, ++count);
    });
  };
  await using first = await played('first', (socket, count) => {
    if (count === 1) socket.end(welcome(7n, 10_000));
    else socket.end();
  });
  // It has not seen what the client has seen, and would give a new session.
  await using behind = await played('behind', (socket) => socket.end());
  await using third = await played('third', (socket) => {
    socket.write(welcome(7n, 10_000));
    tell();
  });
  const servers = [first, behind, third].map(({ port }) => `127.0.0.1:${port}`);
  await using registry = new ZookeeperRegistry({ servers, timeoutMs: 60_000 });
  await registry.getService('any').catch(() => {});
  await isBack;
  assert.deepEqual(asked, ['first 0', 'first 7', 'behind 7', 'third 7']);
});

test('a registry that is closed while it connects ends the attempt, and its calls with CLOSED', async () => {
  let greet = (_socket: Socket) => {};
  const isGreeted = new Promise<Socket>((resolve) => {
    greet = resolve;
  });
  await using server = await PlayedServer.start((socket) => greet(socket));
  const registry = zookeeperRegistryFrom(`127.0.0.1:${server.port}`, { timeoutMs: 600_000 });
  const call = registry.getService('any');
  const socket = await isGreeted;
  const isEnded = new Promise((resolve) => socket.once('close', resolve));
  await registry.close();
  await assert.rejects(call, { code: 'CLOSED' });
  await isEnded;
});

test('addresses of ZooKeeper that cannot be meant are refused', () => {
  for (const bad of ['host:0', 'host:99999', 'a b', 'host:1/path', 'u:p%zz@host', '[::1', 'a,,b']) {
    assert.throws(() => zookeeperRegistryFrom(bad), { code: 'INVALID_ARGUMENT' }, bad);
  }
});

function clientOf(port: number): ZookeeperClient {
  return new ZookeeperClient({
    servers: [`127.0.0.1:${port}`],
    scheduler: systemScheduler,
    timeoutMs: 5000,
    sessionTimeoutMs: 10_000,
    onEvent: () => {},
    onConnected: () => {},
  });
}

function recordOf(name: string, id: string): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: {},
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: { protocol: 'mucp' } }],
  };
}

/** A port in front of a server that can refuse connections. */
class Door {
  port = 0;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #server: Server | null = null;

  private constructor(target: number) {
    this.#target = target;
  }

  static async open(target: number): Promise<Door> {
    const door = new Door(target);
    await door.open();
    return door;
  }

  async open(): Promise<void> {
    const server = createServer((from) => {
      const to = connect(this.#target, '127.0.0.1');
      for (const [socket, other] of [
        [from, to],
        [to, from],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => other.destroy());
        socket.pipe(other);
      }
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
  }

  async shut(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
    if (server !== null) await new Promise((resolve) => server.close(resolve));
  }
}

/** A server that is given each request for a session, and answers nothing by itself. */
class PlayedServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(onRequest: (socket: Socket, session: bigint) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      // The request comes in one piece: length, version, zxid, time, session.
      socket.once('data', (bytes) => onRequest(socket, bytes.readBigInt64BE(20)));
    });
  }

  static async start(onRequest: (socket: Socket, session: bigint) => void): Promise<PlayedServer> {
    const played = new PlayedServer(onRequest);
    await new Promise<void>((resolve) => played.#server.listen(0, '127.0.0.1', resolve));
    return played;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function welcome(session: bigint, timeoutMs: number): Buffer {
  const answer = new JuteWriter().int(0).int(timeoutMs).long(session).buffer(Buffer.alloc(16));
  return answer.packet();
}

/** What a member believes of what others say: addresses, versions, ages, lengths. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import type { GossipRegistryOptions } from '../../../src/registry/gossip/options.ts';
import {
  ACK,
  ALIVE,
  type Alive,
  encodeMessage,
  type GossipMessage,
  OWN_VERSIONS,
  PING,
  SUSPECT,
  USER,
} from '../../../src/registry/gossip/wire/messages.ts';
import { openPacket } from '../../../src/registry/gossip/wire/packet.ts';
import { encodeState } from '../../../src/registry/gossip/wire/push-pull.ts';
import { encodeUpdate } from '../../../src/registry/gossip/wire/update.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import type { ServiceRecord } from '../../../src/registry/registry.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { streamOf } from './memory-stream.ts';
import { PlayedNetwork } from './played-network.ts';

const GO = { host: '127.0.0.1', port: 9000 };

/** One registry, and what others say to it. */
class Listening {
  readonly scheduler = new VirtualScheduler(5);
  readonly network = new PlayedNetwork();
  readonly warnings: string[] = [];
  readonly registry: GossipRegistry;

  private constructor(options: GossipRegistryOptions) {
    const onWarning = (error: Error) => this.warnings.push(error.message);
    const own = { scheduler: this.scheduler, name: 'own', onWarning };
    this.registry = new GossipRegistry({ ...own, ...options }, this.network);
  }

  static async open(options: GossipRegistryOptions = {}): Promise<Listening> {
    const listening = new Listening(options);
    await listening.registry.address();
    return listening;
  }

  says(message: GossipMessage, from = GO): void {
    this.network.handlers?.onPacket(encodeMessage(message), from);
  }

  /** As go-micro says it: with the time at which the record ends by its clock. */
  announces(id: string, expiresMs: number, from = GO): void {
    const record = Buffer.from(encodeRecord(recordOf(id)));
    const version = BigInt(Math.round(expiresMs)) * 1_000_000n;
    const update = { action: 'create', version, ttlMs: null, member: null, record } as const;
    this.says({ type: USER, bytes: encodeUpdate(update) }, from);
  }

  async joins(state: Record<string, unknown[]>): Promise<void> {
    const user = Buffer.from(JSON.stringify(state));
    const bytes = encodeState({ isJoin: true, members: [], user });
    await this.network.handlers?.onStream(streamOf(bytes), GO);
  }

  /** What was sent since the last call. */
  sent(): GossipMessage[] {
    return this.network.sent.splice(0).flatMap(({ bytes }) => openPacket(bytes, null).messages);
  }

  async nodes(): Promise<string[]> {
    const found = await this.registry.getService('orders');
    return found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
  }
}

test('a record of Go counts for 90 s at least and an hour at most, whatever its clock says', async () => {
  const own = await Listening.open();
  const now = own.scheduler.now();
  own.announces('behind', now - 3600_000);
  own.announces('right', now + 90_000);
  own.announces('long', now + 600_000);
  own.announces('ahead', now + 100 * 3600_000);
  assert.deepEqual(await own.nodes(), ['ahead', 'behind', 'long', 'right']);
  await own.scheduler.advance(89_000);
  assert.equal((await own.nodes()).length, 4);
  await own.scheduler.advance(2000);
  assert.deepEqual(await own.nodes(), ['ahead', 'long']);
  await own.scheduler.advance(510_000);
  assert.deepEqual(await own.nodes(), ['ahead']);
  await own.scheduler.advance(3000_000);
  assert.deepEqual(await own.nodes(), []);
  await own.registry.close();
});

test('what came at a join goes after 90 s, unless its own word renews it', async () => {
  const own = await Listening.open();
  await own.joins({ orders: [recordOf('a'), recordOf('b'), { name: 7 }, null, recordOf('a')] });
  await own.scheduler.advance(10);
  assert.deepEqual(await own.nodes(), ['a', 'b']);
  assert.equal(own.warnings.filter((text) => text.includes('a record of orders')).length, 1);
  await own.scheduler.advance(60_000);
  own.announces('b', own.scheduler.now() + 90_000);
  await own.joins({ orders: [recordOf('a')] });
  await own.scheduler.advance(31_000);
  assert.deepEqual(await own.nodes(), ['b']);
  await own.registry.close();
});

test("a clock of Go's that is set back stops its renewals for ten seconds at most", async () => {
  // The member that the test plays answers no probe.
  const own = await Listening.open({ probeIntervalMs: 3600_000 });
  own.says(aliveOf('go'));
  own.announces('n', own.scheduler.now() + 90_000);
  await own.scheduler.advance(30_000);
  for (let count = 0; count < 10; count++) {
    own.announces('n', own.scheduler.now() - 3600_000 + 90_000);
    await own.scheduler.advance(29_000);
    assert.deepEqual(await own.nodes(), ['n']);
  }
  await own.registry.close();
});

test('without a key no member, ping or answer goes beyond this machine', async () => {
  const own = await Listening.open();
  own.sent();
  const far = { host: '10.0.0.1', port: 7946 };
  own.says({ ...aliveOf('far'), endpoint: far });
  own.says({ type: PING, seq: 1, node: 'own', source: far, sourceNode: 'far' });
  own.says({ type: PING, seq: 2, node: 'own', source: null, sourceNode: '' }, far);
  assert.deepEqual(own.registry.members(), []);
  assert.deepEqual(own.sent(), []);
  assert.ok(own.warnings.some((text) => text.includes('a ring without a key is for one machine')));
  own.says({ type: PING, seq: 3, node: 'own', source: GO, sourceNode: 'go' });
  own.says({ type: PING, seq: 4, node: 'another', source: GO, sourceNode: 'go' });
  assert.deepEqual(own.sent(), [{ type: ACK, seq: 3 }]);
  await own.registry.close();
});

test('a member of another version of the protocol is refused with both versions', async () => {
  const own = await Listening.open();
  own.says({ ...aliveOf('newer'), versions: [6, 9, 8, 0, 0, 0] });
  own.says({ ...aliveOf('older'), versions: [1, 3, 2, 0, 0, 0] });
  assert.deepEqual(own.registry.members(), []);
  assert.ok(own.warnings.some((text) => /version 8 .* reads 6 to 9; .* speaks 4/.test(text)));
  own.says({ ...aliveOf('plain'), versions: [0, 0, 0, 0, 0, 0] });
  own.says({ ...aliveOf('go'), endpoint: { host: '127.0.0.1', port: 9001 } });
  assert.deepEqual(
    own.registry
      .members()
      .map(({ name }) => name)
      .sort(),
    ['go', 'plain'],
  );
  await own.registry.close();
});

test('members beyond maxMembers are refused, and one that is dead makes room', async () => {
  const own = await Listening.open({ maxMembers: 3, suspicionMult: 1, suspicionMaxMult: 1 });
  for (const index of [0, 1, 2, 3]) {
    own.says({ ...aliveOf(`m${index}`), endpoint: { host: '127.0.0.1', port: 9000 + index } });
  }
  assert.deepEqual(
    own.registry.members().map(({ name }) => name),
    ['m0', 'm1'],
  );
  assert.ok(own.warnings.some((text) => text.includes('maxMembers')));
  own.says({ type: SUSPECT, node: 'm0', incarnation: 1, from: 'm1' });
  await own.scheduler.advance(5000);
  own.says({ ...aliveOf('m3'), endpoint: { host: '127.0.0.1', port: 9003 } });
  assert.ok(own.registry.members().some(({ name }) => name === 'm3'));
  await own.registry.close();
});

test('a member that is accused refutes with a higher incarnation, and says its nodes again', async () => {
  const own = await Listening.open();
  own.says(aliveOf('go'));
  await own.registry.register(recordOf('n'), { ttlMs: 60_000 });
  await own.scheduler.advance(5000);
  own.sent();
  own.says({ type: SUSPECT, node: 'own', incarnation: 41, from: 'go' });
  await own.scheduler.advance(150);
  const said = own.sent();
  const alive = said.find(({ type }) => type === ALIVE);
  assert.ok(alive?.type === ALIVE && alive.node === 'own' && alive.incarnation === 42);
  assert.ok(said.some(({ type }) => type === USER));
  await own.registry.close();
});

test('a process that finds its own name at another address says which address', async () => {
  const own = await Listening.open();
  own.says(aliveOf('own'));
  own.says({ ...aliveOf('own'), incarnation: 9, endpoint: { host: '127.0.0.1', port: 9002 } });
  const texts = own.warnings.filter((text) => text.includes('it has the name of this member'));
  assert.equal(texts.length, 2);
  assert.ok(texts.some((text) => text.includes('127.0.0.1:9002')));
  await own.registry.close();
});

test('the nodes of a Go member that died come back with it, and so do those that others said meanwhile', async () => {
  const own = await Listening.open({ suspicionMult: 1, suspicionMaxMult: 1 });
  own.says(aliveOf('go'));
  own.announces('first', own.scheduler.now() + 90_000);
  const relayed = (id: string, ttlMs: number) => {
    const record = Buffer.from(encodeRecord(recordOf(id)));
    const update = { action: 'create', version: 1n, ttlMs, member: 'go', record } as const;
    own.says({ type: USER, bytes: encodeUpdate(update) }, { host: '127.0.0.1', port: 9009 });
  };
  own.says({ type: SUSPECT, node: 'go', incarnation: 1, from: 'third' });
  await own.scheduler.advance(3000);
  assert.deepEqual(await own.nodes(), []);
  relayed('second', 60_000);
  relayed('short', 500);
  assert.deepEqual(await own.nodes(), []);
  await own.scheduler.advance(1000);
  own.says({ ...aliveOf('go'), incarnation: 2 });
  assert.deepEqual(await own.nodes(), ['first', 'second']);
  await own.registry.close();
});

test('a process whose port is taken says which, and one whose port is free later works then', async () => {
  await using first = new GossipRegistry();
  const address = await first.address();
  await using second = new GossipRegistry({ bind: address, onWarning: () => {} });
  await assert.rejects(second.getService('orders'), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'REGISTRY_UNAVAILABLE');
    return error.message.includes(address) && error.message.includes('?bind=');
  });
  await first.close();
  assert.deepEqual(await second.getService('orders'), []);
});

test('streams beyond maxStreams are closed, and silent ones end at streamTimeoutMs', async () => {
  await using registry = new GossipRegistry({
    maxStreams: 2,
    streamTimeoutMs: 300,
    onWarning: () => {},
  });
  const [, port] = (await registry.address()).split(':');
  const begun = performance.now();
  const ends = Array.from({ length: 5 }, () => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => {});
    return new Promise<number>((resolve) => {
      socket.on('close', () => resolve(performance.now() - begun));
      socket.resume();
    });
  });
  const times = (await Promise.all(ends)).sort((a, b) => a - b);
  assert.ok((times[4] ?? 0) >= 290, String(times));
  await using other = new GossipRegistry({ seeds: [`127.0.0.1:${port}`] });
  await other.address();
  assert.equal(registry.members().length, 1);
});

test('the first answer after a join has everything that the seed knows', async () => {
  await using seed = new GossipRegistry();
  const nodes = Array.from({ length: 1000 }, (_, index) => ({
    id: `n${index}`,
    address: '127.0.0.1:40001',
    metadata: {},
  }));
  await seed.register({ ...recordOf('n0'), nodes }, { ttlMs: 60_000 });
  await using reader = new GossipRegistry({ seeds: [await seed.address()] });
  const [found] = await reader.getService('orders');
  assert.equal(found?.nodes.length, 1000);
});

const hasIpv6 = Object.values(networkInterfaces())
  .flat()
  .some((each) => each?.address === '::1');

test('a ring on IPv6 works', { skip: hasIpv6 ? false : 'this machine has no ::1' }, async () => {
  await using first = new GossipRegistry({ bind: '[::1]:0' });
  await using second = new GossipRegistry({ bind: '[::1]:0', seeds: [await first.address()] });
  await second.register(recordOf('n'), { ttlMs: 60_000 });
  assert.match(await second.address(), /^\[::1\]:\d+$/);
  const watch = first.watch('orders')[Symbol.asyncIterator]();
  const [known] = await first.getService('orders');
  if (known === undefined) assert.equal((await watch.next()).value?.action, 'create');
  assert.equal(first.members().length, 1);
});

function aliveOf(node: string): Alive {
  const meta = new Uint8Array(0);
  return { type: ALIVE, node, endpoint: GO, meta, versions: OWN_VERSIONS, incarnation: 1 };
}

function recordOf(id: string): ServiceRecord {
  const nodes = [{ id, address: '127.0.0.1:40001', metadata: {} }];
  return { name: 'orders', version: 'latest', metadata: {}, endpoints: [], nodes };
}

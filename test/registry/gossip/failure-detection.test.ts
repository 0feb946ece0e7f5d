/** Which members are found dead and which are not, on a virtual clock: no test waits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import type { GossipRegistryOptions } from '../../../src/registry/gossip/options.ts';
import {
  ALIVE,
  DEAD,
  encodeMessage,
  type GossipMessage,
  OWN_VERSIONS,
  SUSPECT,
} from '../../../src/registry/gossip/wire/messages.ts';
import type { RegistryEvent } from '../../../src/registry/registry.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { type VirtualNetwork, VirtualWire } from './virtual-wire.ts';

const LONG_TTL_MS = 24 * 3600_000;

class VirtualRing {
  readonly scheduler: VirtualScheduler;
  readonly wire: VirtualWire;
  readonly members: GossipRegistry[] = [];
  readonly networks: VirtualNetwork[] = [];
  readonly warnings: string[] = [];

  constructor(seed = 7) {
    this.scheduler = new VirtualScheduler(seed);
    this.wire = new VirtualWire(this.scheduler);
  }

  /** Members named m0, m1, …, each with a node of the service `orders`. */
  async start(count: number, options: GossipRegistryOptions = {}): Promise<void> {
    for (let index = 0; index < count; index++) {
      const registry = await this.join(options);
      await registry.register(recordOf(`m${index}`), { ttlMs: LONG_TTL_MS });
    }
    await this.scheduler.advance(2000);
    for (const [index] of this.members.entries()) {
      assert.deepEqual(this.seenBy(index).length, count - 1);
      assert.equal((await this.nodesOf(index)).length, count);
    }
  }

  async join(options: GossipRegistryOptions = {}): Promise<GossipRegistry> {
    const network = this.wire.member();
    const [first] = this.networks;
    const registry = new GossipRegistry(
      {
        scheduler: this.scheduler,
        name: `m${this.members.length}`,
        seeds: first === undefined ? [] : [`127.0.0.1:${first.port}`],
        onWarning: (error) => this.warnings.push(error.message),
        ...options,
      },
      network,
    );
    this.members.push(registry);
    this.networks.push(network);
    await registry.address();
    return registry;
  }

  /** The others that a member takes for alive or suspects. */
  seenBy(index: number): string[] {
    return (this.members[index]?.members() ?? []).map(({ name }) => name).sort();
  }

  suspects(): string[] {
    return this.members.flatMap((member) =>
      member
        .members()
        .filter(({ state }) => state === 'suspect')
        .map(({ name }) => name),
    );
  }

  async nodesOf(index: number): Promise<string[]> {
    const found = (await this.members[index]?.getService('orders')) ?? [];
    return found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
    assert.equal(this.scheduler.pendingTimers, this.wire.inFlight);
  }
}

test('a member that ends without a word is dead within the bound, and its nodes with it', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  const died = ring.scheduler.monotonic();
  await ring.networks[4]?.close();
  let suspectedAt = 0;
  while ((await ring.nodesOf(0)).includes('m4')) {
    if (suspectedAt === 0 && ring.suspects().includes('m4')) {
      suspectedAt = ring.scheduler.monotonic();
    }
    await ring.scheduler.advance(100);
    assert.ok(ring.scheduler.monotonic() - died < 60_000, 'found within a minute');
  }
  const found = ring.scheduler.monotonic();
  // One round of probes at most; then 4 probe intervals at least, 24 at most.
  assert.ok(suspectedAt - died <= 6000, `suspected after ${suspectedAt - died} ms`);
  assert.ok(found - suspectedAt >= 3900 && found - suspectedAt <= 24_500, `${found - suspectedAt}`);
  await ring.scheduler.advance(2000);
  for (const index of [0, 1, 2, 3]) {
    assert.deepEqual(ring.seenBy(index).includes('m4'), false);
    assert.deepEqual(await ring.nodesOf(index), ['m0', 'm1', 'm2', 'm3']);
  }
  await ring.close();
});

test('a member that leaves is gone within a second, and its nodes stay', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  await ring.members[4]?.close();
  await ring.scheduler.advance(1000);
  assert.deepEqual(ring.seenBy(0), ['m1', 'm2', 'm3']);
  assert.equal((await ring.nodesOf(0)).length, 5);
  await ring.close();
});

test('a member that left, as another claims, but is there, is a member again within a second', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  const claim = encodeMessage({ type: DEAD, incarnation: 1, node: 'm4', from: 'm4' });
  ring.networks[0]?.handlers?.onPacket(claim, { host: '127.0.0.1', port: 9 });
  assert.equal(ring.seenBy(0).includes('m4'), false);
  await ring.scheduler.advance(1000);
  for (const index of [0, 1, 2, 3]) assert.ok(ring.seenBy(index).includes('m4'), `m${index}`);
  assert.equal(ring.seenBy(4).length, 4);
  await ring.close();
});

test('claims with the highest incarnation, which no member can refute, make no member dead', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  const ended: string[] = [];
  const watch = ring.members[0]?.watch('orders');
  const reading = (async () => {
    for await (const { action, service } of watch ?? []) {
      if (action === 'delete') ended.push(service.nodes[0]?.id ?? '');
    }
  })();
  const highest = 0xffff_ffff;
  const accusations: GossipMessage[] = [
    { type: SUSPECT, incarnation: highest, node: 'm4', from: 'm1' },
    { type: DEAD, incarnation: highest, node: 'm4', from: 'm1' },
    { type: DEAD, incarnation: highest, node: 'm4', from: 'm4' },
    { type: DEAD, incarnation: highest, node: 'm4', from: 'm0' },
  ];
  // For a minute, which is longer than any suspicion lasts.
  for (let second = 0; second < 60; second++) {
    for (const network of ring.networks) {
      for (const claim of accusations) {
        network.handlers?.onPacket(encodeMessage(claim), { host: '127.0.0.1', port: 9 });
      }
    }
    await ring.scheduler.advance(1000);
    for (const index of [0, 1, 2, 3]) {
      assert.ok(ring.seenBy(index).includes('m4'), `m${index} after ${second} s`);
      assert.ok((await ring.nodesOf(index)).includes('m4'));
    }
  }
  assert.deepEqual(ended, []);
  // One that does die is found dead all the same,
  await ring.networks[4]?.close();
  await ring.scheduler.advance(60_000);
  for (const index of [0, 1, 2, 3]) assert.equal(ring.seenBy(index).includes('m4'), false);
  // and is alive again when it comes back under its name and address.
  const again = await ring.join({ name: 'm4', bind: `127.0.0.1:${ring.networks[4]?.port}` });
  await again.register(recordOf('m4'), { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(5000);
  for (const index of [0, 1, 2, 3]) assert.ok(ring.seenBy(index).includes('m4'), `m${index}`);
  await ring.close();
  await reading;
});

test('a member whose incarnation others raised to the highest is found dead, and comes back', async () => {
  const ring = new VirtualRing();
  await ring.start(4);
  const endpoint = { host: '127.0.0.1', port: ring.networks[3]?.port ?? 0 };
  const claim: GossipMessage = {
    type: ALIVE,
    node: 'm3',
    endpoint,
    meta: new Uint8Array(0),
    versions: OWN_VERSIONS,
    incarnation: 0xffff_ffff,
  };
  for (const network of ring.networks) {
    network.handlers?.onPacket(encodeMessage(claim), { host: '127.0.0.1', port: 9 });
  }
  await ring.scheduler.advance(2000);
  const lost = ring.networks[3]?.port;
  ring.wire.dropsPacket = (from, to) => from === lost || to === lost;
  ring.wire.dropsStream = ring.wire.dropsPacket;
  await ring.scheduler.advance(60_000);
  for (const index of [0, 1, 2]) assert.equal(ring.seenBy(index).includes('m3'), false);
  ring.wire.dropsPacket = () => false;
  ring.wire.dropsStream = () => false;
  await ring.scheduler.advance(60_000);
  for (const index of [0, 1, 2]) {
    assert.ok(ring.seenBy(index).includes('m3'), `m${index}`);
    assert.ok((await ring.nodesOf(index)).includes('m3'), `m${index}`);
  }
  assert.deepEqual(ring.suspects(), []);
  await ring.close();
});

test('what is sent just before the end reaches all: fifty deregistrations, and a long record', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  const leaving = await ring.join();
  const nodes = Array.from({ length: 50 }, (_, index) => ({
    id: `n${index}`,
    address: '127.0.0.1:40001',
    metadata: {},
  }));
  await leaving.register({ ...recordOf('n0'), nodes }, { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(10_000);
  for (const index of [0, 1, 2, 3, 4]) assert.equal((await ring.nodesOf(index)).length, 55);
  await leaving.deregister({ ...recordOf('n0'), nodes });
  const long = { ...recordOf('long'), metadata: { text: 'ü'.repeat(20_000) } };
  await leaving.register(long, { ttlMs: LONG_TTL_MS });
  await leaving.close();
  await ring.scheduler.advance(10);
  for (const index of [0, 1, 2, 3, 4]) {
    assert.deepEqual(await ring.nodesOf(index), ['long', 'm0', 'm1', 'm2', 'm3', 'm4']);
    const [found] = (await ring.members[index]?.getService('orders')) ?? [];
    assert.ok(found?.nodes.some(({ id }) => id === 'long'));
  }
  await ring.close();
});

test('two members that cannot reach each other, but a third both, suspect no member', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  const [a, b] = [ring.networks[0]?.port, ring.networks[1]?.port];
  const isBetween = (from: number, to: number) =>
    (from === a && to === b) || (from === b && to === a);
  ring.wire.dropsPacket = isBetween;
  ring.wire.dropsStream = isBetween;
  for (let second = 0; second < 120; second++) {
    await ring.scheduler.advance(1000);
    assert.deepEqual(ring.suspects(), []);
  }
  await ring.close();
});

test('a member whose datagrams are all lost is reached by streams, and not suspected', async () => {
  const ring = new VirtualRing();
  await ring.start(4);
  const lost = ring.networks[2]?.port;
  ring.wire.dropsPacket = (from, to) => from === lost || to === lost;
  for (let second = 0; second < 120; second++) {
    await ring.scheduler.advance(1000);
    assert.deepEqual(ring.suspects(), []);
  }
  await ring.close();
});

test('half of all datagrams lost kills no member', async () => {
  const ring = new VirtualRing();
  await ring.start(6);
  ring.wire.dropsPacket = () => ring.scheduler.fraction() < 0.5;
  await ring.scheduler.advance(300_000);
  ring.wire.dropsPacket = () => false;
  await ring.scheduler.advance(5000);
  for (const index of ring.members.keys()) {
    assert.equal(ring.seenBy(index).length, 5);
    assert.equal((await ring.nodesOf(index)).length, 6);
  }
  await ring.close();
});

test('a process that stood still for six seconds takes no other for dead', async () => {
  const ring = new VirtualRing();
  await ring.start(4);
  const events: RegistryEvent[] = [];
  const watch = ring.members[0]?.watch('orders');
  const reading = (async () => {
    for await (const event of watch ?? []) events.push(event);
  })();
  for (let count = 0; count < 20; count++) {
    ring.scheduler.elapse(6000);
    await ring.scheduler.advance(1500);
    assert.deepEqual(ring.suspects(), []);
  }
  assert.deepEqual(events, []);
  await ring.close();
  await reading;
});

test('a process that stood still in the middle of a probe suspects no member', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  ring.wire.dropsStream = () => true;
  for (let count = 0; count < 5; count++) {
    let isHeld = false;
    ring.wire.dropsPacket = () => {
      // The timers of the probe are set when this one fires, and its answer is still on its way.
      if (!isHeld) ring.scheduler.after(0, () => ring.scheduler.elapse(6000));
      isHeld = true;
      return false;
    };
    // A suspicion would be refuted soon.
    for (let step = 0; step < 100; step++) {
      await ring.scheduler.advance(20);
      assert.deepEqual(ring.suspects(), []);
    }
    assert.ok(isHeld);
    await ring.scheduler.advance(6000);
  }
  await ring.close();
});

test('a refutation that arrived while the process stood still comes before the death', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  const silent = ring.networks[2]?.port;
  const ended: string[] = [];
  const watch = ring.members[0]?.watch('orders');
  const reading = (async () => {
    for await (const { action, service } of watch ?? []) {
      if (action === 'delete') ended.push(service.nodes[0]?.id ?? '');
    }
  })();
  for (let count = 0; count < 5; count++) {
    ring.wire.dropsPacket = (from, to) => from === silent || to === silent;
    ring.wire.dropsStream = ring.wire.dropsPacket;
    while (!ring.suspects().includes('m2')) await ring.scheduler.advance(50);
    ring.wire.dropsPacket = () => false;
    ring.wire.dropsStream = () => false;
    ring.scheduler.elapse(30_000);
    await ring.scheduler.advance(10_000);
    assert.deepEqual(ring.suspects(), []);
  }
  assert.deepEqual(ended, []);
  await ring.close();
  await reading;
});

test('a ring cut in two is one again within the interval of rejoining, with all nodes', async () => {
  const ring = new VirtualRing();
  await ring.start(7);
  // Without their seed, members find each other again by those that they lost.
  await ring.members[0]?.deregister(recordOf('m0'));
  await ring.members[0]?.close();
  await ring.scheduler.advance(1000);
  const half = new Set([4, 5, 6].map((index) => ring.networks[index]?.port));
  const isAcross = (from: number, to: number) => half.has(from) !== half.has(to);
  ring.wire.dropsPacket = isAcross;
  ring.wire.dropsStream = isAcross;
  await ring.scheduler.advance(60_000);
  assert.deepEqual(await ring.nodesOf(1), ['m1', 'm2', 'm3']);
  assert.deepEqual(await ring.nodesOf(6), ['m4', 'm5', 'm6']);
  // Longer than the dead receive messages.
  await ring.scheduler.advance(300_000);
  ring.wire.dropsPacket = () => false;
  ring.wire.dropsStream = () => false;
  await ring.scheduler.advance(20_000);
  for (const index of [1, 2, 3, 4, 5, 6]) {
    assert.equal(ring.seenBy(index).length, 5, `m${index} sees ${ring.seenBy(index)}`);
    assert.equal((await ring.nodesOf(index)).length, 6);
  }
  await ring.close();
});

test('while no seed answers an empty answer is REGISTRY_UNAVAILABLE, and the ring is joined when one does', async () => {
  const ring = new VirtualRing();
  const late = await ring.join({ seeds: ['127.0.0.1:7946'] });
  await assert.rejects(late.getService('orders'), { code: 'REGISTRY_UNAVAILABLE' });
  await assert.rejects(late.listServices(), { code: 'REGISTRY_UNAVAILABLE' });
  // Its own nodes it knows.
  await late.register(recordOf('m0'), { ttlMs: LONG_TTL_MS });
  assert.deepEqual(await ring.nodesOf(0), ['m0']);
  const seed = await ring.join({ seeds: [], bind: '127.0.0.1:7946' });
  await seed.register(recordOf('m1'), { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(15_000);
  assert.deepEqual(await ring.nodesOf(0), ['m0', 'm1']);
  assert.deepEqual(await ring.nodesOf(1), ['m0', 'm1']);
  await ring.networks[1]?.close();
  await ring.scheduler.advance(60_000);
  await assert.rejects(late.getService('other'), { code: 'REGISTRY_UNAVAILABLE' });
  await ring.close();
});

test('a process that comes back under its old name and another address is taken for alive', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  await ring.networks[2]?.close();
  await ring.scheduler.advance(60_000);
  assert.deepEqual(ring.seenBy(0), ['m1']);
  const again = await ring.join({ name: 'm2' });
  await again.register(recordOf('m2'), { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(5000);
  assert.deepEqual(ring.seenBy(0), ['m1', 'm2']);
  assert.deepEqual(await ring.nodesOf(1), ['m0', 'm1', 'm2']);
  await ring.close();
});

test('a second process of the same name is refused with a warning, and the first stays', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  await ring.join({ name: 'm1' });
  await ring.scheduler.advance(30_000);
  assert.ok(ring.warnings.some((text) => text.includes('has the name of a member at')));
  assert.deepEqual(ring.seenBy(0), ['m1', 'm2']);
  await ring.close();
});

test('a clock that is set an hour back or forward ends no node and stops no renewal', async () => {
  const ring = new VirtualRing();
  await ring.start(3);
  for (const step of [-3600_000, 3600_000, -3600_000]) {
    ring.scheduler.setDate(ring.scheduler.now() + step);
    for (const [index, member] of ring.members.entries()) {
      await member.register(recordOf(`m${index}`), { ttlMs: 90_000 });
    }
    await ring.scheduler.advance(60_000);
    for (const [index, member] of ring.members.entries()) {
      await member.register(recordOf(`m${index}`), { ttlMs: 90_000 });
    }
    await ring.scheduler.advance(60_000);
    for (const index of [0, 1, 2]) assert.equal((await ring.nodesOf(index)).length, 3);
  }
  await ring.close();
});

test('a node that deregistered is not brought back by members that missed it', async () => {
  const ring = new VirtualRing();
  await ring.start(5);
  const deaf = ring.networks[4]?.port;
  ring.wire.dropsPacket = (_from, to) => to === deaf;
  await ring.members[0]?.deregister(recordOf('m0'));
  await ring.scheduler.advance(2000);
  assert.ok((await ring.nodesOf(4)).includes('m0'));
  ring.wire.dropsPacket = () => false;
  await ring.scheduler.advance(120_000);
  for (const index of ring.members.keys()) {
    assert.deepEqual(await ring.nodesOf(index), ['m1', 'm2', 'm3', 'm4'], `m${index}`);
  }
  // And it may come back by its own word.
  await ring.members[0]?.register(recordOf('m0'), { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(2000);
  for (const index of ring.members.keys()) assert.equal((await ring.nodesOf(index)).length, 5);
  await ring.close();
});

test('a name that stands for several members, this one among them, is joined at another', async () => {
  const ring = new VirtualRing();
  ring.wire.names.set('ring.example.com', ['127.0.0.1', '127.0.0.2', '127.0.0.3']);
  for (const host of ['127.0.0.1', '127.0.0.2', '127.0.0.3']) {
    await ring.join({ bind: `${host}:7946`, seeds: ['ring.example.com'] });
  }
  await ring.scheduler.advance(20_000);
  for (const index of [0, 1, 2]) assert.equal(ring.seenBy(index).length, 2);
  await ring.close();
});

test('a seed that is a member under another address is not joined again and again', async () => {
  const ring = new VirtualRing();
  ring.wire.names.set('translated.example.com', ['127.0.0.9']);
  const seed = await ring.join({ bind: '127.0.0.1:7946', seeds: [] });
  ring.wire.alias('127.0.0.9:7946', '127.0.0.1:7946');
  await ring.join({ seeds: ['translated.example.com'] });
  await seed.register(recordOf('m0'), { ttlMs: LONG_TTL_MS });
  await ring.scheduler.advance(1000);
  assert.deepEqual(await ring.nodesOf(1), ['m0']);
  const before = ring.wire.streams;
  await ring.scheduler.advance(300_000);
  // Exchanges of everything, 10 each; no joins.
  assert.ok(ring.wire.streams - before < 30, `${ring.wire.streams - before} streams`);
  await ring.close();
});

test('a registry that is closed while it opens is closed at once, and so is each call', async () => {
  const ring = new VirtualRing();
  ring.wire.hangs = true;
  const registry = new GossipRegistry(
    { scheduler: ring.scheduler, seeds: ['127.0.0.1:7946', 'never.example.com'] },
    ring.wire.member(),
  );
  const asked = assert.rejects(registry.getService('orders'), { code: 'CLOSED' });
  await ring.scheduler.settle();
  await Promise.all([registry.close(), registry.close()]);
  await ring.scheduler.advance(10_000);
  await asked;
  await assert.rejects(registry.register(recordOf('m0'), { ttlMs: 1000 }), { code: 'CLOSED' });
  assert.deepEqual(registry.members(), []);
  assert.equal(ring.scheduler.pendingTimers, 0);
});

test('seeds that never answer hold a look-up for streamTimeoutMs and no longer', async () => {
  const ring = new VirtualRing();
  ring.wire.hangs = true;
  const registry = new GossipRegistry(
    {
      scheduler: ring.scheduler,
      seeds: ['a.example.com', 'b.example.com', '127.0.0.1:1'],
      streamTimeoutMs: 3000,
    },
    ring.wire.member(),
  );
  let isOver = false;
  const asked = assert
    .rejects(registry.getService('orders'), { code: 'REGISTRY_UNAVAILABLE' })
    .finally(() => {
      isOver = true;
    });
  await ring.scheduler.advance(2900);
  assert.equal(isOver, false);
  await ring.scheduler.advance(200);
  await asked;
  await registry.close();
});

test('a healthy ring of eight sends less than five datagrams a second and member', async () => {
  const ring = new VirtualRing();
  await ring.start(8);
  await ring.scheduler.advance(10_000);
  const before = ring.wire.packets;
  await ring.scheduler.advance(60_000);
  assert.ok(ring.wire.packets - before < 8 * 60 * 5, `${ring.wire.packets - before}`);
  await ring.close();
});

test('one seed of chance gives one run', async () => {
  const run = async () => {
    const ring = new VirtualRing(11);
    await ring.start(4);
    await ring.networks[3]?.close();
    await ring.scheduler.advance(30_000);
    const { packets } = ring.wire;
    await ring.close();
    return packets;
  };
  assert.equal(await run(), await run());
});

function recordOf(id: string) {
  const nodes = [{ id, address: '127.0.0.1:40001', metadata: {} }];
  return { name: 'orders', version: 'latest', metadata: {}, endpoints: [], nodes };
}

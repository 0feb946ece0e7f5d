/**
 * A ring of five members of ours and three in Go, on HashiCorp's memberlist with the words of go-micro's
 * gossip registry. Built from interop/go/gossip where `go` and its modules can be had; else each test says
 * why it is skipped.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { test } from 'node:test';
import { GossipRegistry } from '../../src/registry/gossip/gossip.ts';
import type { GossipRegistryOptions } from '../../src/registry/gossip/options.ts';
import { SocketNetwork } from '../../src/registry/gossip/wire/network.ts';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { Random } from '../../src/util/random.ts';
import { freePort } from '../helpers/free-port.ts';
import { seedOf } from '../helpers/seed.ts';
import { DroppingForwarder } from './dropping-forwarder.ts';
import { missingGo } from './go/go-programs.ts';
import { GoPeer } from './go-peer.ts';

const skip = missingGo('gossip');
const quick = { probeIntervalMs: 300, probeTimeoutMs: 150, onWarning: () => {} } as const;
const LONG_TTL_MS = 60_000;

interface Ours {
  readonly registry: GossipRegistry;
  readonly network: SocketNetwork;
}

/** A ring of both kinds; the first member is one of ours, and the seed of all others. */
class MixedRing implements AsyncDisposable {
  readonly ours: Ours[] = [];
  readonly go: GoPeer[] = [];
  /** By the name of a member, where the ring is behind forwarders. */
  readonly forwarders = new Map<string, DroppingForwarder>();
  readonly #options: GossipRegistryOptions;
  readonly #goArgs: readonly string[];
  readonly #isForwarded: boolean;

  constructor(
    options: GossipRegistryOptions = {},
    goArgs: readonly string[] = [],
    isForwarded = false,
  ) {
    this.#options = options;
    this.#goArgs = goArgs;
    this.#isForwarded = isForwarded;
  }

  async start(ours: number, go: number): Promise<void> {
    for (let count = 0; count < ours; count++) await this.join();
    for (let count = 0; count < go; count++) await this.joinGo();
    await this.isWhole(ours + go);
  }

  async isWhole(members: number): Promise<void> {
    await until(`every one of ${members} members knows every other`, async () => {
      const known = await Promise.all(this.go.map((peer) => peer.members()));
      return (
        known.every(({ length }) => length === members) &&
        this.ours.every(({ registry }) => registry.members().length === members - 1)
      );
    });
  }

  async join(options: GossipRegistryOptions = {}): Promise<GossipRegistry> {
    const seeds = this.ours.length === 0 ? [] : [await this.ours[0]!.registry.address()];
    const network = new SocketNetwork();
    const name = `ours-${this.ours.length}`;
    const { bind, advertise } = await this.#placeOf(name);
    const places =
      bind === 0 ? {} : { bind: `127.0.0.1:${bind}`, advertise: `127.0.0.1:${advertise}` };
    const registry = new GossipRegistry(
      { ...quick, seeds, name, ...places, ...this.#options, ...options },
      network,
    );
    this.ours.push({ registry, network });
    await registry.address();
    return registry;
  }

  async joinGo(): Promise<GoPeer> {
    const name = `go-${this.go.length}`;
    const { bind, advertise } = await this.#placeOf(name);
    const seed = await this.ours[0]!.registry.address();
    const places = ['-bind', String(bind), '-advertise', String(advertise)];
    const args = ['-join', seed, '-probe', '300ms', ...places, ...this.#goArgs];
    const peer = await GoPeer.start(name, args);
    this.go.push(peer);
    return peer;
  }

  /** Registers one node for each member, and waits until all know all of them. */
  async registerAll(service: string): Promise<string[]> {
    for (const [index, { registry }] of this.ours.entries()) {
      await registry.register(recordOf(service, `ours-${index}`), { ttlMs: LONG_TTL_MS });
    }
    const renew = () => {
      for (const peer of this.go) peer.register(recordOf(service, peer.name), LONG_TTL_MS);
    };
    renew();
    // Go sends a word three times, and one time in fifty to no member that passes it on. Its services
    // renew each 30 s.
    const renewals = setInterval(renew, 1000);
    const ids = [...this.ours.map((_, index) => `ours-${index}`), ...this.go.map(nameOf)];
    await this.allKnow(service, ids).finally(() => clearInterval(renewals));
    return ids;
  }

  async allKnow(service: string, ids: readonly string[]): Promise<void> {
    for (const { registry } of this.ours) await hasNodes(registry, service, ids);
    for (const peer of this.go) await goHasNodes(peer, service, ids);
  }

  /** What one half sends to the other is dropped, and all streams. */
  cut(half: readonly string[]): void {
    const isIn = (name: string) => half.includes(name);
    for (const [name, forwarder] of this.forwarders) {
      forwarder.takesStreams = false;
      for (const [other, { target }] of this.forwarders) {
        if (isIn(name) !== isIn(other)) forwarder.dropped.add(target);
      }
    }
  }

  heal(): void {
    for (const forwarder of this.forwarders.values()) {
      forwarder.takesStreams = true;
      forwarder.dropped.clear();
    }
  }

  async [Symbol.asyncDispose]() {
    for (const { process } of this.go) process.kill('SIGKILL');
    await Promise.all(this.ours.map(({ registry }) => registry.close()));
    for (const forwarder of this.forwarders.values()) await forwarder[Symbol.asyncDispose]();
  }

  async #placeOf(name: string): Promise<{ bind: number; advertise: number }> {
    if (!this.#isForwarded) return { bind: 0, advertise: 0 };
    const forwarder = await DroppingForwarder.start(await freePort());
    this.forwarders.set(name, forwarder);
    return { bind: forwarder.target, advertise: forwarder.port };
  }
}

test('five of ours and three in Go find each other, and each finds the nodes of all', {
  skip,
}, async () => {
  await using ring = new MixedRing();
  await ring.start(5, 3);
  const all = await ring.registerAll('orders');
  const found = (await ring.go[1]!.list()).orders?.['ours-3'];
  assert.deepEqual(found, recordOf('orders', 'ours-3'));
  const [own] = await ring.ours[4]!.registry.getService('orders');
  assert.deepEqual({ ...own, nodes: [] }, { ...recordOf('orders', ''), nodes: [] });

  await ring.ours[2]!.registry.deregister(recordOf('orders', 'ours-2'));
  ring.go[0]!.deregister(recordOf('orders', 'go-0'));
  await ring.allKnow(
    'orders',
    all.filter((id) => id !== 'ours-2' && id !== 'go-0'),
  );
});

test('a member that is killed is found dead by both kinds, and its nodes go', {
  skip,
}, async () => {
  await using ring = new MixedRing();
  await ring.start(5, 3);
  const all = await ring.registerAll('orders');
  const [victim] = ring.go.splice(1, 1);
  victim!.process.kill('SIGKILL');
  const [ours] = ring.ours.splice(3, 1);
  await ours!.network.close();
  for (const peer of ring.go) {
    await peer.said('leave', 'ours-3');
    await peer.said('leave', 'go-1');
  }
  await ring.isWhole(6);
  await ring.allKnow(
    'orders',
    all.filter((id) => id !== 'ours-3' && id !== 'go-1'),
  );
  await ours!.registry.close();
});

test('a member that leaves is gone at once, and its nodes stay until their TTL', {
  skip,
}, async () => {
  // With these probes a death would take a minute and more to be found.
  await using ring = new MixedRing({ probeIntervalMs: 20_000, probeTimeoutMs: 10_000 });
  await ring.start(5, 3);
  const all = await ring.registerAll('orders');
  const [leaving] = ring.go.splice(0, 1);
  await leaving!.leave();
  const [ours] = ring.ours.splice(4, 1);
  await ours!.registry.close();
  for (const peer of ring.go) {
    await peer.said('leave', 'ours-4');
    await peer.said('leave', 'go-0');
  }
  await ring.isWhole(6);
  await ring.allKnow('orders', all);
});

test('a ring that was cut in two is one again, with the nodes of both halves', {
  skip,
}, async () => {
  await using ring = new MixedRing({ rejoinIntervalMs: 500 }, [], true);
  await ring.start(5, 3);
  const all = await ring.registerAll('orders');
  const half = ['ours-3', 'ours-4', 'go-2'];
  ring.cut(half);
  const others = all.filter((id) => !half.includes(id));
  for (const index of [0, 1, 2]) await hasNodes(ring.ours[index]!.registry, 'orders', others);
  for (const index of [3, 4]) await hasNodes(ring.ours[index]!.registry, 'orders', half);
  await until('Go sees it too', async () => (await ring.go[2]!.members()).length === 3);
  ring.heal();
  await ring.isWhole(8);
  await ring.allKnow('orders', all);
});

test('a record that no datagram has room for arrives whole, in Go too', { skip }, async () => {
  await using ring = new MixedRing();
  await ring.start(5, 3);
  const large = recordOf('large', 'ours-0', { metadata: { text: 'ü'.repeat(20_000) } });
  await ring.ours[0]!.registry.register(large, { ttlMs: LONG_TTL_MS });
  for (const { registry } of ring.ours) await hasNodes(registry, 'large', ['ours-0']);
  for (const peer of ring.go) {
    await peer.said('create', 'ours-0');
    assert.deepEqual((await peer.list()).large?.['ours-0'], large);
  }
  // Go never sends its own by datagram: who joins at it gets the record.
  const own = recordOf('large', 'go-1', { metadata: { text: 'x'.repeat(20_000) } });
  ring.go[1]!.register(own, LONG_TTL_MS);
  await ring.go[1]!.said('create', 'go-1');
  const late = await ring.join({ seeds: [ring.go[1]!.address] });
  await hasNodes(late, 'large', ['ours-0', 'go-1']);
});

for (const length of [16, 24, 32]) {
  test(`a ring with a key of ${length} bytes works in both kinds, and a stranger learns nothing`, {
    skip,
  }, async () => {
    const key = 'k'.repeat(length);
    await using ring = new MixedRing({ key, bind: '127.0.0.1:0' }, ['-key', key]);
    await ring.start(2, 2);
    const all = await ring.registerAll('orders');
    const seed = await ring.ours[0]!.registry.address();
    for (const wrong of [{ key: 'w'.repeat(length) }, {}]) {
      const warned: string[] = [];
      const onWarning = (error: Error) => warned.push(error.message);
      const options = { ...quick, seeds: [seed], bind: '127.0.0.1:0', onWarning, ...wrong };
      await using stranger = new GossipRegistry(options);
      await assert.rejects(stranger.getService('orders'), { code: 'REGISTRY_UNAVAILABLE' });
      assert.deepEqual(stranger.members(), []);
    }
    const foreign = await GoPeer.start('stranger', [
      '-join',
      `${seed},${ring.go[0]!.address}`,
      '-key',
      'w'.repeat(length),
    ]);
    await foreign.said('failed');
    assert.deepEqual(await foreign.members(), ['stranger']);
    foreign.process.kill('SIGKILL');
    await ring.isWhole(4);
    await ring.allKnow('orders', all);
  });
}

test('garbage on both ports of both kinds ends nothing', { skip }, async (context) => {
  await using ring = new MixedRing();
  await ring.start(5, 3);
  const seed = seedOf(context);
  const random = new Random(seed);
  const addresses = [
    ...(await Promise.all(ring.ours.map(({ registry }) => registry.address()))),
    ...ring.go.map(({ address }) => address),
  ];
  const udp = createSocket('udp4');
  for (const address of addresses) {
    const port = Number(address.split(':')[1]);
    for (let count = 0; count < 100; count++) {
      const bytes = garbage(random);
      await new Promise((resolve) => udp.send(bytes, port, '127.0.0.1', resolve));
    }
    for (let count = 0; count < 10; count++) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      await new Promise((resolve) => socket.end(garbage(random), () => resolve(null)));
      socket.resume();
    }
  }
  udp.close();
  await ring.isWhole(8);
  await ring.registerAll('orders');
});

/** Random bytes behind a type that is known. */
function garbage(random: Random): Uint8Array {
  const bytes = Uint8Array.from({ length: 1 + random.below(1200) }, () => random.below(256));
  bytes[0] = random.below(16);
  return bytes;
}

function nameOf({ name }: GoPeer): string {
  return name;
}

function recordOf(name: string, id: string, changes: Partial<ServiceRecord> = {}): ServiceRecord {
  return {
    name,
    version: 'latest',
    metadata: { team: 'shop' },
    endpoints: [],
    nodes: [{ id, address: '127.0.0.1:40001', metadata: { protocol: 'grpc' } }],
    ...changes,
  };
}

async function hasNodes(registry: GossipRegistry, name: string, ids: readonly string[]) {
  const wanted = [...ids].sort();
  await until(`the nodes ${wanted.join(' ')}`, async () => {
    const found = await registry.getService(name);
    const known = found.flatMap(({ nodes }) => nodes.map(({ id }) => id)).sort();
    return JSON.stringify(known) === JSON.stringify(wanted);
  });
}

async function goHasNodes(peer: GoPeer, name: string, ids: readonly string[]) {
  const wanted = [...ids].sort();
  await until(`the nodes ${wanted.join(' ')} in Go`, async () => {
    const known = Object.keys((await peer.list())[name] ?? {}).sort();
    return JSON.stringify(known) === JSON.stringify(wanted);
  });
}

/** What has no event is looked at every 20 ms; fails after 40 s. */
async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 40_000;
  while (!(await look())) {
    if (Date.now() > end) assert.fail(`not within 40 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What a member takes of the claims of others: addresses, versions, ages, lengths. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import { ACK, ALIVE, PING, SUSPECT, USER } from '../../../src/registry/gossip/wire/messages.ts';
import { encodeUpdate } from '../../../src/registry/gossip/wire/update.ts';
import { encodeRecord } from '../../../src/registry/record.ts';
import { aliveOf, GO, PlayedRegistry, recordOf } from './played-registry.ts';

test('a record of Go counts for 90 s at least and an hour at most, whatever its clock says', async () => {
  const own = await PlayedRegistry.open();
  const now = own.scheduler.now();
  own.announce('behind', now - 3600_000);
  own.announce('right', now + 90_000);
  own.announce('long', now + 600_000);
  own.announce('ahead', now + 100 * 3600_000);
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

test('what came at a join goes after 90 s, unless its member announces it again', async () => {
  const own = await PlayedRegistry.open();
  await own.join({ orders: [recordOf('a'), recordOf('b'), { name: 7 }, null, recordOf('a')] });
  await own.scheduler.advance(10);
  assert.deepEqual(await own.nodes(), ['a', 'b']);
  assert.equal(own.warnings.filter((text) => text.includes('a record of orders')).length, 1);
  await own.scheduler.advance(60_000);
  own.announce('b', own.scheduler.now() + 90_000);
  await own.join({ orders: [recordOf('a')] });
  await own.scheduler.advance(31_000);
  assert.deepEqual(await own.nodes(), ['b']);
  await own.registry.close();
});

test("a clock of Go's that is set back stops its renewals for ten seconds at most", async () => {
  // The member that the test plays answers no probe.
  const own = await PlayedRegistry.open({ probeIntervalMs: 3600_000 });
  own.send(aliveOf('go'));
  own.announce('n', own.scheduler.now() + 90_000);
  await own.scheduler.advance(30_000);
  for (let count = 0; count < 10; count++) {
    own.announce('n', own.scheduler.now() - 3600_000 + 90_000);
    await own.scheduler.advance(29_000);
    assert.deepEqual(await own.nodes(), ['n']);
  }
  await own.registry.close();
});

test('without a key no member, ping or answer goes beyond this machine', async () => {
  const own = await PlayedRegistry.open();
  own.sent();
  const far = { host: '10.0.0.1', port: 7946 };
  own.send({ ...aliveOf('far'), endpoint: far });
  own.send({ type: PING, seq: 1, node: 'own', source: far, sourceNode: 'far' });
  own.send({ type: PING, seq: 2, node: 'own', source: null, sourceNode: '' }, far);
  assert.deepEqual(own.registry.members(), []);
  assert.deepEqual(own.sent(), []);
  assert.ok(own.warnings.some((text) => text.includes('a ring without a key is for one machine')));
  own.send({ type: PING, seq: 3, node: 'own', source: GO, sourceNode: 'go' });
  own.send({ type: PING, seq: 4, node: 'another', source: GO, sourceNode: 'go' });
  assert.deepEqual(own.sent(), [{ type: ACK, seq: 3 }]);
  await own.registry.close();
});

test('a member of another version of the protocol is refused with both versions', async () => {
  const own = await PlayedRegistry.open();
  own.send({ ...aliveOf('newer'), versions: [6, 9, 8, 0, 0, 0] });
  own.send({ ...aliveOf('older'), versions: [1, 3, 2, 0, 0, 0] });
  assert.deepEqual(own.registry.members(), []);
  assert.ok(own.warnings.some((text) => /version 8 .* reads 6 to 9; .* speaks 4/.test(text)));
  own.send({ ...aliveOf('plain'), versions: [0, 0, 0, 0, 0, 0] });
  own.send({ ...aliveOf('go'), endpoint: { host: '127.0.0.1', port: 9001 } });
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
  const own = await PlayedRegistry.open({ maxMembers: 3, suspicionMult: 1, suspicionMaxMult: 1 });
  for (const index of [0, 1, 2, 3]) {
    own.send({ ...aliveOf(`m${index}`), endpoint: { host: '127.0.0.1', port: 9000 + index } });
  }
  assert.deepEqual(
    own.registry.members().map(({ name }) => name),
    ['m0', 'm1'],
  );
  assert.ok(own.warnings.some((text) => text.includes('maxMembers')));
  own.send({ type: SUSPECT, node: 'm0', incarnation: 1, from: 'm1' });
  await own.scheduler.advance(5000);
  own.send({ ...aliveOf('m3'), endpoint: { host: '127.0.0.1', port: 9003 } });
  assert.ok(own.registry.members().some(({ name }) => name === 'm3'));
  await own.registry.close();
});

test('a member that is accused refutes with a higher incarnation, and announces its nodes again', async () => {
  const own = await PlayedRegistry.open();
  own.send(aliveOf('go'));
  await own.registry.register(recordOf('n'), { ttlMs: 60_000 });
  await own.scheduler.advance(5000);
  own.sent();
  own.send({ type: SUSPECT, node: 'own', incarnation: 41, from: 'go' });
  await own.scheduler.advance(150);
  const said = own.sent();
  const alive = said.find(({ type }) => type === ALIVE);
  assert.ok(alive?.type === ALIVE && alive.node === 'own' && alive.incarnation === 42);
  assert.ok(said.some(({ type }) => type === USER));
  await own.registry.close();
});

test('a process that finds its own name at another address says which address', async () => {
  const own = await PlayedRegistry.open();
  own.send(aliveOf('own'));
  own.send({ ...aliveOf('own'), incarnation: 9, endpoint: { host: '127.0.0.1', port: 9002 } });
  const texts = own.warnings.filter((text) => text.includes('it has the name of this member'));
  assert.equal(texts.length, 2);
  assert.ok(texts.some((text) => text.includes('127.0.0.1:9002')));
  await own.registry.close();
});

test('the nodes of a Go member that died come back with it, and so do those that others said meanwhile', async () => {
  const own = await PlayedRegistry.open({ suspicionMult: 1, suspicionMaxMult: 1 });
  own.send(aliveOf('go'));
  own.announce('first', own.scheduler.now() + 90_000);
  const relayed = (id: string, ttlMs: number) => {
    const record = Buffer.from(encodeRecord(recordOf(id)));
    const update = { action: 'create', version: 1n, ttlMs, member: 'go', record } as const;
    own.send({ type: USER, bytes: encodeUpdate(update) }, { host: '127.0.0.1', port: 9009 });
  };
  own.send({ type: SUSPECT, node: 'go', incarnation: 1, from: 'third' });
  await own.scheduler.advance(3000);
  assert.deepEqual(await own.nodes(), []);
  relayed('second', 60_000);
  relayed('short', 500);
  assert.deepEqual(await own.nodes(), []);
  await own.scheduler.advance(1000);
  own.send({ ...aliveOf('go'), incarnation: 2 });
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

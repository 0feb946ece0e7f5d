/** What others send costs a bounded time and a bounded memory, and one bad part hides no good one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import {
  encodeMessage,
  OWN_VERSIONS,
  PING,
  SUSPECT,
  USER,
} from '../../../src/registry/gossip/wire/messages.ts';
import { openPacket } from '../../../src/registry/gossip/wire/packet.ts';
import { encodeState, MEMBER_ALIVE } from '../../../src/registry/gossip/wire/push-pull.ts';
import type { ServiceRecord } from '../../../src/registry/registry.ts';
import { Warnings } from '../../../src/registry/warnings.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { streamOf } from './memory-stream.ts';
import { PlayedNetwork } from './played-network.ts';
import { aliveOf, GO, nodeOf, PlayedRegistry, recordOf } from './played-registry.ts';

const NOTHING = new Uint8Array(0);

test('a datagram of many small parts is read up to a number of parts, good and bad ones', () => {
  const ack = Buffer.from(encodeMessage({ type: 2, seq: 1 }));
  // Nothing, compressed.
  const bomb = Buffer.from('0982a4416c676f00a3427566a20101', 'hex');
  for (const part of [Buffer.alloc(0), bomb, ack, Buffer.from('0281', 'hex')]) {
    const { messages, refused } = openPacket(nested(part, 3500), null);
    assert.match(refused ?? '', /empty|more than 512 parts|needs/);
    assert.ok(messages.length <= 512);
    if (part === ack) assert.ok(messages.length > 400);
  }
  const { messages, refused } = openPacket(compound(Array(255).fill(ack)), null);
  assert.equal(messages.length, 255);
  assert.equal(refused, null);
});

test('of many pings in one datagram four are answered', async () => {
  const own = await PlayedRegistry.quiet();
  own.sent();
  const ping = encodeMessage({ type: PING, seq: 1, node: '', source: null, sourceNode: '' });
  own.packet(compound(Array(200).fill(Buffer.from(ping))));
  assert.equal(own.sent().length, 4);
  await own.registry.close();
});

test('a member that is accused many times announces its nodes again once a second', async () => {
  const own = await PlayedRegistry.quiet();
  own.packet(encodeMessage(aliveOf('go')));
  await own.registry.register(recordOf('n'), { ttlMs: 3600_000 });
  await own.scheduler.advance(10_000);
  const versions = new Set<string>();
  own.sent();
  for (let count = 0; count < 30; count++) {
    const accusations = Array.from({ length: 100 }, (_, index) =>
      Buffer.from(
        encodeMessage({
          type: SUSPECT,
          node: 'own',
          incarnation: 100 * (count + 1) + index,
          from: 'x',
        }),
      ),
    );
    own.packet(compound(accusations));
    await own.scheduler.advance(100);
    for (const message of own.sent()) {
      if (message.type === USER) versions.add(Buffer.from(message.bytes).toString('hex'));
    }
  }
  assert.ok(versions.size >= 3 && versions.size <= 4, `${versions.size} in three seconds`);
  await own.registry.close();
  assert.equal(own.scheduler.pendingTimers, 0);
});

test('the name of the member that a record came from has at most 255 bytes', async () => {
  const own = await PlayedRegistry.quiet();
  for (const member of ['x'.repeat(256), 'é'.repeat(128)]) {
    own.update('create', recordOf('n'), member);
    const rivulet = { version: '5', member, ttlMs: 3600_000 };
    await own.state(Buffer.from(JSON.stringify({ orders: [{ ...recordOf('n'), rivulet }] })));
  }
  assert.deepEqual(await own.registry.listServices(), []);
  assert.equal(own.warnings.filter((text) => text.includes('no ring can have')).length, 2);
  own.update('create', recordOf('n'), 'x'.repeat(255));
  assert.equal((await own.registry.listServices()).length, 1);
  await own.registry.close();
});

test('the state of a full registry is one that others read, however long the names are', async () => {
  const maxStateBytes = 65_536;
  const own = await PlayedRegistry.quiet({ maxStateBytes });
  // One byte of a name, six of JSON.
  const member = '\u0001'.repeat(255);
  for (let index = 0; index < 500; index++) own.update('create', recordOf(`n${index}`), member);
  const answer = await own.state(NOTHING);
  assert.ok(
    answer.length > maxStateBytes / 2 && answer.length <= maxStateBytes,
    `${answer.length}`,
  );
  const other = await PlayedRegistry.quiet({ maxStateBytes });
  await other.network.handlers?.onStream(streamOf(answer), GO);
  const [mine] = await own.registry.listServices();
  const [theirs] = await other.registry.listServices();
  assert.ok((mine?.nodes.length ?? 0) > 10);
  assert.equal(theirs?.nodes.length, mine?.nodes.length);
  await own.registry.close();
  await other.registry.close();
});

test('what is remembered of removed nodes has at most the bytes of all records', async () => {
  const own = await PlayedRegistry.quiet({ maxStateBytes: 65_536 });
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  for (let index = 0; index < 1000; index++) {
    own.update('delete', recordOf(`${'é'.repeat(20_000)}${index}`));
  }
  globalThis.gc?.();
  const grown = process.memoryUsage().heapUsed - before;
  // All of them are 40 MB as bytes, and 20 MB in memory.
  assert.ok(grown < 5_000_000, `${grown} bytes`);
  await own.registry.close();
});

test('a record of many nodes for which there is no room is encoded once, not for each node', async () => {
  const own = await PlayedRegistry.quiet({ maxStateBytes: 65_536 });
  let reads = 0;
  const nodes = Array.from({ length: 500 }, (_, index) => nodeOf(`n${index}`));
  const record = { ...recordOf('n'), nodes, metadata: { text: 'x'.repeat(50_000) } };
  const { stringify } = JSON;
  JSON.stringify = ((value: unknown, ...rest: []) => {
    if ((value as ServiceRecord | null)?.name === 'orders') reads++;
    return stringify(value, ...rest);
  }) as typeof stringify;
  try {
    own.update('create', record);
  } finally {
    JSON.stringify = stringify;
  }
  assert.ok(reads < 10, `${reads}`);
  assert.deepEqual(await own.registry.listServices(), []);
  // What fits is taken.
  own.update('create', recordOf('small'));
  assert.equal((await own.registry.listServices()).length, 1);
  await own.registry.close();
});

test('a state of which a thousand records cannot be read is read no further', async () => {
  const own = await PlayedRegistry.quiet();
  const list = [recordOf('first'), ...Array(50_000).fill(0), recordOf('last')];
  await own.state(Buffer.from(JSON.stringify({ orders: list })));
  const [found] = await own.registry.listServices();
  assert.deepEqual(
    found?.nodes.map(({ id }) => id),
    ['first'],
  );
  assert.ok(own.warnings.some((text) => text.includes('1000 records of it cannot be read')));
  await own.registry.close();
});

test('a name that is no UTF-8 makes no member, and in a state it hides no other', async () => {
  const own = await PlayedRegistry.quiet();
  const named = (bytes: Uint8Array) =>
    Buffer.from(Buffer.from(bytes).map((byte) => (byte === 0x58 ? 0xff : byte)));
  own.packet(named(encodeMessage(aliveOf('X'.repeat(255)))));
  assert.deepEqual(own.registry.members(), []);
  const fact = { meta: NOTHING, incarnation: 1, state: MEMBER_ALIVE, versions: OWN_VERSIONS };
  const members = [
    { ...fact, name: 'first', endpoint: { host: '127.0.0.1', port: 9001 } },
    { ...fact, name: 'XXXX', endpoint: { host: '127.0.0.1', port: 9002 } },
    { ...fact, name: 'second', endpoint: { host: '127.0.0.1', port: 9003 }, state: 3 },
    { ...fact, name: 'third', endpoint: { host: '127.0.0.1', port: 9004 } },
  ];
  const bytes = named(encodeState({ isJoin: true, members, user: NOTHING }));
  await own.network.handlers?.onStream(streamOf(bytes), GO);
  const names = own.registry.members().map(({ name }) => name);
  assert.deepEqual(names.sort(), ['first', 'third']);
  assert.ok(own.warnings.some((text) => text.includes('Name is no UTF-8')));
  await own.registry.close();
});

test('a peer that never reads its answer keeps no stream open beyond streamTimeoutMs', async () => {
  const warnings: string[] = [];
  await using registry = new GossipRegistry({
    maxStreams: 2,
    streamTimeoutMs: 300,
    onWarning: (error) => warnings.push(error.message),
  });
  const address = await registry.address();
  // More than the buffers of two sockets hold.
  const nodes = Array.from({ length: 1000 }, (_, index) => nodeOf(`n${index}`, 'v'.repeat(900)));
  for (const name of ['a', 'b', 'c', 'd', 'e']) {
    await registry.register({ ...recordOf('n'), name, nodes }, { ttlMs: 3600_000 });
  }
  const hello = encodeState({ isJoin: true, members: [], user: NOTHING });
  const sockets = Array.from({ length: 2 }, () => {
    const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
    socket.on('error', () => {});
    return socket.pause();
  });
  await Promise.all(sockets.map((socket) => new Promise((done) => socket.write(hello, done))));
  // The streams of the peers that do not read are in the way until they are closed, not longer.
  await using other = new GossipRegistry({
    seeds: [address],
    rejoinIntervalMs: 100,
    onWarning: () => {},
  });
  const events = other.watch('e')[Symbol.asyncIterator]();
  assert.equal((await events.next()).value?.action, 'create');
  for (const socket of sockets) socket.destroy();
});

test('of a state with more members than maxMembers the first are taken, and its records', async () => {
  const own = await PlayedRegistry.quiet({ maxMembers: 3 });
  const fact = { meta: NOTHING, incarnation: 1, state: MEMBER_ALIVE, versions: OWN_VERSIONS };
  const members = Array.from({ length: 40 }, (_, index) => ({
    ...fact,
    name: `m${index}`,
    endpoint: { host: '127.0.0.1', port: 9000 + index },
  }));
  await own.state(Buffer.from(JSON.stringify({ orders: [recordOf('n')] })), members);
  assert.deepEqual(
    own.registry.members().map(({ name }) => name),
    ['m0', 'm1'],
  );
  assert.equal((await own.registry.listServices()).length, 1);
  assert.ok(own.warnings.some((text) => text.includes('the same maxMembers')));
  await own.registry.close();
});

test('a stream without a byte ends after 2.5 s, one that has begun at streamTimeoutMs', async () => {
  const own = await PlayedRegistry.quiet();
  const open = (chunks: Uint8Array[]) => {
    let endedAt = Number.NaN;
    let close = () => {};
    const closed = new Promise<null>((resolve) => {
      close = () => resolve(null);
    });
    const read = async () => chunks.shift() ?? closed;
    const stream = { read, close, write: async () => {} };
    void own.network.handlers?.onStream(stream, GO).then(() => {
      endedAt = own.scheduler.monotonic() - begun;
    });
    return () => endedAt;
  };
  const begun = own.scheduler.monotonic();
  const [silent, begins] = [open([]), open([Uint8Array.of(6)])];
  await own.scheduler.advance(10_000);
  assert.deepEqual([silent(), begins()], [2500, 5000]);
  await own.registry.close();
});

test('connections that send nothing keep no member out', async () => {
  await using seed = new GossipRegistry({
    streamTimeoutMs: 3600_000,
    rejoinIntervalMs: 3600_000,
    onWarning: () => {},
  });
  const address = await seed.address();
  const sockets = await fill(Number(address.split(':')[1]), 16, '127.0.0.1');
  await joined(address);
  for (const socket of sockets) socket.destroy();
});

test('connections of one address that stop in the middle keep no member of another address out', async () => {
  await using seed = new GossipRegistry({
    streamTimeoutMs: 3600_000,
    rejoinIntervalMs: 3600_000,
    onWarning: () => {},
  });
  const address = await seed.address();
  const sockets = await fill(Number(address.split(':')[1]), 16, '127.0.0.2', Uint8Array.of(6));
  await joined(address);
  for (const socket of sockets) socket.destroy();
});

test('a seed whose addresses do not answer has one attempt at a time', async () => {
  const scheduler = new VirtualScheduler(3);
  const network = new PlayedNetwork();
  let connections = 0;
  network.resolve = async () => Array.from({ length: 20 }, (_, index) => `127.0.1.${index + 1}`);
  network.connect = () => {
    connections++;
    return new Promise(() => {});
  };
  const seeds = ['many.example.com:7946'];
  const registry = new GossipRegistry({ scheduler, seeds, onWarning: () => {} }, network);
  const open = registry.address();
  await scheduler.advance(600_000);
  await open;
  // Each ends after 5 s: one attempt at a time is 120 connections in 600 s.
  assert.ok(connections >= 80 && connections <= 121, `${connections}`);
  await registry.close();
});

test('a place that is warned of is remembered by its first 300 characters', () => {
  const texts: string[] = [];
  const warnings = new Warnings('gossip', (error) => texts.push(error.message));
  globalThis.gc?.();
  const before = process.memoryUsage();
  for (let index = 0; index < 50; index++) {
    warnings.badRecord(`${index} ${'x'.repeat(1_000_000)}`, new Error('no record'));
  }
  globalThis.gc?.();
  const after = process.memoryUsage();
  assert.equal(texts.length, 50);
  assert.ok(after.heapUsed - before.heapUsed < 5_000_000);
});

/** Opens streams to a port, and waits until each is served and has sent its bytes. */
async function fill(port: number, count: number, localAddress: string, bytes = NOTHING) {
  const sockets: Socket[] = [];
  for (let index = 0; index < count; index++) {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    socket.on('error', () => {});
    await once(socket, 'connect');
    if (bytes.length > 0) await new Promise((done) => socket.write(bytes, done));
    sockets.push(socket);
  }
  return sockets;
}

/** Joins the ring of a seed that is tried once in an hour. */
async function joined(seed: string): Promise<void> {
  await using registry = new GossipRegistry({
    seeds: [seed],
    rejoinIntervalMs: 3600_000,
    onWarning: () => {},
  });
  await registry.address();
  assert.equal(registry.members().length, 1);
}

function compound(parts: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(2 + 2 * parts.length);
  head[0] = 7;
  head[1] = parts.length;
  for (const [index, part] of parts.entries()) head.writeUInt16BE(part.length, 2 + 2 * index);
  return Buffer.concat([head, ...parts]);
}

function nested(part: Buffer, count: number): Buffer {
  const groups: Buffer[] = [];
  for (let left = count; left > 0; left -= 255) {
    groups.push(compound(Array(Math.min(255, left)).fill(part)));
  }
  return compound(groups);
}

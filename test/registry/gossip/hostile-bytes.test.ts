/** Random, changed and cut bytes on both ports: refused, never thrown, and never more memory than the limit. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RivuletError } from '../../../src/errors.ts';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import type { Endpoint } from '../../../src/registry/gossip/wire/endpoint.ts';
import { decompressLzw } from '../../../src/registry/gossip/wire/lzw.ts';
import { openPacket } from '../../../src/registry/gossip/wire/packet.ts';
import { readState } from '../../../src/registry/gossip/wire/push-pull.ts';
import { Malformed } from '../../../src/registry/gossip/wire/raw-msgpack.ts';
import { StreamSource } from '../../../src/registry/gossip/wire/stream-source.ts';
import { Random } from '../../../src/util/random.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { seedNamed } from '../../helpers/seed.ts';
import { repositoryRoot } from '../../house/source-file.ts';
import { streamOf } from './memory-stream.ts';
import { PlayedNetwork } from './played-network.ts';

const seed = seedNamed('gossip bytes');
const file = join(repositoryRoot, 'test', 'registry', 'gossip', 'go-bytes.json');
const recorded = JSON.parse(readFileSync(file, 'utf8')) as Record<
  string,
  { packets: string[]; streams: string[] }
>;
const modes = ['plain', 'compressed'].map((mode) => recorded[mode]!);
const packets = modes.flatMap(({ packets }) => packets.map((hex) => Buffer.from(hex, 'hex')));
const streams = modes.flatMap(({ streams }) => streams.map((hex) => Buffer.from(hex, 'hex')));
const from: Endpoint = { host: '127.0.0.1', port: 9 };

test('random and changed bytes never throw out of the receive path, and the records stay', async (context) => {
  context.diagnostic(`RIVULET_SEED=${seed}`);
  const random = new Random(seed);
  const scheduler = new VirtualScheduler(seed);
  const network = new PlayedNetwork();
  const options = {
    scheduler,
    maxMembers: 20,
    maxRecords: 20,
    maxQueued: 100,
    onWarning: () => {},
  };
  const registry = new GossipRegistry(options, network);
  await registry.register(recordOf('kept'), { ttlMs: 3600_000 });
  for (let count = 0; count < 3000; count++) {
    network.handlers?.onPacket(changed(random, packets), from);
    await network.handlers?.onStream(streamOf(changed(random, streams)), from);
    if (count % 100 === 0) await scheduler.advance(500);
  }
  const [kept] = await registry.getService('kept');
  assert.equal(kept?.nodes.length, 1);
  assert.ok(registry.members().length < 20);
  assert.ok((await registry.listServices()).length <= 20);
  await registry.close();
  assert.equal(scheduler.pendingTimers, 0);
});

test('a datagram that is cut anywhere is refused or read as far as it is whole', () => {
  for (const bytes of packets) {
    for (let length = 0; length < bytes.length; length++) {
      const { messages, refused } = openPacket(bytes.subarray(0, length), null);
      assert.ok(refused !== null || messages.length > 0, `${length} of ${bytes.toString('hex')}`);
    }
  }
});

test('lengths that the bytes do not hold are refused before anything is allocated', async () => {
  const huge = [
    // A list and a map of 4,294,967,295 members, bytes of that length, and a nested list.
    'ddffffffff',
    'dfffffffff',
    'c6ffffffff',
    'dbffffffff',
    '91'.repeat(2000),
    `81a141${'91'.repeat(2000)}`,
  ];
  const before = process.memoryUsage();
  for (const hex of huge) {
    for (const type of ['00', '04', '09']) {
      const { refused, messages } = openPacket(Buffer.from(type + hex, 'hex'), null);
      assert.ok(refused !== null && messages.length === 0);
    }
    const source = new StreamSource(streamOf(Buffer.from(`06${hex}`, 'hex')), 65_536);
    assert.equal(await source.type(null), 6);
    await assert.rejects(readState(source, 1000), Malformed);
  }
  // A header that promises 4 GiB of state, and an encrypted stream of that length.
  const header = '83a44a6f696ec3a54e6f64657300ac5573657253746174654c656eceffffffff';
  const source = new StreamSource(streamOf(Buffer.from(`06${header}`, 'hex')), 65_536);
  await source.type(null);
  await assert.rejects(readState(source, 1000), /longer than 65536 bytes/);
  const after = process.memoryUsage();
  assert.ok(after.arrayBuffers - before.arrayBuffers < 16 * 1024 * 1024);
});

test('a bomb of compressed bytes ends at the limit', () => {
  // A code that repeats itself: each next code stands for one byte more.
  const codes = [0, ...Array.from({ length: 3000 }, (_, index) => 258 + index)];
  const bomb = lzwOf(codes);
  assert.throws(() => decompressLzw(bomb, 10_000), /longer than 10000 bytes/);
  assert.equal(decompressLzw(lzwOf([...codes.slice(0, 50), 257]), 10_000).length, 1275);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bomb.length);
  const packet = Buffer.concat([Buffer.from('0982a4416c676f00a3427566da', 'hex'), length, bomb]);
  const { refused, messages } = openPacket(packet, null);
  assert.match(refused ?? '', /longer than|ends within/);
  assert.equal(messages.length, 0);
});

test('messages that are nested too deeply are refused', () => {
  let bytes = Buffer.from('0282a75061796c6f6164c0a55365714e6f02', 'hex');
  for (let depth = 1; depth <= 12; depth++) {
    bytes = Buffer.concat([Buffer.from([7, 1, bytes.length >> 8, bytes.length & 255]), bytes]);
    const { refused, messages } = openPacket(bytes, null);
    assert.equal(messages.length, depth <= 8 ? 1 : 0);
    assert.equal(refused === null, depth <= 8);
  }
});

test('a datagram with one bad message gives the good ones', () => {
  const good = Buffer.from('0282a75061796c6f6164c0a55365714e6f02', 'hex');
  const bad = Buffer.from('0481', 'hex');
  const compound = Buffer.concat([
    Buffer.from([7, 3, 0, good.length, 0, bad.length, 0, good.length]),
    good,
    bad,
    good,
  ]);
  const { refused, messages } = openPacket(compound, null);
  assert.equal(messages.length, 2);
  assert.ok(refused !== null);
});

test('a registry that is full takes no further nodes of others, and says so once', async () => {
  const scheduler = new VirtualScheduler(seed);
  const network = new PlayedNetwork();
  const warned: string[] = [];
  const onWarning = (error: Error) => warned.push(error.message);
  const registry = new GossipRegistry({ scheduler, maxRecords: 3, onWarning }, network);
  for (const name of ['a', 'b', 'c']) await registry.register(recordOf(name), { ttlMs: 60_000 });
  await assert.rejects(registry.register(recordOf('d'), { ttlMs: 60_000 }), (error) => {
    return error instanceof RivuletError && error.code === 'LIMIT_EXCEEDED';
  });
  const [word] = packets
    .flatMap((bytes) => openPacket(bytes, null).messages)
    .filter(({ type }) => type === 8);
  assert.ok(word?.type === 8);
  const packet = Buffer.concat([Buffer.of(8), word.bytes]);
  network.handlers?.onPacket(packet, from);
  network.handlers?.onPacket(packet, from);
  assert.equal((await registry.listServices()).length, 3);
  assert.equal(warned.filter((text) => text.includes('no room for orders')).length, 1);
  await registry.close();
});

/** Recorded bytes with some changed, cut, joined or doubled; or bytes of chance. */
function changed(random: Random, samples: readonly Buffer[]): Uint8Array {
  if (random.chance(0.1)) {
    return Uint8Array.from({ length: random.below(600) }, () => random.below(256));
  }
  let bytes = Buffer.from(samples[random.below(samples.length)]!);
  // Without its checksum what follows is read.
  if (bytes[0] === 12 && random.chance(0.9)) bytes = bytes.subarray(5);
  for (let count = random.below(4); count > 0; count--) {
    bytes[random.below(bytes.length)] = random.below(256);
  }
  if (random.chance(0.2)) bytes = bytes.subarray(0, random.below(bytes.length));
  if (random.chance(0.1)) bytes = Buffer.concat([bytes, samples[random.below(samples.length)]!]);
  return bytes;
}

/** Codes as LZW packs them. */
function lzwOf(codes: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  let bits = 0n;
  let count = 0n;
  let width = 9n;
  let next = 257;
  for (const code of codes) {
    bits |= BigInt(code) << count;
    count += width;
    next++;
    if (next >= 1 << Number(width) && width < 12n) width++;
    for (; count >= 8n; count -= 8n) {
      bytes.push(Number(bits & 0xffn));
      bits >>= 8n;
    }
  }
  if (count > 0n) bytes.push(Number(bits & 0xffn));
  return Uint8Array.from(bytes);
}

function recordOf(name: string) {
  const nodes = [{ id: `${name}-1`, address: '127.0.0.1:40001', metadata: {} }];
  return { name, version: 'latest', metadata: {}, endpoints: [], nodes };
}

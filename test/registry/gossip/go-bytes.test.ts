/** What memberlist 0.5.4 sent, recorded by test/interop/record-gossip.ts, is read, and written the same. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  ACK,
  ALIVE,
  DEAD,
  ERROR,
  encodeMessage,
  type GossipMessage,
  messageFrom,
  PING,
  PUSH_PULL,
  SUSPECT,
  USER,
} from '../../../src/registry/gossip/wire/messages.ts';
import { openPacket, sealPacket } from '../../../src/registry/gossip/wire/packet.ts';
import { encodeState, readState } from '../../../src/registry/gossip/wire/push-pull.ts';
import { Sealer } from '../../../src/registry/gossip/wire/seal.ts';
import { StreamSource } from '../../../src/registry/gossip/wire/stream-source.ts';
import { decodeUpdate, encodeUpdate } from '../../../src/registry/gossip/wire/update.ts';
import { decodeRecord } from '../../../src/registry/record.ts';
import { repositoryRoot } from '../../house/source-file.ts';
import { streamOf } from './memory-stream.ts';

const MAX_BYTES = 1024 * 1024;
const file = join(repositoryRoot, 'test', 'registry', 'gossip', 'go-bytes.json');
const recorded = JSON.parse(readFileSync(file, 'utf8')) as Record<
  string,
  { packets: string[]; streams: string[] }
>;

for (const [mode, { packets, streams }] of Object.entries(recorded)) {
  const sealer = mode.includes('encrypted')
    ? new Sealer(Buffer.from('0123456789abcdef'), () => 'test')
    : null;

  test(`each datagram of Go, ${mode}, is read whole`, () => {
    const seen = new Set<number>();
    for (const hex of packets) {
      const { messages, refused } = openPacket(Buffer.from(hex, 'hex'), sealer);
      assert.equal(refused, null, hex);
      assert.ok(messages.length > 0, hex);
      for (const message of messages) {
        seen.add(message.type);
        check(message);
      }
    }
    for (const type of [PING, SUSPECT, DEAD, USER]) assert.ok(seen.has(type), String(type));
  });

  test(`each stream of Go, ${mode}, is read in pieces of any length`, async () => {
    const types: number[] = [];
    for (const hex of streams) {
      for (const piece of [1, 7, 4096]) {
        const bytes = Buffer.from(hex, 'hex');
        const source = new StreamSource(streamOf(bytes, piece), MAX_BYTES);
        const type = await source.type(sealer);
        if (piece === 1) types.push(type ?? -1);
        if (type === PUSH_PULL) {
          const { members, user, isJoin } = await readState(source, 100);
          assert.ok(members.every(({ endpoint }) => endpoint.host === '127.0.0.1'));
          if (members.some(({ name }) => name === 'go')) {
            assert.equal(isJoin, true);
            assert.equal(Buffer.from(user).toString(), '{}');
          }
        } else if (type === PING || type === ACK) {
          check(messageFrom(type, await source.value()));
        } else assert.equal(type, ERROR);
      }
    }
    assert.ok(types.includes(PUSH_PULL) && types.includes(PING), String(types));
  });
}

test('the recording has every kind of message', () => {
  const seen = ['plain', 'compressed'].flatMap((mode) =>
    (recorded[mode]?.packets ?? []).flatMap(
      (hex) => openPacket(Buffer.from(hex, 'hex'), null).messages,
    ),
  );
  assert.deepEqual(
    [...new Set(seen.map(({ type }) => type))].sort((a, b) => a - b),
    [PING, ACK, SUSPECT, ALIVE, DEAD, USER],
  );
});

test('what Go wrote is written again with the same bytes', async () => {
  const { packets = [], streams = [] } = recorded.plain ?? {};
  for (const hex of packets) {
    const bytes = Buffer.from(hex, 'hex');
    const { messages } = openPacket(bytes, null);
    const hasChecksum = bytes[0] === 12;
    const again = sealPacket(messages.map(encodeMessage), hasChecksum ? 5 : 0, null);
    assert.equal(Buffer.from(again).toString('hex'), hex);
  }
  for (const hex of streams) {
    const source = new StreamSource(streamOf(Buffer.from(hex, 'hex')), MAX_BYTES);
    if ((await source.type(null)) !== PUSH_PULL) continue;
    const state = await readState(source, 100);
    assert.equal(Buffer.from(encodeState(state)).toString('hex'), hex);
  }
});

/** The facts of the recording. */
function check(message: GossipMessage): void {
  switch (message.type) {
    case PING:
      assert.equal(message.node, 'ours');
      assert.deepEqual([message.sourceNode, message.source?.host], ['go', '127.0.0.1']);
      break;
    case ALIVE:
      assert.ok(['ours', 'third', 'go'].includes(message.node));
      assert.equal(message.endpoint.host, '127.0.0.1');
      assert.deepEqual(message.versions, [1, 5, 4, 0, 0, 0]);
      break;
    case SUSPECT:
      assert.deepEqual([message.node, message.from], ['ours', 'go']);
      break;
    case DEAD:
      assert.equal(message.node, message.from);
      break;
    case USER: {
      const update = decodeUpdate(message.bytes);
      assert.ok(update !== null);
      const record = decodeRecord(Buffer.from(update.record).toString());
      assert.equal(record.nodes[0]?.id, 'orders-1');
      assert.equal(update.action === 'create', update.version > 0n);
      assert.deepEqual(decodeUpdate(encodeUpdate(update)), update);
      assert.equal(
        Buffer.from(encodeUpdate(update)).toString('hex'),
        Buffer.from(message.bytes).toString('hex'),
      );
      break;
    }
    default:
      assert.ok('seq' in message && message.seq > 0);
  }
}

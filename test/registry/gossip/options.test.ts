/** The address of a ring and its options: what they mean, their bounds, and what no error shows. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  GOSSIP_LIMITS,
  gossipOptionsFrom,
  gossipSettings,
} from '../../../src/registry/gossip/options.ts';
import { bytesOfHost, hostOfBytes, textOf } from '../../../src/registry/gossip/wire/endpoint.ts';
import { ALIVE, encodeMessage } from '../../../src/registry/gossip/wire/messages.ts';
import { PART_BYTES, roomOf } from '../../../src/registry/gossip/wire/packet.ts';
import {
  encodeState,
  MEMBER_BYTES,
  MEMBER_SUSPECT,
  type MemberFact,
  STATE_HEAD_BYTES,
} from '../../../src/registry/gossip/wire/push-pull.ts';
import { Sealer } from '../../../src/registry/gossip/wire/seal.ts';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { repositoryRoot } from '../../house/source-file.ts';

const settingsOf = (rest: string) => gossipSettings(gossipOptionsFrom(rest));

test('an address names seeds, a key and options', () => {
  const key = 'k%40y-of-16-bytes!';
  const { seeds, bind, advertise, ...rest } = settingsOf(
    `${key}@a.example.com,10.0.0.2:7000,[fe80::1]:1?bind=10.0.0.1:7946&advertise=10.9.9.9&maxMembers=7&name=me`,
  );
  assert.deepEqual(seeds.map(textOf), ['a.example.com:7946', '10.0.0.2:7000', '[fe80::1]:1']);
  assert.deepEqual([textOf(bind), textOf(advertise)], ['10.0.0.1:7946', '10.9.9.9:0']);
  assert.equal(Buffer.from(rest.key ?? []).toString(), 'k@y-of-16-bytes!');
  assert.deepEqual([rest.maxMembers, rest.name, rest.gossipNodes], [7, 'me', 3]);
  for (const empty of ['', '/', '?maxMembers=1000']) {
    const alone = settingsOf(empty);
    assert.deepEqual(
      [alone.seeds, textOf(alone.bind), textOf(alone.advertise), alone.key],
      [[], '127.0.0.1:0', '127.0.0.1:0', null],
    );
  }
});

test('what cannot be meant is refused, and no error shows the key', async () => {
  const bad = [
    'host:0',
    'host:99999',
    'a b',
    'a,,b',
    '[::1',
    'host/path',
    'host#part',
    'short@host',
    'seventeen-bytes!!@host',
    'micro-gossip-key@host',
    'k%zzk%zzk%zzk%zz@host',
    'sixteen,bytes!!!@host',
    'a?sixteen-bytes!@host:7946',
    'a?short@host:7946=1',
    '10.0.0.1:7946',
    '?bind=0.0.0.0:7946',
    '?bind=10.0.0.1:7946',
    '?bind=name:7946',
    '?bind=127.0.0.1:70000',
    '?advertise=10.0.0.1',
    '?name=',
    `?name=${'x'.repeat(256)}`,
    '?unknown=1',
    '?toString=1',
    '?maxMembers=7&maxMembers=8',
    '?probeIntervalMs=100&probeTimeoutMs=200',
  ];
  for (const name of Object.keys(GOSSIP_LIMITS)) {
    for (const value of ['', 'x', '1.5', '-1', '1e99', 'Infinity', 'NaN']) {
      bad.push(`?${name}=${value}`);
    }
  }
  for (const rest of bad) {
    await assert.rejects(
      openRegistry(`gossip://${rest}`),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT', rest);
        for (const secret of ['short', 'seventeen', 'sixteen', 'k%zz']) {
          assert.ok(!error.message.includes(secret), error.message);
        }
        return true;
      },
      rest,
    );
  }
});

test('options in a program are checked as those of an address are, and show no key', () => {
  const bad = [
    { seeds: ['short@127.0.0.1:7946'] },
    { bind: 'short@127.0.0.1:7946' },
    { advertise: 'short@127.0.0.1:7946' },
    // Half of a pair: as bytes it is another name.
    { name: '\ud800' },
    { name: 7 as unknown as string },
  ];
  for (const options of bad) {
    assert.throws(
      () => gossipSettings(options),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'INVALID_ARGUMENT');
        return !error.message.includes('short');
      },
    );
  }
});

test('each limit takes its bounds and nothing beyond', () => {
  for (const [name, [fallback, least, most]] of Object.entries(GOSSIP_LIMITS)) {
    const others = {
      ...(name === 'probeTimeoutMs' ? { probeIntervalMs: 3600_000 } : { probeTimeoutMs: 1 }),
      ...(name === 'maxMembers' ? { maxStateBytes: 64 * 1024 * 1024 } : {}),
    };
    for (const value of [fallback, least, most]) {
      assert.equal(gossipSettings({ ...others, [name]: value })[name as 'maxMembers'], value);
    }
    for (const value of [least - 1, most + 1, least + 0.5, Number.NaN]) {
      assert.throws(() => gossipSettings({ ...others, [name]: value }), {
        code: 'INVALID_ARGUMENT',
      });
    }
  }
});

test('limits with which no member reads the state of another are refused, and the error says which fit', () => {
  assert.equal(gossipSettings({ maxStateBytes: 65_536 }).maxMembers, 19);
  assert.equal(gossipSettings({}).maxMembers, 1000);
  const refused = { maxStateBytes: 65_536, maxMembers: 20 };
  assert.throws(
    () => gossipSettings(refused),
    (error: Error & { code?: string }) => {
      assert.equal(error.code, 'INVALID_ARGUMENT');
      const [, room = '', bytes = ''] =
        /has room for (\d+) members, .* raise maxStateBytes to (\d+)/.exec(error.message) ?? [];
      assert.equal(gossipSettings({ ...refused, maxMembers: Number(room) }).maxMembers, 19);
      assert.equal(gossipSettings({ ...refused, maxStateBytes: Number(bytes) }).maxMembers, 20);
      return true;
    },
  );
});

test('the longest member has the bytes that the limits count for it, and fits into each datagram', () => {
  const fact = {
    name: 'x'.repeat(255),
    endpoint: { host: '2001:db8::1', port: 65_535 },
    meta: new Uint8Array(512),
    incarnation: 0xffff_ffff,
    state: MEMBER_SUSPECT,
    versions: [255, 255, 255, 255, 255, 255],
  };
  const sizeOf = (members: MemberFact[]) =>
    encodeState({ isJoin: true, members, user: new Uint8Array(0) }).length;
  assert.ok(sizeOf([fact]) - sizeOf([]) <= MEMBER_BYTES);
  const longest = Array.from({ length: 300 }, () => fact);
  assert.ok(sizeOf(longest) <= 300 * MEMBER_BYTES + STATE_HEAD_BYTES);
  const { name: node, ...rest } = fact;
  const alive = encodeMessage({ type: ALIVE, node, ...rest });
  const sealer = new Sealer(new Uint8Array(32), () => 'name');
  assert.ok(alive.length + PART_BYTES <= roomOf(GOSSIP_LIMITS.maxPacketBytes[1], sealer));
});

test('the table of docs/registries.md says the defaults and bounds that hold', () => {
  const page = readFileSync(join(repositoryRoot, 'docs', 'registries.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|/gm)].map(
    ([, name, ...numbers]) => [name, numbers.map(Number)],
  );
  assert.deepEqual(Object.fromEntries(rows), GOSSIP_LIMITS);
});

test('addresses keep their bytes, and IPv4 in IPv6 is IPv4', () => {
  for (const host of [
    '127.0.0.1',
    '255.1.2.3',
    '::1',
    'fe80::1:2',
    '2001:db8::ff00:42:8329',
    '::',
  ]) {
    assert.equal(hostOfBytes(bytesOfHost(host)), host);
  }
  assert.equal(hostOfBytes(bytesOfHost('::ffff:10.0.0.1')), '10.0.0.1');
  assert.equal(hostOfBytes(new Uint8Array(5)), null);
  assert.equal(bytesOfHost('a.example.com').length, 0);
});

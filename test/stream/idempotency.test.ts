/**
 * What producers' idempotent ids are remembered for, against a plain list per producer.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contentHash } from '../../src/server/commands/stream/content-hash.ts';
import { Idempotency } from '../../src/stream/idempotency.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { fc } from '../helpers/property.ts';

function find(idempotency: Idempotency, pid: string, iid: string): string | null {
  return idempotency.find(pid, iid)?.id.toString() ?? null;
}

test('what is tracked is what a list per producer says, exported and imported too', () => {
  const step = fc.record({
    op: fc.nat(9),
    pid: fc.constantFrom('p', 'q', 'ÿ\0'),
    iid: fc.integer({ min: 0, max: 30 }).map(String),
    ms: fc.integer({ min: 0, max: 3000 }),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 150 }),
      fc.integer({ min: 1, max: 40 }),
      (steps, maxsize) => {
        let idempotency = new Idempotency(1, maxsize);
        let twin: { pid: string; iid: string; ms: number }[] = [];
        let added = 0;
        let now = 0;
        for (const { op, pid, iid, ms } of steps) {
          const known = twin.find((entry) => entry.pid === pid && entry.iid === iid);
          assert.equal(
            find(idempotency, pid, iid),
            known === undefined ? null : `${known.ms * 3}-7`,
          );
          if (op < 7 && known === undefined) {
            now += ms % 50;
            // Ids may be far from the time: the clock that makes them can be set.
            idempotency.record(pid, iid, StreamId.of(now * 3, 7), now);
            added++;
            const own = twin.filter((entry) => entry.pid === pid);
            if (own.length >= maxsize) twin.splice(twin.indexOf(own[0]), 1);
            twin.push({ pid, iid, ms: now });
          } else if (op === 7) {
            now += ms;
            assert.ok(
              idempotency.nextExpiry() <= Math.min(...twin.map((entry) => entry.ms + 1000)),
            );
            const before = twin.length;
            twin = twin.filter((entry) => entry.ms > now - 1000);
            assert.equal(idempotency.expire(now), before - twin.length);
          } else if (op === 8) {
            idempotency = Idempotency.import(idempotency.export(), 0);
          }
          assert.equal(idempotency.iidsTracked, twin.length);
          assert.equal(idempotency.pidsTracked, new Set(twin.map((entry) => entry.pid)).size);
          assert.equal(idempotency.iidsAdded, added);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('a changed setting clears what is tracked, the same setting does not', () => {
  const idempotency = new Idempotency(100, 100);
  idempotency.record('p', 'i', StreamId.of(5), 5);
  assert.equal(idempotency.configure(100, 100), false);
  assert.equal(find(idempotency, 'p', 'i'), '5-0');
  assert.equal(idempotency.configure(100, 99), true);
  assert.equal(find(idempotency, 'p', 'i'), null);
  assert.equal(idempotency.pidsTracked, 0);
  assert.equal(idempotency.iidsAdded, 1);
  assert.equal(idempotency.nextExpiry(), Number.POSITIVE_INFINITY);
});

test('an iid recorded again becomes the newest one, and a copy goes its own way', () => {
  const idempotency = new Idempotency(100, 2);
  idempotency.record('p', 'i', StreamId.of(4), 4);
  idempotency.record('p', 'other', StreamId.of(5), 5);
  idempotency.record('p', 'i', StreamId.of(6), 6);
  assert.deepEqual([idempotency.iidsTracked, idempotency.iidsAdded], [2, 3]);
  idempotency.countDuplicate();
  const copy = idempotency.copy();
  copy.record('p', 'j', StreamId.of(7), 7);
  assert.equal(find(copy, 'p', 'other'), null);
  assert.equal(find(copy, 'p', 'i'), '6-0');
  assert.equal(copy.iidsDuplicates, 1);
  assert.equal(find(idempotency, 'p', 'j'), null);
});

test('damaged exports are refused', () => {
  const idempotency = new Idempotency(100, 100);
  idempotency.record('producer', 'iid', StreamId.of(5), 5);
  const bytes = idempotency.export();
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => Idempotency.import(bytes.subarray(0, length), 0), RangeError);
  }
  assert.throws(() => Idempotency.import(Buffer.concat([bytes, bytes]), 0), RangeError);
  bytes[0] = 4;
  assert.throws(() => Idempotency.import(bytes, 0), /format 4/);
});

function hash(...pairs: string[]): string {
  return contentHash(Arguments.of('XADD', ...pairs), 1, 1 + pairs.length);
}

test('the content hash does not see the order of pairs and sees everything else', () => {
  assert.equal(hash('a', '1', 'b', '2'), hash('b', '2', 'a', '1'));
  assert.equal(hash('a', '1').length, 16);
  const contents = [
    ['a', '1'],
    ['1', 'a'],
    ['a1', ''],
    ['', 'a1'],
    ['a', '1', 'a', '1'],
    ['a', '1', 'b', '2'],
    ['a', '2', 'b', '1'],
    ['a', '1', 'b', '2', 'b', '2'],
    ['a', '1', 'a', '1', 'b', '2'],
    ['', ''],
    ['', '', '', ''],
    ['a', '\0'],
    ['a', '\0\0'],
    ['a', '1\0\0\0'],
    ['a', '1\0'],
  ];
  assert.equal(new Set(contents.map((pairs) => hash(...pairs))).size, contents.length);
});

test('no two of a quarter of a million similar contents meet, not even in half of the bits', () => {
  const whole = new Set<string>();
  const halves = [new Set<string>(), new Set<string>()];
  let count = 0;
  const add = (...pairs: string[]) => {
    const h = hash(...pairs);
    whole.add(h);
    halves[0].add(h.slice(0, 8));
    halves[1].add(h.slice(8));
    count++;
  };
  for (let i = 0; i < 100_000; i++) add('n', String(i));
  for (let i = 0; i < 100_000; i++) add('order', `{"id":${i},"state":"new"}`, 'n', String(i % 10));
  for (let i = 0; i < 50_000; i++) add(String.fromCharCode(i & 255, i >> 8), 'constant');
  assert.equal(whole.size, count);
  assert.equal(halves[0].size, count);
  assert.equal(halves[1].size, count);
});

test('each bit of the input moves about half of the bits of the hash', () => {
  const base = Buffer.from('the quick brown fox jumps over the lazy dog');
  const bits = (text: string) => [...Buffer.from(text, 'latin1')];
  const reference = bits(contentHash(Arguments.of('f', base), 0, 2));
  let least = 128;
  let sum = 0;
  for (let bit = 0; bit < base.length * 8; bit++) {
    const flipped = Buffer.from(base);
    flipped[bit >> 3] ^= 1 << (bit & 7);
    const other = bits(contentHash(Arguments.of('f', flipped), 0, 2));
    let distance = 0;
    for (let i = 0; i < 16; i++) {
      for (let x = reference[i] ^ other[i]; x !== 0; x &= x - 1) distance++;
    }
    least = Math.min(least, distance);
    sum += distance;
  }
  assert.ok(least > 36, `some bit moves only ${least}`);
  assert.ok(Math.abs(sum / (base.length * 8) - 64) < 2, `on average ${sum / (base.length * 8)}`);
});

/**
 * A stream under test and what it is held against, in one: each change is made to all of them.
 */
import assert from 'node:assert/strict';
import type { NodeLimits } from '../../src/stream/block/node-limits.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { StreamIterator } from '../../src/stream/stream-iterator.ts';
import { readMetadata } from '../../src/stream/stream-metadata.ts';
import { TrimRule, trim } from '../../src/stream/trim.ts';
import { Arguments } from '../../src/util/arguments.ts';
import {
  idOf,
  order,
  readAll,
  readRange,
  TwinCheckpoint,
  type TwinEntry,
  textOf,
} from './stream-twin.ts';

export const U64_MAX = 2n ** 64n - 1n;
/** What a resident block counts beside its bytes. */
const BLOCK_OVERHEAD = 320;

export function append(stream: Stream, id: StreamId, ...pairs: string[]): void {
  const args = Arguments.of('XADD', 'key', '*', ...pairs);
  stream.append(id, args, 3, 3 + pairs.length);
}

export function filled(limits: NodeLimits, count: number): Stream {
  const stream = new Stream(limits);
  for (let i = 1; i <= count; i++) append(stream, StreamId.of(i), 'field', `value ${i}`);
  return stream;
}

/** What the stream counts of its resident blocks, against a look at each of them. */
function checkBytes(stream: Stream): void {
  const blocks = [...stream.index.tree.leaves()];
  const own = blocks.length * BLOCK_OVERHEAD + stream.index.listBytes;
  const lengths = blocks.map((block) => block.length);
  const sealed = lengths.reduce((sum, length) => sum + length, own);
  // The last block counts with its whole buffer while it has one.
  const last = blocks.at(-1);
  const open = sealed - (last?.length ?? 0) + (last?.bytes.length ?? 0);
  const { residentBytes, heldBytes } = stream;
  assert.ok([sealed, open].includes(residentBytes), `${residentBytes}: ${sealed} or ${open}`);
  const chunks = new Set(blocks.map((block) => block.bytes));
  let held = own;
  for (const chunk of chunks) held += chunk.length;
  // A chunk that has no block yet is held too.
  assert.ok(heldBytes >= held && heldBytes <= held + 70_000, `${heldBytes}: ${held}`);
}

/** A stream under test, its array twin, a twin that never evicts anything, and a checkpoint. */
export class World {
  readonly limits: NodeLimits;
  stream: Stream;
  resident: Stream;
  readonly checkpoint = new TwinCheckpoint();
  entries: TwinEntry[] = [];
  ms = 0n;
  seq = 0n;
  /** What the checkpoint under way must hold. */
  frozen: { metadata: Buffer; entries: string[]; keys: number } | null = null;
  readonly iterator = new StreamIterator();
  /** Copies made, which no later change may reach. */
  readonly copies: { copy: Stream; entries: string[] }[] = [];

  constructor(limits: NodeLimits) {
    this.limits = limits;
    this.stream = new Stream(limits);
    this.resident = new Stream(limits);
    this.#attach();
  }

  #attach(): void {
    this.stream.attachColdBlocks(this.checkpoint);
    this.stream.onFrozenBlockChange = (block) => this.checkpoint.capture(this.stream, block);
  }

  append(a: number, b: number): void {
    const jump = a % 7;
    if (jump < 4) this.#advance(0n, 1n);
    else if (jump === 4) this.#advance(BigInt(1 + (b % 90)), 0n);
    else if (jump === 5) this.#advance(2n ** BigInt(b % 58), BigInt(b) ** 2n);
    else this.#advance(0n, 2n ** BigInt(b % 60));
    const pairs =
      b % 5 === 0 ? [`own${b % 3}`, 'x'.repeat(b % 40), 'more', ''] : ['field', `v${b}`];
    if (b % 31 === 0) pairs.push('big', 'y'.repeat(b % 3000));
    const args = Arguments.of(...pairs);
    const id = idOf(this.ms, this.seq);
    this.stream.append(id, args, 0, pairs.length);
    this.resident.append(id, args, 0, pairs.length);
    this.entries.push({ ms: this.ms, seq: this.seq, pairs });
  }

  /** By ms, which restarts seq, or by seq; stays where a half is exhausted. */
  #advance(ms: bigint, seq: bigint): void {
    if (this.ms + ms > U64_MAX || (ms === 0n && this.seq + seq > U64_MAX)) {
      if (this.seq < U64_MAX) this.seq++;
      return;
    }
    this.seq = ms === 0n ? this.seq + seq : seq;
    this.ms += ms;
  }

  pick(a: number): TwinEntry | undefined {
    // Half of the time near the head, where streams are consumed.
    const span = a % 2 === 0 ? Math.min(8, this.entries.length) : this.entries.length;
    return span === 0 ? undefined : this.entries[Math.floor(a / 2) % span];
  }

  remove(a: number): void {
    const entry = this.pick(a);
    if (entry === undefined) return;
    const id = idOf(entry.ms, entry.seq);
    assert.ok(this.stream.has(id));
    assert.ok(this.stream.remove(id));
    assert.ok(this.resident.remove(id));
    assert.ok(!this.stream.has(id));
    assert.ok(!this.stream.remove(id));
    this.entries = this.entries.filter((other) => other !== entry);
  }

  trim(a: number, b: number): void {
    const rule = new TrimRule();
    const target = this.pick(b);
    if (a % 2 === 0 || target === undefined) {
      rule.strategy = 'maxlen';
      rule.maxlen = Math.max(0, this.entries.length - (b % 25));
    } else {
      rule.strategy = 'minid';
      rule.minid.copy(idOf(target.ms, target.seq));
    }
    rule.approximate = a % 3 === 0;
    rule.limit = a % 5 === 0 ? b % 30 : 0;
    const kept = a % 7 === 0 ? (id: StreamId) => id.seqLo % 3 !== 0 : null;
    const gone: string[] = [];
    const told = a % 4 === 0 ? (id: StreamId) => void gone.push(id.toString()) : null;
    const before = this.entries;
    const count = trim(this.stream, rule, kept, told);
    assert.equal(trim(this.resident, rule, kept, told === null ? null : () => {}), count);
    if (kept === null) {
      this.entries = before.slice(count);
      if (!rule.approximate && rule.limit === 0) {
        const expected =
          rule.strategy === 'maxlen'
            ? before.slice(-rule.maxlen || before.length)
            : before.filter(
                (entry) => target !== undefined && order(entry, target.ms, target.seq) >= 0,
              );
        assert.deepEqual(this.entries.map(textOf), expected.map(textOf));
      }
    } else {
      const left = new Set(readAll(this.stream).map((text) => text.split(' ')[0]));
      this.entries = before.filter((entry) => left.has(`${entry.ms}-${entry.seq}`));
      assert.equal(before.length - this.entries.length, count);
    }
    if (told !== null) {
      const left = new Set(this.entries);
      const expected = before.filter((entry) => !left.has(entry));
      assert.deepEqual(
        gone,
        expected.map((entry) => `${entry.ms}-${entry.seq}`),
      );
    }
  }

  freeze(): void {
    if (this.checkpoint.isUnderWay) return;
    this.frozen = {
      metadata: this.stream.export(),
      entries: this.entries.map(textOf),
      keys: this.stream.radixTreeKeys,
    };
    this.checkpoint.begin(this.stream);
  }

  /** Ends the checkpoint under way; what is committed must be the stream as of the freeze. */
  commit(): void {
    if (this.frozen === null) return;
    this.checkpoint.advance(this.stream, Number.POSITIVE_INFINITY);
    this.checkpoint.commit(this.stream);
    const { metadata, entries, keys } = this.frozen;
    this.frozen = null;
    const restored = Stream.restore(metadata, this.checkpoint, this.limits);
    assert.deepEqual(readAll(restored), entries);
    assert.equal(this.checkpoint.committed.size, keys);
    assert.equal(restored.coldCount, keys);
  }

  abort(): void {
    if (this.frozen === null) return;
    this.frozen = null;
    this.checkpoint.abort(this.stream);
  }

  evict(a: number): void {
    const clean = [...this.stream.evictable()];
    for (let i = 0; i < clean.length; i++) {
      if (a % 3 === 0 || (i + a) % 3 === 0) assert.ok(this.stream.evict(clean[i]));
    }
  }

  /** Continues with a stream that knows only what the checkpoint has. */
  restart(): void {
    this.commit();
    this.freeze();
    const metadata = this.frozen?.metadata as Buffer;
    this.commit();
    this.stream = Stream.restore(metadata, this.checkpoint, this.limits);
    this.#attach();
  }

  copy(): void {
    const copy = this.stream.copy();
    assert.deepEqual(readAll(copy), this.entries.map(textOf));
    const blocks = [...this.stream.blocks()].map((block) => block.twin());
    const assembled = Stream.assemble(this.stream.export(), blocks, this.limits);
    assert.deepEqual(readAll(assembled), this.entries.map(textOf));
    this.copies.push({ copy, entries: this.entries.map(textOf) });
    // What happens to a copy leaves the stream as it is.
    const victim = this.stream.copy();
    for (const [i, { ms, seq }] of this.entries.entries()) {
      if (i % 3 !== 0) assert.ok(victim.remove(idOf(ms, seq)));
    }
    assert.equal(readAll(victim).length, Math.ceil(this.entries.length / 3));
    assert.deepEqual(readAll(this.stream), this.entries.map(textOf));
    for (const other of [copy, assembled]) {
      assert.equal(other.radixTreeKeys, this.resident.radixTreeKeys);
      assert.equal(other.radixTreeNodes, this.resident.radixTreeNodes);
      assert.equal(other.firstId.toString(), this.stream.firstId.toString());
    }
  }

  range(a: number, b: number): void {
    const from = this.pick(a * 2 + 1) ?? { ms: 0n, seq: 0n };
    const to = this.pick(b * 2 + 1) ?? { ms: U64_MAX, seq: U64_MAX };
    const start = idOf(from.ms, from.seq);
    const end = idOf(to.ms, to.seq);
    if (a % 3 === 0) start.increment();
    const between = this.entries
      .filter((entry) => {
        const id = idOf(entry.ms, entry.seq);
        return id.compare(start) >= 0 && id.compare(end) <= 0;
      })
      .map(textOf);
    assert.deepEqual(readRange(this.stream, start, end, false, this.iterator), between);
    assert.deepEqual(readRange(this.stream, start, end, true, this.iterator), between.reverse());
  }

  check(): void {
    const { stream, resident, entries } = this;
    assert.equal(stream.length, entries.length);
    const first = entries[0] ?? { ms: 0n, seq: 0n };
    assert.equal(stream.firstId.toString(), `${first.ms}-${first.seq}`);
    const last = entries.at(-1);
    const id = new StreamId();
    assert.equal(stream.lastNonDeletedId(id), last !== undefined);
    assert.equal(id.toString(), last === undefined ? '0-0' : `${last.ms}-${last.seq}`);
    assert.equal(stream.lastId.toString(), `${this.ms}-${this.seq}`);
    assert.equal(stream.maxDeletedId.toString(), resident.maxDeletedId.toString());
    assert.equal(stream.entriesAdded, resident.entriesAdded);
    assert.equal(stream.radixTreeKeys, resident.radixTreeKeys);
    if (stream.coldCount === 0) assert.equal(stream.radixTreeNodes, resident.radixTreeNodes);
    else assert.ok(stream.radixTreeNodes > 0);
    checkBytes(stream);
    if (stream.radixTreeKeys === stream.coldCount) assert.ok(stream.residentBytes <= 70_000);
    const sections = readMetadata(stream.export()).sections;
    if (sections.length > 0) {
      const live = sections.reduce((sum, section) => sum + section.live, 0);
      assert.ok(Number.isNaN(live) || live === stream.length, `${live} of ${stream.length}`);
    }
  }
}

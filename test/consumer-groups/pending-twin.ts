/**
 * A pending list and its slow twin, a Map that tells the truth; every operation is done to both.
 */
import assert from 'node:assert/strict';
import {
  type Consumer,
  ConsumerGroup,
  decodeGroup,
  type Epoch,
  encodeGroup,
  encodePage,
  PendingCursor,
  type PendingPage,
  UNOWNED,
} from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { ByteReader, ByteWriter } from '../../src/util/byte-writer.ts';

interface TwinEntry {
  id: StreamId;
  consumer: string | null;
  time: number;
  count: number;
  /** Rises with every change of time or owner: the order among released ones. */
  stamp: number;
}

export class PendingTwin {
  readonly epoch: Epoch = { current: 1 };
  group: ConsumerGroup;
  readonly entries = new Map<string, TwinEntry>();
  /** What a checkpoint would hold: page bytes by page id. */
  readonly stored = new Map<number, Buffer>();
  #captured = new Map<number, Buffer>();
  #stamp = 0;
  readonly cursor = new PendingCursor();

  constructor() {
    this.group = new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0, this.epoch);
    this.#attach();
  }

  consumer(name: string): Consumer {
    return this.group.findConsumer(name) ?? this.group.createConsumer(Buffer.from(name), 1);
  }

  set(id: StreamId, name: string, time: number, count: number): void {
    const isNew = this.group.setPending(id, this.consumer(name), time, count);
    assert.equal(isNew, !this.entries.has(id.toString()));
    this.#keep(id, name, time, count);
  }

  setReleased(id: StreamId, count: number): void {
    this.group.setReleased(id, count);
    this.#keep(id, null, 0, count);
  }

  acknowledge(id: StreamId): void {
    assert.equal(this.group.acknowledge(id), this.entries.delete(id.toString()), id.toString());
  }

  acknowledgeRange(from: StreamId, to: StreamId): void {
    this.group.acknowledgeRange(from, to);
    for (const [text, { id }] of this.entries) {
      if (id.compare(from) >= 0 && id.compare(to) <= 0) this.entries.delete(text);
    }
  }

  deleteConsumer(name: string): void {
    const consumer = this.group.findConsumer(name);
    if (consumer === undefined) return;
    const theirs = this.sorted().filter((entry) => entry.consumer === name);
    assert.equal(this.group.deleteConsumer(consumer), theirs.length);
    for (const entry of theirs) this.entries.delete(entry.id.toString());
  }

  sorted(): TwinEntry[] {
    return [...this.entries.values()].sort((a, b) => a.id.compare(b.id));
  }

  /** Everything that the list says, against the twin. */
  check(): void {
    const expected = this.sorted();
    const { pending } = this.group;
    assert.equal(pending.size, expected.length);
    const id = new StreamId();
    assert.equal(pending.min(id), expected.length > 0);
    if (expected.length > 0) assert.equal(id.toString(), expected[0].id.toString());
    assert.equal(pending.max(id), expected.length > 0);
    if (expected.length > 0)
      assert.equal(id.toString(), expected[expected.length - 1].id.toString());
    assert.deepEqual(this.walk(StreamId.min()), expected.map(describe));
    for (const consumer of this.group.consumers()) {
      const name = consumer.name.toString();
      const theirs = expected.filter((entry) => entry.consumer === name).map(describe);
      assert.equal(consumer.pendingCount, theirs.length);
      assert.deepEqual(this.walkOf(consumer, StreamId.min()), theirs);
    }
    const nobodys = expected.filter((entry) => entry.consumer === null);
    assert.equal(this.group.nackedCount, nobodys.length);
    this.#checkPages();
  }

  /** The delivery order, against the twin sorted by it. */
  checkOrder(): void {
    const { order } = this.group.pending;
    const seen: string[] = [];
    for (const slot of order.slots()) {
      this.group.pending.at(slot, this.cursor);
      seen.push(this.cursor.id.toString());
    }
    const expected = this.sorted().sort(
      (a, b) =>
        Number(a.consumer !== null) - Number(b.consumer !== null) ||
        a.time - b.time ||
        (a.consumer === null ? a.stamp - b.stamp : a.id.compare(b.id)),
    );
    assert.deepEqual(
      seen,
      expected.map((entry) => entry.id.toString()),
    );
  }

  walk(from: StreamId): string[] {
    const found: string[] = [];
    for (let more = this.group.pending.seek(from, this.cursor); more; more = this.cursor.next()) {
      found.push(this.#atCursor());
    }
    return found;
  }

  walkOf(consumer: Consumer, from: StreamId): string[] {
    const found: string[] = [];
    let more = this.group.pending.seekConsumer(consumer.index, from, this.cursor);
    for (; more; more = this.cursor.nextOf(consumer.index)) found.push(this.#atCursor());
    return found;
  }

  // --- Checkpoints ---

  /** An epoch ends: from here on changes must not reach what the checkpoint writes. */
  freeze(): { metadata: Buffer; expected: string[] } {
    this.epoch.current++;
    this.#captured.clear();
    const writer = new ByteWriter();
    encodeGroup(this.group, writer);
    return { metadata: writer.toBuffer(), expected: this.sorted().map(describe) };
  }

  /** Completes the checkpoint begun by freeze, as an engine would. */
  capture(): void {
    this.group.pending.takeFrozen((page) => this.#capture(page));
    for (const id of this.group.pending.takeFrozenRemoved()) this.stored.delete(id);
    for (const [id, bytes] of this.#captured) this.stored.set(id, bytes);
  }

  /** A group read back from metadata and the stored pages. */
  restore(metadata: Buffer): ConsumerGroup {
    const group = decodeGroup(new ByteReader(metadata), this.epoch);
    group.pending.attach(this.#store());
    return group;
  }

  /** Goes on with the restored group, as after a restart. */
  restart(): void {
    const { metadata } = this.freeze();
    this.capture();
    this.group = this.restore(metadata);
  }

  #store() {
    return {
      load: (id: number): Buffer => {
        const bytes = this.stored.get(id);
        assert.ok(bytes, `page ${id} is in the checkpoint`);
        return bytes;
      },
      capture: (page: PendingPage): void => this.#capture(page),
    };
  }

  #attach(): void {
    this.group.pending.attach(this.#store());
  }

  #capture(page: PendingPage): void {
    assert.ok(!this.#captured.has(page.id), `page ${page.id} is captured once`);
    const writer = new ByteWriter();
    encodePage(page, writer);
    this.#captured.set(page.id, writer.toBuffer());
  }

  #checkPages(): void {
    let live = 0;
    let before: StreamId | null = null;
    for (const page of this.group.pending.pages()) {
      assert.ok(before === null || before.compare(page.low) < 0, 'lows ascend');
      assert.ok(page.live > 0 || this.group.pending.pageCount === 1, 'no empty page stays');
      live += page.live;
      before = page.low;
    }
    assert.equal(live, this.group.pending.size);
  }

  #keep(id: StreamId, consumer: string | null, time: number, count: number): void {
    const entry = { id: id.clone(), consumer, time, count, stamp: ++this.#stamp };
    this.entries.set(id.toString(), entry);
  }

  #atCursor(): string {
    const { id, consumer, time, count } = this.cursor;
    const name =
      consumer === UNOWNED ? null : (this.group.consumerAt(consumer)?.name.toString() ?? 'unknown');
    return describe({ id, consumer: name, time, count });
  }
}

export function describe(entry: Omit<TwinEntry, 'stamp'>): string {
  return `${entry.id} ${entry.consumer} ${entry.time} ${entry.count}`;
}

/**
 * A group as a whole: its consumers, its position, its copies, its bytes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConsumerGroup, decodeGroup, encodeGroup } from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { ByteReader, ByteWriter } from '../../src/util/byte-writer.ts';
import { FakeStream } from './fake-stream.ts';
import { PendingTwin } from './pending-twin.ts';

function newGroup(): ConsumerGroup {
  return new ConsumerGroup(Buffer.from('g'), StreamId.min(), 0);
}

test('consumers are listed in the byte order of their names', () => {
  const group = newGroup();
  const names = ['b', 'a', 'ab', 'B', 'é', 'z', ''];
  for (const name of names) group.createConsumer(Buffer.from(name), 0);
  const listed = group.consumers().map((consumer) => consumer.name.toString());
  assert.deepEqual(listed, ['', 'B', 'a', 'ab', 'b', 'z', 'é']);
});

test('consumers are found by name as string and as bytes, few or many', () => {
  const group = newGroup();
  for (let i = 0; i < 40; i++) {
    const made = group.createConsumer(Buffer.from(`consumer-${i}`), i);
    const bytes = Buffer.from(`..consumer-${i}!!`);
    assert.equal(group.findConsumerIn(bytes, 2, bytes.length - 4), made);
    assert.equal(group.findConsumerIn(bytes, 2, bytes.length - 3), undefined);
    assert.equal(group.findConsumer(`consumer-${i}`), made);
    assert.equal(group.consumerAt(made.index), made);
  }
});

test('a deleted consumer takes its pending entries along, and its index goes to the next one', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 2000; i++) twin.set(StreamId.of(i), ['ann', 'bob', 'cy'][i % 3], i, 1);
  const { index } = twin.consumer('bob');
  twin.deleteConsumer('bob');
  assert.equal(twin.consumer('dee').index, index);
  assert.equal(twin.group.findConsumer('bob'), undefined);
  twin.set(StreamId.of(5), 'dee', 1, 1);
  twin.check();
});

test('delivery again after XGROUP SETID back moves a pending entry to its new reader', () => {
  const stream = new FakeStream();
  const group = newGroup();
  const ann = group.createConsumer(Buffer.from('ann'), 0);
  const bob = group.createConsumer(Buffer.from('bob'), 0);
  for (let i = 1; i <= 3; i++) stream.add(StreamId.of(i));
  for (let i = 1; i <= 3; i++) group.deliver(stream, StreamId.of(i), ann, 10);
  group.setId(StreamId.of(1), -1);
  group.deliver(stream, StreamId.of(2), bob, 20);
  assert.deepEqual([ann.pendingCount, bob.pendingCount, group.pending.size], [2, 1, 3]);
  assert.equal(bob.activeTime, 20);
  assert.ok(group.lastId.equals(StreamId.of(2)));
});

test('delivery without a consumer moves the position and leaves nothing pending', () => {
  const stream = new FakeStream();
  const group = newGroup();
  stream.add(StreamId.of(1));
  group.deliver(stream, StreamId.of(1), null, 10);
  assert.deepEqual([group.pending.size, group.entriesRead], [0, 1]);
  assert.ok(group.lastId.equals(StreamId.of(1)));
});

test('an entry is referenced while it is undelivered or pending', () => {
  const stream = new FakeStream();
  const group = newGroup();
  const ann = group.createConsumer(Buffer.from('ann'), 0);
  stream.add(StreamId.of(1));
  assert.equal(group.references(StreamId.of(1)), true);
  group.deliver(stream, StreamId.of(1), ann, 1);
  assert.equal(group.references(StreamId.of(1)), true);
  group.acknowledge(StreamId.of(1));
  assert.equal(group.references(StreamId.of(1)), false);
});

test('a copy is equal and independent', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 1500; i++)
    twin.set(StreamId.of(i * 2), i % 4 === 0 ? 'ann' : 'bob', i, i % 9);
  twin.setReleased(StreamId.of(10), 3);
  const original = twin.group;
  const copy = original.copy();
  for (let i = 0; i < 1500; i += 2) copy.acknowledge(StreamId.of(i * 2));
  copy.deleteConsumer(copy.findConsumer('bob')!);
  twin.check();
  twin.group = original.copy();
  twin.check();
});

test('a group survives encoding: position, consumers, times, pending entries', () => {
  const twin = new PendingTwin();
  twin.group.setId(new StreamId(0xffff_ffff, 1, 0xffff_ffff, 2), 2 ** 40);
  for (let i = 0; i < 1100; i++) twin.set(StreamId.of(i), ['ann', 'bob'][i % 2], i, 1);
  twin.setReleased(StreamId.of(7), 0xffff_ffff);
  twin.consumer('idle').activeTime = 77;
  const before = twin.group;
  twin.restart();
  twin.check();
  const { group } = twin;
  assert.ok(group.lastId.equals(before.lastId));
  assert.deepEqual([group.entriesRead, group.nackedCount], [2 ** 40, 1]);
  assert.deepEqual(group.consumers(), before.consumers());
});

test('metadata that contradicts itself is refused', () => {
  const twin = new PendingTwin();
  for (let i = 0; i < 10; i++) twin.set(StreamId.of(i), 'ann', i, 1);
  twin.consumer('ann').pendingCount = 9;
  const writer = new ByteWriter();
  encodeGroup(twin.group, writer);
  assert.throws(() => decodeGroup(new ByteReader(writer.toBuffer())), /10 pending, 9 owned/);
  assert.throws(() => decodeGroup(new ByteReader(Buffer.from([9]))), /version 9 is not known/);
});

/** A walk along a stream says of each id what a search for it says, whatever is deleted or cold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Block } from '../../src/stream/block/block.ts';
import { EntryWalk } from '../../src/stream/entry-walk.ts';
import { Stream } from '../../src/stream/stream.ts';
import { StreamId } from '../../src/stream/stream-id.ts';
import { Arguments } from '../../src/util/arguments.ts';
import { Random } from '../../src/util/random.ts';
import { seedsOf } from '../helpers/seed.ts';

const PAIR = Arguments.of('f', 'v');

test('a walk finds what a search finds', (t) => {
  for (const seed of seedsOf(t, 100)) {
    const random = new Random(seed);
    const stream = new Stream({ maxEntries: 1 + random.below(20), maxBytes: 4096 });
    for (let i = 1; i <= 400; i++) {
      if (random.chance(0.7)) stream.append(StreamId.of(i), PAIR, 0, 2);
    }
    for (let i = random.below(200); i > 0; i--) stream.remove(StreamId.of(1 + random.below(400)));
    const walk = new EntryWalk(stream);
    for (let i = 1; i <= 420; i += 1 + random.below(random.pick([1, 3, 150]))) {
      const id = StreamId.of(i);
      assert.equal(walk.has(id), stream.has(id), `seed ${seed}: ${id}`);
    }
  }
});

test('a walk along cold blocks reads each of them once', () => {
  const limits = { maxEntries: 10, maxBytes: 4096 };
  const stream = new Stream(limits);
  for (let i = 1; i <= 1000; i++) stream.append(StreamId.of(i), PAIR, 0, 2);
  const stored = new Map<string, Buffer>();
  stream.freeze();
  for (let block = stream.nextFrozen(); block !== undefined; block = stream.nextFrozen()) {
    stored.set(block.readFirstId(new StreamId()).toString(), block.export());
    stream.captured(block);
  }
  stream.committed();
  let reads = 0;
  const cold = Stream.restore(
    stream.export(),
    {
      read(id) {
        reads++;
        return Block.import(stored.get(id.toString()) as Buffer);
      },
      firstIds(from, last, visit) {
        for (let i = 1; i <= 1000; i += 10) {
          const id = StreamId.of(i);
          if (id.compare(from) >= 0 && id.compare(last) <= 0) visit(id);
        }
      },
    },
    limits,
  );
  const walk = new EntryWalk(cold);
  for (let i = 1; i <= 1000; i++) assert.ok(walk.has(StreamId.of(i)));
  assert.equal(reads, 100);
});

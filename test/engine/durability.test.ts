/**
 * Replay and checkpoints: whatever was done, the records alone, and any checkpoint with the records
 * after it, give the same state again.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Checkpointer } from '../../src/engine/checkpoint/checkpointer.ts';
import { restoreCheckpoint } from '../../src/engine/checkpoint/restore.ts';
import { Replay } from '../../src/engine/log/replay.ts';
import { streamReplayHandlers } from '../../src/engine/streams/stream-replay.ts';
import { sectionLimits } from '../../src/stream/block/block-sections.ts';
import { Random } from '../../src/util/random.ts';
import { InProcessServer, type InProcessSession } from '../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { seedsOf } from '../helpers/seed.ts';
import { randomCommand } from './random-commands.ts';
import { pictureOf, scheduleOf } from './state-picture.ts';

class World {
  readonly server = new InProcessServer();
  readonly store = new MemoryCheckpointStore();
  readonly checkpoint = new MemoryCheckpoint(this.store);
  readonly checkpointer: Checkpointer;
  readonly random: Random;
  readonly session: InProcessSession;
  /** How many records stand before each checkpoint's position. */
  readonly recordsAt = new Map<number, number>([[0, 0]]);
  private readonly recent = new Map<string, string[]>();

  constructor(seed: number) {
    this.random = new Random(seed);
    this.server.engine.nodeLimits.maxEntries = 1 + this.random.below(20);
    sectionLimits.blocks = this.random.pick([1, 2, 5, 256]);
    this.checkpointer = checkpointerOf(this.server, this.checkpoint);
    this.session = this.server.session();
  }

  /** Drops random clean blocks from memory, as a memory budget would. */
  evictSome(): void {
    for (const { keyspace } of this.server.engine.databases) {
      for (const { value } of keyspace.table.entries()) {
        if (value.type !== 'stream') continue;
        for (const block of [...value.stream.evictable()]) {
          if (this.random.chance(0.5)) value.stream.evict(block);
        }
      }
    }
  }

  command(): void {
    if (this.random.chance(0.3)) this.server.advance(this.random.below(200));
    const args = randomCommand(this.random, this.recent);
    const reply = this.session.call(...args);
    if (args[0] === 'XADD' && typeof reply === 'string') {
      const stream = String(args[1]);
      const ids = this.recent.get(stream) ?? [];
      this.recent.set(stream, ids);
      ids.push(reply);
      if (ids.length > 60) ids.splice(0, 20);
    }
  }

  start(): void {
    const { journal } = this.server;
    this.recordsAt.set(journal.appended, journal.records.length);
    this.checkpointer.start();
  }

  /** What a process would see that opened the directory now. */
  reopened(): InProcessServer {
    const { journal, clock, engine } = this.server;
    const server = new InProcessServer(clock.now());
    Object.assign(server.engine.nodeLimits, engine.nodeLimits);
    const checkpoint = new MemoryCheckpoint(this.store);
    const checkpointer = checkpointerOf(server, checkpoint);
    restoreCheckpoint(server.engine, checkpointer);
    const replay = new Replay(server.engine, streamReplayHandlers);
    const from = this.recordsAt.get(checkpoint.position);
    assert.ok(from !== undefined);
    for (const { type, body } of journal.records.slice(from)) replay.apply(type, body);
    return server;
  }
}

function checkpointerOf(server: InProcessServer, checkpoint: MemoryCheckpoint): Checkpointer {
  return server.engine.attachCheckpoint({
    checkpoint,
    drainLog: () => Promise.resolve(),
    pause: () => Promise.resolve(),
  });
}

function assertSame(a: InProcessServer, b: InProcessServer, message: string): void {
  assert.deepEqual(pictureOf(a.engine), pictureOf(b.engine), message);
  assert.deepEqual(scheduleOf(a.engine), scheduleOf(b.engine), message);
}

test('the records alone give the same state again', (t) => {
  for (const seed of seedsOf(t, 15)) {
    const world = new World(seed);
    for (let i = 0; i < 600; i++) world.command();
    assertSame(world.reopened(), world.server, `seed ${seed}`);
  }
});

test('a checkpoint taken in slices between commands, with the records after it, gives the same state', async (t) => {
  for (const seed of seedsOf(t, 40)) {
    const world = new World(seed);
    const { random, checkpointer } = world;
    for (let round = 0; round < 4; round++) {
      for (let i = random.below(200); i > 0; i--) world.command();
      world.start();
      // A budget of no time captures one object a step: the commands between change many others.
      while (!checkpointer.step(0)) if (random.chance(0.5)) world.command();
      for (let i = random.below(10); i > 0; i--) world.command();
      await checkpointer.finish();
      while (!checkpointer.cleanUp(0)) if (random.chance(0.3)) world.command();
      assertSame(world.reopened(), world.server, `seed ${seed}, round ${round}`);
      if (random.chance(0.7)) world.evictSome();
    }
  }
});

test('a checkpoint that fails loses nothing: the next one has it all', async (t) => {
  for (const seed of seedsOf(t, 30)) {
    const world = new World(seed);
    const { random, checkpointer, checkpoint } = world;
    for (let round = 0; round < 5; round++) {
      for (let i = random.below(150); i > 0; i--) world.command();
      world.start();
      const fails = round % 2 === 0;
      let givesUp = fails && random.chance(0.3) ? random.below(20) : Number.POSITIVE_INFINITY;
      while (givesUp-- > 0 && !checkpointer.step(0)) if (random.chance(0.5)) world.command();
      if (givesUp < 0) {
        checkpointer.fail(new Error('given up'));
      } else {
        if (fails) checkpoint.failNext(new Error('disk full'));
        await checkpointer.finish().then(
          () => assert.ok(!fails),
          (error) => checkpointer.fail(error),
        );
      }
      while (!checkpointer.cleanUp(0)) if (random.chance(0.3)) world.command();
      assertSame(world.reopened(), world.server, `seed ${seed}, round ${round}`);
    }
  }
});

test('a restored engine goes on as the one that was saved, checkpoint after checkpoint', async (t) => {
  for (const seed of seedsOf(t, 15)) {
    const world = new World(seed);
    for (let i = 0; i < 200; i++) world.command();
    world.start();
    while (!world.checkpointer.step(100)) {}
    await world.checkpointer.finish();
    while (!world.checkpointer.cleanUp(100)) {}
    for (let i = 0; i < 20; i++) world.command();
    const twin = world.reopened();
    const session = twin.session();
    // Both do the same from here on; the twin meets cold blocks and pages that are not loaded.
    for (let i = 0; i < 200; i++) {
      world.server.clock.advance(10);
      twin.clock.advance(10);
      const args = randomCommand(world.random, new Map());
      if (args.includes('*')) args[args.indexOf('*')] = `${world.server.clock.now()}-${i}`;
      const expected = world.session.call(...args);
      assert.deepEqual(session.call(...args), expected, `seed ${seed}, ${args.join(' ')}`);
    }
    assertSame(twin, world.server, `seed ${seed}`);
  }
});

test('after a checkpoint nothing of removed keys is left in it', async () => {
  const world = new World(1);
  const { session, checkpointer } = world;
  for (let i = 0; i < 300; i++) world.command();
  world.start();
  while (!checkpointer.step(100)) {}
  await checkpointer.finish();
  while (!checkpointer.cleanUp(100)) {}
  session.call('FLUSHALL');
  session.call('SET', 'only', '1');
  world.start();
  while (!checkpointer.step(100)) {}
  await checkpointer.finish();
  while (!checkpointer.cleanUp(100)) {}
  const kinds = world.store.entries.map(({ key }) => String.fromCharCode(key[0] as number));
  assert.deepEqual(kinds, ['k', 'm']);
});

test('write() takes a whole checkpoint and a second call joins it', async () => {
  const world = new World(2);
  for (let i = 0; i < 100; i++) world.command();
  const { journal } = world.server;
  world.recordsAt.set(journal.appended, journal.records.length);
  const first = world.checkpointer.write();
  assert.equal(world.checkpointer.write(), first);
  await first;
  assert.equal(world.checkpoint.position, journal.appended);
  assert.equal(world.checkpointer.running, false);
  assert.equal(world.checkpointer.completed, 1);
  assertSame(world.reopened(), world.server, 'after write()');
});

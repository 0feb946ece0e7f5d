/** The embedded broker's engine on a disk that fills up: what is refused is taken again later. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EmbeddedBroker } from '../../../src/broker/embedded/embedded-broker.ts';
import { EngineHost } from '../../../src/broker/embedded/engine-host.ts';
import { SharedEngines } from '../../../src/broker/embedded/shared-engines.ts';
import type { Checkpointer } from '../../../src/engine/checkpoint/checkpointer.ts';
import { openDurableEngine } from '../../../src/engine/open-durable-engine.ts';
import { Random } from '../../../src/util/random.ts';
import { VirtualScheduler } from '../../../src/util/time/virtual-scheduler.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../../helpers/memory-checkpoint.ts';
import { SimulatedDisk } from '../../helpers/simulated-disk.ts';

const KIB = 1024;

class World {
  readonly scheduler = new VirtualScheduler(7);
  readonly disk = new SimulatedDisk({ seed: 7, capacity: 96 * KIB });
  readonly checkpoints = new MemoryCheckpointStore();
  checkpointer: Checkpointer | null = null;

  async open(): Promise<EngineHost> {
    const durable = await this.disk.finish(
      openDurableEngine({
        disk: this.disk,
        directory: 'data',
        clock: this.scheduler,
        random: new Random(7),
        openCheckpoint: async () => new MemoryCheckpoint(this.checkpoints),
        pause: () => new Promise((resolve) => this.scheduler.after(0, resolve)),
        firstSegmentBytes: 8 * KIB,
        segmentBytes: 16 * KIB,
        reserveBytes: 8 * KIB,
      }),
    );
    this.checkpointer = durable.checkpointer;
    const engine = new EngineHost(this.scheduler, durable);
    await engine.start();
    return engine;
  }

  /** Lets time pass, and with it everything that the disk has to do. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 50) {
      await this.scheduler.advance(50);
      await this.disk.settle();
    }
  }
}

/** Stores a string of so many bytes; null once it is safe, or why it was refused. */
function store(engine: EngineHost, name: string, bytes: number): Promise<string | null> {
  try {
    engine.change(() => {
      const value = { type: 'string' as const, bytes: Buffer.alloc(bytes, 1) };
      engine.database.set(Buffer.from(name), value, 0);
    });
  } catch (error) {
    return Promise.resolve((error as Error).message);
  }
  return engine.durable().then(() => null);
}

test('writes refused on a full disk are accepted again when there is room, on the next attempt', async () => {
  const world = new World();
  const engine = await world.open();
  let refusal: string | null = null;
  let stored = 0;
  for (; refusal === null && stored < 1000; stored++) {
    const done = store(engine, `${stored}`, 2 * KIB);
    await world.pass(50);
    refusal = await done;
  }
  assert.match(String(refusal), /No space left on device/);
  world.disk.capacity = 1024 * KIB;
  // Only the caller's own attempts drive it from here on.
  let taken = false;
  for (let attempt = 0; attempt < 40 && !taken; attempt++) {
    await world.pass(100);
    const done = store(engine, 'again', 2 * KIB);
    await world.pass(100);
    taken = (await done) === null;
  }
  assert.ok(taken, 'still refused 8 s after there was room');
  const closing = engine.close();
  await world.pass(100);
  await closing;
});

test('a publisher whose record found no room is answered when there is room, though no caller publishes', async () => {
  const world = new World();
  const engine = await world.open();
  // Larger than everything that was asked for: it is accepted and then finds no room.
  const waiting = store(engine, 'large', 128 * KIB);
  await world.pass(3000);
  let answer: string | null | undefined;
  waiting.then((refusal) => {
    answer = refusal;
  });
  await world.pass(100);
  assert.equal(answer, undefined, 'it cannot be on disk');
  world.disk.capacity = 1024 * KIB;
  await world.pass(3000);
  assert.equal(answer, null);
  const closing = engine.close();
  await world.pass(100);
  await closing;
  const again = await world.open();
  assert.equal(again.database.size, 1);
});

test('a checkpoint that cannot be written is reported once in a while, and the log is kept', async () => {
  const world = new World();
  world.disk.capacity = 1024 * KIB;
  const engine = await world.open();
  const told: string[] = [];
  const unlisten = engine.warnings.listen(({ code, message }) => told.push(`${code} ${message}`));
  assert.ok(world.checkpointer !== null);
  for (let i = 0; i < 8; i++) {
    (world.checkpointer.checkpoint as MemoryCheckpoint).failNext(new Error('EIO: the meta page'));
    world.checkpointer.request();
    const done = store(engine, `${i}`, 2 * KIB);
    await world.pass(10_500);
    assert.equal(await done, null);
  }
  assert.match(told[0] ?? '', /^INTERNAL a checkpoint could not be written: EIO.* the log is kept/);
  assert.equal(told.length, 2, 'in 84 s');
  assert.match(told[1] ?? '', /\(and \d times since\)/);
  unlisten();
  const closing = engine.close();
  await world.pass(100);
  await closing;
  assert.equal((await world.open()).database.size, 8);
});

test('an entry that cannot be added, and a damaged topic, are warnings of each broker of the engine', async () => {
  const scheduler = new VirtualScheduler(7);
  await using one = new EmbeddedBroker(['memory:troubles'], { scheduler });
  await using two = new EmbeddedBroker(['memory:troubles'], { scheduler });
  await one.connect();
  await two.connect();
  const told: string[] = [];
  one.on('warning', ({ error }) => told.push(`one ${error.message}`));
  two.on('warning', ({ error }) => told.push(`two ${error.message}`));
  const engine = await SharedEngines.memory('troubles', scheduler, one);
  engine.engine.reportFailure('adding the scheduled entry s1', new Error('no room'));
  assert.deepEqual(told, [
    'one adding the scheduled entry s1 failed: no room. The broker goes on',
    'two adding the scheduled entry s1 failed: no room. The broker goes on',
  ]);
});

/**
 * Each kind of object made, used and destroyed ten times: afterwards memory is where it was.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../../src/engine/engine.ts';
import { NullJournal } from '../../src/storage/log/journal.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';
import { type Argument, InProcessSession, type Value } from '../helpers/in-process-server.ts';

const MB = 1024 * 1024;

class World {
  readonly clock = new ManualClock();
  readonly engine = new Engine({
    clock: this.clock,
    random: new Random(1),
    journal: new NullJournal(),
  });
  readonly session = new InProcessSession({ engine: this.engine }, 2);

  call(...args: Argument[]): Value | undefined {
    return this.session.call(...args);
  }

  pass(ms: number): void {
    this.clock.advance(ms);
    this.engine.tick();
  }

  /** Bytes in use, all garbage collected: other threads free buffers, so it is looked until none is freed. */
  async used(): Promise<number> {
    this.session.reply.release();
    this.pass(100);
    let least = Number.POSITIVE_INFINITY;
    for (let isStable = false; !isStable; ) {
      globalThis.gc?.();
      globalThis.gc?.({ type: 'minor' } as never);
      await new Promise((resolve) => setImmediate(resolve));
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      isStable = heapUsed + arrayBuffers > least - 10_000;
      least = Math.min(least, heapUsed + arrayBuffers);
    }
    return least;
  }
}

function fill(world: World, key: string, megabytes: number): void {
  const value = 'v'.repeat(10_000);
  for (let i = 0; i < megabytes * 100; i++) world.call('XADD', key, '*', 'f', value);
}

function group(world: World, entries: number, ...policy: Argument[]): string[] {
  world.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
  if (policy.length > 0) world.call('XGROUP', 'SETPOLICY', 's', 'g', ...policy);
  const ids: string[] = [];
  for (let i = 0; i < entries; i++) ids.push(world.call('XADD', 's', '*', 'f', 'v') as string);
  world.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
  return ids;
}

const ENDS: Record<string, (world: World) => void> = {
  DEL: (world) => {
    for (const key of world.call('KEYS', '*') as string[]) world.call('DEL', key);
  },
  FLUSHALL: (world) => void world.call('FLUSHALL'),
  expiry: (world) => {
    for (const key of world.call('KEYS', '*') as string[]) world.call('PEXPIRE', key, 10);
    world.pass(20);
  },
};

/** Name, what makes and uses it, and about how many bytes it takes at least. */
const KINDS: [string, number, (world: World) => void][] = [
  ['a string of 4 MB', 3 * MB, (world) => void world.call('SET', 'k', 'x'.repeat(4 * MB))],
  [
    '3,000 keys',
    MB,
    (world) => {
      for (let i = 0; i < 3000; i++) world.call('SET', `k${i}`, 'v', 'PX', 1e9);
    },
  ],
  ['a stream', MB, (world) => fill(world, 's', 2)],
  [
    'a stream with MAXAGE',
    MB,
    (world) => {
      fill(world, 's', 2);
      world.call('XCFGSET', 's', 'MAXAGE', 3_600_000);
    },
  ],
  [
    'a stream with idempotent ids',
    MB,
    (world) => {
      for (let i = 0; i < 300; i++) {
        world.call('XADD', 's', 'IDMP', `p${i % 50}`, `i${i}`, '*', 'f', 'v'.repeat(10_000));
      }
    },
  ],
  [
    '3,000 streams',
    MB,
    (world) => {
      for (let i = 0; i < 3000; i++) world.call('XADD', `s${i}`, '*', 'f', 'v');
    },
  ],
  [
    'a group with pending entries',
    MB,
    (world) => {
      group(world, 20_000);
      world.call('XREADGROUP', 'GROUP', 'g', 'd', 'CLAIM', 0, 'STREAMS', 's', '>');
    },
  ],
  [
    'a group with resting entries',
    MB,
    (world) => {
      const ids = group(world, 20_000, 'ACKWAIT', 1000);
      world.call('XNACK', 's', 'g', 'FAIL', 'IDS', ids.length, ...ids, 'DELAY', 1e6);
    },
  ],
  [
    'a dead letter of 4 MB',
    4 * MB,
    (world) => {
      world.call('XGROUP', 'CREATE', 's', 'g', '$', 'MKSTREAM');
      world.call('XGROUP', 'SETPOLICY', 's', 'g', 'ACKWAIT', 10, 'DEADLETTER', 'dead');
      const id = world.call('XADD', 's', '*', 'f', 'x'.repeat(4 * MB)) as string;
      world.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>');
      world.call('XNACK', 's', 'g', 'DEADLETTER', 'IDS', 1, id);
      assert.equal(world.call('XLEN', 'dead'), 1);
    },
  ],
  [
    'a delayed entry of 4 MB',
    3 * MB,
    (world) => {
      world.call('XADD', 's', 'DELAY', 50, '*', 'f', 'x'.repeat(4 * MB));
      world.pass(60);
      assert.equal(world.call('XLEN', 's'), 1);
      world.call('XRANGE', 's', '-', '+');
      world.call('XREVRANGE', 's', '+', '-');
    },
  ],
  [
    'a blocked reader',
    0,
    (world) => {
      const reader = new InProcessSession({ engine: world.engine }, 2);
      reader.call('XREAD', 'BLOCK', 0, 'STREAMS', 's', '$');
      fill(world, 's', 1);
    },
  ],
  [
    'a copy',
    3 * MB,
    (world) => {
      fill(world, 's', 2);
      world.call('COPY', 's', 't');
      world.call('COPY', 's', 't', 'DB', 1, 'REPLACE');
      world.call('FLUSHALL');
      fill(world, 's', 4);
    },
  ],
];

for (const [name, bytes, make] of KINDS) {
  for (const [way, end] of Object.entries(ENDS)) {
    test(`${name}, made and destroyed ten times by ${way}, leaves nothing`, async () => {
      const world = new World();
      for (let i = 0; i < 2; i++) {
        make(world);
        end(world);
      }
      const before = await world.used();
      make(world);
      const most = (await world.used()) - before;
      // Half of it: what the collector frees meanwhile is subtracted.
      assert.ok(most >= bytes / 2, `it takes ${most} bytes while it is there`);
      end(world);
      // Where no object is large: what is kept grows with each ten, compiled code comes once.
      const left: number[] = [];
      let rounds = 9;
      let start = before;
      do {
        for (; rounds > 0; rounds--) {
          make(world);
          end(world);
        }
        const used = await world.used();
        left.push(used - start);
        start = used;
        rounds = 10;
      } while (bytes === 0 && left.at(-1)! >= Math.max(most * 0.3, 500_000) && left.length < 3);
      assert.ok(
        left.at(-1)! < Math.max(most * 0.3, 500_000),
        `${left.join(', ')} of ${most} bytes are left`,
      );
      assert.equal(world.engine.memory.bytes, 0);
    });
  }
}

/**
 * A whole run of one seed: lives on one disk, each ended by a crash, a failing disk or in order, and
 * after each start the proof that nothing acknowledged is lost and nothing is half there.
 *
 * The model is a list of deeds and an engine in memory that does them: what the directory holds must
 * be what doing a prefix of the list gives, a prefix that ends between two deeds and not before the
 * last acknowledged one. Then the recount (invariants.ts).
 */
import assert from 'node:assert/strict';
import type { Engine } from '../../src/engine/engine.ts';
import { NullJournal } from '../../src/storage/log/journal.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { randomCommand } from '../engine/random-commands.ts';
import { pictureOf, scheduleOf } from '../engine/state-picture.ts';
import { type Argument, InProcessSession } from '../helpers/in-process-server.ts';
import { checkInvariants } from './invariants.ts';
import { type Deed, DIRECTORY, type Life, newEngine, perform, World } from './world.ts';

/** What happened, so that a test can tell that the faults did. */
export interface Events {
  deeds: number;
  /** Power was lost. */
  crashes: number;
  /** The process died and the page cache survived. */
  kills: number;
  /** Starts cut short by a crash. */
  crashedStarts: number;
  /** Lives ended by a write or sync that failed. */
  diskFailures: number;
  /** Deeds not done because the log had no room. */
  refusals: number;
  /** Deeds that were done, not acknowledged, and gone after a crash. */
  lostUnacknowledged: number;
  flips: number;
  /** Flipped bits because of which the start was refused. */
  detectedFlips: number;
  cleanEnds: number;
  /** The clock was set by an hour. */
  clockSteps: number;
  checkpoints: number;
  /** Operations around the data (list, rename, remove, ...) that were made to fail. */
  diskFaults: number;
  /** Commits of a checkpoint that were made to fail. */
  checkpointFailures: number;
}

export function noEvents(): Events {
  return {
    deeds: 0,
    crashes: 0,
    kills: 0,
    crashedStarts: 0,
    diskFailures: 0,
    refusals: 0,
    lostUnacknowledged: 0,
    flips: 0,
    detectedFlips: 0,
    cleanEnds: 0,
    clockSteps: 0,
    checkpoints: 0,
    diskFaults: 0,
    checkpointFailures: 0,
  };
}

/** Runs one seed; rejects with what went wrong. `trace` hears of every step. */
export async function simulate(
  seed: number,
  events: Events,
  trace: (text: string) => void = () => {},
): Promise<void> {
  const run = new Run(seed, events, trace);
  try {
    await run.lives();
  } catch (error) {
    const { stack } = error as Error;
    throw new Error(`seed ${seed} (replay: npm run simulate -- --seed ${seed}): ${stack}`, {
      cause: error,
    });
  }
}

function forgetIdempotentIds(engine: Engine, steady: number): void {
  for (const { keyspace } of engine.databases) {
    for (const { value } of keyspace.table.entries()) {
      if (value.type === 'stream') value.idempotency?.expire(steady);
    }
  }
}

/** What a disk can fail beside writes and syncs of data. */
const AROUND = [
  'truncate',
  'list',
  'open',
  'rename',
  'remove',
  'syncDirectory',
  'freeBytes',
] as const;

class Run {
  readonly #world: World;
  readonly #events: Events;
  readonly #trace: (text: string) => void;
  #deeds: Deed[] = [];
  /** Everything before this position of the log was acknowledged. */
  #acknowledged = 0;
  /** The same, should power be lost before the next process has recovered. */
  #synced = 0;
  /** A bit was flipped before the present life, and its start was not refused. */
  #isFlipped = false;
  /** What the last process knew of the clock's steps, and whether one was lost in a crash. */
  #stepped = 0;
  #isStepLost = false;
  readonly #recent = new Map<string, string[]>();

  constructor(seed: number, events: Events, trace: (text: string) => void) {
    this.#world = new World(seed);
    this.#events = events;
    this.#trace = trace;
  }

  async lives(): Promise<void> {
    const { random } = this.#world;
    for (let lives = 2 + random.below(5); lives > 0; lives--) {
      await this.#world.squeeze(undefined);
      if (random.chance(0.15)) await this.#crashDuringStart();
      const life = await this.#start();
      this.#verify(life);
      await this.#live(life);
      await this.#end(life);
    }
    this.#verify(await this.#start());
  }

  /** Power is lost while the process recovers. */
  async #crashDuringStart(): Promise<void> {
    const { random, disk } = this.#world;
    this.#trace('start, cut short');
    this.#world.start((operation) => operation).catch(() => {});
    for (let steps = random.below(30); steps > 0; steps--) {
      await new Promise(setImmediate);
      disk.step();
    }
    await disk.crash();
    this.#acknowledged = Math.min(this.#acknowledged, this.#synced);
    this.#events.crashedStarts++;
  }

  /** Starts; in some cases after a stored bit has flipped, which must be noticed or not matter. */
  async #start(): Promise<Life> {
    const { random, disk } = this.#world;
    if (!random.chance(0.3)) return this.#world.start();
    const names = (await disk.finish(disk.list(DIRECTORY))).filter((name) =>
      /rlog$|FORMAT/.test(name),
    );
    const path = `${DIRECTORY}/${random.pick(names)}`;
    const size = names.length === 0 ? 0 : disk.contents(path).length;
    if (size === 0) return this.#world.start();
    const [offset, bit] = [random.below(size), random.below(8)];
    disk.flipBit(path, offset, bit);
    this.#isFlipped = true;
    this.#events.flips++;
    this.#trace(`bit ${bit} of byte ${offset} of ${path} flips`);
    try {
      return await this.#world.start();
    } catch (error) {
      assert.ok(error instanceof StorageError, `not a StorageError: ${(error as Error).stack}`);
      this.#trace(`start refused: ${error.message}`);
      this.#events.detectedFlips++;
      // Before power is lost: what is lost may be the very sector.
      disk.flipBit(path, offset, bit);
      await disk.crash();
      this.#acknowledged = Math.min(this.#acknowledged, this.#synced);
      this.#isFlipped = false;
      return this.#world.start();
    }
  }

  /** What was recovered is a prefix of what was done, and no shorter than what was acknowledged. */
  #verify(life: Life): void {
    const { position: recovered, cut } = life.report;
    this.#trace(`recovered to ${recovered}; acknowledged ${this.#acknowledged}`);
    // Without `always`, a frame that nothing proves to have been synced looks torn when it is
    // damaged: it is cut off then, and the report says so.
    const isReported = this.#isFlipped && cut !== null && this.#world.policy !== 'always';
    assert.ok(
      recovered >= this.#acknowledged || isReported,
      `recovered ${recovered}, acknowledged ${this.#acknowledged}`,
    );
    this.#isFlipped = false;
    const kept = this.#deeds.filter(({ position }) => position <= recovered);
    assert.equal(recovered, kept.at(-1)?.position ?? 0, 'the log ends within a deed');
    this.#events.lostUnacknowledged += this.#deeds.length - kept.length;
    this.#deeds = kept;
    this.#acknowledged = this.#synced = recovered;
    const model = this.#doAgain(kept);
    // That ids were forgotten is not recorded: a restart forgets them again, and here is when.
    const { steady, time } = life.engine;
    if (time.stepped !== this.#stepped) this.#isStepLost = true;
    for (const engine of [life.engine, model]) forgetIdempotentIds(engine, steady);
    // Unless the clock was set and the word of it was lost: durations then do not go on exactly.
    const details = { idempotency: this.#isStepLost ? 'none' : 'all' } as const;
    const picture = pictureOf(life.engine, details);
    assert.deepEqual(picture, pictureOf(model, details), 'not what the deeds give');
    assert.deepEqual(scheduleOf(life.engine), scheduleOf(model), 'other entries wait');
    checkInvariants(life.engine);
  }

  /** An engine in memory that has done these deeds. */
  #doAgain(deeds: readonly Deed[]) {
    const { clock } = this.#world;
    const present = clock.now();
    const engine = newEngine(this.#world, new NullJournal());
    const session = new InProcessSession({ engine }, 2);
    for (const { commands, now, stepped } of deeds) {
      clock.setNow(now);
      engine.resumeTime(stepped);
      perform(engine, session, commands);
    }
    clock.setNow(present);
    return engine;
  }

  async #live(life: Life): Promise<void> {
    const { random, disk } = this.#world;
    for (let steps = 20 + random.below(300); steps > 0 && !life.hasFailed; steps--) {
      const choice = random.below(100);
      if (choice < 45) this.#act(life);
      else if (choice < 60) life.log.flush();
      else if (choice < 85) await life.stepDisk();
      else if (choice < 90) this.#passTime(life);
      else if (choice < 98) this.#trace(`checkpoint: ${life.stepCheckpoint()}`);
      else if (random.chance(0.4)) life.evict(random.below(20_000));
      else if (random.chance(0.1)) {
        life.failCheckpoint();
        this.#events.checkpointFailures++;
      } else if (random.chance(0.08))
        disk.failNext(random.pick(['write', 'sync']), random.pick(['EIO', 'ENOSPC']));
      else if (random.chance(0.15)) {
        disk.failNext(random.pick(AROUND), random.pick(['EIO', 'ENOSPC', 'EACCES', 'EMFILE']));
        this.#events.diskFaults++;
      } else if (random.chance(0.2))
        await this.#world.squeeze(random.chance(0.5) ? random.below(20_000) : undefined);
    }
  }

  #act(life: Life): void {
    const { random } = this.#world;
    if (!life.acceptsWrites) {
      this.#events.refusals++;
      return;
    }
    const count = random.chance(0.1) ? 2 + random.below(4) : 1;
    const commands: Argument[][] = [];
    for (let i = 0; i < count; i++) commands.push(this.#command());
    if (count > 1 && random.chance(0.5)) {
      const stream = String(random.pick(commands)[1] ?? 's1');
      const last = this.#recent.get(stream)?.at(-1) ?? '0-0';
      commands.push(['EXEC', 'IFLAST', stream, last]);
    }
    this.#note(life.perform(commands));
    this.#events.deeds++;
  }

  /** Ids are explicit, so that later commands can name entries that are there. */
  #command(): Argument[] {
    const { random, clock } = this.#world;
    const args = randomCommand(random, this.#recent);
    if (this.#isStepLost && args.includes('IDMP')) return ['DBSIZE'];
    const star = args.indexOf('*');
    if (args[0] !== 'XADD' || star !== 2) return args;
    const id = `${clock.now()}-${this.#deeds.length * 8 + random.below(8)}`;
    const ids = this.#recent.get(String(args[1])) ?? [];
    this.#recent.set(String(args[1]), [...ids.slice(-40), id]);
    return args.with(star, id);
  }

  #note(deed: Deed): void {
    const { commands, now, position } = deed;
    const text = commands.map((args) => args.join(' ').slice(0, 200)).join(' ; ');
    this.#trace(`${now} ${text === '' ? 'time passes' : text} -> ${position}`);
    this.#deeds.push(deed);
  }

  #passTime(life: Life): void {
    const { clock, random } = this.#world;
    clock.advance(random.below(random.chance(0.2) ? 5_000 : 200));
    if (random.chance(0.03)) {
      const hours = random.pick([1, -1]);
      this.#trace(`the clock is set by ${hours} h`);
      clock.setNow(clock.now() + hours * 3_600_000);
      this.#events.clockSteps++;
    }
    life.log.tick();
    if (!life.acceptsWrites) return;
    this.#note(life.perform([]));
  }

  async #end(life: Life): Promise<void> {
    const { random, disk } = this.#world;
    const { log } = life;
    this.#stepped = life.engine.time.stepped;
    this.#events.checkpoints += life.checkpoints;
    if (life.hasFailed) this.#events.diskFailures++;
    else if (random.chance(0.2) && life.acceptsWrites) {
      this.#trace('ends in order');
      const { appended } = log;
      try {
        await life.close();
        assert.ok(!life.hasFailed, 'the disk failed meanwhile');
        // What was on disk before the process ended is there after it: power may go now.
        await disk.crash();
        this.#acknowledged = this.#synced = appended;
        this.#events.cleanEnds++;
        return;
      } catch (error) {
        // A full or failing disk may keep it from ending in order; what was acknowledged stands.
        this.#trace(`could not end in order: ${(error as Error).message}`);
      }
    }
    this.#acknowledged = this.#synced = Math.max(this.#acknowledged, log.durable);
    if (!life.hasFailed && random.chance(0.4)) {
      // The process alone dies: its clients have seen replies up to here, synced or not.
      this.#acknowledged = Math.max(this.#acknowledged, log.safe);
      this.#events.kills++;
      this.#trace(`kill; appended ${log.appended}, told up to ${log.safe}`);
      await disk.kill();
      return;
    }
    this.#events.crashes++;
    this.#trace(`crash; appended ${log.appended}, durable ${log.durable}`);
    await disk.crash();
  }
}

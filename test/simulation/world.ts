/**
 * One simulated life after the other of engine, log and checkpoints on one simulated disk.
 *
 * Everything that happens is decided by the seed: which command comes next, which disk operation
 * completes, when a checkpoint takes its next step, where a write fails, the disk fills up, power is
 * lost, a stored bit flips. Nothing else is random, so a seed replays its run to the last step.
 */
import type { Checkpointer } from '../../src/engine/checkpoint/checkpointer.ts';
import { Engine } from '../../src/engine/engine.ts';
import { type DurableEngine, openDurableEngine } from '../../src/engine/open-durable-engine.ts';
import type { Log, SyncPolicy } from '../../src/storage/log/log.ts';
import type { RecoveryReport } from '../../src/storage/log/recovery.ts';
import { sectionLimits } from '../../src/stream/block/block-sections.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';
import { type Argument, InProcessSession } from '../helpers/in-process-server.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';

export const DIRECTORY = 'data';
const CAPACITY = 4 * 2 ** 20;

/** What was done, in order: commands of one unit (a MULTI's together) or, with none, a tick. */
export interface Deed {
  readonly commands: readonly (readonly Argument[])[];
  /** The clock's time at which it was done, and by how much it had been set until then. */
  readonly now: number;
  readonly stepped: number;
  /** The log's position after it. */
  readonly position: number;
}

/** What outlives a crash, and who makes the decisions. */
export class World {
  readonly random: Random;
  readonly disk: SimulatedDisk;
  readonly checkpoints = new MemoryCheckpointStore();
  readonly clock = new ManualClock();
  readonly policy: SyncPolicy;
  readonly nodeMaxEntries: number;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.disk = new SimulatedDisk({ seed: this.random.uint32(), capacity: CAPACITY });
    this.policy = this.random.pick(['always', 'always', 'always', 'everysec', 'no']);
    this.nodeMaxEntries = 1 + this.random.below(20);
    // Few blocks a section, so that small streams have several.
    sectionLimits.blocks = this.random.pick([1, 3, 256]);
  }

  /**
   * Starts a process on the directory; rejects where it refuses to start. `drive` runs an operation
   * of the program to its end; another one than the disk's own can leave it in the middle.
   */
  async start(
    drive: <T>(operation: Promise<T>) => Promise<T> = (operation) => this.disk.finish(operation),
  ): Promise<Life> {
    const durable = await drive(
      openDurableEngine({
        disk: this.disk,
        directory: DIRECTORY,
        clock: this.clock,
        random: new Random(this.random.uint32()),
        engineRandom: new Random(1),
        openCheckpoint: async () =>
          new MemoryCheckpoint(this.checkpoints, { defer: (commit) => this.disk.enqueue(commit) }),
        pause: () => Promise.resolve(),
        configure: (engine) => {
          engine.nodeLimits.maxEntries = this.nodeMaxEntries;
        },
        policy: this.policy,
        firstSegmentBytes: 4 * 1024,
        segmentBytes: 32 * 1024,
        reserveBytes: 8 * 1024,
      }),
    );
    return new Life(this, durable);
  }

  /** Leaves only so much room, or all there was. */
  async squeeze(bytes: number | undefined): Promise<void> {
    this.disk.capacity = CAPACITY;
    if (bytes === undefined) return;
    const free = await this.disk
      .finish(this.disk.freeBytes())
      // A fault that was meant for the program.
      .catch(() => this.disk.finish(this.disk.freeBytes()));
    this.disk.capacity = CAPACITY - free + bytes;
  }
}

export function newEngine(
  world: World,
  journal: ConstructorParameters<typeof Engine>[0]['journal'],
): Engine {
  const engine = new Engine({ clock: world.clock, random: new Random(1), journal });
  engine.nodeLimits.maxEntries = world.nodeMaxEntries;
  return engine;
}

/** One process: from its start to its end. */
export class Life {
  readonly world: World;
  readonly log: Log;
  readonly engine: Engine;
  /** Where the log went on after recovery, and whether something was cut off its end. */
  readonly report: RecoveryReport;
  /** The disk failed: the process has to end. */
  hasFailed = false;
  readonly #session: InProcessSession;
  readonly #durable: DurableEngine;
  readonly #checkpointer: Checkpointer;
  #commit: 'none' | 'capturing' | 'committing' | 'settling' = 'none';

  constructor(world: World, durable: DurableEngine) {
    this.world = world;
    this.#durable = durable;
    this.log = durable.log;
    this.engine = durable.engine;
    this.report = durable.recovery;
    this.#checkpointer = durable.checkpointer;
    this.#session = new InProcessSession({ engine: this.engine }, 2);
    this.log.onFatal = () => {
      this.hasFailed = true;
    };
  }

  /** Whether the log takes records now; a server refuses commands while it does not. */
  get acceptsWrites(): boolean {
    return this.log.refusalFor(4_096) === null && !this.hasFailed;
  }

  /** Checkpoints committed in this life. */
  get checkpoints(): number {
    return this.#checkpointer.completed;
  }

  /** Runs a unit of commands and returns what is to be remembered of it. */
  perform(commands: readonly (readonly Argument[])[]): Deed {
    perform(this.engine, this.#session, commands);
    const { now, stepped } = this.engine.time;
    return { commands, now, stepped, position: this.log.appended };
  }

  /** Drops clean blocks of every stream from memory, oldest first, as a memory budget would. */
  evict(bytes: number): void {
    for (const { keyspace } of this.engine.databases) {
      for (const { value } of keyspace.table.entries()) {
        if (value.type === 'stream') value.stream.evictOldest(bytes);
      }
    }
  }

  /** The next commit of a checkpoint fails and changes nothing. */
  failCheckpoint(): void {
    (this.#checkpointer.checkpoint as MemoryCheckpoint).failNext(new Error('the meta page: EIO'));
  }

  /** Lets one disk operation complete. */
  async stepDisk(): Promise<void> {
    this.world.disk.step();
    await new Promise(setImmediate);
  }

  /** The next piece of a checkpoint; starts one where none is under way. Returns where it stood. */
  stepCheckpoint(): string {
    const stage = this.#commit;
    const checkpointer = this.#checkpointer;
    switch (this.#commit) {
      case 'none':
        checkpointer.start();
        this.#commit = 'capturing';
        break;
      case 'capturing':
        if (checkpointer.step(0)) this.#finish();
        break;
      case 'committing':
        break;
      case 'settling':
        if (checkpointer.cleanUp(0)) this.#commit = 'none';
        break;
    }
    return stage;
  }

  #finish(): void {
    this.#commit = 'committing';
    this.#checkpointer
      .finish()
      .catch((error) => this.#checkpointer.fail(error))
      .finally(() => {
        this.#commit = 'settling';
        // Removing what the checkpoint has made needless may itself be cut short by the next crash.
        this.#durable.trimLog().catch(() => {});
      });
  }

  /** Ends in order; everything is on disk afterwards. */
  async close(): Promise<void> {
    while (this.#commit === 'capturing' || this.#commit === 'settling') this.stepCheckpoint();
    await this.world.disk.settle(() => this.#commit !== 'committing');
    await this.world.disk.finish(this.#durable.close());
  }
}

/** Runs a unit of commands on an engine: this is all that the model and the real one share. */
export function perform(
  engine: Engine,
  session: InProcessSession,
  commands: readonly (readonly Argument[])[],
): void {
  if (commands.length === 0) engine.tick();
  else if (commands.length === 1) session.call(...commands[0]);
  else {
    session.call('MULTI');
    // `EXEC IFLAST ...` may stand at the end in place of the EXEC that is implied.
    const isConditional = commands.at(-1)?.[0] === 'EXEC';
    for (const args of commands) session.call(...args);
    if (!isConditional) session.call('EXEC');
  }
}

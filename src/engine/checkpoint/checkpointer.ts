/**
 * Captures the state of one moment while the engine runs: copy on write, in slices.
 *
 *   start    position P; everything dirty is frozen: one number is raised, sets change hands
 *   step     frozen objects are captured, a few at a time: their bytes go to the checkpoint
 *   finish   the log is made durable up to P, the checkpoint's transaction is committed with P
 *   cleanUp  what was captured and is unchanged becomes clean, a few objects at a time
 *
 * Objects are keys (a string's bytes, a stream's metadata), blocks, groups, pending pages. One that
 * is frozen and about to change is captured first (`touch`, `touchGroup`, and the hooks of streams
 * and pending lists); so the checkpoint gets each object as it was at P, and the log from P on
 * replays over it. A removed object is never changed again, so it may wait for its turn.
 * Invariant: an object's `dirtyEpoch` is the epoch exactly when it is in the set of dirty ones; it is
 * frozen exactly when it is in the set of the current run.
 * Cost: a change pays one compare; its object's first change in an epoch a set's insertion.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { PendingPage } from '../../consumer-groups/pending/pending-page.ts';
import type { Checkpoint } from '../../storage/checkpoint.ts';
import type { Block } from '../../stream/block/block.ts';
import type { KeyEntry } from '../keyspace/key-entry.ts';
import type { Keyspace } from '../keyspace/keyspace.ts';
import type { ScheduledEntry } from '../schedule/scheduled-queue.ts';
import type { StreamValue } from '../streams/stream-value.ts';
import { ChangeSet } from './change-set.ts';
import { CheckpointRun } from './checkpoint-run.ts';
import type { CheckpointSource } from './checkpoint-source.ts';
import { BlockReader, StoredBlocks } from './stored-blocks.ts';
import { StoredPages } from './stored-pages.ts';

export interface CheckpointerOptions {
  readonly checkpoint: Checkpoint;
  /** Resolves when everything recorded so far is on disk, whatever the sync policy: Log.drain. */
  readonly drainLog: () => Promise<void>;
  /** Resolves after others have had their turn on the loop: setImmediate in the server. */
  readonly pause: () => Promise<void>;
  /** Bytes of log after which a checkpoint is due. @default 64 MiB */
  readonly logBytes?: number | undefined;
}

/** Longest slice of work, ms. */
const SLICE_MS = 2;
/** After a checkpoint that failed, the next one is not due before so much time, ms. */
const RETRY_MS = 10_000;
/** A flush of at least this number of keys is removed by a checkpoint, which frees memory and disk. */
const LARGE_FLUSH = 10_000;
const DEFAULT_LOG_BYTES = 64 * 1024 * 1024;

export class Checkpointer {
  readonly checkpoint: Checkpoint;
  readonly blocks: BlockReader;
  /** Bytes of log after which a checkpoint is due. */
  logBytes: number;
  /** Why the last checkpoint failed; null when it did not. */
  failure: Error | null = null;
  /** Checkpoints committed since the start. */
  completed = 0;
  private readonly engine: CheckpointSource;
  private readonly options: CheckpointerOptions;
  private dirty = new ChangeSet();
  private run: CheckpointRun | null = null;
  private writing: Promise<void> | null = null;
  private wanted = false;
  private retryAt = Number.NEGATIVE_INFINITY;

  constructor(engine: CheckpointSource, options: CheckpointerOptions) {
    this.engine = engine;
    this.options = options;
    this.checkpoint = options.checkpoint;
    this.blocks = new BlockReader(options.checkpoint);
    this.logBytes = options.logBytes ?? DEFAULT_LOG_BYTES;
  }

  // ---- The whole of it

  /** True while a checkpoint is taken, committed, or cleaned up after. */
  get running(): boolean {
    return this.run !== null;
  }

  /** Whether `write` should be called: the log has grown, memory is short, much was flushed. */
  get due(): boolean {
    if (this.writing !== null || this.engine.clock.monotonic() < this.retryAt) return false;
    return this.wanted || this.logLength >= this.logBytes;
  }

  /** Bytes of log that a restart would replay. */
  get logLength(): number {
    return this.engine.journal.appended - this.checkpoint.position;
  }

  /** Makes a checkpoint due: memory is short and only a checkpoint can free some. */
  request(): void {
    this.wanted = true;
  }

  /** Takes a checkpoint, in slices; joins the one that is running. Rejects when it fails. */
  write(): Promise<void> {
    this.writing ??= this.writeAll().finally(() => {
      this.writing = null;
    });
    return this.writing;
  }

  private async writeAll(): Promise<void> {
    this.start();
    try {
      while (!this.step(SLICE_MS)) {
        if (this.checkpoint.saturated) await this.checkpoint.drained();
        await this.options.pause();
      }
      await this.finish();
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      while (!this.cleanUp(SLICE_MS)) await this.options.pause();
    }
  }

  // ---- Its parts, for tests and simulation

  /** Freezes what is dirty now: the picture is of this moment. Between two commands only. */
  start(): void {
    if (this.run !== null) throw new Error('a checkpoint is already running');
    this.checkpoint.begin();
    const frozen = this.dirty;
    this.dirty = new ChangeSet();
    this.engine.epoch.current++;
    this.run = new CheckpointRun(
      this.engine,
      this.checkpoint,
      frozen,
      this.engine.journal.appended,
    );
    this.wanted = false;
  }

  /** Captures frozen objects for `budgetMs`, or until the writer is behind; true when all are. */
  step(budgetMs: number): boolean {
    const run = this.currentRun();
    const { clock } = this.engine;
    const end = clock.monotonic() + budgetMs;
    do {
      if (!run.captureNext()) return true;
    } while (!this.checkpoint.saturated && clock.monotonic() < end);
    return false;
  }

  /** After `step` returned true: commits. When it rejects, call `fail`. */
  async finish(): Promise<void> {
    const run = this.currentRun();
    await this.options.drainLog();
    run.captureMeta();
    run.open = false;
    await this.checkpoint.commit(run.position);
    run.committed = true;
    this.blocks.forgetAll();
    this.completed++;
    this.failure = null;
  }

  /** Aborts the current checkpoint; `cleanUp` then makes dirty again what it had captured. */
  fail(error: unknown): void {
    const run = this.currentRun();
    if (run.open) {
      run.open = false;
      this.checkpoint.abort();
    }
    this.failure = error instanceof Error ? error : new Error(String(error));
    this.retryAt = this.engine.clock.monotonic() + RETRY_MS;
    this.dirty.addRemovals(run.changes);
    for (const name of run.removedPages) this.dirty.removedPages.push(name);
  }

  /** After `finish` or `fail`, for `budgetMs`; true when done: the next checkpoint may start. */
  cleanUp(budgetMs: number): boolean {
    const run = this.currentRun();
    const { clock } = this.engine;
    const end = clock.monotonic() + budgetMs;
    const work = run.committed ? this.cleanNext : this.redirtyNext;
    while (work.call(this, run)) if (clock.monotonic() >= end) return false;
    this.run = null;
    return true;
  }

  // ---- Notifications by the engine

  /** Before a change of the key or its stream. */
  touch(entry: KeyEntry): void {
    if (this.run?.changes.entries.has(entry)) this.run.captureEntry(entry);
    entry.dirtyEpoch = this.engine.epoch.current;
    this.dirty.entries.add(entry);
    const { value } = entry;
    // A closed stream (damaged-streams.ts) may be renamed, moved and given an expiry all the same.
    if (value.type === 'stream' && value.damage === null) this.attachStream(entry, value);
  }

  /** Before a change of a group of the entry's stream; before it is destroyed, too. */
  touchGroup(entry: KeyEntry, group: ConsumerGroup): void {
    if (group.dirtyEpoch === -1) this.attachGroup(entry, group);
    if (this.run?.changes.groups.has(group)) this.run.captureGroup(group, entry);
    group.dirtyEpoch = this.engine.epoch.current;
    this.dirty.groups.set(group, entry);
  }

  /** The group was taken from its stream. */
  removeGroup(entry: KeyEntry, group: ConsumerGroup): void {
    this.dirty.groups.delete(group);
    // Frozen, it will be captured all the same: the log from there on expects it.
    if (group.uid === 0 && this.run?.changes.groups.has(group)) group.uid = this.engine.nextUid();
    if (group.uid === 0) return;
    this.dirty.removedGroups.push({ streamUid: entry.uid, groupUid: group.uid });
  }

  /** The key was removed. */
  remove(entry: KeyEntry): void {
    const { dirty, run } = this;
    dirty.entries.delete(entry);
    const { value } = entry;
    if (value.type === 'stream') {
      for (const group of value.groups.values()) dirty.groups.delete(group);
    }
    if (run?.changes.entries.has(entry)) run.uidOf(entry);
    if (entry.uid === 0) return;
    if (value.type === 'stream') dirty.removedStreams.push(entry.uid);
    else dirty.removedStrings.push(entry.uid);
  }

  addScheduled(scheduled: ScheduledEntry): void {
    this.dirty.scheduled.add(scheduled);
  }

  removeScheduled(scheduled: ScheduledEntry): void {
    // Unknown to checkpoints: then it need not be removed from one.
    if (this.dirty.scheduled.delete(scheduled)) return;
    this.dirty.removedScheduled.push(scheduled.number);
  }

  /**
   * The keyspace was flushed. A small one is removed key by key, and nothing refers to it any longer;
   * a large one stays in memory until the next checkpoint, which is due now.
   */
  keyspaceFlushed(keyspace: Keyspace): void {
    const { table, schedule } = keyspace;
    if (table.size + schedule.size < LARGE_FLUSH) {
      for (const entry of table.entries()) {
        this.remove(entry);
        entry.removed = true;
      }
      for (const scheduled of [...schedule.entries()]) {
        schedule.remove(scheduled);
        this.removeScheduled(scheduled);
      }
      return;
    }
    keyspace.flushedEpoch = this.engine.epoch.current;
    this.dirty.flushed.push(keyspace);
    this.wanted = true;
  }

  // ---- Hooks

  /** Lets a restored or a touched stream reach its frozen and its cold blocks. */
  attachStream(entry: KeyEntry, value: StreamValue): void {
    const { stream } = value;
    if (stream.onFrozenBlockChange !== null) return;
    stream.onFrozenBlockChange = (block: Block) => {
      if (this.run === null) stream.captured(block);
      else this.run.captureBlock(entry.uid, value, block);
    };
  }

  /** Lets a group load pages and hand over frozen ones; before its first change. */
  attachGroup(entry: KeyEntry, group: ConsumerGroup): void {
    group.pending.attach(new StoredPages(this, entry, group));
  }

  capturePage(entry: KeyEntry, group: ConsumerGroup, page: PendingPage): void {
    this.run?.capturePage(entry, group, page);
  }

  // ---- After the end

  private cleanNext(run: CheckpointRun): boolean {
    if (run.settled === run.captured.length) return false;
    const entry = run.captured[run.settled++];
    if (entry.value.type !== 'stream') return true;
    const { stream } = entry.value;
    stream.committed();
    if (!entry.value.coldAttached) {
      entry.value.coldAttached = true;
      stream.attachColdBlocks(new StoredBlocks(this.blocks, entry.uid));
    }
    return true;
  }

  private redirtyNext(run: CheckpointRun): boolean {
    const { changes, captured, capturedGroups } = run;
    if (run.settled < captured.length) {
      const entry = captured[run.settled++];
      if (entry.value.type === 'stream') entry.value.stream.aborted();
      this.redirty(entry);
      return true;
    }
    const at = run.settled - captured.length;
    if (at < capturedGroups.length) {
      run.settled++;
      this.redirtyGroup(capturedGroups[at].group, capturedGroups[at].entry);
      return true;
    }
    for (const entry of changes.entries) {
      changes.entries.delete(entry);
      this.redirty(entry);
      return true;
    }
    for (const [group, entry] of changes.groups) {
      changes.groups.delete(group);
      this.redirtyGroup(group, entry);
      return true;
    }
    for (const scheduled of changes.scheduled) {
      changes.scheduled.delete(scheduled);
      if (scheduled.waiting) this.dirty.scheduled.add(scheduled);
      return true;
    }
    return false;
  }

  private redirty(entry: KeyEntry): void {
    if (entry.removed || entry.space.flushedEpoch !== -1) return;
    entry.dirtyEpoch = this.engine.epoch.current;
    this.dirty.entries.add(entry);
  }

  private redirtyGroup(group: ConsumerGroup, entry: KeyEntry): void {
    if (entry.removed || entry.space.flushedEpoch !== -1) return;
    const value = entry.value as StreamValue;
    if (value.groups.get(group.name.toString('latin1')) !== group) return;
    group.dirtyEpoch = this.engine.epoch.current;
    this.dirty.groups.set(group, entry);
    group.pending.markAllDirty();
  }

  private currentRun(): CheckpointRun {
    if (this.run === null) throw new Error('no checkpoint is running');
    return this.run;
  }
}

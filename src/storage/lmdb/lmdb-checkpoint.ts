/**
 * The checkpoint in LMDB: read here, written by a separate thread.
 *
 *   put/remove ──> slice of 1 MiB ──handed over──> lmdb-worker: one write transaction
 *   get/seek   <── this thread's read transaction (a snapshot, renewed every turn and commit)
 *
 * Invariants: reading never waits for writing (LMDB keeps versions of pages); what `commit` has
 * resolved for is on disk; a failed transaction leaves the last one. At most SATURATED bytes of
 * changes wait for the worker before `saturated` asks the caller to stop; their buffers come back and
 * are used again.
 * Cost: put is one copy; get about 7 us, seek about 14 us. LMDB maps its file: pages that have been
 * read count as resident memory of the process although the kernel takes them back at will, so RSS
 * overstates by up to the file's size; `sizeBytes` says how much that can be.
 */
import * as fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { Checkpoint, CheckpointEntry, ScanVisitor } from '../checkpoint.ts';
import { CHECKSUM_BYTES, ChangeWriter } from '../checkpoint-changes.ts';
import { StorageError } from '../storage-error.ts';
import {
  checkEnvironmentFile,
  checkedValue,
  checkValue,
  damagedCheckpoint,
  type Environment,
  isSound,
  openEnvironment,
  readPosition,
  SIGNAL,
} from './lmdb-format.ts';
import type { Answer, Order, WorkerData } from './lmdb-worker.ts';
import { ValueSlab } from './value-slab.ts';

type RangeOptions = NonNullable<Parameters<Environment['getRange']>[0]>;

const SLICE = 1024 * 1024;
/** A slice is handed over when it has at least SLICE bytes, which it reaches by a whole change. */
const SLICE_BUFFER = SLICE + SLICE / 8;
/** Buffers kept for the next slices; the others go. */
const SPARE_BUFFERS = 2;
const SATURATED = 16 * SLICE;
/** How long the end of the process waits for a transaction that is being committed. */
const ENDS_WITHIN_MS = 30_000;
/** A commit that failed with so little room left failed for want of it. */
const FULL_BELOW = 16 * SLICE;
const FIRST_USER_KEY = Buffer.from([1]);

export class LmdbCheckpoint implements Checkpoint {
  position: number;
  readonly #directory: string;
  /** null: it could not be opened again after a commit that failed. Who needs it next tries again. */
  #environment: Environment | null;
  readonly #slab: ValueSlab;
  #changes: ChangeWriter | null = null;
  #writer: Writer | null = null;
  #sizeBytes = 0;

  /**
   * Opens the environment in `directory` (created where it is missing). Rejects with StorageError:
   * CHECKPOINT_DAMAGED, NEWER_FORMAT.
   */
  static async open(directory: string): Promise<LmdbCheckpoint> {
    checkEnvironmentFile(directory);
    const slab = new ValueSlab();
    let environment: Environment;
    try {
      environment = openEnvironment(directory, slab);
    } catch (error) {
      throw damagedCheckpoint(directory, (error as Error).message, error);
    }
    try {
      return new LmdbCheckpoint(directory, environment, slab);
    } catch (error) {
      await environment.close();
      throw error;
    }
  }

  private constructor(directory: string, environment: Environment, slab: ValueSlab) {
    this.#slab = slab;
    this.#directory = directory;
    this.#environment = environment;
    this.position = readPosition(environment, directory);
    this.#measure();
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  // Writing.

  begin(): void {
    if (this.#changes !== null) throw new Error('a checkpoint transaction is open already');
    if (this.#writer === null || this.#writer.hasFailed) this.#writer = new Writer(this.#directory);
    this.#writer.begin();
    this.#changes = new ChangeWriter(SLICE, this.#writer.spares.pop());
  }

  put(key: Uint8Array, value: Uint8Array, rest?: Uint8Array): void {
    if (key[0] === 0 || key.length === 0 || key.length > 1000) throw new RangeError('not a key');
    this.#open().put(key, value, rest);
    this.#handOver(SLICE);
  }

  remove(key: Uint8Array): void {
    this.#open().remove(key);
    this.#handOver(SLICE);
  }

  removeRange(from: Uint8Array, to: Uint8Array): void {
    this.#open().removeRange(from[0] >= 1 ? from : FIRST_USER_KEY, to);
    this.#handOver(SLICE);
  }

  get saturated(): boolean {
    return this.#writer !== null && this.#writer.outstanding > SATURATED;
  }

  drained(): Promise<void> {
    return this.#writer?.drained() ?? Promise.resolve();
  }

  async commit(position: number): Promise<void> {
    this.#open();
    this.#handOver(1);
    this.#changes = null;
    try {
      await this.#writer!.commit(position);
    } catch (error) {
      this.#reopen();
      throw new StorageError(
        'CHECKPOINT_FAILED',
        `The checkpoint could not be written: ${this.#reason(error)}. The log is kept and the next ` +
          'checkpoint will try again.',
        { file: this.#directory, cause: error },
      );
    }
    // The snapshot that this thread reads from may be older than the commit.
    this.#environment?.resetReadTxn();
    this.position = position;
    this.#measure();
  }

  /**
   * After a failure, for which the writer has closed its environment: LMDB may refuse to go on with
   * the present one, and what the disk has now is found out by looking.
   */
  #reopen(): void {
    this.#environment?.close();
    this.#environment = null;
    try {
      this.#opened();
    } catch {
      // The commit's own error is the one to tell.
    }
  }

  /** The environment, opened again where it had to be closed. */
  #opened(): Environment {
    if (this.#environment !== null) return this.#environment;
    let environment: Environment;
    try {
      environment = openEnvironment(this.#directory, this.#slab);
    } catch (error) {
      throw new StorageError(
        'CHECKPOINT_FAILED',
        `The checkpoint in ${this.#directory} cannot be opened again: ${(error as Error).message}. ` +
          'The next command that needs it tries again.',
        { file: this.#directory, cause: error },
      );
    }
    this.#environment = environment;
    this.position = readPosition(environment, this.#directory);
    return environment;
  }

  // LMDB takes a write cut short by a full disk for an I/O error.
  #reason(error: unknown): string {
    try {
      const { bavail, bsize } = fs.statfsSync(this.#directory);
      if (bavail * bsize < FULL_BELOW) return 'No space left on device';
    } catch {}
    return (error as Error).message;
  }

  abort(): void {
    if (this.#changes === null) return;
    this.#changes = null;
    this.#writer!.abort();
  }

  #open(): ChangeWriter {
    if (this.#changes === null) throw new Error('no checkpoint transaction is open');
    return this.#changes;
  }

  #handOver(least: number): void {
    const changes = this.#changes!;
    if (changes.length < least) return;
    this.#writer!.send(changes.take());
    this.#changes = new ChangeWriter(SLICE_BUFFER, this.#writer!.spares.pop());
  }

  // Reading.

  get(key: Uint8Array): Buffer | undefined {
    const environment = this.#opened();
    let slot: Buffer | undefined;
    try {
      slot = environment.getBinary(key as Buffer);
    } catch (error) {
      throw damagedCheckpoint(this.#directory, (error as Error).message, error);
    }
    return slot === undefined ? undefined : checkedValue(key, asBuffer(slot), this.#directory);
  }

  seekForward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    return this.#first({ start: userKey(key) as Buffer, end: limit as Buffer, limit: 1 });
  }

  seekBackward(key: Uint8Array, limit: Uint8Array): CheckpointEntry | undefined {
    return this.#first({
      start: key as Buffer,
      end: userKey(limit) as Buffer,
      reverse: true,
      inclusiveEnd: true,
      limit: 1,
    });
  }

  *entries(from: Uint8Array, to: Uint8Array): Iterable<CheckpointEntry> {
    yield* this.#range({ start: userKey(from) as Buffer, end: to as Buffer });
  }

  keys(from: Uint8Array, to: Uint8Array, visit: (key: Buffer) => void): void {
    const range = { start: userKey(from) as Buffer, end: to as Buffer };
    const iterator = this.#opened().getKeys(range)[Symbol.iterator]();
    try {
      for (;;) {
        const key = step(iterator, this.#directory);
        if (key === undefined) return;
        visit(asBuffer(key));
      }
    } finally {
      iterator.return?.();
    }
  }

  scan(from: Uint8Array, to: Uint8Array, visit: ScanVisitor): void {
    const slab = this.#slab;
    const range = { start: userKey(from) as Buffer, end: to as Buffer };
    const iterator = this.#opened().getRange(range)[Symbol.iterator]();
    try {
      for (;;) {
        slab.packing = true;
        const next = step(iterator, this.#directory);
        slab.packing = false;
        if (next === undefined) return;
        const { buffer, at, end } = slab;
        const key = asBuffer(next.key);
        checkValue(key, buffer, at, end, this.#directory);
        visit(key, buffer, at, end - CHECKSUM_BYTES);
      }
    } finally {
      slab.packing = false;
      iterator.return?.();
    }
  }

  #first(range: RangeOptions): CheckpointEntry | undefined {
    for (const entry of this.#range(range)) return entry;
    return undefined;
  }

  /**
   * Reads every value, for `micro repair`: how many there are and the keys of those whose checksum is
   * wrong. Throws CHECKPOINT_DAMAGED where LMDB cannot walk its tree.
   */
  verify(): { values: number; damaged: Buffer[] } {
    const damaged: Buffer[] = [];
    let values = 0;
    const range = { start: FIRST_USER_KEY };
    const iterator = this.#opened().getRange(range)[Symbol.iterator]();
    for (;;) {
      const next = step(iterator, this.#directory);
      if (next === undefined) return { values, damaged };
      values++;
      const key = asBuffer(next.key);
      if (!isSound(key, asBuffer(next.value))) damaged.push(Buffer.from(key));
    }
  }

  *#range(range: RangeOptions): Iterable<CheckpointEntry> {
    const iterator = this.#opened().getRange(range)[Symbol.iterator]();
    try {
      for (;;) {
        const next = step(iterator, this.#directory);
        if (next === undefined) return;
        const key = asBuffer(next.key);
        yield { key, value: checkedValue(key, asBuffer(next.value), this.#directory) };
      }
    } finally {
      iterator.return?.();
    }
  }

  async close(): Promise<void> {
    this.abort();
    await this.#writer?.close();
    this.#writer = null;
    await this.#environment?.close();
  }

  #measure(): void {
    try {
      this.#sizeBytes = fs.statSync(`${this.#directory}/data.mdb`).size;
    } catch {}
  }
}

/** The worker seen from here: what was handed over, what it has consumed, how the last commit went. */
class Writer {
  outstanding = 0;
  /** Buffers of slices that were written. */
  readonly spares: Buffer[] = [];
  readonly #worker: Worker;
  readonly #signal = new Int32Array(new SharedArrayBuffer(SIGNAL.places * 4));
  #failure: Error | null = null;
  #started = false;
  /** A caller waits for the thread: between `begin` and `commit` or `abort`, and from `close` on. */
  #isNeeded = false;
  #ended = false;
  /** It could not commit: it has closed the environment and ends. */
  #broken = false;
  /** Transactions whose end the worker has not answered yet, oldest first. */
  readonly #ends: { resolve(): void; reject(error: Error): void }[] = [];
  #waiting: (() => void)[] = [];

  constructor(directory: string) {
    const workerData: WorkerData = { directory, signal: this.#signal };
    this.#worker = new Worker(new URL('./lmdb-worker.js', import.meta.url), {
      workerData,
      name: 'checkpoint',
      execArgv: [],
    });
    this.#worker.unref();
    this.#worker.on('message', (answer: Answer) => this.#answered(answer));
    this.#worker.on('error', (error) => this.#fail(error as Error));
    whenProcessEnds(this);
    this.#worker.on('exit', () => {
      this.#ended = true;
      forgetWriter(this);
      this.#fail(new Error('the checkpoint thread has ended'));
    });
  }

  /** The thread is gone or about to go (it failed to commit, say) and a new one is needed. */
  get hasFailed(): boolean {
    return this.#ended || this.#broken;
  }

  begin(): void {
    this.#failure = null;
    this.#started = false;
    this.#isNeeded = true;
    this.#worker.ref();
  }

  send(bytes: Buffer): void {
    if (this.#failure !== null) return;
    this.#started = true;
    this.outstanding += bytes.length;
    this.#post({ kind: 'slice', bytes }, [bytes.buffer as ArrayBuffer]);
  }

  commit(position: number): Promise<void> {
    this.#isNeeded = false;
    if (this.#ended) return Promise.reject(this.#failure ?? new Error('the thread has ended'));
    return this.#end({ kind: 'commit', position });
  }

  abort(): void {
    this.#isNeeded = false;
    if (!this.#ended && this.#started) this.#end({ kind: 'abort' }).catch(() => {});
    else this.#rest();
  }

  /** The process may end: LMDB's clean-up of a transaction that is open would never come back. */
  endTransaction(): void {
    Atomics.store(this.#signal, SIGNAL.ending, 1);
    Atomics.add(this.#signal, SIGNAL.messages, 1);
    Atomics.notify(this.#signal, SIGNAL.messages);
    Atomics.wait(this.#signal, SIGNAL.inTransaction, 1, ENDS_WITHIN_MS);
  }

  /** The thread keeps the process alive only while there is something to do. */
  #rest(): void {
    if (!this.#isNeeded && this.#ends.length === 0) this.#worker.unref();
  }

  drained(): Promise<void> {
    if (this.outstanding <= SATURATED / 2) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    this.#isNeeded = true;
    this.#worker.ref();
    const exited = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    this.#post({ kind: 'close' });
    await exited;
  }

  #end(order: Order): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#ends.push({ resolve, reject });
      this.#post(order);
    });
  }

  #post(order: Order, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(order, transfer);
    Atomics.add(this.#signal, SIGNAL.messages, 1);
    Atomics.notify(this.#signal, SIGNAL.messages);
  }

  #answered(answer: Answer): void {
    if (answer.kind === 'consumed') {
      this.outstanding -= answer.bytes.length;
      this.#spare(answer.bytes);
      if (this.outstanding <= SATURATED / 2) this.#wake();
      return;
    }
    const end = this.#ends.shift();
    this.#rest();
    if (answer.kind === 'failed') this.#broken = true;
    if (answer.kind === 'failed') end?.reject(workerError(answer.message, answer.code));
    else end?.resolve();
  }

  #spare({ buffer }: Uint8Array): void {
    const isUsual = buffer.byteLength === SLICE_BUFFER;
    if (isUsual && this.spares.length < SPARE_BUFFERS) this.spares.push(Buffer.from(buffer));
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.outstanding = 0;
    for (const end of this.#ends.splice(0)) end.reject(error);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Those whose thread lives. */
const writers = new Set<Writer>();

function whenProcessEnds(writer: Writer): void {
  if (writers.size === 0) process.on('exit', endTransactions);
  writers.add(writer);
}

function forgetWriter(writer: Writer): void {
  writers.delete(writer);
  if (writers.size === 0) process.off('exit', endTransactions);
}

function endTransactions(): void {
  for (const writer of writers) writer.endTransaction();
}

/** LMDB's own complaints about a damaged tree, in our words. */
function step<T>(iterator: Iterator<T>, directory: string): T | undefined {
  try {
    const { done, value } = iterator.next();
    return done === true ? undefined : value;
  } catch (error) {
    throw damagedCheckpoint(directory, (error as Error).message, error);
  }
}

function userKey(key: Uint8Array): Uint8Array {
  return key[0] >= 1 ? key : FIRST_USER_KEY;
}

/** LMDB hands out copies; some of them are plain Uint8Arrays. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function workerError(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

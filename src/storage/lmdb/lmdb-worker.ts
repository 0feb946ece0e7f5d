/**
 * The thread that writes checkpoints into LMDB.
 *
 * One transaction of the checkpoint is one write transaction of LMDB, open from the first slice to
 * the commit: the thread sleeps inside it until the next slice comes. So slices need not be kept,
 * the main thread never waits for a page to be written, and a crash between slices leaves the last
 * commit.
 * Slices go back to the main thread once they are written: kept here they would be garbage of a thread
 * that rarely collects any, tens of megabytes that no setting bounds.
 * LMDB reads nothing that was not checked: of a value that goes, the header (large-values.ts).
 * A process ends while no transaction is open: LMDB's own clean-up would wait for its lock for ever.
 * Invariant: after a failure everything up to that transaction's commit or abort is passed over, the
 * environment is closed and the thread ends: once LMDB could not write its meta page it refuses every
 * later transaction, until all users of the environment in this process have closed it.
 */
import {
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  workerData,
} from 'node:worker_threads';
import { ABORT } from 'lmdb';
import { applyChanges, type ChangeTarget } from '../checkpoint-changes.ts';
import {
  CHECKPOINT_FORMAT,
  extendEnvironmentFile,
  FORMAT_KEY,
  openEnvironment,
  openLargeValues,
  POSITION_KEY,
  SIGNAL,
  sealedValue,
  sealValue,
} from './lmdb-format.ts';

export interface WorkerData {
  readonly directory: string;
  /** What both threads see, each at its place of SIGNAL. */
  readonly signal: Int32Array;
}

export type Order =
  | { readonly kind: 'slice'; readonly bytes: Uint8Array }
  | { readonly kind: 'commit'; readonly position: number }
  | { readonly kind: 'abort' }
  | { readonly kind: 'close' };

export type Answer =
  | { readonly kind: 'consumed'; readonly bytes: Uint8Array }
  | { readonly kind: 'committed' }
  | { readonly kind: 'aborted' }
  | { readonly kind: 'failed'; readonly message: string; readonly code: string };

const port = parentPort as MessagePort;
const { directory, signal } = workerData as WorkerData;
const environment = openEnvironment(directory);
const largeValues = openLargeValues(directory);

/** Keys of a range that are in memory at a time. */
const REMOVED_AT_ONCE = 1000;

const target: ChangeTarget = {
  put(key, slot) {
    sealValue(key, slot);
    largeValues.ensure(key);
    environment.putSync(key, slot);
  },
  remove(key) {
    largeValues.ensure(key);
    environment.removeSync(key);
  },
  removeRange(from, to) {
    // A batch at a time: a stream's range may hold millions of keys.
    for (;;) {
      const range = { start: from, end: to, limit: REMOVED_AT_ONCE };
      const keys = [...environment.getKeys(range)];
      for (const key of keys) target.remove(key);
      if (keys.length < REMOVED_AT_ONCE) return;
    }
  },
};

let hasFailed = false;

port.on('message', (order: Order) => {
  if (order.kind === 'close') {
    close().then(() => port.close());
    return;
  }
  if (order.kind === 'abort') {
    answer({ kind: 'aborted' });
    return;
  }
  let last: Order = order;
  Atomics.store(signal, SIGNAL.inTransaction, 1);
  try {
    if (Atomics.load(signal, SIGNAL.ending) === 1) return;
    environment.transactionSync(() => {
      largeValues.begin();
      for (; last.kind === 'slice'; last = nextOrder()) apply(last.bytes);
      if (last.kind !== 'commit') return ABORT;
      environment.putSync(FORMAT_KEY, sealedValue(FORMAT_KEY, u32(CHECKPOINT_FORMAT)));
      environment.putSync(POSITION_KEY, sealedValue(POSITION_KEY, f64(last.position)));
      return undefined;
    });
    if (last.kind === 'commit') extendEnvironmentFile(directory);
    answer({ kind: last.kind === 'commit' ? 'committed' : 'aborted' });
  } catch (error) {
    while (last.kind === 'slice') {
      giveBack(last.bytes);
      last = nextOrder();
    }
    const { message, code } = error as { message?: string; code?: unknown };
    hasFailed = true;
    close();
    answer({ kind: 'failed', message: String(message ?? error), code: String(code ?? '') });
  } finally {
    Atomics.store(signal, SIGNAL.inTransaction, 0);
    Atomics.notify(signal, SIGNAL.inTransaction);
  }
  if (last.kind === 'close') close().then(() => port.close());
  else if (hasFailed) port.close();
});

function close(): Promise<void> {
  largeValues.close();
  return environment.close();
}

function apply(bytes: Uint8Array): void {
  applyChanges(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), target);
  giveBack(bytes);
}

function giveBack(bytes: Uint8Array): void {
  const answer: Answer = { kind: 'consumed', bytes };
  port.postMessage(answer, [bytes.buffer as ArrayBuffer]);
}

/** Sleeps until the main thread has sent something. */
function nextOrder(): Order {
  for (;;) {
    const seen = Atomics.load(signal, SIGNAL.messages);
    if (Atomics.load(signal, SIGNAL.ending) === 1) return { kind: 'abort' };
    const received = receiveMessageOnPort(port) as { message: Order } | undefined;
    if (received !== undefined) return received.message;
    Atomics.wait(signal, SIGNAL.messages, seen);
  }
}

function answer(message: Answer): void {
  port.postMessage(message);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function f64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

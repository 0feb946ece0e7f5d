/**
 * Signals of one turn to one instance share a commit.
 *
 * Limits: 500 signals and 4 MiB a commit, or one signal that is larger.
 */
import type { JournalStore } from '../broker/journal.ts';
import type { SignalRecord } from './journal/records.ts';

interface Batch {
  readonly records: SignalRecord[];
  bytes: number;
  done: Promise<void>;
}

const batches = new WeakMap<JournalStore, Map<string, Batch>>();
const MOST_AT_ONCE = 500;
const MOST_BYTES = 4 * 1024 * 1024;

/** Resolves when the commit that has `record` is stored. */
export function batched(
  store: JournalStore,
  key: string,
  record: SignalRecord,
  bytes: number,
  send: (records: readonly SignalRecord[]) => Promise<void>,
): Promise<void> {
  const ofStore = batches.get(store) ?? new Map<string, Batch>();
  batches.set(store, ofStore);
  const present = ofStore.get(key);
  const hasRoom =
    present !== undefined &&
    present.records.length < MOST_AT_ONCE &&
    present.bytes + bytes <= MOST_BYTES;
  if (hasRoom) {
    present.records.push(record);
    present.bytes += bytes;
    return present.done;
  }
  const before = present?.done.catch(() => {});
  const batch: Batch = { records: [record], bytes, done: Promise.resolve() };
  ofStore.set(key, batch);
  batch.done = (before ?? Promise.resolve()).then(() => {
    if (ofStore.get(key) === batch) ofStore.delete(key);
    return send(batch.records);
  });
  return batch.done;
}

/**
 * The checkpoint of a directory that has none: nothing is stored in it, and it takes no transaction.
 * `micro repair` replays a log on it.
 */
import type { Checkpoint, CheckpointEntry } from './checkpoint.ts';

export class EmptyCheckpoint implements Checkpoint {
  readonly position = 0;
  readonly saturated = false;
  readonly sizeBytes = 0;

  begin(): void {
    throw readOnly();
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  put(): void {
    throw readOnly();
  }

  remove(): void {
    throw readOnly();
  }

  removeRange(): void {
    throw readOnly();
  }

  commit(): Promise<void> {
    return Promise.reject(readOnly());
  }

  abort(): void {}

  get(): undefined {
    return undefined;
  }

  seekForward(): undefined {
    return undefined;
  }

  seekBackward(): undefined {
    return undefined;
  }

  entries(): Iterable<CheckpointEntry> {
    return [];
  }

  keys(): void {}

  scan(): void {}

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function readOnly(): Error {
  return new Error('an empty checkpoint takes no changes');
}

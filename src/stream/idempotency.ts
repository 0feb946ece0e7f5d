/**
 * The idempotent producers of one stream (XADD IDMP / IDMPAUTO): which (producer, iid) became which id.
 *
 * Per producer, in order of insertion, at most `maxsize` iids no older than `duration`: size wins
 * over time. Age is told by the millisecond part of the entry's id, so it depends on no clock.
 * Producer and idempotent ids are given as latin1 text (one character per byte).
 */
import type { StreamId } from './stream-id.ts';

export declare class Idempotency {
  /** Seconds. */
  readonly duration: number;
  /** Entries per producer. */
  readonly maxsize: number;
  constructor(duration: number, maxsize: number);
  /** pids-tracked. */
  get pidsTracked(): number;
  /** iids-tracked. */
  get iidsTracked(): number;
  /** iids-added. */
  readonly iidsAdded: number;
  /** iids-duplicates. */
  readonly iidsDuplicates: number;
  /** The id that this iid became, into `into`; false when it is not known. Changes nothing. */
  find(pid: string, iid: string, into: StreamId): boolean;
  /** Counts a duplicate that was answered with the first entry's id. */
  countDuplicate(): void;
  /** Records that (pid, iid) became `id`; the producer's oldest iid goes when it is full. */
  record(pid: string, iid: string, id: StreamId): void;
  /** Forgets what is older than `duration` at `now` (unix ms). */
  expire(now: number): void;
  /** Unix ms at which the next iid expires; Infinity when there is none. */
  nextExpiry(): number;
  /** XCFGSET: a changed value clears everything tracked; true when it changed. */
  configure(duration: number, maxsize: number): boolean;
  copy(): Idempotency;
  export(): Buffer;
  static import(bytes: Buffer): Idempotency;
}

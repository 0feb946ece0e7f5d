/**
 * Reading the log back.
 */
import type { Disk } from './disk.ts';
import type { OldSegment } from './segment-supply.ts';
import type { RecordVisitor } from './store.ts';

export interface RecoveryReport {
  /** The log's end: the position after the last whole record. */
  readonly position: number;
  readonly frames: number;
  readonly records: number;
  /** Record bytes visited. */
  readonly bytes: number;
  /** The segments that are there, oldest first. */
  readonly segments: readonly OldSegment[];
  /** A write that a crash tore: nothing in it had been acknowledged. */
  readonly cut: { readonly file: string; readonly offset: number; readonly bytes: number } | null;
  /** Whether the log was closed in order. */
  readonly clean: boolean;
  /** Things an operator should know, as sentences. */
  readonly warnings: readonly string[];
}

export declare function recoverLog(options: {
  disk: Disk;
  directory: string;
  from: number;
  visit: RecordVisitor;
}): Promise<RecoveryReport>;

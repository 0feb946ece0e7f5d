/**
 * Readers waiting for keys, in arrival order.
 *
 * Invariant: when several readers wait on a key they are tried in the order in which they came; one
 * that is tried and still has nothing keeps its place (Redis 7.2: the command is executed again).
 * The work of one `settle` is bounded by the number of readers that waited when it began.
 */
import type { Database } from './database.ts';

export interface BlockedReader {
  readonly database: Database;
  readonly keys: readonly Buffer[];
  /** Unix ms; Infinity = no deadline. */
  readonly deadline: number;
  /** Tries again; true = done (served or failed), the reader is then forgotten. */
  retry(): boolean;
  timedOut(): void;
}

export declare class BlockedReaders {
  readonly size: number;
  add(reader: BlockedReader): void;
  remove(reader: BlockedReader): void;
  /** A key changed in a way that could serve or fail a reader; cheap when nobody waits on it. */
  signal(database: Database, key: Buffer): void;
  signalAll(database: Database): void;
  settle(): void;
  expire(now: number): void;
  nextDeadline(): number;
}

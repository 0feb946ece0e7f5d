/**
 * The write-ahead log as the engine sees it.
 *
 * The engine writes effect records; the log gathers them, and when `flush` is due (or the previous
 * write is done) seals all gathered records as one frame, writes it and raises `durable`.
 * Invariant: records between two boundaries are in one frame, so a command's (or a MULTI's) effects
 * are on disk together or not at all. A record that was begun and not ended (its mutator threw) is
 * never written; memory is then ahead of the log, and `fail` ends all recording.
 * Positions are counts of record bytes since the directory was created; whole numbers below 2^53.
 */
import type { ByteWriter } from '../../util/byte-writer.ts';

export interface Journal {
  /** False with `appendonly no`: then nothing is recorded and no reply waits. */
  readonly enabled: boolean;
  /** The position after the last record that was ended. */
  readonly appended: number;
  /** Everything before this position survives power loss. */
  readonly durable: number;
  /** The position that a reply made now has to wait for, until `safe` has reached it. */
  readonly gate: number;
  /**
   * Up to where replies may leave: `durable` under `appendfsync always`; otherwise what the operating
   * system has taken, which survives the end of this process.
   */
  readonly safe: number;
  /**
   * Why writes are refused now (disk full, broken disk), as a sentence; null while there is room.
   * The shell asks before it runs a write command, so nothing is applied that cannot be recorded.
   */
  readonly refusal: string | null;
  /** The same for a command with `bytes` of arguments: `refusal` is for up to 64 KiB. */
  refusalFor(bytes: number): string | null;
  /** A record was begun and not ended. */
  readonly unfinished: boolean;
  /** Bytes recorded since the last boundary. */
  readonly unitBytes: number;
  /** A command, or EXEC with all of its commands, has recorded all of its effects. */
  boundary(): void;
  /** Memory holds what the log does not: nothing may be recorded or acknowledged any more. */
  fail(what: string, cause: unknown): void;
  /** Starts a record of this type (1..255); the body is written to the returned writer. */
  begin(type: number): ByteWriter;
  /** Ends the record begun last. */
  end(): void;
}

/** What `appendonly no` uses. */
export class NullJournal implements Journal {
  readonly enabled = false;
  readonly appended = 0;
  readonly durable = 0;
  readonly gate = 0;
  readonly safe = 0;
  readonly refusal = null;
  readonly unfinished = false;
  readonly unitBytes = 0;
  refusalFor(): null {
    return null;
  }
  boundary(): void {}
  fail(): void {}
  begin(): ByteWriter {
    throw new Error('the null journal records nothing: ask `enabled` first');
  }
  end(): void {}
}

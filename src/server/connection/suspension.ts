/**
 * Why no command of a client may run now, the command that waits for that, and how much of its input is
 * read meanwhile.
 *
 * Holds: one bit per reason, because several may hold at once; at most one command, with its arguments.
 * Invariants: while a reason holds no command runs; the input read from a suspended client is bounded. For
 * a client that waits for an unlimited time the bound rises by INPUT_PAUSE a second, up to the query buffer
 * limit: the end of a connection is noticed only after all its input has been read.
 * Cost: one compare per command.
 */
import type { Socket } from 'node:net';
import type { Arguments } from '../../util/arguments.ts';

/** A command blocks: on keys, or on work outside of it. */
export const BLOCKED = 1;
/** A command is held by CLIENT PAUSE. */
export const PAUSED = 2;
/** The client does not read its output. */
export const OUTPUT = 4;
/** The log's backlog is too large. */
export const BACKLOG = 8;
/** Other clients have their turn. */
export const YIELDED = 16;
export const CLOSING = 32;
/** A command is held until memory is available. */
export const HELD = 64;
/** A command is kept while the blocks that it needs are read. */
export const READING = 128;

/** The client waits for an unlimited time; when its connection ends, the wait ends too. */
const WAITING = BLOCKED | PAUSED | HELD;

/** A suspended client's input beyond which nothing more is read from its socket. */
const INPUT_PAUSE = 1024 * 1024;

export class Suspension {
  reasons = 0;
  /** The command that is held by CLIENT PAUSE, for memory, or for blocks. */
  kept: Arguments | null = null;
  #readPaused = false;
  #inputBound = INPUT_PAUSE;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  has(reason: number): boolean {
    return (this.reasons & reason) !== 0;
  }

  /** A command was received and cannot be replied to yet. */
  get waits(): boolean {
    return (this.reasons & WAITING) !== 0;
  }

  get keptBytes(): number {
    return this.kept === null ? 0 : this.kept.buffer.length;
  }

  get readPaused(): boolean {
    return this.#readPaused;
  }

  add(reason: number): void {
    this.reasons |= reason;
  }

  /** Keeps a copy of the command until the reason has gone. */
  keep(args: Arguments, reason: number): void {
    this.kept = args.clone();
    this.reasons |= reason;
  }

  /** True when commands may run again. */
  remove(reason: number): boolean {
    this.reasons &= ~reason;
    return this.reasons === 0;
  }

  takeKept(): Arguments | null {
    const { kept } = this;
    this.kept = null;
    return kept;
  }

  /** The connection has ended: nothing waits. */
  forgetWaits(): void {
    this.kept = null;
    this.reasons &= ~WAITING;
  }

  pauseReading(): void {
    if (this.#readPaused) return;
    this.#readPaused = true;
    this.#socket.pause();
  }

  resumeReading(): void {
    if (!this.#readPaused) return;
    this.#readPaused = false;
    this.#socket.resume();
  }

  /** `waiting` bytes of input are not parsed: pauses or resumes reading. */
  boundInput(waiting: number): void {
    if (this.reasons === 0) {
      this.#inputBound = INPUT_PAUSE;
      this.resumeReading();
    } else if (waiting > this.#inputBound) this.pauseReading();
    else if (this.waits && (this.reasons & ~WAITING) === 0) this.resumeReading();
  }

  /** Once a second: raises the bound, so that the end of the connection is noticed. */
  readFurther(): void {
    if (!this.#readPaused || !this.waits || (this.reasons & ~WAITING) !== 0) return;
    this.#inputBound += INPUT_PAUSE;
    this.resumeReading();
  }
}

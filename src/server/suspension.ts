/**
 * Why no command of a connection may run now, the command that waits for that, and how much of the
 * input behind it is read meanwhile.
 *
 * Holds: one bit per reason, because several may hold at once; at most one command, kept whole.
 * Invariants: while a reason holds no command runs; what is read of a suspended client's input is
 * bounded. The bound of a client that waits without end rises by INPUT_PAUSE a second, up to the query
 * buffer limit: a closed connection is noticed at the end of its input only, so the input has to be
 * read to its end.
 * Cost: one compare per command.
 */
import type { Socket } from 'node:net';
import type { Arguments } from '../util/arguments.ts';

/** Blocked on keys, or on work that is done elsewhere. */
export const BLOCKED = 1;
/** Held by CLIENT PAUSE. */
export const PAUSED = 2;
/** The client does not read its output. */
export const OUTPUT = 4;
/** The log's backlog is too large. */
export const BACKLOG = 8;
/** Other connections have their turn. */
export const YIELDED = 16;
export const CLOSING = 32;
/** Held until there is memory. */
export const HELD = 64;

/** The client waits, for as long as it takes; if its connection ends there is nothing to wait for. */
const WAITING = BLOCKED | PAUSED | HELD;

/** A suspended client's input beyond which nothing more is read from its socket. */
const INPUT_PAUSE = 1024 * 1024;

export class Suspension {
  reasons = 0;
  /** A command that came while CLIENT PAUSE held, or while memory was short. */
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

  /** A command was sent, and something other than its own running keeps it from being answered. */
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

  /** Keeps the command that came until the reason has gone. */
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

  /** The connection has ended: nothing waits any more. */
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

  /** So much input waits: reads on, or not. */
  boundInput(waiting: number): void {
    if (this.reasons === 0) {
      this.#inputBound = INPUT_PAUSE;
      this.resumeReading();
    } else if (waiting > this.#inputBound) this.pauseReading();
    else if (this.waits && (this.reasons & ~WAITING) === 0) this.resumeReading();
  }

  /** Once a second: reads further, to notice the connection's end. */
  readFurther(): void {
    if (!this.#readPaused || !this.waits || (this.reasons & ~WAITING) !== 0) return;
    this.#inputBound += INPUT_PAUSE;
    this.resumeReading();
  }
}

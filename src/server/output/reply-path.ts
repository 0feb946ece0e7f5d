/**
 * The order of what one client is sent: one reply per command, and pushes between replies.
 *
 *   begin ─ command writes to `reply` ─ end ──> reply, then the pushes written meanwhile
 *
 * A push (a message of a channel, a request, an answer to a request, a line of MONITOR) may be caused
 * by any client, this one included, at any time. While a command of this client runs, pushes are written to
 * a second buffer and follow the command's reply (Redis: pending_push_messages).
 *
 * Holds: the reply mode (CLIENT REPLY), and the pushes written while a command runs.
 * Invariants: a command has one reply, or none when CLIENT REPLY is OFF or SKIP, also when it blocks and is
 * replied to later. No push is inside a reply, and no part of a push is sent alone.
 * Cost: one compare per command; a second buffer only while a command pushes to its own client.
 */

import type { CommandEntry } from '../command/command-table.ts';
import type { BufferPool } from './buffer-pool.ts';
import { ReplyWriter } from './reply-writer.ts';

const PLUS = 43;
const MINUS = 45;

export class ReplyPath {
  /** CLIENT REPLY OFF. */
  #off = false;
  /** CLIENT REPLY SKIP: no reply to the command that runs, or to the next one. */
  #skip = false;
  /** CLIENT REPLY SKIP has run, alone or within EXEC: it applies to the command after that. */
  #skipNext = false;
  readonly #reply: ReplyWriter;
  readonly #pool: BufferPool;
  #running = false;
  /** Pushes written while a command runs. */
  #apart: ReplyWriter | null = null;
  /** Whether none of them shows stored data. */
  #apartIsFree = true;

  constructor(reply: ReplyWriter, pool: BufferPool) {
    this.#reply = reply;
    this.#pool = pool;
  }

  /** CLIENT REPLY. */
  setMode(mode: 'on' | 'off' | 'skip'): void {
    if (mode === 'skip') {
      if (!this.#off) this.#skipNext = true;
    } else {
      this.#off = mode === 'off';
      if (mode === 'on') this.#skip = false;
    }
  }

  /** RESET. */
  reset(): void {
    this.#off = this.#skip = this.#skipNext = false;
  }

  /** The command that runs, or the next one, gets no reply. */
  get silent(): boolean {
    return this.#off || this.#skip;
  }

  /** A command of this connection runs: its reply is incomplete. */
  get running(): boolean {
    return this.#running;
  }

  /** Where a push is to be written now. */
  get pushes(): ReplyWriter {
    if (!this.#running) return this.#reply;
    this.#apart ??= new ReplyWriter(this.#pool);
    this.#apart.protocol = this.#reply.protocol;
    return this.#apart;
  }

  /** Bytes of pushes that wait for the command's end. */
  get apartBytes(): number {
    return this.#apart === null ? 0 : this.#apart.length;
  }

  /** A command, or the end of its wait, begins to write; returns where its reply starts. */
  begin(): number {
    this.#running = true;
    return this.#reply.length;
  }

  /** A push was written while a command runs. */
  pushed(free: boolean): void {
    if (!free) this.#apartIsFree = false;
  }

  /**
   * The command has written its reply, from `start` on, or waits and has written none. True when part
   * of the reply was taken back.
   */
  end(start: number, entry: CommandEntry | null, waits: boolean): boolean {
    this.#running = false;
    if (waits) return false;
    const { silent } = this;
    this.#skip = this.#skipNext;
    this.#skipNext = false;
    return silent && this.#takeBack(start, entry);
  }

  /** Appends the pushes to the reply. Returns where they start if they show no stored data, otherwise -1. */
  appendPushes(): number {
    const apart = this.#apart;
    if (apart === null || apart.length === 0) return -1;
    const start = this.#reply.length;
    this.#reply.raw(apart.buffer.subarray(0, apart.length));
    const free = this.#apartIsFree;
    this.drop();
    return free ? start : -1;
  }

  /** Drops the pushes written meanwhile. */
  drop(): void {
    this.#apart?.release();
    this.#apartIsFree = true;
  }

  #takeBack(start: number, entry: CommandEntry | null): boolean {
    if (this.#reply.length <= start) return false;
    // SUBSCRIBE and its variants reply with pushes, and CLIENT REPLY does not suppress pushes.
    if (entry !== null && SUBSCRIBING.has(entry.name) && this.#answersWithPush(start)) return false;
    this.#reply.truncate(start);
    return true;
  }

  #answersWithPush(start: number): boolean {
    const type = this.#reply.buffer[start];
    return type !== PLUS && type !== MINUS;
  }
}

const SUBSCRIBING = new Set([
  'subscribe',
  'unsubscribe',
  'psubscribe',
  'punsubscribe',
  'ssubscribe',
  'sunsubscribe',
]);

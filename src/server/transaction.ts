/**
 * One session's MULTI: the commands queued and the keys watched.
 *
 * Invariant: a session has one Transaction from its first MULTI or WATCH on; watched keys are
 * registered with their database under it exactly while they are listed here. The queue is bounded
 * in commands and in bytes, because a client could otherwise fill memory without being answered.
 * Cost: a queued command is one copy of its arguments.
 * Source: Redis 7.0 multi.c.
 */
import type { Database } from '../engine/database.ts';
import type { Watcher } from '../engine/watches.ts';
import type { Arguments } from '../util/arguments.ts';
import type { CommandEntry } from './command-table.ts';
import type { Session, TransactionState } from './session.ts';

/** What the dispatch loop answers when `enqueue` refuses. */
export const QUEUE_FULL = 'ERR the queue of this transaction is full';

const MAX_COMMANDS = 1_000_000;
/** As much as one command may be long (proto-max-bulk-len). */
const MAX_BYTES = 512 * 1024 * 1024;

/** What a watched key takes beside its name. */
const KEY_BYTES = 64;

interface QueuedCommand {
  readonly command: CommandEntry;
  readonly args: Arguments;
}

interface WatchedKey {
  readonly database: Database;
  readonly key: Buffer;
}

export class Transaction implements TransactionState, Watcher {
  active = false;
  /** A watched key was changed (the engine says so). */
  dirty = false;
  /** A command was refused while queueing. */
  refused = false;
  queuedFlags = 0;
  private commands: QueuedCommand[] = [];
  private bytes = 0;
  private keys: WatchedKey[] = [];
  watchedBytes = 0;

  /** The session's own; made at its first MULTI or WATCH. */
  static of(session: Session): Transaction {
    const present = session.transaction;
    if (present instanceof Transaction) return present;
    const made = new Transaction();
    session.transaction = made;
    return made;
  }

  /** Bytes of what was queued. */
  get queuedBytes(): number {
    return this.bytes;
  }

  get queued(): number {
    return this.commands.length;
  }

  get watched(): number {
    return this.keys.length;
  }

  begin(): void {
    this.active = true;
  }

  enqueue(command: CommandEntry, args: Arguments): boolean {
    // What will not be run need not be kept: Redis does the same.
    if (this.refused || this.dirty) return true;
    const kept = args.clone();
    this.bytes += kept.buffer.length + 64;
    if (this.commands.length >= MAX_COMMANDS || this.bytes > MAX_BYTES) {
      this.refuse();
      return false;
    }
    this.commands.push({ command, args: kept });
    this.queuedFlags |= command.flags;
    return true;
  }

  refuse(): void {
    if (!this.active) return;
    this.refused = true;
    this.commands = [];
    this.bytes = 0;
  }

  discard(): void {
    this.take();
    this.unwatch();
  }

  /** Ends the transaction and gives what was queued, in order. */
  take(): readonly QueuedCommand[] {
    const { commands } = this;
    this.commands = [];
    this.bytes = 0;
    this.queuedFlags = 0;
    this.active = false;
    this.refused = false;
    return commands;
  }

  /** `key` is kept. An expired key is watched as a missing one. */
  watch(database: Database, key: Buffer): void {
    database.findKey(key);
    if (!database.watch(key, this)) return;
    this.keys.push({ database, key });
    this.watchedBytes += key.length + KEY_BYTES;
  }

  unwatch(): void {
    for (const { database, key } of this.keys) database.unwatch(key, this);
    this.keys = [];
    this.watchedBytes = 0;
    this.dirty = false;
  }

  /** A watched key whose time came after WATCH counts as changed: removing it says so. */
  expireWatched(): void {
    for (const { database, key } of this.keys) database.findKey(key);
  }
}

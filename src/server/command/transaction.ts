/**
 * One session's MULTI: the commands queued and the keys watched.
 *
 * Invariant: a session has one Transaction from its first MULTI or WATCH on; watched keys are
 * registered with their database under it exactly while they are listed here. The queue is bounded
 * in commands and in bytes: otherwise a client could fill memory before EXEC.
 * Cost: a queued command is one copy of its arguments.
 * Source: Redis 7.0 multi.c.
 */
import type { Database } from '../../engine/keyspace/database.ts';
import type { Watcher } from '../../engine/keyspace/watches.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { CommandEntry } from './command-table.ts';

/** What the dispatch loop answers when `enqueue` refuses. */
export const QUEUE_FULL = 'ERR the queue of this transaction is full';

const MAX_COMMANDS = 1_000_000;
/** As long as one argument may be (proto-max-bulk-len). */
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

export class Transaction implements Watcher {
  active = false;
  /** A watched key was changed; the engine sets it. */
  dirty = false;
  /** A command was refused while queueing. */
  refused = false;
  queuedFlags = 0;
  #commands: QueuedCommand[] = [];
  #bytes = 0;
  #keys: WatchedKey[] = [];
  watchedBytes = 0;

  /** Bytes of what was queued. */
  get queuedBytes(): number {
    return this.#bytes;
  }

  get queued(): number {
    return this.#commands.length;
  }

  get watched(): number {
    return this.#keys.length;
  }

  begin(): void {
    this.active = true;
  }

  enqueue(command: CommandEntry, args: Arguments): boolean {
    // EXEC will fail, so the command is not stored, as in Redis.
    if (this.refused || this.dirty) return true;
    const kept = args.clone();
    this.#bytes += kept.buffer.length + 64;
    if (this.#commands.length >= MAX_COMMANDS || this.#bytes > MAX_BYTES) {
      this.refuse();
      return false;
    }
    this.#commands.push({ command, args: kept });
    this.queuedFlags |= command.flags;
    return true;
  }

  refuse(): void {
    if (!this.active) return;
    this.refused = true;
    this.#commands = [];
    this.#bytes = 0;
  }

  discard(): void {
    this.take();
    this.unwatch();
  }

  /** Ends the transaction and returns the queued commands, in order. */
  take(): readonly QueuedCommand[] {
    const commands = this.#commands;
    this.#commands = [];
    this.#bytes = 0;
    this.queuedFlags = 0;
    this.active = false;
    this.refused = false;
    return commands;
  }

  /** `key` is kept. An expired key is watched as a missing one. */
  watch(database: Database, key: Buffer): void {
    database.findKey(key);
    if (!database.watch(key, this)) return;
    this.#keys.push({ database, key });
    this.watchedBytes += key.length + KEY_BYTES;
  }

  unwatch(): void {
    for (const { database, key } of this.#keys) database.unwatch(key, this);
    this.#keys = [];
    this.watchedBytes = 0;
    this.dirty = false;
  }

  /** Deletes watched keys that have expired, which marks them as changed. */
  expireWatched(): void {
    for (const { database, key } of this.#keys) database.findKey(key);
  }
}

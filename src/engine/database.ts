/**
 * One of the numbered databases: keys with their values and expiry.
 *
 * Lookups expire lazily; every change goes through a mutator. A mutator does four things, in this
 * order: tells the checkpointer (`touch`), changes memory, records its effect in the journal (unless
 * replaying), and signals watchers and blocked readers. Replay decodes a record and calls the same
 * mutator: there is one code path that changes state. So mutators take times and ids as arguments
 * and never look at the clock.
 */
import type { Arguments } from '../util/arguments.ts';
import type { Engine } from './engine.ts';
import type { KeyEntry, Value } from './key-entry.ts';

export declare class Database {
  readonly engine: Engine;
  readonly index: number;
  /** Number of keys, expired and not yet collected ones included, as DBSIZE counts. */
  readonly size: number;

  /** The key named by argument `i`, or undefined; expires it first when its time has come. */
  find(args: Arguments, i: number): KeyEntry | undefined;
  findKey(key: Uint8Array): KeyEntry | undefined;

  // Mutators.
  /** Creates or replaces. `expireAt` 0 = none. */
  set(key: Buffer, value: Value, expireAt: number): KeyEntry;
  remove(entry: KeyEntry): void;
  setExpiry(entry: KeyEntry, expireAt: number): void;
  rename(entry: KeyEntry, to: Buffer): void;
  flush(): void;

  /** Redis's SCAN: visits at least `count` buckets from `cursor`, returns the next cursor, 0 = done. */
  scan(cursor: number, count: number, visit: (entry: KeyEntry) => void): number;
  entries(): Iterable<KeyEntry>;
  randomEntry(): KeyEntry | undefined;

  /** For mutators outside this class (streams): before and after they change a value. */
  touch(entry: KeyEntry): void;
  changed(entry: KeyEntry): void;
}

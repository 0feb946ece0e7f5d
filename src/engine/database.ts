/**
 * One of the numbered databases: keys with their values and expiry.
 *
 * Lookups expire lazily; every change goes through a mutator. A mutator does four things, in this
 * order: tells the checkpointer (`touch`), changes memory, records its effect in the journal (unless
 * replaying), and signals watchers and blocked readers. Replay decodes a record and calls the same
 * mutator: there is one code path that changes state. So mutators take times and ids as arguments
 * and never look at the clock.
 *
 * Invariant: a session keeps its Database for good; SWAPDB and FLUSHDB exchange the keyspace in it.
 */
import type { ConsumerGroup } from '../consumer-groups/group.ts';
import type { Arguments } from '../util/arguments.ts';
import type { Engine } from './engine.ts';
import { watchIdempotency } from './idempotency-expiry.ts';
import type { KeyEntry, StringValue, Value } from './key-entry.ts';
import { Keyspace } from './keyspace.ts';
import { EventClass } from './keyspace-events.ts';
import { beginRecord, RecordType } from './records.ts';
import { unwatch, watchAge } from './stream-aging.ts';
import { cloneValue, encodeValue } from './value-codec.ts';
import { type Watcher, Watches } from './watches.ts';

export class Database {
  readonly engine: Engine;
  readonly index: number;
  keyspace: Keyspace;
  private readonly watches = new Watches();

  constructor(engine: Engine, index: number) {
    this.engine = engine;
    this.index = index;
    this.keyspace = new Keyspace(engine.nextUid(), engine.random);
  }

  /** Number of keys, expired and not yet collected ones included, as DBSIZE counts. */
  get size(): number {
    return this.keyspace.table.size;
  }

  /** How many of the keys expire. */
  get expiringCount(): number {
    return this.keyspace.expiring.size;
  }

  // ---- Looking up

  /** The key named by argument `i`, or undefined; expires it first when its time has come. */
  find(args: Arguments, i: number): KeyEntry | undefined {
    const table = this.keyspace.table;
    const entry = table.find(args.buffer, args.offsets[i], args.lengths[i]);
    if (entry === undefined || (entry.expireAt !== 0 && this.collect(entry))) return undefined;
    entry.accessed = this.engine.seconds;
    return entry;
  }

  findKey(key: Uint8Array): KeyEntry | undefined {
    const entry = this.peekKey(key);
    if (entry === undefined || (entry.expireAt !== 0 && this.collect(entry))) return undefined;
    entry.accessed = this.engine.seconds;
    return entry;
  }

  /** As `find`, counted as a hit or a miss (INFO's keyspace_hits and keyspace_misses). */
  read(args: Arguments, i: number): KeyEntry | undefined {
    const entry = this.find(args, i);
    if (entry !== undefined) {
      this.engine.statistics.keyspaceHits++;
    } else {
      this.engine.statistics.keyspaceMisses++;
      if (this.engine.events !== null) this.tell(EventClass.MISSED, 'keymiss', args.view(i));
    }
    return entry;
  }

  /** As `find`, without counting as an access: for TTL, TYPE, OBJECT and the like. */
  peek(args: Arguments, i: number): KeyEntry | undefined {
    const table = this.keyspace.table;
    const entry = table.find(args.buffer, args.offsets[i], args.lengths[i]);
    return entry === undefined || (entry.expireAt !== 0 && this.collect(entry)) ? undefined : entry;
  }

  /** The entry whatever its time; expires nothing, counts as no access. */
  peekKey(key: Uint8Array): KeyEntry | undefined {
    return this.keyspace.table.find(key, 0, key.length);
  }

  /**
   * Redis's SCAN: visits buckets from `cursor` until `count` keys were seen, ten times `count`
   * buckets at most. Returns the next cursor, 0 = done.
   */
  scan(cursor: number, count: number, visit: (entry: KeyEntry) => void): number {
    let seen = 0;
    let buckets = count * 10;
    const visitLive = (entry: KeyEntry): void => {
      seen++;
      if (entry.expireAt === 0 || !this.collect(entry)) visit(entry);
    };
    const table = this.keyspace.table;
    do {
      cursor = table.scan(cursor, visitLive);
    } while (cursor !== 0 && --buckets > 0 && seen < count);
    return cursor;
  }

  /** Every live entry; nothing may be added or removed meanwhile. */
  *entries(): Generator<KeyEntry> {
    const now = this.engine.now;
    for (const entry of this.keyspace.table.entries()) {
      if (entry.expireAt === 0 || entry.expireAt >= now) yield entry;
    }
  }

  randomEntry(): KeyEntry | undefined {
    // Of a database full of expired keys that may not be removed (the log is full), any will do.
    for (let tries = 100; ; tries--) {
      const entry = this.keyspace.table.randomEntry(this.engine.random);
      if (entry === undefined || entry.expireAt === 0 || !this.collect(entry)) return entry;
      if (tries === 0 && !entry.removed) return entry;
    }
  }

  // ---- Mutators

  /** Creates or replaces a string, or a stream that has no entry yet. `expireAt` 0 = none. */
  set(key: Uint8Array, value: Value, expireAt: number): KeyEntry {
    const entry = this.place(key, value, expireAt);
    // A stream is made for what comes next, which counts.
    if (value.type === 'string') this.engine.changes++;
    if (this.engine.recording) {
      const isString = value.type === 'string';
      const record = beginRecord(isString ? RecordType.SET : RecordType.MKSTREAM, this, key);
      record.varint(expireAt);
      if (isString) record.bytes(value.bytes);
      this.engine.journal.end();
    }
    this.appeared(entry);
    return entry;
  }

  /** Gives a string a new value and expiry: what SET, INCR, GETSET do to an existing key. */
  setString(entry: KeyEntry, bytes: Buffer, expireAt: number): void {
    if (entry.value.type !== 'string') {
      this.set(entry.key, { type: 'string', bytes }, expireAt);
      return;
    }
    this.touch(entry);
    this.engine.changes++;
    entry.value.bytes = bytes;
    this.keyspace.setExpiry(entry, expireAt);
    if (this.engine.recording) {
      const record = beginRecord(RecordType.SET, this, entry.key);
      record.varint(expireAt);
      record.bytes(bytes);
      this.engine.journal.end();
    }
    this.changed(entry);
  }

  /** Appends to a string; the record holds only what was appended. */
  append(entry: KeyEntry, value: StringValue, bytes: Uint8Array): void {
    this.touch(entry);
    this.engine.changes++;
    value.bytes = joined(value.bytes, bytes);
    if (this.engine.recording) {
      beginRecord(RecordType.APPEND, this, entry.key).bytes(bytes);
      this.engine.journal.end();
    }
    this.changed(entry);
  }

  remove(entry: KeyEntry): void {
    this.engine.changes++;
    this.deleteEntry(entry);
    if (this.engine.events !== null) this.tell(EventClass.GENERIC, 'del', entry.key);
  }

  /** 0 = never expires. */
  setExpiry(entry: KeyEntry, expireAt: number): void {
    this.touch(entry);
    this.engine.changes++;
    this.keyspace.setExpiry(entry, expireAt);
    if (this.engine.recording) {
      beginRecord(RecordType.EXPIRE, this, entry.key).varint(expireAt);
      this.engine.journal.end();
    }
    this.changed(entry);
  }

  /** Replaces what has the new name; the expiry goes with the value. */
  rename(entry: KeyEntry, to: Uint8Array): void {
    const from = entry.key;
    const replaced = this.peekKey(to);
    if (replaced === entry) return;
    if (replaced !== undefined) this.discard(replaced);
    this.touch(entry);
    this.engine.changes++;
    this.keyspace.table.remove(entry);
    this.keyspace.schedule.freed(from);
    this.keyspace.table.adopt(entry, to);
    if (this.engine.recording) {
      beginRecord(RecordType.RENAME, this, from).bytes(to);
      this.engine.journal.end();
    }
    this.leftName(entry, from);
    this.appeared(entry);
    if (this.engine.events !== null) {
      this.tell(EventClass.GENERIC, 'rename_from', from);
      this.tell(EventClass.GENERIC, 'rename_to', entry.key);
    }
  }

  /** Takes the key to another database, which must not have one of that name. */
  move(entry: KeyEntry, destination: Database): void {
    this.touch(entry);
    this.engine.changes++;
    const { value } = entry;
    const { memory } = this.engine;
    this.keyspace.detach(entry);
    this.keyspace.schedule.freed(entry.key);
    if (value.type === 'stream') {
      memory.remove(entry, value);
      unwatch(entry, value);
    }
    entry.space = destination.keyspace;
    destination.keyspace.table.adopt(entry, entry.key);
    if (entry.expireAt !== 0) destination.keyspace.expiring.update(entry);
    if (value.type === 'stream') {
      memory.add(entry);
      watchIdempotency(entry, value);
      if (value.retention !== null) watchAge(this.engine, entry, value);
    }
    if (this.engine.recording) {
      beginRecord(RecordType.MOVE, this, entry.key).varint(destination.index);
      this.engine.journal.end();
    }
    this.leftName(entry, entry.key);
    destination.appeared(entry);
    if (this.engine.events !== null) {
      this.tell(EventClass.GENERIC, 'move_from', entry.key);
      destination.tell(EventClass.GENERIC, 'move_to', entry.key);
    }
  }

  /** Copies value and expiry to a name, which may be in another database; replaces what has it. */
  copy(entry: KeyEntry, destination: Database, to: Uint8Array): KeyEntry {
    const copy = destination.place(to, cloneValue(this.engine, entry.value), entry.expireAt);
    this.engine.changes++;
    if (this.engine.recording) {
      const record = beginRecord(RecordType.COPY, this, entry.key);
      record.varint(destination.index);
      record.bytes(to);
      this.engine.journal.end();
    }
    destination.appeared(copy);
    if (this.engine.events !== null) destination.tell(EventClass.GENERIC, 'copy_to', copy.key);
    return copy;
  }

  /** Creates or replaces a key with a whole value, which becomes the key's own. */
  restore(key: Uint8Array, expireAt: number, value: Value): KeyEntry {
    const { engine } = this;
    // Before anything is changed: nothing is when this fails.
    const bytes = engine.recording ? encodeValue(value) : null;
    const entry = this.place(key, value, expireAt);
    engine.changes++;
    if (bytes !== null) {
      const record = beginRecord(RecordType.RESTORE, this, key);
      record.varint(expireAt);
      record.bytes(bytes);
      engine.journal.end();
    }
    this.appeared(entry);
    if (this.engine.events !== null) this.tell(EventClass.GENERIC, 'restore', entry.key);
    return entry;
  }

  flush(): void {
    this.engine.changes += this.keyspace.table.size;
    this.clear();
    if (this.engine.recording) {
      this.engine.journal.begin(RecordType.FLUSHDB).varint(this.index);
      this.engine.journal.end();
    }
  }

  // ---- For mutators outside this class (streams): before and after they change a value

  /** Before a change: the checkpointer may have to keep the value as it is. */
  touch(entry: KeyEntry): void {
    this.engine.changing();
    if (entry.dirtyEpoch !== this.engine.epoch.current) this.engine.checkpointer?.touch(entry);
  }

  /** Before a change of a group (its position, its consumers, its pending list): the same for it. */
  touchGroup(entry: KeyEntry, group: ConsumerGroup): void {
    this.engine.changing();
    if (group.dirtyEpoch !== this.engine.epoch.current) {
      this.engine.checkpointer?.touchGroup(entry, group);
    }
  }

  /** After a change: transactions that watch the key will fail. */
  changed(entry: KeyEntry): void {
    if (entry.watchers !== 0 && !this.engine.replaying) this.watches.dirty(entry.key);
  }

  /** After a change that could serve or fail a blocked reader. */
  wake(entry: KeyEntry): void {
    if (entry.readers !== 0) this.engine.blocked.signal(this, entry.key);
  }

  /** A keyspace notification. Where it is called often, `engine.events` is asked for first. */
  tell(eventClass: number, name: string, key: Uint8Array): void {
    this.engine.events?.add(eventClass, name, this.index, key);
  }

  // ---- Watching

  /** False when it is watched already by this one. */
  watch(key: Buffer, watcher: Watcher): boolean {
    if (!this.watches.add(key, watcher)) return false;
    const entry = this.peekKey(key);
    if (entry !== undefined) entry.watchers++;
    return true;
  }

  unwatch(key: Buffer, watcher: Watcher): void {
    this.watches.remove(key, watcher);
    const entry = this.peekKey(key);
    if (entry !== undefined) entry.watchers = this.watches.count(key);
  }

  // ---- Parts of mutators, for this class and the engine

  /** FLUSHDB without its record. */
  clear(): void {
    this.engine.changing();
    const flushed = this.keyspace;
    if (flushed.table.size > 0 || flushed.schedule.size > 0) {
      this.keyspace = new Keyspace(this.engine.nextUid(), this.engine.random);
      this.engine.memory.flushed(flushed);
      this.engine.checkpointer?.bury(flushed);
    }
    for (const key of this.watches.keys()) {
      if (flushed.table.find(key, 0, key.length) !== undefined) this.watches.dirty(key);
    }
    this.engine.blocked.signalAll(this);
  }

  /** SWAPDB without its record: the keys of both change places; sessions keep their numbers. */
  exchange(other: Database): void {
    this.engine.changing();
    const mine = this.keyspace;
    this.keyspace = other.keyspace;
    other.keyspace = mine;
    this.exchanged(mine);
    other.exchanged(this.keyspace);
  }

  /** Enters an entry under the name source[from .. from + length): for restoring a checkpoint. */
  admit(
    source: Uint8Array,
    value: Value,
    expireAt: number,
    from = 0,
    length = source.length,
  ): KeyEntry {
    const keyspace = this.keyspace;
    const entry = keyspace.table.add(source, from, length, value, keyspace);
    entry.accessed = this.engine.seconds;
    keyspace.setExpiry(entry, expireAt);
    if (value.type === 'stream') {
      this.engine.memory.add(entry);
      if (value.idempotency !== null) watchIdempotency(entry, value);
      if (value.retention !== null) watchAge(this.engine, entry, value);
    }
    return entry;
  }

  /** Removes the key when its time has come; true when it is to be treated as absent. */
  collect(entry: KeyEntry): boolean {
    const engine = this.engine;
    // Replay removes a key where its DEL record says so, at no other moment.
    if (entry.expireAt >= engine.now || engine.replaying) return false;
    if (engine.journal.refusal === null) {
      engine.statistics.expiredKeys++;
      this.deleteEntry(entry);
      if (engine.events !== null) this.tell(EventClass.EXPIRED, 'expired', entry.key);
    }
    return true;
  }

  private place(key: Uint8Array, value: Value, expireAt: number): KeyEntry {
    const replaced = this.peekKey(key);
    this.engine.changing();
    if (replaced !== undefined) this.discard(replaced);
    const entry = this.admit(key, value, expireAt);
    this.touch(entry);
    if (value.type === 'stream') {
      for (const group of value.groups.values()) this.touchGroup(entry, group);
    }
    return entry;
  }

  private discard(entry: KeyEntry): void {
    this.engine.changing();
    this.keyspace.detach(entry);
    this.keyspace.schedule.freed(entry.key);
    entry.removed = true;
    if (entry.value.type === 'stream') {
      this.engine.memory.remove(entry, entry.value);
      unwatch(entry, entry.value);
    } else this.engine.memory.freed += entry.value.bytes.length;
    this.engine.checkpointer?.remove(entry);
  }

  private deleteEntry(entry: KeyEntry): void {
    this.discard(entry);
    if (this.engine.recording) {
      beginRecord(RecordType.DEL, this, entry.key);
      this.engine.journal.end();
    }
    this.vanished(entry);
  }

  /** An entry took a name: those who wait for or watch the name now wait for and watch the entry. */
  private appeared(entry: KeyEntry): void {
    const engine = this.engine;
    if (engine.replaying) return;
    entry.watchers = this.watches.count(entry.key);
    if (entry.watchers !== 0) this.watches.dirty(entry.key);
    entry.readers = engine.blocked.count(this, entry.key);
    if (entry.readers !== 0) engine.blocked.signal(this, entry.key);
    if (entry.value.type === 'stream') {
      engine.streamAppeared?.(this, entry);
      engine.announcements.add(this.index, entry.key);
    }
    if (engine.events !== null) this.tell(EventClass.NEW, 'new', entry.key);
  }

  private vanished(entry: KeyEntry): void {
    if (entry.watchers !== 0) this.watches.dirty(entry.key);
    if (entry.readers !== 0) this.engine.blocked.signal(this, entry.key);
  }

  private leftName(entry: KeyEntry, name: Buffer): void {
    if (entry.watchers !== 0) this.watches.dirty(name);
    if (entry.readers !== 0) this.engine.blocked.signal(this, name);
    entry.watchers = 0;
    entry.readers = 0;
  }

  private exchanged(former: Keyspace): void {
    const table = this.keyspace.table;
    for (const key of this.watches.keys()) {
      const entry = table.find(key, 0, key.length);
      if (entry !== undefined) entry.watchers = this.watches.count(key);
      if (entry !== undefined || former.table.find(key, 0, key.length) !== undefined) {
        this.watches.dirty(key);
      }
    }
    const blocked = this.engine.blocked;
    for (const key of blocked.keys(this)) {
      const entry = table.find(key, 0, key.length);
      if (entry !== undefined) entry.readers = blocked.count(this, key);
    }
    blocked.signalAll(this);
  }
}

function joined(head: Buffer, tail: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafeSlow(head.length + tail.length);
  bytes.set(head, 0);
  bytes.set(tail, head.length);
  return bytes;
}

/**
 * One of the numbered databases: keys with their values and expiry.
 *
 * Lookups expire lazily; every change goes through a mutator. A mutator does four things, in this
 * order: notifies the checkpointer (`touch`), changes memory, records its effect in the journal (unless
 * replaying), and signals watchers and blocked readers. Replay decodes a record and calls the same
 * mutator: there is one code path that changes state. So mutators take times and ids as arguments
 * and never look at the clock.
 *
 * Invariant: a session keeps its Database for good; SWAPDB and FLUSHDB exchange the keyspace in it.
 */
import type { ConsumerGroup } from '../../consumer-groups/group.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { ByteWriter } from '../../util/byte-writer.ts';
import { cloneValue, encodeValue } from '../dump/value-codec.ts';
import type { EngineContext } from '../engine-context.ts';
import { RecordType } from '../log/records.ts';
import type { StreamValue } from '../streams/stream-value.ts';
import type { KeyEntry, StringValue, Value } from './key-entry.ts';
import { Keyspace } from './keyspace.ts';
import { EventClass } from './keyspace-events.ts';
import { makeRoom, roomOf, writeInto } from './string-value.ts';
import { type Watcher, Watches } from './watches.ts';

const EMPTY = Buffer.alloc(0);

export class Database {
  readonly engine: EngineContext;
  readonly index: number;
  keyspace: Keyspace;
  private readonly watches = new Watches();
  /** As KeyEntry.changedAt, of the last key that went, and of the last SWAPDB. */
  private removedAt = -1;
  private swappedAt = -1;

  constructor(engine: EngineContext, index: number) {
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
    if (entry === undefined || (entry.expireAt !== 0 && this.expireIfNeeded(entry)))
      return undefined;
    entry.accessed = this.engine.seconds;
    return entry;
  }

  findKey(key: Uint8Array): KeyEntry | undefined {
    const entry = this.peekKey(key);
    if (entry === undefined || (entry.expireAt !== 0 && this.expireIfNeeded(entry)))
      return undefined;
    entry.accessed = this.engine.seconds;
    return entry;
  }

  /**
   * The log's position behind which the last change begins that shows in the key named by argument `i`;
   * -1 = it has not changed since the start. That a key is missing is a change, too.
   */
  changedAt(args: Arguments, i: number): number {
    const entry = this.keyspace.table.find(args.buffer, args.offsets[i], args.lengths[i]);
    return Math.max(entry === undefined ? this.removedAt : entry.changedAt, this.swappedAt);
  }

  /** As `find`, counted as a hit or a miss (INFO's keyspace_hits and keyspace_misses). */
  read(args: Arguments, i: number): KeyEntry | undefined {
    const entry = this.find(args, i);
    if (entry !== undefined) {
      this.engine.statistics.keyspaceHits++;
    } else {
      this.engine.statistics.keyspaceMisses++;
      if (this.engine.events !== null) this.notify(EventClass.MISSED, 'keymiss', args.view(i));
    }
    return entry;
  }

  /** As `find`, without counting as an access: for TTL, TYPE, OBJECT and the like. */
  peek(args: Arguments, i: number): KeyEntry | undefined {
    const table = this.keyspace.table;
    const entry = table.find(args.buffer, args.offsets[i], args.lengths[i]);
    return entry === undefined || (entry.expireAt !== 0 && this.expireIfNeeded(entry))
      ? undefined
      : entry;
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
      if (entry.expireAt === 0 || !this.expireIfNeeded(entry)) visit(entry);
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
      if (entry === undefined || entry.expireAt === 0 || !this.expireIfNeeded(entry)) return entry;
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
      const record = this.beginRecord(isString ? RecordType.SET : RecordType.MKSTREAM, key);
      record.varint(expireAt);
      if (isString) record.bytes(value.bytes);
      this.engine.journal.end();
    }
    this.onKeyAdded(entry);
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
    entry.value.room = undefined;
    this.keyspace.setExpiry(entry, expireAt);
    if (this.engine.recording) {
      const record = this.beginRecord(RecordType.SET, entry.key);
      record.varint(expireAt);
      record.bytes(bytes);
      this.engine.journal.end();
    }
    this.signalModified(entry);
  }

  /** Appends to a string; the record holds only what was appended. */
  append(entry: KeyEntry, value: StringValue, bytes: Uint8Array): void {
    const { length } = value.bytes;
    makeRoom(value, length + bytes.length);
    this.touch(entry);
    this.engine.changes++;
    writeInto(value, length, bytes);
    if (this.engine.recording) {
      this.beginRecord(RecordType.APPEND, entry.key).bytes(bytes);
      this.engine.journal.end();
    }
    this.signalModified(entry);
  }

  /**
   * Writes over a part of a string, made where `entry` is undefined; the record holds only the part.
   * The entry's value is a string.
   */
  writePart(
    key: Uint8Array,
    entry: KeyEntry | undefined,
    offset: number,
    bytes: Uint8Array,
  ): StringValue {
    const value = (entry?.value ?? { type: 'string', bytes: EMPTY }) as StringValue;
    makeRoom(value, offset + bytes.length);
    const written = entry ?? this.place(key, value, 0);
    this.touch(written);
    this.engine.changes++;
    writeInto(value, offset, bytes);
    if (this.engine.recording) {
      const record = this.beginRecord(RecordType.WRITE_PART, written.key);
      record.varint(offset);
      record.bytes(bytes);
      this.engine.journal.end();
    }
    if (entry === undefined) this.onKeyAdded(written);
    else this.signalModified(entry);
    return value;
  }

  remove(entry: KeyEntry): void {
    this.engine.changes++;
    this.deleteEntry(entry);
    if (this.engine.events !== null) this.notify(EventClass.GENERIC, 'del', entry.key);
  }

  /** 0 = never expires. */
  setExpiry(entry: KeyEntry, expireAt: number): void {
    this.touch(entry);
    this.engine.changes++;
    this.keyspace.setExpiry(entry, expireAt);
    if (this.engine.recording) {
      this.beginRecord(RecordType.EXPIRE, entry.key).varint(expireAt);
      this.engine.journal.end();
    }
    this.signalModified(entry);
  }

  /** Replaces what has the new name; the expiry goes with the value. */
  rename(entry: KeyEntry, to: Uint8Array): void {
    const from = entry.key;
    const replaced = this.peekKey(to);
    if (replaced === entry) return;
    if (replaced !== undefined) this.discard(replaced);
    this.touch(entry);
    this.engine.changes++;
    this.removedAt = entry.changedAt;
    this.keyspace.table.remove(entry);
    this.keyspace.schedule.onKeyFreed(from);
    this.keyspace.table.adopt(entry, to);
    if (this.engine.recording) {
      this.beginRecord(RecordType.RENAME, from).bytes(to);
      this.engine.journal.end();
    }
    this.onKeyRenamed(entry, from);
    this.onKeyAdded(entry);
    if (this.engine.events !== null) {
      this.notify(EventClass.GENERIC, 'rename_from', from);
      this.notify(EventClass.GENERIC, 'rename_to', entry.key);
    }
  }

  /** Takes the key to another database, which must not have one of that name. */
  move(entry: KeyEntry, destination: Database): void {
    this.touch(entry);
    this.engine.changes++;
    const { value } = entry;
    const { memory } = this.engine;
    this.removedAt = entry.changedAt;
    this.keyspace.detach(entry);
    this.keyspace.schedule.onKeyFreed(entry.key);
    if (value.type === 'stream') {
      memory.remove(this.keyspace, entry, value);
      this.keyspace.retentionDeadlines.remove(value);
      this.keyspace.idempotencyDeadlines.remove(value);
    }
    entry.space = destination.keyspace;
    destination.keyspace.table.adopt(entry, entry.key);
    if (entry.expireAt !== 0) destination.keyspace.expiring.update(entry);
    if (value.type === 'stream') {
      memory.add(destination.keyspace, entry);
      destination.watchDeadlines(entry, value);
    }
    if (this.engine.recording) {
      this.beginRecord(RecordType.MOVE, entry.key).varint(destination.index);
      this.engine.journal.end();
    }
    this.onKeyRenamed(entry, entry.key);
    destination.onKeyAdded(entry);
    if (this.engine.events !== null) {
      this.notify(EventClass.GENERIC, 'move_from', entry.key);
      destination.notify(EventClass.GENERIC, 'move_to', entry.key);
    }
  }

  /** Copies value and expiry to a name, which may be in another database; replaces what has it. */
  copy(entry: KeyEntry, destination: Database, to: Uint8Array): KeyEntry {
    const copy = destination.place(to, cloneValue(this.engine, entry.value), entry.expireAt);
    this.engine.changes++;
    if (this.engine.recording) {
      const record = this.beginRecord(RecordType.COPY, entry.key);
      record.varint(destination.index);
      record.bytes(to);
      this.engine.journal.end();
    }
    destination.onKeyAdded(copy);
    if (this.engine.events !== null) destination.notify(EventClass.GENERIC, 'copy_to', copy.key);
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
      const record = this.beginRecord(RecordType.RESTORE, key);
      record.varint(expireAt);
      record.bytes(bytes);
      engine.journal.end();
    }
    this.onKeyAdded(entry);
    if (this.engine.events !== null) this.notify(EventClass.GENERIC, 'restore', entry.key);
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
    entry.changedAt = this.engine.changing();
    if (entry.dirtyEpoch !== this.engine.epoch.current) this.engine.checkpointer?.touch(entry);
  }

  /** Before a change of a group (its position, its consumers, its pending list): the same for it. */
  touchGroup(entry: KeyEntry, group: ConsumerGroup): void {
    entry.changedAt = this.engine.changing();
    if (group.dirtyEpoch !== this.engine.epoch.current) {
      this.engine.checkpointer?.touchGroup(entry, group);
    }
  }

  /** Begins a record about a key: database and key are written, the caller writes the rest and ends. */
  beginRecord(type: number, key: Uint8Array): ByteWriter {
    const writer = this.engine.journal.begin(type);
    writer.varint(this.index);
    writer.bytes(key);
    return writer;
  }

  /** After the stream's oldest entry or its retention changed. */
  watchRetention(entry: KeyEntry, value: StreamValue): void {
    const at = this.keyspace.retentionDeadlines.watch(entry, value);
    if (at !== null) this.engine.dueAt(this.engine.time.whenDate(at));
  }

  /** After a change: transactions that watch the key will fail. */
  signalModified(entry: KeyEntry): void {
    if (entry.watchers !== 0 && !this.engine.replaying) this.watches.dirty(entry.key);
  }

  /** After a change that could serve or fail a blocked reader. */
  signalKeyReady(entry: KeyEntry): void {
    if (entry.readers !== 0) this.engine.blocked.signal(this, entry.key);
  }

  /** A keyspace notification. Where it is called often, `engine.events` is asked for first. */
  notify(eventClass: number, name: string, key: Uint8Array): void {
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
    this.removedAt = this.engine.changing();
    const flushed = this.keyspace;
    if (flushed.table.size > 0 || flushed.schedule.size > 0) {
      this.keyspace = new Keyspace(this.engine.nextUid(), this.engine.random);
      this.engine.memory.flushed(flushed);
      this.engine.checkpointer?.keyspaceFlushed(flushed);
    }
    for (const key of this.watches.keys()) {
      if (flushed.table.find(key, 0, key.length) !== undefined) this.watches.dirty(key);
    }
    this.engine.blocked.signalAll(this);
  }

  /** SWAPDB without its record: the keys of both change places; sessions keep their numbers. */
  swapWith(other: Database): void {
    const at = this.engine.changing();
    this.removedAt = this.swappedAt = other.removedAt = other.swappedAt = at;
    const mine = this.keyspace;
    this.keyspace = other.keyspace;
    other.keyspace = mine;
    this.onSwapped(mine);
    other.onSwapped(this.keyspace);
  }

  /** Enters an entry under the name source[from .. from + length): for restoring a checkpoint. */
  insert(
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
      this.engine.memory.add(keyspace, entry);
      this.watchDeadlines(entry, value);
    }
    return entry;
  }

  /** Removes the key when its time has come; true when it is to be treated as absent. */
  expireIfNeeded(entry: KeyEntry): boolean {
    const engine = this.engine;
    // Replay removes a key where its DEL record says so, at no other moment.
    if (entry.expireAt >= engine.now || engine.replaying) return false;
    if (engine.journal.refusal === null) {
      engine.statistics.expiredKeys++;
      this.deleteEntry(entry);
      if (engine.events !== null) this.notify(EventClass.EXPIRED, 'expired', entry.key);
    }
    return true;
  }

  private watchDeadlines(entry: KeyEntry, value: StreamValue): void {
    if (value.idempotency !== null) this.keyspace.idempotencyDeadlines.watch(entry, value);
    if (value.retention !== null) this.watchRetention(entry, value);
  }

  private place(key: Uint8Array, value: Value, expireAt: number): KeyEntry {
    const replaced = this.peekKey(key);
    this.engine.changing();
    if (replaced !== undefined) this.discard(replaced);
    const entry = this.insert(key, value, expireAt);
    this.touch(entry);
    if (value.type === 'stream') {
      for (const group of value.groups.values()) this.touchGroup(entry, group);
    }
    return entry;
  }

  private discard(entry: KeyEntry): void {
    this.removedAt = this.engine.changing();
    this.keyspace.detach(entry);
    this.keyspace.schedule.onKeyFreed(entry.key);
    entry.removed = true;
    if (entry.value.type === 'stream') {
      const { value } = entry;
      this.engine.memory.remove(this.keyspace, entry, value);
      this.keyspace.retentionDeadlines.remove(value);
      this.keyspace.idempotencyDeadlines.remove(value);
    } else this.engine.memory.freed += roomOf(entry.value);
    this.engine.checkpointer?.remove(entry);
  }

  private deleteEntry(entry: KeyEntry): void {
    this.discard(entry);
    if (this.engine.recording) {
      this.beginRecord(RecordType.DEL, entry.key);
      this.engine.journal.end();
    }
    this.onKeyRemoved(entry);
  }

  /** An entry took a name: readers and watchers of the name are from now on those of the entry. */
  private onKeyAdded(entry: KeyEntry): void {
    const engine = this.engine;
    if (engine.replaying) return;
    entry.watchers = this.watches.count(entry.key);
    if (entry.watchers !== 0) this.watches.dirty(entry.key);
    entry.readers = engine.blocked.count(this, entry.key);
    if (entry.readers !== 0) engine.blocked.signal(this, entry.key);
    if (entry.value.type === 'stream') {
      engine.onStreamAdded?.(this.index, entry);
      engine.announcements.add(this.index, entry.key);
    }
    if (engine.events !== null) this.notify(EventClass.NEW, 'new', entry.key);
  }

  private onKeyRemoved(entry: KeyEntry): void {
    if (entry.watchers !== 0) this.watches.dirty(entry.key);
    if (entry.readers !== 0) this.engine.blocked.signal(this, entry.key);
  }

  private onKeyRenamed(entry: KeyEntry, name: Buffer): void {
    if (entry.watchers !== 0) this.watches.dirty(name);
    if (entry.readers !== 0) this.engine.blocked.signal(this, name);
    entry.watchers = 0;
    entry.readers = 0;
  }

  private onSwapped(former: Keyspace): void {
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

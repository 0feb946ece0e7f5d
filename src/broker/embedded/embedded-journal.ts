/**
 * Journals in this process: a commit is one turn of the engine.
 *
 * Invariant: every condition and every key is checked before the first change, so that a refusal changes
 * nothing; all records of the turn are in one frame of the log. Watchers are notified when the log holds
 * it. Cost: as the commands themselves; no command is parsed.
 */

import { roundedLag } from '../../consumer-groups/lag.ts';
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { scheduleEntry, unschedule } from '../../engine/schedule/scheduled-entries.ts';
import { dueTime, waitOf } from '../../engine/schedule/scheduled-queue.ts';
import { isLastId } from '../../engine/streams/last-id.ts';
import { enforceRetention } from '../../engine/streams/retention.ts';
import { acknowledge } from '../../engine/streams/stream-deliveries.ts';
import {
  appendEntry,
  type Deletion,
  deleteEntries,
  nextId,
  trimStream,
} from '../../engine/streams/stream-entries.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import { RivuletError } from '../../errors.ts';
import { IdList } from '../../stream/id-list.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import { TrimRule } from '../../stream/trim.ts';
import { Arguments } from '../../util/arguments.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import { globMatches } from '../../util/glob.ts';
import { scratch } from '../../util/scratch.ts';
import {
  type JournalCommit,
  type JournalEffect,
  type JournalEntry,
  type JournalRange,
  type JournalReply,
  type JournalStore,
  type QueueState,
  storedFields,
} from '../journal.ts';
import { readId } from '../positions.ts';
import type { EngineHost } from './engine-host.ts';
import { keptName } from './kept-name.ts';

export class EmbeddedJournal implements JournalStore {
  readonly #host: EngineHost;
  readonly consume: JournalStore['consume'];

  constructor(host: EngineHost, consume: JournalStore['consume']) {
    this.#host = host;
    this.consume = consume;
  }

  async read(key: string, range: JournalRange = {}): Promise<JournalEntry[]> {
    const entries = this.#host.run(() => this.#read(key, range));
    await this.#host.durable();
    return entries;
  }

  async length(key: string): Promise<number> {
    const length = this.#host.run(() => this.#find(key)?.stream.length ?? 0);
    await this.#host.durable();
    return length;
  }

  async commit(commit: JournalCommit): Promise<JournalReply | null> {
    const host = this.#host;
    const reply = host.change(() => this.#commit(commit));
    await host.durable();
    if (reply !== null) {
      host.notifyWatchers(commit.key);
      for (const effect of commit.effects ?? []) {
        if (effect.kind === 'add' && effect.tell === true) host.notifyWatchers(effect.key);
      }
    }
    return reply;
  }

  async apply(effects: readonly JournalEffect[]): Promise<void> {
    const host = this.#host;
    host.change(() => this.#effects(effects));
    await host.durable();
  }

  async watch(key: string, listener: () => void): Promise<() => void> {
    return this.#host.watchKey(key, listener);
  }

  async keys(pattern: string): Promise<string[]> {
    const glob = Buffer.from(pattern);
    const found = this.#host.run(() =>
      [...this.#host.database.entries()]
        .filter(({ key, value }) => value.type === 'stream' && globMatches(glob, key))
        .map(({ key }) => key.toString()),
    );
    return found.sort();
  }

  async queue(key: string, group: string): Promise<QueueState | null> {
    return this.#host.run(() => {
      const value = this.#find(key);
      const found = value?.groups.get(keptName(group));
      if (value === undefined || found === undefined) return null;
      return { waiting: roundedLag(value.stream, found), pending: found.pending.size };
    });
  }

  async remove(keys: readonly string[]): Promise<void> {
    const host = this.#host;
    host.change(() => {
      const { database } = host;
      for (const name of keys) {
        const key = Buffer.from(name);
        const waiting = database.keyspace.schedule.firstOf(
          key,
          Number.POSITIVE_INFINITY,
          host.engine.time,
        );
        for (const each of waiting) unschedule(database, each);
        const entry = database.findKey(key);
        if (entry?.value.type === 'stream') database.remove(entry);
      }
    });
    await host.durable();
    for (const key of keys) host.notifyWatchers(key);
  }

  /** Undefined where there is no such stream. */
  #find(key: string): StreamValue | undefined {
    const entry = this.#host.database.findKey(Buffer.from(key));
    if (entry === undefined) return undefined;
    if (entry.value.type === 'stream') return entry.value;
    throw new RivuletError('INVALID_ARGUMENT', `${key} is a key of another type, not a journal`);
  }

  #commit({ key, last, records, also, restart, effects = [], token }: JournalCommit) {
    if (!isLastId(this.#find(key), readId(last))) return null;
    for (const other of also ?? []) {
      if (!isLastId(this.#find(other.key), readId(other.last))) return null;
    }
    this.#check(effects);
    const ids = records.map((record) => this.#append(key, storedFields(record, token)));
    if (restart === true) {
      rule.strategy = 'maxlen';
      rule.maxlen = records.length;
      rule.approximate = false;
      const entry = this.#entryOf(key);
      trimStream(this.#host.database, entry, entry.value as StreamValue, rule, 'keepref');
    }
    return { ids, added: this.#effects(effects) };
  }

  #check(effects: readonly JournalEffect[]): void {
    for (const effect of effects) if (effect.kind === 'add') this.#find(effect.key);
  }

  #effects(effects: readonly JournalEffect[]): (string | null)[] {
    this.#check(effects);
    const added: (string | null)[] = [];
    for (const effect of effects) {
      if (effect.kind === 'add') added.push(this.#add(effect));
      else this.#carryOut(effect);
    }
    return added;
  }

  #add(effect: JournalEffect & { kind: 'add' }): string | null {
    const { engine, database } = this.#host;
    const { key, fields, at, delayMs, onlyIfThere, dropBefore } = effect;
    if (onlyIfThere === true && this.#find(key) === undefined) return null;
    const due = dueTime(at, delayMs, engine.steady);
    if (due !== null && waitOf(due, engine.time) > 0) {
      encode(fields);
      const number = scheduleEntry(database, Buffer.from(key), due, null, args, 0, args.count);
      return `s${number}`;
    }
    const added = this.#append(key, fields);
    if (dropBefore !== undefined) {
      rule.strategy = 'minid';
      rule.minid.copy(readId(dropBefore));
      rule.approximate = true;
      const entry = this.#entryOf(key);
      trimStream(database, entry, entry.value as StreamValue, rule, 'keepref');
    }
    return added;
  }

  #carryOut(effect: Exclude<JournalEffect, { kind: 'add' }>): void {
    const { engine, database } = this.#host;
    if (effect.kind === 'unschedule') {
      const scheduled = database.keyspace.schedule.get(Number(effect.name.slice(1)));
      if (scheduled?.key.toString() === effect.key) unschedule(database, scheduled);
      return;
    }
    const entry = database.findKey(Buffer.from(effect.key));
    if (entry?.value.type !== 'stream') return;
    const { value } = entry;
    ids.clear();
    switch (effect.kind) {
      case 'delete':
        for (const each of effect.ids) ids.push(readId(each));
        deleteEntries(database, entry, value, ids, 'keepref', outcomes);
        break;
      case 'ack': {
        const group = value.groups.get(keptName(effect.group));
        if (group === undefined) return;
        ids.push(readId(effect.id));
        acknowledge(database, entry, group, ids);
        deleteEntries(database, entry, value, ids, 'keepref', outcomes);
        break;
      }
      case 'expire':
        database.setExpiry(entry, effect.afterMs === null ? 0 : engine.now + effect.afterMs);
        break;
    }
  }

  #append(key: string, fields: readonly (string | Uint8Array)[]): string {
    const { engine, database } = this.#host;
    const entry = this.#entryOf(key);
    const value = entry.value as StreamValue;
    if (value.stream.lastId.isMax()) {
      throw new RivuletError('WRITES_REFUSED', `${key} has no id left: its last id is the highest`);
    }
    encode(fields);
    nextId(value.stream, engine.now, id);
    appendEntry(database, entry, value, id, args, 0, args.count);
    const added = id.toString();
    enforceRetention(database, entry, value);
    return added;
  }

  #entryOf(key: string): KeyEntry {
    const { engine, database } = this.#host;
    const name = Buffer.from(key);
    return database.findKey(name) ?? database.set(name, engine.newStream(), 0);
  }

  #read(key: string, { after, from, limit, newestFirst }: JournalRange): JournalEntry[] {
    const value = this.#find(key);
    if (value === undefined) return [];
    const start =
      after === undefined ? (from === undefined ? StreamId.min() : readId(from)) : readId(after);
    if (after !== undefined && !start.increment()) return [];
    const entries: JournalEntry[] = [];
    iterator.seek(value.stream, start, LAST_ID, newestFirst === true);
    const most = limit ?? Number.POSITIVE_INFINITY;
    while (entries.length < most && iterator.next()) {
      const fields: Record<string, string> = Object.create(null);
      while (iterator.nextField()) {
        const { fieldBuffer, fieldOffset, fieldLength } = iterator;
        const { valueBuffer, valueOffset, valueLength } = iterator;
        const name = textOf(fieldBuffer, fieldOffset, fieldLength);
        fields[name] = textOf(valueBuffer, valueOffset, valueLength);
      }
      entries.push({ id: iterator.id.toString(), fields });
    }
    return entries;
  }
}

function textOf(bytes: Uint8Array, offset: number, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString();
}

/** Fills `args`. */
function encode(fields: readonly (string | Uint8Array)[]): void {
  bytes.clear();
  args.clear(bytes.buffer);
  for (const part of fields) {
    const raw = typeof part === 'string' ? Buffer.from(part) : part;
    args.push(bytes.length, raw.length);
    bytes.raw(raw, 0, raw.length);
  }
  args.buffer = bytes.buffer;
}

const LAST_ID = StreamId.max();

// Scratch: never held across calls.
const bytes = scratch(new ByteWriter());
const args = new Arguments();
const id = new StreamId();
const ids = new IdList();
const outcomes: Deletion[] = [];
const rule = new TrimRule();
const iterator = scratch(new StreamIterator());

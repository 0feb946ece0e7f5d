/**
 * Messages into streams, within a turn: publishing, at once or later, once per id; redriving.
 */

import type { KeyEntry } from '../engine/key-entry.ts';
import { retain } from '../engine/retention.ts';
import { idOfScheduled, numberOfScheduled, scheduleEntry } from '../engine/scheduled-entries.ts';
import {
  appendEntry,
  configureIdempotency,
  countDuplicate,
  type Deletion,
  deleteEntries,
  findIdempotent,
  nextId,
  recordIdempotent,
  trimStream,
} from '../engine/stream-entries.ts';
import type { StreamValue } from '../engine/stream-value.ts';
import { RivuletError } from '../errors.ts';
import { IdList } from '../stream/id-list.ts';
import { StreamId } from '../stream/stream-id.ts';
import { StreamIterator } from '../stream/stream-iterator.ts';
import { TrimRule } from '../stream/trim.ts';
import { Arguments } from '../util/arguments.ts';
import { ByteWriter } from '../util/byte-writer.ts';
import { scratch } from '../util/scratch.ts';
import type { Receipt } from './broker.ts';
import type { PublishPlan } from './broker-base.ts';
import type { EmbeddedEngine } from './embedded-engine.ts';
import { messageOf, pushFields } from './entry.ts';
import { type Message, redrivenMessage } from './message.ts';
import type { BrokerOptions } from './options.ts';

/** Publish ids that a topic remembers. */
export const MOST_IDS = 10_000;
/** Whose idempotent ids they are. */
const PRODUCER = 'rivulet';

export class EmbeddedPublisher {
  readonly #shell: EmbeddedEngine;
  readonly #options: BrokerOptions;

  constructor(shell: EmbeddedEngine, options: BrokerOptions) {
    this.#shell = shell;
    this.#options = options;
  }

  store(topic: string, messages: readonly Message[], plan: PublishPlan): Receipt[] {
    const { engine } = this.#shell;
    const due = plan.deliverAt ?? (plan.delayMs === null ? 0 : engine.now + plan.delayMs);
    if (due > engine.now) {
      return messages.map((message) => this.#storeLater(topic, message, plan, Math.ceil(due)));
    }
    const receipts: Receipt[] = [];
    for (const message of messages) receipts.push(this.#store(topic, message, plan));
    return receipts;
  }

  /** Sends up to `most` dead letters after `after` back; moves `after` on. Says how many it looked at. */
  redrive(
    topic: string,
    from: string,
    after: StreamId,
    most: number,
  ): { looked: number; moved: number } {
    const { database } = this.#shell;
    const source = database.findKey(Buffer.from(from));
    if (source?.value.type !== 'stream') return { looked: 0, moved: 0 };
    const letters: Message[] = [];
    let looked = 0;
    ids.clear();
    iterator.seek(source.value.stream, after, LAST_ID);
    while (looked < most && iterator.next()) {
      looked++;
      after.copy(iterator.id).increment();
      const { topic: origin, message } = redrivenMessage(readMessage());
      if ((origin ?? topic) !== topic) continue;
      ids.push(iterator.id);
      letters.push(message);
    }
    if (letters.length > 0) {
      deleteEntries(database, source, source.value, ids, 'keepref', outcomes);
      for (const message of letters) this.#store(topic, message, AT_ONCE);
    }
    return { looked, moved: letters.length };
  }

  #store(topic: string, message: Message, plan: PublishPlan): Receipt {
    const { engine, database } = this.#shell;
    const entry = this.#streamOf(topic);
    const value = entry.value as StreamValue;
    if (plan.id !== null) {
      const known = this.#known(entry, value, plan.id);
      if (known !== null) return { id: known, duplicate: true };
    }
    if (value.stream.lastId.isMax()) {
      throw new RivuletError('WRITES_REFUSED', `${topic} has used up its ids`);
    }
    encode(message);
    nextId(value.stream, engine.now, id);
    appendEntry(database, entry, value, id, args, 0, args.count);
    if (plan.id !== null) recordIdempotent(database, entry, value, PRODUCER, latin1(plan.id), id);
    if (plan.maxLength !== null)
      trimStream(database, entry, value, trimTo(plan.maxLength), 'keepref');
    retain(database, entry, value);
    return { id: id.toString(), duplicate: false };
  }

  #storeLater(topic: string, message: Message, plan: PublishPlan, due: number): Receipt {
    const { engine, database } = this.#shell;
    const entry = this.#streamOf(topic);
    const value = entry.value as StreamValue;
    if (plan.id !== null) {
      const known = this.#known(entry, value, plan.id);
      if (known !== null) return { id: known, duplicate: true };
    }
    encode(message);
    const trim = plan.maxLength === null ? null : { ...trimTo(plan.maxLength), ...KEEP };
    const number = scheduleEntry(database, Buffer.from(topic), due, trim, args, 0, args.count);
    if (plan.id !== null) {
      idOfScheduled(id, engine.now, number);
      recordIdempotent(database, entry, value, PRODUCER, latin1(plan.id), id, 'scheduled');
    }
    return { id: `s${number}`, duplicate: false };
  }

  /** The receipt's id of an earlier publish with this id. */
  #known(entry: KeyEntry, value: StreamValue, publishId: string): string | null {
    const { database } = this.#shell;
    if (value.idempotency === null) {
      const seconds = Math.ceil(this.#options.idWindowMs / 1000);
      configureIdempotency(database, entry, value, seconds, MOST_IDS);
    }
    const kind = findIdempotent(database, value, PRODUCER, latin1(publishId), id);
    if (kind === null) return null;
    countDuplicate(database, entry, value);
    return kind === 'entry' ? id.toString() : `s${numberOfScheduled(id)}`;
  }

  #streamOf(topic: string): KeyEntry {
    const { engine, database } = this.#shell;
    const key = Buffer.from(topic);
    const entry = database.findKey(key) ?? database.set(key, engine.newStream(), 0);
    if (entry.value.type === 'stream') return entry;
    throw new RivuletError('INVALID_ARGUMENT', `${topic} is the name of something else`);
  }
}

/** Fills `args` with the message's fields. */
function encode(message: Message): void {
  parts.length = 0;
  pushFields(parts, message);
  bytes.clear();
  args.clear(bytes.buffer);
  for (const part of parts) {
    const raw = part instanceof Uint8Array ? part : Buffer.from(String(part));
    args.push(bytes.length, raw.length);
    bytes.raw(raw, 0, raw.length);
  }
  args.buffer = bytes.buffer;
}

/** The message at the iterator, on bytes of its own. */
function readMessage(): Message {
  const fields: Uint8Array[] = [];
  while (iterator.nextField()) {
    const { fieldBuffer, fieldOffset, fieldLength } = iterator;
    const { valueBuffer, valueOffset, valueLength } = iterator;
    fields.push(
      Uint8Array.prototype.slice.call(fieldBuffer, fieldOffset, fieldOffset + fieldLength),
      Uint8Array.prototype.slice.call(valueBuffer, valueOffset, valueOffset + valueLength),
    );
  }
  return messageOf(fields);
}

function trimTo(maxLength: number): TrimRule {
  rule.strategy = 'maxlen';
  rule.maxlen = Math.floor(maxLength);
  rule.approximate = true;
  return rule;
}

function latin1(text: string): string {
  return Buffer.from(text).toString('latin1');
}

const AT_ONCE: PublishPlan = { id: null, delayMs: null, deliverAt: null, maxLength: null };
const KEEP = { references: 'keepref' } as const;
const LAST_ID = StreamId.max();

// Scratch: never held across calls.
const bytes = scratch(new ByteWriter());
const args = new Arguments();
const parts: (string | number | bigint | Uint8Array)[] = [];
const id = new StreamId();
const ids = new IdList();
const outcomes: Deletion[] = [];
const rule = new TrimRule();
const iterator = scratch(new StreamIterator());

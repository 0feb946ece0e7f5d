/**
 * Stores messages in streams, within a turn: at once or delayed, once per `dedupId`; redrives dead letters.
 *
 * Cost: one append a message; a `dedupId` adds one lookup and one map entry.
 */

import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import {
  idOfScheduled,
  numberOfScheduled,
  scheduleEntry,
} from '../../engine/schedule/scheduled-entries.ts';
import { type DueTime, dueTime, waitOf } from '../../engine/schedule/scheduled-queue.ts';
import { enforceRetention } from '../../engine/streams/retention.ts';
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
} from '../../engine/streams/stream-entries.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import { RivuletError } from '../../errors.ts';
import { IdList } from '../../stream/id-list.ts';
import { StreamId } from '../../stream/stream-id.ts';
import { StreamIterator } from '../../stream/stream-iterator.ts';
import { TrimRule } from '../../stream/trim.ts';
import { Arguments } from '../../util/arguments.ts';
import { ByteWriter } from '../../util/byte-writer.ts';
import { scratch } from '../../util/scratch.ts';
import type { Receipt } from '../broker.ts';
import type { PublishPlan } from '../broker-base.ts';
import { decodeMessage, encodeMessage } from '../message/entry.ts';
import { type RawMessage, redrivenMessage } from '../message/message.ts';
import type { BrokerOptions } from '../options/options.ts';
import type { EngineHost } from './engine-host.ts';
import { keptName } from './kept-name.ts';

/** How many `dedupId`s a topic remembers. */
export const MOST_IDS = 10_000;
/** The producer under which the engine stores `dedupId`s. */
const PRODUCER = 'rivulet';

export class EmbeddedPublisher {
  readonly #host: EngineHost;
  readonly #options: BrokerOptions;

  constructor(host: EngineHost, options: BrokerOptions) {
    this.#host = host;
    this.#options = options;
  }

  store(topic: string, messages: readonly RawMessage[], plan: PublishPlan): Receipt[] {
    const { engine } = this.#host;
    const due = dueTime(plan.deliverAt, plan.delayMs, engine.steady);
    if (due !== null && waitOf(due, engine.time) > 0) {
      return messages.map((message) => this.#storeLater(topic, message, plan, due));
    }
    const receipts: Receipt[] = [];
    for (const message of messages) receipts.push(this.#store(topic, message, plan));
    return receipts;
  }

  /** Looks at up to `most` dead letters after `after`, redrives those of `topic`, and advances `after`. */
  redrive(
    topic: string,
    from: string,
    after: StreamId,
    most: number,
  ): { looked: number; moved: number } {
    const { database } = this.#host;
    const source = database.findKey(Buffer.from(from));
    if (source?.value.type !== 'stream') return { looked: 0, moved: 0 };
    const letters: RawMessage[] = [];
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
    // A letter is deleted only when its copy is stored: the origin may refuse it.
    stored.clear();
    try {
      for (const [index, message] of letters.entries()) {
        this.#store(topic, message, AT_ONCE);
        stored.push(ids.get(index, id));
      }
    } finally {
      if (stored.count > 0) {
        deleteEntries(database, source, source.value, stored, 'keepref', outcomes);
      }
    }
    return { looked, moved: letters.length };
  }

  #store(topic: string, message: RawMessage, plan: PublishPlan): Receipt {
    const { engine, database } = this.#host;
    const entry = this.#streamOf(topic);
    const value = entry.value as StreamValue;
    if (plan.dedupId !== null) {
      const known = this.#known(entry, value, plan.dedupId);
      if (known !== null) return { id: known, duplicate: true };
    }
    if (value.stream.lastId.isMax()) {
      throw new RivuletError(
        'WRITES_REFUSED',
        `${topic} has no id left: its last id is the highest`,
      );
    }
    encode(message);
    nextId(value.stream, engine.now, id);
    appendEntry(database, entry, value, id, args, 0, args.count);
    if (plan.dedupId !== null) {
      const dedupId = keptName(plan.dedupId);
      recordIdempotent(database, entry, value, PRODUCER, dedupId, id, engine.steady);
    }
    if (plan.maxLength !== null)
      trimStream(database, entry, value, trimTo(plan.maxLength), 'keepref');
    enforceRetention(database, entry, value);
    return { id: id.toString(), duplicate: false };
  }

  #storeLater(topic: string, message: RawMessage, plan: PublishPlan, due: DueTime): Receipt {
    const { engine, database } = this.#host;
    const entry = this.#streamOf(topic);
    const value = entry.value as StreamValue;
    if (plan.dedupId !== null) {
      const known = this.#known(entry, value, plan.dedupId);
      if (known !== null) return { id: known, duplicate: true };
    }
    encode(message);
    const trim = plan.maxLength === null ? null : { ...trimTo(plan.maxLength), ...KEEP };
    const number = scheduleEntry(database, Buffer.from(topic), due, trim, args, 0, args.count);
    if (plan.dedupId !== null) {
      idOfScheduled(id, engine.now, number);
      const dedupId = keptName(plan.dedupId);
      const { steady } = engine;
      recordIdempotent(database, entry, value, PRODUCER, dedupId, id, steady, 'scheduled');
    }
    return { id: `s${number}`, duplicate: false };
  }

  /** The id in the receipt of an earlier publish with this `dedupId`, or null. */
  #known(entry: KeyEntry, value: StreamValue, publishId: string): string | null {
    const { database } = this.#host;
    if (value.idempotency === null) {
      const seconds = Math.ceil(this.#options.dedupWindowMs / 1000);
      configureIdempotency(database, entry, value, seconds, MOST_IDS);
    }
    const kind = findIdempotent(database, value, PRODUCER, keptName(publishId), id);
    if (kind === null) return null;
    countDuplicate(database, entry, value);
    return kind === 'entry' ? id.toString() : `s${numberOfScheduled(id)}`;
  }

  #streamOf(topic: string): KeyEntry {
    const { engine, database } = this.#host;
    const key = Buffer.from(topic);
    const entry = database.findKey(key) ?? database.set(key, engine.newStream(), 0);
    if (entry.value.type === 'stream') return entry;
    throw new RivuletError('INVALID_ARGUMENT', `${topic} is a key of another type, not a topic`);
  }
}

/** Fills `args` with the message's fields. */
function encode(message: RawMessage): void {
  parts.length = 0;
  encodeMessage(parts, message);
  bytes.clear();
  args.clear(bytes.buffer);
  for (const part of parts) {
    const raw = part instanceof Uint8Array ? part : Buffer.from(String(part));
    args.push(bytes.length, raw.length);
    bytes.raw(raw, 0, raw.length);
  }
  args.buffer = bytes.buffer;
}

/** A copy of the message at the iterator. */
function readMessage(): RawMessage {
  const fields: Uint8Array[] = [];
  while (iterator.nextField()) {
    const { fieldBuffer, fieldOffset, fieldLength } = iterator;
    const { valueBuffer, valueOffset, valueLength } = iterator;
    fields.push(
      Uint8Array.prototype.slice.call(fieldBuffer, fieldOffset, fieldOffset + fieldLength),
      Uint8Array.prototype.slice.call(valueBuffer, valueOffset, valueOffset + valueLength),
    );
  }
  return decodeMessage(fields);
}

function trimTo(maxLength: number): TrimRule {
  rule.strategy = 'maxlen';
  rule.maxlen = Math.floor(maxLength);
  rule.approximate = true;
  return rule;
}

const AT_ONCE: PublishPlan = { dedupId: null, delayMs: null, deliverAt: null, maxLength: null };
const KEEP = { references: 'keepref' } as const;
const LAST_ID = StreamId.max();

// Scratch: never held across calls.
const bytes = scratch(new ByteWriter());
const args = new Arguments();
const parts: (string | number | bigint | Uint8Array)[] = [];
const id = new StreamId();
const ids = new IdList();
const stored = new IdList();
const outcomes: Deletion[] = [];
const rule = new TrimRule();
const iterator = scratch(new StreamIterator());

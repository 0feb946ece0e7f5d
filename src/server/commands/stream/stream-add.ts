/**
 * XADD and XTRIM.
 *
 * XADD with `*` right after the key is the server's hottest command: it reads no options, allocates
 * nothing, and its fields and values go as they arrived into block and log.
 * Order of checks and errors: xaddCommand.
 */
import { mayReadAhead } from '../../../engine/checkpoint/read-ahead.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import {
  idOfScheduled,
  numberOfScheduled,
  scheduleEntry,
} from '../../../engine/schedule/scheduled-entries.ts';
import { type DueTime, waitOf } from '../../../engine/schedule/scheduled-queue.ts';
import { isLastId } from '../../../engine/streams/last-id.ts';
import { enforceRetention } from '../../../engine/streams/retention.ts';
import {
  appendEntry,
  countDuplicate,
  findIdempotent,
  neededToTrim,
  nextId,
  recordIdempotent,
  trimStream,
} from '../../../engine/streams/stream-entries.ts';
import type { StreamValue } from '../../../engine/streams/stream-value.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Command } from '../../command/command.ts';
import { keyAt, UPDATED_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { wrongArity } from '../common.ts';
import { scheduledName } from '../schedule.ts';
import { contentHash } from './content-hash.ts';
import { isCharacter } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';
import { TrimOptions } from './stream-trim-options.ts';

const ASTERISK = 42;
/** The most that the fields and values of one entry may add up to: 1 GiB. */
const LARGEST_ENTRY = 2 ** 30;

const TOO_SMALL =
  'ERR The ID specified in XADD is equal or smaller than the target stream top item';

function add(session: Session): void {
  const { args } = session;
  let fields = 3;
  const plain = isCharacter(args, 2, ASTERISK);
  if (!plain) {
    if (!options.read(session, true, session.engine.nodeLimits.maxEntries)) return;
    fields = options.idAt + 1;
  }
  if (args.count - fields < 2 || (args.count - fields) % 2 === 1) {
    wrongArity(session, 'xadd');
  } else if (plain) {
    addPlainly(session);
  } else {
    addWithOptions(session, fields);
  }
}

function addPlainly(session: Session): void {
  const { args, reply } = session;
  let entry = findStream(session, 1);
  if (entry === null) return;
  if (entry !== undefined && valueIn(entry).stream.lastId.isMax()) {
    reply.error(EXHAUSTED);
    return;
  }
  if (tooLarge(session, 3)) return;
  if (entry === undefined) entry = createStream(session);
  const value = valueIn(entry);
  nextId(value.stream, session.engine.now, id);
  appendEntry(session.database, entry, value, id, args, 3, args.count);
  if (value.retention !== null) enforceRetention(session.database, entry, value);
  reply.id(id);
}

function addWithOptions(session: Session, fields: number): void {
  const { args, database, reply } = session;
  if (options.idKind === 'given' && options.id.isZero()) {
    reply.error('ERR The ID specified in XADD must be greater than 0-0');
    return;
  }
  let entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined && !options.makeStream) {
    reply.null();
    return;
  }
  if (options.producerAt > 0) readProducer(session, fields);
  // What was added before is answered before the condition is asked: its own append made it false.
  if (options.producerAt > 0 && entry !== undefined) {
    if (answerDuplicate(session, entry, valueIn(entry))) return;
  }
  if (options.ifLast && !isLastId(entry && valueIn(entry), options.last)) {
    reply.null();
    return;
  }
  if (entry !== undefined && !chooseId(session, valueIn(entry))) return;
  if (tooLarge(session, fields)) return;
  if (options.due !== null && waitOf(options.due, session.engine.time) > 0) {
    addLater(session, entry, options.due, fields);
    return;
  }
  if (entry === undefined) {
    entry = createStream(session);
    if (!chooseId(session, valueIn(entry))) return;
  }
  const value = valueIn(entry);
  appendEntry(database, entry, value, id, args, fields, args.count);
  if (options.producerAt > 0) {
    recordIdempotent(database, entry, value, producer, idempotent, id, session.engine.steady);
  }
  reply.id(id);
  if (options.strategy !== 'none') {
    // The entry is stored and recorded: damage at the stream's other end is not its failure.
    session.engine.damaged.guard(entry, () => {
      trimStream(database, entry, value, options, options.references);
    });
  }
  if (value.retention !== null) enforceRetention(database, entry, value);
}

/** With `DELAY` or `AT`. An idempotent id is remembered now, so the stream is made now. */
function addLater(
  session: Session,
  entry: KeyEntry | undefined,
  due: DueTime,
  fields: number,
): void {
  const { args, database, engine, reply } = session;
  const trim = options.strategy === 'none' ? null : options;
  const number = scheduleEntry(database, args.view(1), due, trim, args, fields, args.count);
  if (options.producerAt > 0) {
    entry ??= createStream(session);
    idOfScheduled(id, engine.now, number);
    const made = valueIn(entry);
    recordIdempotent(database, entry, made, producer, idempotent, id, engine.steady, 'scheduled');
  }
  reply.bulkText(scheduledName(number));
}

/** The new entry's id, in `id`. Returns false after an error. */
function chooseId(session: Session, value: StreamValue): boolean {
  const { lastId } = value.stream;
  const { idKind } = options;
  if (lastId.isMax()) {
    session.reply.error(EXHAUSTED);
    return false;
  }
  if (idKind === 'auto') {
    nextId(value.stream, session.engine.now, id);
    return true;
  }
  id.copy(options.id);
  if (idKind === 'auto-sequence' && id.msHi === lastId.msHi && id.msLo === lastId.msLo) {
    // No carry into the next millisecond, unlike `*`.
    if (!lastId.seqIsMax() && id.copy(lastId).increment()) return true;
  } else if (id.compare(lastId) > 0) {
    return true;
  }
  session.reply.error(TOO_SMALL);
  return false;
}

const EXHAUSTED = 'ERR The stream has exhausted the last possible ID, unable to add more items';

function tooLarge(session: Session, fields: number): boolean {
  const { args } = session;
  // Nearly always the whole command is smaller, and there is nothing to add up.
  if (args.buffer.length <= LARGEST_ENTRY) return false;
  let size = 0;
  for (let i = fields; i < args.count; i++) size += args.lengths[i];
  if (size <= LARGEST_ENTRY) return false;
  session.reply.error('ERR Elements are too large to be stored');
  return true;
}

function createStream(session: Session): KeyEntry {
  return session.database.set(session.args.view(1), session.engine.newStream(), 0);
}

/** Sets `producer` and `idempotent` from the options or, for IDMPAUTO, the content. */
function readProducer(session: Session, fields: number): void {
  const { args } = session;
  producer = args.latin1(options.producerAt);
  idempotent =
    options.idempotentAt > 0
      ? args.latin1(options.idempotentAt)
      : contentHash(args, fields, args.count);
}

function answerDuplicate(session: Session, entry: KeyEntry, value: StreamValue): boolean {
  const { database, reply } = session;
  const kind = findIdempotent(database, value, producer, idempotent, id);
  if (kind === null) return false;
  countDuplicate(database, entry, value);
  if (kind === 'entry') reply.id(id);
  else reply.bulkText(scheduledName(numberOfScheduled(id)));
  return true;
}

function trim(session: Session): void {
  if (!options.read(session, false, session.engine.nodeLimits.maxEntries)) return;
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    session.reply.integer(0);
    return;
  }
  const { database, engine, reply } = session;
  const value = valueIn(entry);
  if (mayReadAhead(value.stream)) {
    const needed = neededToTrim(value, options, options.references);
    if (needed !== null && session.readFirst(needed)) return;
  }
  const removed = trimStream(database, entry, value, options, options.references);
  // The trim of an XADD is a part of that one change.
  engine.changes += removed;
  reply.integer(removed);
}

// Scratch: never held across commands.
const options = new TrimOptions();
const id = new StreamId();
let producer = '';
let idempotent = '';

export const streamAddCommands: readonly Command[] = [
  {
    name: 'xadd',
    arity: -5,
    flags: ['write', 'denyoom', 'fast'],
    keys: {
      ...UPDATED_KEY,
      notes: 'UPDATE instead of INSERT because of the optional trimming feature',
    },
    group: 'stream',
    since: '5.0.0',
    summary: 'Appends an entry to a stream, which is created where there is none.',
    complexity: 'O(1) to append, O(N) to trim, N being the number of entries removed.',
    run: add,
  },
  {
    name: 'xtrim',
    arity: -4,
    flags: ['write'],
    keys: keyAt(1, 'RW', 'delete'),
    group: 'stream',
    since: '5.0.0',
    summary: 'Removes entries from the beginning of a stream.',
    complexity: 'O(N), N being the number of entries removed.',
    run: trim,
  },
];

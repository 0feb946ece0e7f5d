/**
 * XSETID, XCFGSET, XCFGGET and XIDMPRECORD: what a stream knows about itself is set by hand.
 *
 * Sources: xsetidCommand, xcfgsetCommand, xidmprecordCommand.
 */
import { setRetention } from '../../../engine/streams/retention.ts';
import {
  configureIdempotency,
  findIdempotent,
  recordIdempotent,
  setStreamId,
} from '../../../engine/streams/stream-entries.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Whole } from '../../../util/whole.ts';
import type { Command } from '../../command/command.ts';
import { READ_KEY, UPDATED_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { fail, NO_SUCH_KEY, NOT_AN_INTEGER, SYNTAX } from '../common.ts';
import { readStrictId } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';

const LONGEST_DURATION = 86_400;
const LARGEST_MAXSIZE = 10_000;
const LIMITS = ['MAXAGE', 'MAXBYTES', 'MAXLEN'];
const LARGEST_LIMIT = 2 ** 48;
const NO_LIMITS = { maxAge: 0, maxBytes: 0, maxLen: 0 };

function setId(session: Session): void {
  const { database, reply } = session;
  if (!readStrictId(session, 2, id) || !readSetIdOptions(session)) return;
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  const { stream } = valueIn(entry);
  if (id.compare(stream.maxDeletedId) < 0) {
    reply.error('ERR The ID specified in XSETID is smaller than current max_deleted_entry_id');
    return;
  }
  if (stream.length > 0) {
    stream.lastNonDeletedId(other);
    if (id.compare(other) < 0) {
      reply.error('ERR The ID specified in XSETID is smaller than the target stream top item');
      return;
    }
    if (entriesAdded !== -1 && stream.length > entriesAdded) {
      reply.error(
        'ERR The entries_added specified in XSETID is smaller than the target stream length',
      );
      return;
    }
  }
  setStreamId(database, entry, valueIn(entry), id, entriesAdded, maxDeletedId);
  reply.ok();
}

/** `[ENTRIESADDED n] [MAXDELETEDID id]`. Returns false after an error. */
function readSetIdOptions(session: Session): boolean {
  const { args } = session;
  entriesAdded = -1;
  maxDeletedId.setMin();
  for (let i = 3; i < args.count; i++) {
    const more = i + 1 < args.count;
    if (more && args.is(i, 'ENTRIESADDED')) {
      const given = args.whole(++i);
      if (given === null) return fail(session, NOT_AN_INTEGER);
      if (given < 0) return fail(session, 'ERR entries_added must be positive');
      entriesAdded = given;
    } else if (more && args.is(i, 'MAXDELETEDID')) {
      if (!readStrictId(session, ++i, maxDeletedId)) return false;
      if (id.compare(maxDeletedId) < 0) {
        return fail(
          session,
          'ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id',
        );
      }
    } else {
      return fail(session, SYNTAX);
    }
  }
  return true;
}

function configure(session: Session): void {
  const { database, engine, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  if (!readWindow(session)) return;
  const value = valueIn(entry);
  if (duration !== -1 || maxsize !== -1) {
    const present = value.idempotency ?? engine.idempotencyWindow;
    configureIdempotency(
      database,
      entry,
      value,
      duration === -1 ? present.duration : duration,
      maxsize === -1 ? present.maxsize : maxsize,
    );
  }
  if (kept.some((limit) => limit !== -1)) {
    const { maxAge, maxBytes, maxLen } = value.retention ?? NO_LIMITS;
    setRetention(database, entry, value, {
      maxAge: kept[0] === -1 ? maxAge : kept[0],
      maxBytes: kept[1] === -1 ? maxBytes : kept[1],
      maxLen: kept[2] === -1 ? maxLen : kept[2],
    });
  }
  reply.ok();
}

/** XCFGGET: an addition, as Redis shows none of this in one place. */
function showConfiguration(session: Session): void {
  const { engine, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  const { idempotency, retention } = valueIn(entry);
  const window = idempotency ?? engine.idempotencyWindow;
  const { maxAge, maxBytes, maxLen } = retention ?? NO_LIMITS;
  const facts = [window.duration, window.maxsize, maxAge, maxBytes, maxLen];
  reply.map(facts.length);
  ['idmp-duration', 'idmp-maxsize', 'maxage', 'maxbytes', 'maxlen'].forEach((name, i) => {
    reply.bulkText(name);
    reply.integer(facts[i]);
  });
}

/**
 * `[IDMP-DURATION s] [IDMP-MAXSIZE n]`, and, not Redis's, `[MAXAGE ms] [MAXBYTES n] [MAXLEN n]` (0 = no
 * limit); at least one of them. Returns false after an error.
 */
function readWindow(session: Session): boolean {
  const { args } = session;
  duration = -1;
  maxsize = -1;
  kept.fill(-1);
  for (let i = 2; i < args.count; i++) {
    const limit = LIMITS.findIndex((name) => args.is(i, name));
    if (limit >= 0 && i + 1 < args.count) {
      const name = LIMITS[limit];
      if (kept[limit] !== -1) return fail(session, `ERR ${name} specified multiple times`);
      const given = args.integer(++i);
      if (given === null) return fail(session, NOT_AN_INTEGER);
      if (given < 0 || given > LARGEST_LIMIT) {
        return fail(session, `ERR ${name} must be between 0 and ${LARGEST_LIMIT}`);
      }
      kept[limit] = given;
      continue;
    }
    const isDuration = args.is(i, 'IDMP-DURATION');
    if (i + 1 === args.count || !(isDuration || args.is(i, 'IDMP-MAXSIZE'))) {
      return fail(session, SYNTAX);
    }
    const name = isDuration ? 'IDMP-DURATION' : 'IDMP-MAXSIZE';
    if ((isDuration ? duration : maxsize) !== -1) {
      return fail(session, `ERR ${name} specified multiple times`);
    }
    const given = args.integer(++i);
    if (given === null) return fail(session, NOT_AN_INTEGER);
    const most = isDuration ? LONGEST_DURATION : LARGEST_MAXSIZE;
    if (given < 1 || given > most) {
      const unit = isDuration ? 'seconds' : 'entries';
      return fail(session, `ERR ${name} must be between 1 and ${most} ${unit}`);
    }
    if (isDuration) duration = given;
    else maxsize = given;
  }
  if (duration !== -1 || maxsize !== -1 || kept.some((limit) => limit !== -1)) return true;
  return fail(session, 'ERR At least one parameter must be specified');
}

function recordProducer(session: Session): void {
  const { args, database, engine, reply } = session;
  if (!readStrictId(session, 4, id)) return;
  if (args.lengths[2] === 0 || args.lengths[3] === 0) {
    const which = args.lengths[2] === 0 ? 'producer' : 'idempotent';
    reply.error(`ERR ${which} ID must be non-empty`);
    return;
  }
  const entry = findStream(session, 1);
  if (entry === null) return;
  if (entry === undefined) {
    reply.error(NO_SUCH_KEY);
    return;
  }
  const value = valueIn(entry);
  if (!value.stream.has(id)) {
    reply.error('ERR No such message in stream');
    return;
  }
  const producer = args.latin1(2);
  const idempotent = args.latin1(3);
  if (findIdempotent(database, value, producer, idempotent, other) === null) {
    // Its age follows from its id: the command carries over what another server knew.
    const time = Math.min(engine.steady, id.ms - engine.time.stepped);
    recordIdempotent(database, entry, value, producer, idempotent, id, time);
  } else if (!other.equals(id)) {
    reply.error('ERR IID already exists for this producer with a different stream ID');
    return;
  }
  reply.ok();
}

// Scratch: never held across commands.
const id = new StreamId();
const other = new StreamId();
const maxDeletedId = new StreamId();
let entriesAdded: Whole = -1;
let duration = -1;
let maxsize = -1;
/** As LIMITS; -1 = not given. */
const kept = [-1, -1, -1];

export const streamConfigCommands: readonly Command[] = [
  {
    name: 'xsetid',
    arity: -3,
    flags: ['write', 'denyoom', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Sets the last id of a stream, and its counters.',
    complexity: 'O(1)',
    run: setId,
  },
  {
    name: 'xcfgget',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: READ_KEY,
    group: 'stream',
    since: '8.10.0',
    summary: 'Returns what a stream remembers of idempotent ids, and how much of it is kept.',
    complexity: 'O(1)',
    run: showConfiguration,
  },
  {
    name: 'xcfgset',
    arity: -2,
    flags: ['write', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '8.6.0',
    summary:
      'Sets how many idempotent ids a stream remembers for how long, and how much of it is kept.',
    complexity: 'O(1), and O(N) where N entries go.',
    run: configure,
  },
  {
    name: 'xidmprecord',
    arity: 5,
    flags: ['write', 'denyoom', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '8.6.2',
    summary: 'Remembers under which idempotent id an entry was added.',
    complexity: 'O(1)',
    run: recordProducer,
  },
];

/**
 * XACK and XNACK: pending entries are done, or go back to the group.
 *
 * All ids are read before the first acts, so that a bad one changes nothing.
 * Sources: xackCommand, xnackCommand.
 */
import type { NackOptions } from '../../../consumer-groups/claim.ts';
import { countFrom } from '../../../consumer-groups/delivery-count.ts';
import { nackEntries, type PolicyNackOptions } from '../../../engine/streams/group-policy.ts';
import { acknowledge, release } from '../../../engine/streams/stream-deliveries.ts';
import { findGroup } from '../../../engine/streams/stream-groups.ts';
import { IdList } from '../../../stream/id-list.ts';
import { StreamId } from '../../../stream/stream-id.ts';
import type { Command } from '../../command/command.ts';
import { UPDATED_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { fail, NOT_AN_INTEGER } from '../common.ts';
import { noGroup } from './stream-errors.ts';
import { readStrictIds } from './stream-ids.ts';
import { findStream, valueIn } from './stream-lookup.ts';
import { keepOwned } from './stream-owner.ts';

const INT_MAX = 0x7fff_ffff;
/** A hundred years, in ms. */
const LONGEST_DELAY = 100 * 366 * 86_400_000;

function ack(session: Session): void {
  const { args, database, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (entry === undefined || group === undefined) {
    reply.integer(0);
    return;
  }
  if (!readStrictIds(session, 3, args.count - 3, id, ids)) return;
  reply.integer(acknowledge(database, entry, group, ids));
}

function nack(session: Session): void {
  const { args, database, reply } = session;
  const entry = findStream(session, 1);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), args, 2);
  if (entry === undefined || group === undefined) {
    noGroup(session, 1, 2);
    return;
  }
  const mode = MODES.find((name) => args.is(3, name));
  if (mode === undefined) {
    reply.error('ERR mode must be SILENT, FAIL, or FATAL');
    return;
  }
  options.mode = mode;
  if (!readOptions(session)) return;
  if (!readStrictIds(session, idsAt, idCount, id, ids)) return;
  if (ownerAt > 0) keepOwned(session, group, ids, ownerAt);
  const value = valueIn(entry);
  if (group.policy !== null) {
    gone.clear();
    const left = nackEntries(database, entry, value, group, ids, options, gone);
    // A consumer that names itself learns that its entry was trimmed: it is not delivered again.
    reply.integer(ownerAt > 0 ? left - gone.count : left);
  } else if (mode === 'DEADLETTER' || options.delay >= 0 || options.reason !== null) {
    reply.error('ERR DEADLETTER, DELAY and REASON need a group with a policy: XGROUP SETPOLICY');
  } else {
    options.mode = mode;
    reply.integer(release(database, entry, value, group, ids, options as NackOptions));
  }
}

const MODES: readonly PolicyNackOptions['mode'][] = ['SILENT', 'FAIL', 'FATAL', 'DEADLETTER'];

/**
 * `IDS n id ... [RETRYCOUNT n] [FORCE]`, in any order, and in a group with a policy
 * `[DELAY ms] [REASON text] [OWNER consumer]`. Returns false after an error.
 */
function readOptions(session: Session): boolean {
  const { args } = session;
  options.retryCount = -1;
  options.force = false;
  options.delay = -1;
  options.reason = null;
  ownerAt = 0;
  idsAt = 0;
  for (let i = 4; i < args.count; i++) {
    const more = i + 1 < args.count;
    if (more && args.is(i, 'IDS')) {
      const count = args.integer(i + 1);
      if (count === null || count < 1 || count > INT_MAX) {
        return fail(session, 'ERR numids must be a positive integer');
      }
      if (count > args.count - i - 2) {
        return fail(session, "ERR number of IDs doesn't match numids");
      }
      idsAt = i + 2;
      idCount = count;
      i = idsAt + count - 1;
    } else if (args.is(i, 'FORCE')) {
      options.force = true;
    } else if (more && args.is(i, 'RETRYCOUNT')) {
      const count = args.whole(++i);
      if (count === null) return fail(session, NOT_AN_INTEGER);
      if (count < 0) return fail(session, 'ERR Invalid RETRYCOUNT value, must be >= 0');
      options.retryCount = countFrom(count);
    } else if (more && args.is(i, 'DELAY')) {
      const delay = args.integer(++i);
      if (delay === null) return fail(session, NOT_AN_INTEGER);
      if (delay < 0 || delay > LONGEST_DELAY) {
        return fail(session, `ERR DELAY must be between 0 and ${LONGEST_DELAY}`);
      }
      options.delay = delay;
    } else if (more && args.is(i, 'OWNER')) {
      ownerAt = ++i;
    } else if (more && args.is(i, 'REASON')) {
      options.reason = args.text(++i);
    } else {
      return fail(session, `ERR Unrecognized XNACK option '${args.latin1(i)}'`);
    }
  }
  return idsAt > 0 || fail(session, 'ERR syntax error, expected IDS keyword');
}

// Scratch: never held across commands.
const id = new StreamId();
const ids = new IdList();
/** Of one XNACK: those whose entries were trimmed. */
const gone = new IdList();
const options: PolicyNackOptions = {
  mode: 'FAIL',
  retryCount: -1,
  force: false,
  delay: -1,
  reason: null,
};
let idsAt = 0;
let idCount = 0;
/** The argument after OWNER; 0 where there is none. */
let ownerAt = 0;

export const streamAckCommands: readonly Command[] = [
  {
    name: 'xack',
    arity: -4,
    flags: ['write', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '5.0.0',
    summary: 'Acknowledges pending entries of a group and returns how many there were.',
    complexity: 'O(1) for each entry.',
    run: ack,
  },
  {
    name: 'xnack',
    arity: -7,
    flags: ['write', 'fast'],
    keys: UPDATED_KEY,
    group: 'stream',
    since: '8.8.0',
    summary: 'Gives pending entries back to their group, so that any consumer may claim them.',
    complexity: 'O(1) for each entry.',
    run: nack,
  },
];

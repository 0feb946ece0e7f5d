/**
 * XGROUP SETPOLICY, GETPOLICY and DELPOLICY: what the server does for a group without a command.
 *
 * An addition to Redis: a group without a policy is exactly Redis's. The rules are in
 * engine/group-policy.ts, the syntax in docs/extensions.md.
 */

import type { ConsumerGroup } from '../../../consumer-groups/group.ts';
import { defaultPolicy, type GroupPolicy } from '../../../consumer-groups/group-policy.ts';
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { setPolicy } from '../../../engine/streams/group-policy.ts';
import { findGroup } from '../../../engine/streams/stream-groups.ts';
import type { Backoff } from '../../../util/time/backoff.ts';
import type { Command, CommandFlag } from '../../command/command.ts';
import { type KeySpec, keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, WRONG_TYPE, wrongSubcommand } from '../common.ts';
import { noGroupForKey } from './stream-errors.ts';
import { findStream, valueIn } from './stream-lookup.ts';

/** A hundred years: whole milliseconds of any date plus this are exact. */
const LONGEST_MS = 100 * 366 * 86_400_000;
const MOST_DELIVERIES = 0xffff_fff0;
const LARGEST_FACTOR = 1000;

function set(session: Session): void {
  withGroup(session, (entry, group) => {
    const policy = readPolicy(session, entry, group.policy ?? defaultPolicy);
    if (policy === null) return;
    setPolicy(session.database, entry, group, policy);
    session.reply.ok();
  });
}

function remove(session: Session): void {
  withGroup(session, (entry, group) => {
    const there = group.policy !== null;
    setPolicy(session.database, entry, group, null);
    session.reply.integer(there ? 1 : 0);
  });
}

function get(session: Session): void {
  const { reply } = session;
  withGroup(session, (_, { policy }) => {
    if (policy === null) {
      reply.null();
      return;
    }
    const { ackWait, maxDeliveries, backoff, deadLetter } = policy;
    reply.map(8);
    reply.bulkText('ackwait');
    reply.integer(ackWait);
    reply.bulkText('maxdeliveries');
    reply.integer(maxDeliveries);
    reply.bulkText('backoff-min');
    reply.integer(backoff?.minMs ?? 0);
    reply.bulkText('backoff-max');
    reply.integer(backoff?.maxMs ?? 0);
    reply.bulkText('backoff-factor');
    reply.bulkText(String(backoff?.factor ?? 0));
    reply.bulkText('backoff-jitter');
    reply.integer(backoff?.jitter ? 1 : 0);
    reply.bulkText('deadletter');
    if (deadLetter === null) reply.null();
    else reply.bulk(deadLetter);
    reply.bulkText('resting');
    reply.integer(restingOf(session));
  });
}

/** How many entries of the group wait for their retry. */
function restingOf(session: Session): number {
  const entry = findStream(session, 2) as KeyEntry;
  return (findGroup(valueIn(entry), session.args, 3) as ConsumerGroup).parkedCount;
}

/** What is not named stays as it is in `before`. null after an error. */
function readPolicy(session: Session, entry: KeyEntry, before: GroupPolicy): GroupPolicy | null {
  const { args } = session;
  let { ackWait, maxDeliveries, backoff, deadLetter } = before;
  for (let i = 4; i < args.count; i++) {
    const more = args.count - 1 - i;
    if (more > 0 && args.is(i, 'ACKWAIT')) {
      const given = readWhole(session, ++i, 1, LONGEST_MS, 'ACKWAIT');
      if (given === null) return null;
      ackWait = given;
    } else if (more > 0 && args.is(i, 'MAXDELIVERIES')) {
      const given = readWhole(session, ++i, 0, MOST_DELIVERIES, 'MAXDELIVERIES');
      if (given === null) return null;
      maxDeliveries = given;
    } else if (more > 2 && args.is(i, 'BACKOFF')) {
      backoff = readBackoff(session, i);
      if (backoff === null) return null;
      i += backoff.jitter ? 4 : 3;
    } else if (args.is(i, 'NOBACKOFF')) {
      backoff = null;
    } else if (more > 0 && args.is(i, 'DEADLETTER')) {
      deadLetter = readDestination(session, entry, ++i);
      if (deadLetter === null) return null;
    } else if (args.is(i, 'NODEADLETTER')) {
      deadLetter = null;
    } else {
      wrongSubcommand(session, 'XGROUP');
      return null;
    }
  }
  return { ackWait, maxDeliveries, backoff, deadLetter };
}

/** `BACKOFF min max factor [JITTER]` at `i`; null after an error. */
function readBackoff(session: Session, i: number): Backoff | null {
  const { args, reply } = session;
  const minMs = readWhole(session, i + 1, 0, LONGEST_MS, 'BACKOFF');
  if (minMs === null) return null;
  const maxMs = readWhole(session, i + 2, minMs, LONGEST_MS, 'BACKOFF');
  if (maxMs === null) return null;
  const text = args.latin1(i + 3);
  const factor = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(factor >= 1 && factor <= LARGEST_FACTOR)) {
    reply.error(`ERR BACKOFF's factor must be a number from 1 to ${LARGEST_FACTOR}`);
    return null;
  }
  const jitter = i + 4 < args.count && args.is(i + 4, 'JITTER');
  return { minMs, maxMs, factor, jitter };
}

function readDestination(session: Session, entry: KeyEntry, i: number): Buffer | null {
  const { args, database, reply } = session;
  if (args.view(i).equals(entry.key)) {
    reply.error('ERR the dead letters of a stream belong into another stream');
    return null;
  }
  const present = database.find(args, i);
  if (present !== undefined && present.value.type !== 'stream') {
    reply.error(WRONG_TYPE);
    return null;
  }
  return args.copy(i);
}

function readWhole(
  session: Session,
  i: number,
  least: number,
  most: number,
  option: string,
): number | null {
  const given = session.args.integer(i);
  if (given === null) session.reply.error(NOT_AN_INTEGER);
  else if (given < least || given > most) {
    session.reply.error(`ERR ${option} must be between ${least} and ${most}`);
  } else return given;
  return null;
}

function withGroup(session: Session, act: (entry: KeyEntry, group: ConsumerGroup) => void): void {
  const entry = findStream(session, 2);
  if (entry === null) return;
  const group = entry === undefined ? undefined : findGroup(valueIn(entry), session.args, 3);
  if (entry === undefined || group === undefined) noGroupForKey(session, 2, 3);
  else act(entry, group);
}

/**
 * Entries move to the key of the dead letters later, whichever consumer reads: so the rights are checked
 * when the policy is set.
 */
const DEAD_LETTER_KEY: KeySpec = {
  first: 0,
  last: 0,
  step: 0,
  flags: ['OW', 'insert'],
  find(args) {
    const keys: number[] = [];
    for (let i = 4; i + 1 < args.count; i++) if (args.is(i, 'DEADLETTER')) keys.push(i + 1);
    return keys;
  },
};

/** Subcommands of XGROUP. */
export const groupPolicyCommands: readonly Command[] = [
  row('delpolicy', 4, ['write'], 'Removes the policy of a group.', remove),
  row('getpolicy', 4, ['readonly'], 'Returns the policy of a group.', get),
  {
    ...row('setpolicy', -4, ['write', 'denyoom'], 'Sets the policy of a group.', set),
    keys: [keyAt(2, 'RW', 'access', 'update'), DEAD_LETTER_KEY],
  },
];

export const GROUP_POLICY_HELP = [
  'DELPOLICY <key> <groupname>',
  '    Remove the policy of a group.',
  'GETPOLICY <key> <groupname>',
  '    Return the policy of a group.',
  'SETPOLICY <key> <groupname> [option]',
  '    Set what the server does for the group without a command. Options are:',
  '    * ACKWAIT milliseconds',
  '      Deliver again what was not acknowledged by then.',
  '    * MAXDELIVERIES count',
  '      Do not deliver an entry more often.',
  '    * BACKOFF min-ms max-ms factor [JITTER] | NOBACKOFF',
  '      How long an entry that was given back is delayed.',
  '    * DEADLETTER <key> | NODEADLETTER',
  '      Where entries go whose deliveries are used up.',
];

function row(
  name: string,
  arity: number,
  flags: readonly CommandFlag[],
  summary: string,
  run: (session: Session) => void,
): Command {
  return {
    name: `xgroup|${name}`,
    arity,
    flags,
    keys: flags.includes('readonly') ? keyAt(2, 'RO', 'access') : keyAt(2, 'RW', 'update'),
    group: 'stream',
    since: '8.10.0',
    summary,
    complexity: 'O(1); O(N) where N entries rest and their deadline or their policy goes.',
    run,
  };
}

/**
 * Conditions on a string's present value: IFEQ, IFNE and, by digest, IFDEQ, IFDNE. SET takes them as
 * options; DELEX deletes when one holds; DIGEST returns the digest that they compare.
 *
 * Source: the behaviour of Redis 8.4 to 8.10.
 */
import type { Value } from '../../../engine/keyspace/key-entry.ts';
import type { Arguments } from '../../../util/arguments.ts';
import { xxh3Hex } from '../../../util/xxh3.ts';
import type { Command } from '../../command/command.ts';
import { keyAt, READ_KEY } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { readString, WRONG_TYPE, wrongArity } from '../common.ts';

const CONDITIONS = ['IFEQ', 'IFNE', 'IFDEQ', 'IFDNE'] as const;
const DIGEST_DIGITS = 16;
const WRONG_DIGEST = `ERR must be exactly ${DIGEST_DIGITS} hexadecimal characters`;

export type StringCondition = (typeof CONDITIONS)[number];

/** The condition named by an argument. */
export function conditionAt(args: Arguments, i: number): StringCondition | undefined {
  return CONDITIONS.find((name) => args.is(i, name));
}

/**
 * Whether the condition with the value of argument `i` holds for what a key holds (undefined: the key
 * is missing). null, with the error replied, when the condition cannot be evaluated.
 */
export function holds(
  session: Session,
  condition: StringCondition,
  i: number,
  value: Value | undefined,
): boolean | null {
  const { args, reply } = session;
  const wantsEqual = condition === 'IFEQ' || condition === 'IFDEQ';
  if (value === undefined) return !wantsEqual;
  if (value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return null;
  }
  if (condition === 'IFEQ' || condition === 'IFNE') {
    return value.bytes.equals(args.view(i)) === wantsEqual;
  }
  if (args.lengths[i] !== DIGEST_DIGITS) {
    reply.error(WRONG_DIGEST);
    return null;
  }
  return (xxh3Hex(value.bytes) === args.latin1(i).toLowerCase()) === wantsEqual;
}

function deleteIf(session: Session): void {
  const { args, database, reply } = session;
  if (args.count !== 2 && args.count !== 4) {
    wrongArity(session, 'delex');
    return;
  }
  const entry = database.find(args, 1);
  if (entry === undefined) {
    reply.integer(0);
    return;
  }
  if (args.count === 4) {
    if (entry.value.type !== 'string') {
      reply.error('ERR Key should be of string type if conditions are specified');
      return;
    }
    const condition = conditionAt(args, 2);
    if (condition === undefined) {
      reply.error('ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE');
      return;
    }
    const met = holds(session, condition, 3, entry.value);
    if (met === null) return;
    if (!met) {
      reply.integer(0);
      return;
    }
  }
  database.remove(entry);
  reply.integer(1);
}

function digest(session: Session): void {
  const entry = readString(session, 1);
  if (entry === null) return;
  if (entry?.value.type !== 'string') session.reply.null();
  else session.reply.bulkText(xxh3Hex(entry.value.bytes));
}

export const conditionCommands: readonly Command[] = [
  {
    name: 'delex',
    arity: -2,
    flags: ['write', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'delete'),
    group: 'string',
    since: '8.4.0',
    summary: 'Removes a key when its string, or the digest of it, is or is not the one given.',
    complexity: 'O(1) for IFEQ and IFNE, O(N) of the string for IFDEQ and IFDNE',
    run: deleteIf,
  },
  {
    name: 'digest',
    arity: 2,
    flags: ['readonly', 'fast'],
    keys: READ_KEY,
    group: 'string',
    since: '8.4.0',
    summary: 'Gives the XXH3 hash of a string as hexadecimal digits.',
    complexity: 'O(N) of the string',
    run: digest,
  },
];

/**
 * INCR, DECR, INCRBY, DECRBY: strings as signed 64-bit integers.
 *
 * Numbers below 2^53 are added as doubles, exactly; only larger ones become BigInts.
 * Source: Redis 7.0 t_string.c, incrDecrCommand.
 */
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import { writeDecimal } from '../../../stream/stream-id.ts';
import { Arguments } from '../../../util/arguments.ts';
import type { Command, CommandFlag } from '../../command/command.ts';
import { keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import { NOT_AN_INTEGER, WRONG_TYPE } from '../common.ts';
import { floatCommands } from './string-floats.ts';

const OVERFLOW = 'ERR increment or decrement would overflow';
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** The stored string, to be read by the same rules as an argument. */
const stored = new Arguments();
const digits = Buffer.alloc(24);

/** `by` is exact when safe; otherwise `exactBy` gives it. */
function add(session: Session, by: number, exactBy: () => bigint): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  let value: number | null = 0;
  if (entry !== undefined) {
    if (entry.value.type !== 'string') {
      reply.error(WRONG_TYPE);
      return;
    }
    stored.clear(entry.value.bytes);
    stored.push(0, entry.value.bytes.length);
    value = stored.integer(0);
    if (value === null) {
      reply.error(NOT_AN_INTEGER);
      return;
    }
  }
  let sum: number | bigint = value + by;
  if (!Number.isSafeInteger(value) || !Number.isSafeInteger(by) || !Number.isSafeInteger(sum)) {
    sum = (entry === undefined ? 0n : (stored.bigInteger(0) as bigint)) + exactBy();
    if (sum < INT64_MIN || sum > INT64_MAX) {
      reply.error(OVERFLOW);
      return;
    }
  }
  const bytes = decimal(sum);
  if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, 0);
  else database.setString(entry, bytes, entry.expireAt);
  if (session.engine.events !== null) database.notify(EventClass.STRING, 'incrby', args.view(1));
  reply.integer(sum);
}

function decimal(value: number | bigint): Buffer {
  if (typeof value === 'bigint') return Buffer.from(value.toString(), 'latin1');
  let at = 0;
  if (value < 0) digits[at++] = 45;
  const end = writeDecimal(digits, at, Math.abs(value));
  const bytes = Buffer.allocUnsafeSlow(end);
  digits.copy(bytes, 0, 0, end);
  return bytes;
}

function addArgument(session: Session, sign: 1 | -1): void {
  const { args, reply } = session;
  const by = args.integer(2);
  if (by === null) {
    reply.error(NOT_AN_INTEGER);
    return;
  }
  // -(-2^63) does not fit 64 bits; Redis refuses it before it reads the key.
  if (sign === -1 && !Number.isSafeInteger(by) && args.bigInteger(2) === INT64_MIN) {
    reply.error('ERR decrement would overflow');
    return;
  }
  add(session, sign * by, () => BigInt(sign) * (args.bigInteger(2) as bigint));
}

const FLAGS: readonly CommandFlag[] = ['write', 'denyoom', 'fast'];

export const numberCommands: readonly Command[] = [
  ...floatCommands,
  {
    name: 'decr',
    arity: 2,
    flags: FLAGS,
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '1.0.0',
    summary: 'Takes one from the integer in a string; a missing key counts as 0.',
    complexity: 'O(1)',
    run: (session) => add(session, -1, () => -1n),
  },
  {
    name: 'decrby',
    arity: 3,
    flags: FLAGS,
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '1.0.0',
    summary: 'Takes a number from the integer in a string.',
    complexity: 'O(1)',
    run: (session) => addArgument(session, -1),
  },
  {
    name: 'incr',
    arity: 2,
    flags: FLAGS,
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '1.0.0',
    summary: 'Adds one to the integer in a string; a missing key counts as 0.',
    complexity: 'O(1)',
    run: (session) => add(session, 1, () => 1n),
  },
  {
    name: 'incrby',
    arity: 3,
    flags: FLAGS,
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '1.0.0',
    summary: 'Adds a number to the integer in a string.',
    complexity: 'O(1)',
    run: (session) => addArgument(session, 1),
  },
];

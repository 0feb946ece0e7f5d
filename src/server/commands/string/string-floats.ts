/**
 * INCRBYFLOAT, and INCREX, which adds within bounds and sets the time to expire in the same step.
 *
 * Floating-point numbers are those of C's long double (util/long-double.ts), integers are exact.
 * Invariant: an INCREX that is refused for its bounds changes neither value nor expiry.
 * Source: Redis 7.0 t_string.c; INCREX: the behaviour of Redis 8.8 and 8.10.
 */
import type { KeyEntry } from '../../../engine/keyspace/key-entry.ts';
import { EventClass } from '../../../engine/keyspace/keyspace-events.ts';
import {
  addLongDoubles,
  compareLongDoubles,
  formatLongDouble,
  INFINITE,
  type LongDouble,
  parseLongDouble,
  subtractLongDoubles,
} from '../../../util/long-double.ts';
import type { Command } from '../../command/command.ts';
import { keyAt } from '../../command/key-specs.ts';
import type { Session } from '../../connection/session.ts';
import {
  NOT_AN_INTEGER,
  readTime,
  SYNTAX,
  type TimeUnit,
  timeUnitAt,
  WRONG_TYPE,
} from '../common.ts';

const NOT_A_FLOAT = 'ERR value is not a valid float';
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const ZERO: LongDouble = { mantissa: 0n, exponent: 0 };
const INTEGER_TEXT = /^(0|-?[1-9][0-9]{0,18})$/;

function incrementByFloat(session: Session): void {
  const { args, database, reply } = session;
  const entry = database.find(args, 1);
  if (entry !== undefined && entry.value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return;
  }
  const value = entry === undefined ? ZERO : parseLongDouble(textOf(entry));
  const by = value === null ? null : parseLongDouble(args.latin1(2));
  if (value === null || by === null) {
    reply.error(NOT_A_FLOAT);
    return;
  }
  const sum = value === INFINITE || by === INFINITE ? INFINITE : addLongDoubles(value, by);
  if (sum === INFINITE) {
    reply.error('ERR increment would produce NaN or Infinity');
    return;
  }
  const bytes = Buffer.from(formatLongDouble(sum), 'latin1');
  if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, 0);
  else database.setString(entry, bytes, entry.expireAt);
  if (session.engine.events !== null) {
    database.notify(EventClass.STRING, 'incrbyfloat', args.view(1));
  }
  reply.bulk(bytes);
}

function textOf(entry: KeyEntry): string {
  return entry.value.type === 'string' ? entry.value.bytes.toString('latin1') : '';
}

// --- INCREX ---

/** The two kinds of numbers that INCREX calculates with; null in place of a bound: that of the type. */
interface Numbers<T> {
  readonly event: string;
  readonly zero: T;
  /** The error for a text that is not such a number. */
  readonly notOne: string;
  parse(text: string): T | typeof INFINITE | null;
  /** INFINITE when the sum exceeds the type. */
  add(a: T, b: T): T | typeof INFINITE;
  subtract(a: T, b: T): T | typeof INFINITE;
  compare(a: T, b: T): number;
  isNegative(value: T): boolean;
  readonly least: T;
  readonly greatest: T;
  format(value: T): string;
  reply(session: Session, value: T): void;
}

const integers: Numbers<bigint> = {
  event: 'incrby',
  zero: 0n,
  notOne: 'is not an integer or out of range',
  parse(text) {
    if (!INTEGER_TEXT.test(text)) return null;
    return inInt64(BigInt(text)) ? BigInt(text) : null;
  },
  add: (a, b) => (inInt64(a + b) ? a + b : INFINITE),
  subtract: (a, b) => (inInt64(a - b) ? a - b : INFINITE),
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  isNegative: (value) => value < 0n,
  least: INT64_MIN,
  greatest: INT64_MAX,
  format: String,
  reply: (session, value) => session.reply.integer(value),
};

const floats: Numbers<LongDouble> = {
  event: 'incrbyfloat',
  zero: ZERO,
  notOne: 'is not a valid float',
  parse: parseLongDouble,
  add: addLongDoubles,
  subtract: subtractLongDoubles,
  compare: compareLongDoubles,
  isNegative: (value) => value.mantissa < 0n,
  least: { mantissa: -(2n ** 64n - 1n), exponent: 16_384 - 64 },
  greatest: { mantissa: 2n ** 64n - 1n, exponent: 16_384 - 64 },
  format: formatLongDouble,
  reply: (session, value) => session.reply.doubleText(formatLongDouble(value)),
};

function inInt64(value: bigint): boolean {
  return value >= INT64_MIN && value <= INT64_MAX;
}

/** Arguments of the options; 0 = not given. */
interface IncrexOptions {
  float: boolean;
  by: number;
  least: number;
  greatest: number;
  saturate: boolean;
  unit: '' | TimeUnit;
  time: number;
  persist: boolean;
  onlyWithoutExpiry: boolean;
}

function increx(session: Session): void {
  const options = readOptions(session);
  if (options === null) return;
  if (options.onlyWithoutExpiry && options.unit === '') {
    session.reply.error('ERR ENX flag requires an expiration');
  } else if (options.float) addWithin(session, options, floats);
  else addWithin(session, options, integers);
}

/** Each option at most once; null, with the error replied, when they are wrong. */
function readOptions(session: Session): IncrexOptions | null {
  const { args } = session;
  const options: IncrexOptions = {
    ...{ float: false, by: 0, least: 0, greatest: 0, saturate: false, unit: '', time: 0 },
    ...{ persist: false, onlyWithoutExpiry: false },
  };
  for (let i = 2; i < args.count; i++) {
    const more = i + 1 < args.count;
    const unit = timeUnitAt(args, i);
    const timeless = options.unit === '' && !options.persist;
    const isFloat = args.is(i, 'BYFLOAT');
    if (more && options.by === 0 && (isFloat || args.is(i, 'BYINT'))) {
      options.float = isFloat;
      options.by = ++i;
    } else if (more && options.least === 0 && args.is(i, 'LBOUND')) options.least = ++i;
    else if (more && options.greatest === 0 && args.is(i, 'UBOUND')) options.greatest = ++i;
    else if (!options.saturate && args.is(i, 'SATURATE')) options.saturate = true;
    else if (more && timeless && unit !== '') {
      options.unit = unit;
      options.time = ++i;
    } else if (timeless && !options.onlyWithoutExpiry && args.is(i, 'PERSIST')) {
      options.persist = true;
    } else if (!options.onlyWithoutExpiry && !options.persist && args.is(i, 'ENX')) {
      options.onlyWithoutExpiry = true;
    } else {
      session.reply.error(SYNTAX);
      return null;
    }
  }
  return options;
}

function addWithin<T>(session: Session, options: IncrexOptions, numbers: Numbers<T>): void {
  const { args, database, reply } = session;
  const given = readNumbers(session, options, numbers);
  if (given === null) return;
  let time = 0;
  if (options.unit !== '') {
    const read = readTime(session, options.time, options.unit, 'increx', true);
    if (read === null) return;
    time = read;
  }
  const entry = database.find(args, 1);
  const old = readStored(session, entry, numbers);
  if (old === null) return;
  const sum = bounded(old, given, options.saturate, numbers);
  const applied = sum === null ? numbers.zero : numbers.subtract(sum, old);
  if (applied === INFINITE) {
    reply.error('ERR applied increment would overflow');
    return;
  }
  reply.array(2);
  numbers.reply(session, sum ?? old);
  numbers.reply(session, applied);
  if (sum === null) return;
  const expiresAlready = entry !== undefined && entry.expireAt !== 0;
  const setsTime = time !== 0 && !(options.onlyWithoutExpiry && expiresAlready);
  if (setsTime && time <= session.engine.now) {
    if (entry !== undefined) database.remove(entry);
    return;
  }
  const kept = options.persist ? 0 : (entry?.expireAt ?? 0);
  const bytes = Buffer.from(numbers.format(sum), 'latin1');
  const expireAt = setsTime ? time : kept;
  if (entry === undefined) database.set(args.view(1), { type: 'string', bytes }, expireAt);
  else database.setString(entry, bytes, expireAt);
  if (session.engine.events === null) return;
  database.notify(EventClass.STRING, numbers.event, args.view(1));
  if (setsTime) database.notify(EventClass.GENERIC, 'expire', args.view(1));
  else if (options.persist && expiresAlready) {
    database.notify(EventClass.GENERIC, 'persist', args.view(1));
  }
}

interface Given<T> {
  readonly by: T;
  readonly least: T;
  readonly greatest: T;
}

function readNumbers<T>(
  session: Session,
  options: IncrexOptions,
  numbers: Numbers<T>,
): Given<T> | null {
  const { args, reply } = session;
  const read = (i: number, name: string, absent: T): T | null => {
    if (i === 0) return absent;
    const value = numbers.parse(args.latin1(i));
    if (value === INFINITE && name === 'Increment') {
      reply.error('ERR BYFLOAT increment cannot be Infinity');
      return null;
    }
    // An infinite bound is none.
    if (value === INFINITE)
      return args.latin1(i).startsWith('-') ? numbers.least : numbers.greatest;
    if (value === null) reply.error(`ERR ${name} ${numbers.notOne}`);
    return value;
  };
  // Without an increment it is one.
  const one = numbers.parse('1') as T;
  const by = read(options.by, 'Increment', one);
  if (by === null) return null;
  const least = read(options.least, 'LBOUND', numbers.least);
  if (least === null) return null;
  const greatest = read(options.greatest, 'UBOUND', numbers.greatest);
  if (greatest === null) return null;
  if (numbers.compare(least, greatest) > 0) {
    reply.error("ERR LBOUND can't be greater than UBOUND");
    return null;
  }
  return { by, least, greatest };
}

/** The number that the key holds, zero without a key; null, with the error replied, when it holds none. */
function readStored<T>(
  session: Session,
  entry: KeyEntry | undefined,
  numbers: Numbers<T>,
): T | null {
  const { reply } = session;
  if (entry === undefined) return numbers.zero;
  if (entry.value.type !== 'string') {
    reply.error(WRONG_TYPE);
    return null;
  }
  const value = numbers.parse(textOf(entry));
  if (value !== null && value !== INFINITE) return value;
  if (value === INFINITE) reply.error('ERR value cannot be Infinity');
  else reply.error(numbers.notOne === integers.notOne ? NOT_AN_INTEGER : NOT_A_FLOAT);
  return null;
}

/** The sum, or with saturation the bound that it exceeds; null when it is refused. */
function bounded<T>(
  old: T,
  { by, least, greatest }: Given<T>,
  saturate: boolean,
  numbers: Numbers<T>,
): T | null {
  const sum = numbers.add(old, by);
  const isTooLow = sum === INFINITE ? numbers.isNegative(by) : numbers.compare(sum, least) < 0;
  const isTooHigh = sum === INFINITE ? !numbers.isNegative(by) : numbers.compare(sum, greatest) > 0;
  if (!isTooLow && !isTooHigh) return sum as T;
  if (!saturate) return null;
  return isTooLow ? least : greatest;
}

export const floatCommands: readonly Command[] = [
  {
    name: 'incrbyfloat',
    arity: 3,
    flags: ['write', 'denyoom', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '2.6.0',
    summary: 'Adds a floating-point number to the number in a string; a missing key counts as 0.',
    complexity: 'O(1)',
    run: incrementByFloat,
  },
  {
    name: 'increx',
    arity: -2,
    flags: ['write', 'denyoom', 'fast'],
    keys: keyAt(1, 'RW', 'access', 'update'),
    group: 'string',
    since: '8.8.0',
    summary: 'Adds to the number in a string within bounds, and may set when the key expires.',
    complexity: 'O(1)',
    run: increx,
  },
];

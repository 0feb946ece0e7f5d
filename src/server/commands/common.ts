/**
 * What several command families share: Redis's error texts, and functions that read arguments.
 */
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import type { Arguments } from '../../util/arguments.ts';
import type { Session } from '../connection/session.ts';

export const SYNTAX = 'ERR syntax error';
export const NOT_AN_INTEGER = 'ERR value is not an integer or out of range';
const OUT_OF_RANGE = 'ERR value is out of range, value must between -2147483648 and 2147483647';
export const NO_SUCH_KEY = 'ERR no such key';
export const WRONG_TYPE = 'WRONGTYPE Operation against a key holding the wrong kind of value';
export const SAME_OBJECT = 'ERR source and destination objects are the same';
export const DB_OUT_OF_RANGE = 'ERR DB index is out of range';

/** Longest string: Redis's proto-max-bulk-len default. */
export const MAX_STRING = 512 * 1024 * 1024;
export const TOO_LONG = 'ERR string exceeds maximum allowed size (proto-max-bulk-len)';

/** The latest unix ms at which a key may expire: larger integers are not exact. */
const MAX_TIME = Number.MAX_SAFE_INTEGER;

/** The string's entry; undefined where there is none, null, with the error replied, for another type. */
export function readString(session: Session, i: number): KeyEntry | undefined | null {
  const entry = session.database.read(session.args, i);
  if (entry !== undefined && entry.value.type !== 'string') {
    session.reply.error(WRONG_TYPE);
    return null;
  }
  return entry;
}

/** An integer in the range of C's int; null, with Redis's error replied, otherwise. */
function readInt(session: Session, i: number): number | null {
  const value = session.args.integer(i);
  if (value === null) session.reply.error(NOT_AN_INTEGER);
  else if (value < -0x8000_0000 || value > 0x7fff_ffff) session.reply.error(OUT_OF_RANGE);
  else return value;
  return null;
}

/** How long to wait, ms; null, with the error replied, when the argument is not such a time. */
export function readTimeout(session: Session, i: number): number | null {
  const timeout = session.args.integer(i);
  if (timeout === null) session.reply.error('ERR timeout is not an integer or out of range');
  else if (timeout < 0) session.reply.error('ERR timeout is negative');
  else return timeout;
  return null;
}

/** When a wait of `timeout` ms from now ends, by the monotonic clock; 0 = never. */
export function deadlineIn({ time }: Session['engine'], timeout: number): number {
  return timeout === 0 ? Number.POSITIVE_INFINITY : time.monotonic + timeout;
}

export type TimeUnit = 'EX' | 'PX' | 'EXAT' | 'PXAT';

/** The unit that an argument names before a time; empty when it names none. */
export function timeUnitAt(args: Arguments, i: number): '' | TimeUnit {
  if (args.is(i, 'EX')) return 'EX';
  if (args.is(i, 'PX')) return 'PX';
  if (args.is(i, 'EXAT')) return 'EXAT';
  return args.is(i, 'PXAT') ? 'PXAT' : '';
}

/**
 * A time argument as unix ms. Relative ones count from `now`. With `positive`, zero and less are
 * refused; otherwise they mean the past. null, with the error replied, when it is not a time.
 */
export function readTime(
  session: Session,
  i: number,
  unit: TimeUnit,
  command: string,
  positive: boolean,
): number | null {
  const value = session.args.integer(i);
  if (value === null) {
    session.reply.error(NOT_AN_INTEGER);
    return null;
  }
  const scale = unit === 'EX' || unit === 'EXAT' ? 1000 : 1;
  const base = unit === 'EX' || unit === 'PX' ? session.engine.now : 0;
  const time = value * scale + base;
  // Beyond 2^53 the sum is rounded, so the exact one is checked against 64 bits.
  const fits = Number.isSafeInteger(time) || fitsInt64(session, i, BigInt(scale), BigInt(base));
  if (!fits || (positive && value <= 0)) {
    session.reply.error(`ERR invalid expire time in '${command}' command`);
    return null;
  }
  return Math.min(time, MAX_TIME);
}

function fitsInt64(session: Session, i: number, scale: bigint, base: bigint): boolean {
  const ms = (session.args.bigInteger(i) as bigint) * scale;
  return BigInt.asIntN(64, ms) === ms && BigInt.asIntN(64, ms + base) === ms + base;
}

/** A time in the past, as a key's expiry: at least 1, since 0 means never. */
export function pastTime(time: number): number {
  return Math.max(time, 1);
}

/** Reads the number of a database; null, with the error replied, when there is no such database. */
export function readDatabaseIndex(session: Session, i: number): number | null {
  const index = readInt(session, i);
  if (index === null) return null;
  if (index < 0 || index >= session.engine.databases.length) {
    session.reply.error(DB_OUT_OF_RANGE);
    return null;
  }
  return index;
}

export function wrongArity(session: Session, command: string): void {
  session.reply.error(`ERR wrong number of arguments for '${command}' command`);
}

/** A known subcommand with wrong arguments, where Redis names no other error. */
export function wrongSubcommand(session: Session, container: string): void {
  // Redis cuts the echo of what it was sent at 128 bytes.
  const subcommand = session.args.latin1(1).slice(0, 128);
  session.reply.errorBytes(
    `ERR unknown subcommand or wrong number of arguments for '${subcommand}'. Try ${container} HELP.`,
  );
}

/** Replies with the error, which may quote bytes as latin1. Returns false, for functions that read options. */
export function fail(session: Session, error: string): false {
  session.reply.errorBytes(error);
  return false;
}

/** [ASYNC|SYNC] as argument `i`. */
export function isFlushMode(args: Arguments, i: number): boolean {
  return args.is(i, 'ASYNC') || args.is(i, 'SYNC');
}

/** The lines of a HELP reply: Redis's frame around a command's own. */
export function replyHelp(session: Session, container: string, lines: readonly string[]): void {
  const { reply } = session;
  reply.array(lines.length + 3);
  reply.simple(`${container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`);
  for (const line of lines) reply.simple(line);
  reply.simple('HELP');
  reply.simple('    Prints this help.');
}

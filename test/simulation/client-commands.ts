/** What the clients of the simulation send: commands on four strings, four streams and their groups. */
import type { Random } from '../../src/util/random.ts';

export const KEYS = ['a', 'b', 'c', 'd'] as const;

/** What the reply to a command begins with, when it is no error. */
const KINDS: Record<string, string> = {
  SET: '+',
  APPEND: ':',
  GET: '$',
  EXISTS: ':',
  MGET: '*',
  STRLEN: ':',
  DEL: ':',
  RENAME: '+',
  PEXPIRE: ':',
  PERSIST: ':',
  PTTL: ':',
  XADD: '$',
  XLEN: ':',
  XREVRANGE: '*',
  XTRIM: ':',
  XREAD: '*',
  XREADGROUP: '*',
  XGROUP: '+:',
  XACK: ':',
  XPENDING: '*',
  XAUTOCLAIM: '*',
  XNACK: ':',
  SWAPDB: '+',
  FLUSHDB: '+',
  DBSIZE: ':',
  PING: '+',
  INFO: '$',
  CLIENT: ':',
  MULTI: '+',
  EXEC: '*',
  DISCARD: '+',
  WATCH: '+',
  UNWATCH: '+',
};

export function kindsOf(name: string): string {
  return KINDS[name] as string;
}

/** The keys of a command whose reply shows what they hold or held. */
export function keysOf([name, ...rest]: readonly string[]): readonly string[] {
  switch (name) {
    case 'MGET':
    case 'RENAME':
      return rest;
    case 'XREAD':
    case 'XREADGROUP':
      return rest.slice(-2, -1);
    case 'XGROUP':
      return rest.slice(1, 2);
    default:
      return rest.slice(0, 1);
  }
}

export function mayBlock(args: readonly string[]): boolean {
  return args.includes('BLOCK');
}

/** One that waits for nothing and changes nothing. */
export function aRead(random: Random): string[] {
  return random.pick([['PING'], ['GET', random.pick(KEYS)], ['XLEN', `s${random.pick(KEYS)}`]]);
}

/** `value`: unlike any other; `ids`: of entries that were delivered. */
export function aCommand(random: Random, value: string, ids: readonly string[]): string[] {
  const key = random.pick(KEYS);
  const stream = `s${key}`;
  const id = ids.length === 0 ? '1-1' : random.pick(ids);
  const ms = String(1 + random.below(1500));
  const consumer = random.pick(['one', 'two', 'three']);
  const block = random.chance(0.5) ? ['BLOCK', ms] : [];
  return random.pick([
    ['SET', key, value],
    ['SET', key, value],
    ['SET', key, value, 'PX', ms],
    ['PEXPIRE', random.pick([key, stream]), ms],
    ['PERSIST', key],
    ['PTTL', key],
    ['APPEND', key, value],
    ['GET', key],
    ['GET', key],
    ['EXISTS', key],
    ['MGET', key, random.pick(KEYS)],
    ['STRLEN', key],
    ['DEL', random.pick([key, stream])],
    ['RENAME', key, random.pick(KEYS)],
    ['XADD', stream, '*', 'f', value],
    ['XADD', stream, '*', 'f', value],
    ['XADD', stream, '*', 'f', value],
    ['XLEN', stream],
    ['XREVRANGE', stream, '+', '-', 'COUNT', '2'],
    ['XTRIM', stream, 'MAXLEN', '3'],
    ['XREAD', 'COUNT', '2', ...block, 'STREAMS', stream, '$'],
    ['XREAD', 'COUNT', '2', ...block, 'STREAMS', stream, id],
    ['XREADGROUP', 'GROUP', 'g', consumer, 'COUNT', '2', ...block, 'STREAMS', stream, '>'],
    ['XREADGROUP', 'GROUP', 'g', consumer, 'COUNT', '2', ...block, 'STREAMS', stream, '>'],
    ['XREADGROUP', 'GROUP', 'g', consumer, 'COUNT', '2', ...block, 'STREAMS', stream, '>'],
    ['XREADGROUP', 'GROUP', 'g', consumer, 'STREAMS', stream, '0'],
    ['XGROUP', 'CREATE', stream, 'g', '0', 'MKSTREAM'],
    ['XGROUP', 'CREATE', stream, 'g', '$', 'MKSTREAM'],
    ['XGROUP', 'DELCONSUMER', stream, 'g', consumer],
    ['XGROUP', 'SETPOLICY', stream, 'g', 'ACKWAIT', ms, 'MAXDELIVERIES', '2', 'DEADLETTER', 'dead'],
    ['XGROUP', 'DESTROY', stream, 'g'],
    ['XACK', stream, 'g', id],
    ['XNACK', stream, 'g', 'FAIL', 'IDS', '1', id],
    ['XPENDING', stream, 'g'],
    ['XAUTOCLAIM', stream, 'g', consumer, '0', '0', 'COUNT', '2'],
    ['SWAPDB', '0', '1'],
    ['FLUSHDB'],
    ['DBSIZE'],
    ['PING'],
  ]);
}

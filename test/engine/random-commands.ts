/**
 * Random commands over few keys, so that they meet: strings, keys, streams, groups, whole databases.
 */

import type { Random } from '../../src/util/random.ts';
import type { Argument } from '../helpers/in-process-server.ts';

const STREAMS = ['s1', 's2', 's3', 'key:with:a:longer:name'];
const STRINGS = ['a', 'b', 'c', ''];
const KEYS = [...STREAMS, ...STRINGS];
const GROUPS = ['g1', 'g2'];
const CONSUMERS = ['ann', 'bob', 'cy'];

const REFERENCES = ['KEEPREF', 'DELREF', 'ACKED'];

/** Ids that XADD replied, by stream. */
export type RecentIds = ReadonlyMap<string, readonly string[]>;

export function randomCommand(random: Random, recent: RecentIds): Argument[] {
  const stream = random.pick(STREAMS);
  const group = random.pick(GROUPS);
  const consumer = random.pick(CONSUMERS);
  const known = recent.get(stream) ?? ['1-1'];
  const id = (): string => random.pick(known);
  const ids = (): string[] => Array.from({ length: 1 + random.below(5) }, id);
  const value = (): string => 'x'.repeat(random.below(random.chance(0.05) ? 600 : 40));
  const weighted: [number, () => Argument[]][] = [
    [40, () => ['XADD', stream, '*', 'field', value()]],
    [5, () => ['XADD', stream, '*', 'a', value(), 'b', value()]],
    [
      2,
      () => [
        'XADD',
        stream,
        'IDMP',
        random.pick(CONSUMERS),
        String(random.below(9)),
        '*',
        'f',
        'v',
      ],
    ],
    [3, () => ['XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', random.below(60), '*', 'a', value()]],
    [1, () => ['XADD', stream, 'MAXLEN', '~', 20, 'LIMIT', random.below(50), '*', 'a', value()]],
    [
      3,
      () => [
        'XADD',
        stream,
        'IFLAST',
        random.chance(0.7) ? (known.at(-1) ?? '0-0') : '0-0',
        '*',
        'f',
        value(),
      ],
    ],
    [1, () => ['XADD', stream, 'IDMPAUTO', consumer, '*', 'f', String(random.below(9))]],
    [2, () => ['XADD', stream, 'MAXLEN', 30, 'DELAY', 1 + random.below(900), '*', 'late', value()]],
    [2, () => ['XACKDEL', stream, group, random.pick(REFERENCES), 'IDS', 2, id(), id()]],
    [2, () => ['XDELEX', stream, random.pick(REFERENCES), 'IDS', 2, id(), id()]],
    [1, () => ['XIDMPRECORD', stream, consumer, String(random.below(9)), id()]],
    [0.5, () => ['XCFGSET', stream, 'IDMP-MAXSIZE', 3 + random.below(50)]],
    [1, () => ['XCLAIM', stream, group, consumer, 0, ...ids(), 'FORCE', 'JUSTID']],
    [1, () => ['XCLAIM', stream, group, consumer, 5, id(), 'IDLE', random.below(900)]],
    [1, () => ['XCLAIM', stream, group, consumer, 0, id(), 'RETRYCOUNT', random.below(5)]],
    [
      3,
      () => [
        ...['XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1 + random.below(9)],
        ...random.pick([['NOACK'], ['CLAIM', random.below(400)], []]),
        ...['STREAMS', stream, '>'],
      ],
    ],
    [
      2,
      () => [
        ...['XNACK', stream, group, random.pick(['FAIL', 'FATAL', 'DEADLETTER', 'SILENT'])],
        ...['IDS', 2, id(), id()],
        ...random.pick([['FORCE'], ['RETRYCOUNT', random.below(4)], []]),
      ],
    ],
    [1, () => ['XGROUP', 'SETPOLICY', stream, group, 'BACKOFF', 50, 500, 2]],
    [1, () => ['MSET', random.pick(STRINGS), value(), random.pick(STRINGS), value()]],
    [1, () => ['GETDEL', random.pick(STRINGS)]],
    [3, () => ['XTRIM', stream, 'MAXLEN', random.pick(['=', '~']), random.below(200)]],
    [2, () => ['XTRIM', stream, 'MINID', id()]],
    [1, () => ['XTRIM', stream, 'MAXLEN', 20, 'ACKED']],
    [6, () => ['XDEL', stream, ...ids()]],
    [2, () => ['XDELEX', stream, 'DELREF', 'IDS', 1, id()]],
    [1, () => ['XSETID', stream, `99999999999999-${random.below(9)}`]],
    [4, () => ['XGROUP', 'CREATE', stream, group, random.pick(['0', '$']), 'MKSTREAM']],
    [1, () => ['XGROUP', 'SETID', stream, group, random.chance(0.5) ? '0' : id()]],
    [1, () => ['XGROUP', 'DESTROY', stream, group]],
    [1, () => ['XGROUP', 'DELCONSUMER', stream, group, consumer]],
    [
      20,
      () => [
        'XREADGROUP',
        'GROUP',
        group,
        consumer,
        'COUNT',
        1 + random.below(30),
        'STREAMS',
        stream,
        '>',
      ],
    ],
    [2, () => ['XREADGROUP', 'GROUP', group, consumer, 'COUNT', 5, 'STREAMS', stream, '0']],
    [8, () => ['XACK', stream, group, ...ids()]],
    [3, () => ['XCLAIM', stream, group, consumer, 0, ...ids()]],
    [2, () => ['XAUTOCLAIM', stream, group, consumer, random.below(50), '0', 'COUNT', 5]],
    [2, () => ['XNACK', stream, group, 'SILENT', 'IDS', 1, id()]],
    [3, () => ['XNACK', stream, group, 'FAIL', 'IDS', 1, id(), 'DELAY', random.below(900)]],
    [
      2,
      () => [
        'XGROUP',
        'SETPOLICY',
        stream,
        group,
        'ACKWAIT',
        1 + random.below(500),
        'MAXDELIVERIES',
        random.below(4),
        'DEADLETTER',
        random.pick(['dead', 's1', 'a']),
      ],
    ],
    [0.5, () => ['XGROUP', 'DELPOLICY', stream, group]],
    [4, () => ['XADD', stream, 'DELAY', 1 + random.below(2000), '*', 'later', value()]],
    [1, () => ['XSCHEDULE', 'CANCEL', stream, `s${random.below(99)}`]],
    [1, () => ['XCFGSET', stream, 'MAXAGE', random.below(3000), 'MAXBYTES', random.below(9000)]],
    [8, () => ['SET', random.pick(STRINGS), value()]],
    [3, () => ['SET', random.pick(STRINGS), random.below(1000), 'PX', 1 + random.below(3000)]],
    [4, () => ['INCR', random.pick(STRINGS)]],
    [3, () => ['APPEND', random.pick(STRINGS), value()]],
    [2, () => ['SETRANGE', random.pick(STRINGS), random.below(60), value()]],
    [2, () => ['GETEX', random.pick(STRINGS), 'PERSIST']],
    [1, () => ['PEXPIRE', random.pick(KEYS), random.below(20_000)]],
    [2, () => ['PEXPIRE', random.pick(STRINGS), random.below(5000)]],
    [1, () => ['PERSIST', random.pick(KEYS)]],
    [1, () => ['DEL', random.pick(KEYS)]],
    [0.5, () => ['RENAME', random.pick(KEYS), random.pick(KEYS)]],
    [1, () => ['RENAME', stream, random.pick(STREAMS)]],
    [1, () => ['COPY', random.pick(KEYS), random.pick(KEYS), 'REPLACE']],
    [1, () => ['COPY', stream, random.pick(STREAMS), 'REPLACE']],
    [1, () => ['COPY', random.pick(KEYS), random.pick(KEYS), 'DB', 1, 'REPLACE']],
    [0.5, () => ['MOVE', random.pick(KEYS), 1]],
    [0.2, () => ['SWAPDB', 0, 1]],
    [0.1, () => ['FLUSHDB']],
    [0.05, () => ['FLUSHALL']],
  ];
  let at = random.fraction() * weighted.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, command] of weighted) {
    at -= weight;
    if (at < 0) return command();
  }
  return ['DBSIZE'];
}

/**
 * The same random stream commands to a real redis-server 7.0 and to the commands in this process:
 * the same bytes expected. Ids are given, idle times are 0 or a day, so the clocks do not matter;
 * times in replies are masked. What Redis 8 does otherwise than 7.0 is listed in `hidden` and in
 * what the commands below leave out.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/util/random.ts';
import {
  type Argument,
  InProcessServer,
  type InProcessSession,
  parseReply,
  type Value,
} from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { seedNamed } from '../../helpers/seed.ts';

const DAY = 86_400_000;
const SEED = seedNamed('stream beside redis');
const COMMANDS = Number(process.env.STREAM_COMMANDS ?? 4000);
const KEYS = ['s', 't', 'none', 'str'];
const GROUPS = ['g', 'h', 'none'];
const CONSUMERS = ['a', 'b', ''];
const EDGES = [
  '0',
  '0-0',
  '0-1',
  '1',
  '5-',
  '-',
  '+',
  '(3',
  '(0-0',
  '$',
  '>',
  'x',
  '18446744073709551615',
  '18446744073709551615-18446744073709551615',
  '7-18446744073709551615',
  '007-01',
];

class Commands {
  readonly #random: Random;
  #last = 1;

  constructor(random: Random) {
    this.#random = random;
  }

  next(): Argument[] {
    const random = this.#random;
    const key = random.chance(0.9) ? random.pick(['s', 't']) : random.pick(KEYS);
    const group = random.chance(0.95) ? random.pick(['g', 'h']) : random.pick(GROUPS);
    const consumer = random.pick(CONSUMERS);
    const id = (): string =>
      random.chance(0.06)
        ? random.pick(EDGES)
        : `${Math.max(1, this.#last - random.below(30))}${random.chance(0.5) ? `-${random.below(3)}` : ''}`;
    const ids = (most: number) => Array.from({ length: 1 + random.below(most) }, id);
    const number = () =>
      random.chance(0.05) ? random.pick(['-1', 'x', '', '1.5']) : random.below(20);
    const trim = (): Argument[] => [
      ...(random.chance(0.6) ? ['MAXLEN'] : ['minid']),
      ...random.pick([[], ['='], ['~'], ['~']]),
      random.chance(0.6) ? number() : id(),
      ...(random.chance(0.2) ? ['LIMIT', number()] : []),
    ];
    const newId = () => {
      if (random.chance(0.1))
        return random.pick(['0', '0-0', '0-*', '5', '5-', '-', '+', 'x', '9-x']);
      this.#last += random.below(3);
      return random.chance(0.6) ? `${this.#last}-*` : `${this.#last}-${random.below(4)}`;
    };
    const fields = () => ['f', random.pick(['v', '', '12345', 'x'.repeat(70)])];
    const odd = () => (random.chance(0.03) ? [random.pick(['f', 'COUNT', 'JUSTID', 'x'])] : []);
    const idle = () => (random.chance(0.7) ? 0 : DAY);
    const count = () => (random.chance(0.6) ? ['COUNT', number()] : []);
    const kinds: (() => Argument[])[] = [
      () => ['XADD', key, newId(), ...fields(), ...odd()],
      () => ['XADD', key, newId(), ...fields()],
      () => ['XADD', key, newId(), ...fields(), 'g', 'w'],
      () => [
        'XADD',
        key,
        ...(random.chance(0.2) ? ['NOMKSTREAM'] : []),
        ...trim(),
        newId(),
        ...fields(),
      ],
      () => ['XTRIM', key, ...trim(), ...odd()],
      () => ['XLEN', key],
      () => ['XRANGE', key, id(), id(), ...count(), ...odd()],
      () => ['XRANGE', key, '-', '+', ...count()],
      () => ['XREVRANGE', key, id(), id(), ...count()],
      () => ['XREVRANGE', key, '+', '-', ...count()],
      () => ['XDEL', key, ...ids(4)],
      () => ['XREAD', ...count(), 'STREAMS', key, id()],
      () => ['XREAD', ...count(), 'STREAMS', 's', 't', id(), id()],
      () => [
        'XGROUP',
        'CREATE',
        key,
        group,
        random.pick(['$', '0', id()]),
        ...random.pick([[], ['MKSTREAM']]),
      ],
      () => ['XGROUP', 'SETID', key, group, random.pick(['$', '-', '+', id()])],
      () => (random.chance(0.2) ? ['XGROUP', 'DESTROY', key, group] : ['XLEN', key]),
      () => ['XGROUP', 'CREATECONSUMER', key, group, consumer],
      () => (random.chance(0.3) ? ['XGROUP', 'DELCONSUMER', key, group, consumer] : ['XLEN', key]),
      () => ['XREADGROUP', 'GROUP', group, consumer, ...count(), 'STREAMS', key, '>'],
      () => ['XREADGROUP', 'GROUP', group, consumer, ...count(), 'STREAMS', key, '>'],
      () => ['XREADGROUP', 'GROUP', group, consumer, 'NOACK', ...count(), 'STREAMS', key, '>'],
      () => ['XREADGROUP', 'GROUP', group, consumer, ...count(), 'STREAMS', key, id()],
      () => ['XACK', key, group, ...ids(5)],
      () => ['XPENDING', key, group],
      () => [
        'XPENDING',
        key,
        group,
        ...(random.chance(0.3) ? ['IDLE', idle()] : []),
        '-',
        '+',
        number(),
        ...random.pick([[], [consumer]]),
      ],
      () => ['XPENDING', key, group, id(), id(), number()],
      () => [
        'XCLAIM',
        key,
        group,
        consumer,
        idle(),
        ...ids(4),
        ...random.pick([
          [],
          ['JUSTID'],
          ['FORCE'],
          ['RETRYCOUNT', number()],
          ['IDLE', number()],
          ['LASTID', id()],
          ['FOO'],
        ]),
      ],
      () => [
        'XAUTOCLAIM',
        key,
        group,
        consumer,
        idle(),
        id(),
        ...count(),
        ...random.pick([[], ['JUSTID']]),
      ],
      () => [
        'XSETID',
        key,
        // An id before the greatest deleted one is refused by Redis 8 alone.
        random.chance(0.1) ? random.pick(['x', '-']) : ++this.#last,
        ...(random.chance(0.3) ? ['ENTRIESADDED', number(), 'MAXDELETEDID', id()] : []),
      ],
      () => ['XINFO', 'STREAM', key],
      () => ['XINFO', 'STREAM', key, 'FULL', ...(random.chance(0.5) ? ['COUNT', number()] : [])],
      () => ['XINFO', 'GROUPS', key],
      () => ['XINFO', 'CONSUMERS', key, group],
    ];
    return random.pick(kinds)();
  }
}

/** Fields that Redis 7.0 has not, or counts otherwise than Redis 8 (lag and entries-read). */
const hidden = new Set([
  ...['idmp-duration', 'idmp-maxsize', 'pids-tracked', 'iids-tracked', 'iids-added'],
  ...['iids-duplicates', 'nacked-count', 'active-time', 'inactive', 'lag', 'entries-read'],
]);
const times = new Set(['idle', 'seen-time', 'idle-ms']);

/** The reply as one text, in which times are masked and fields of Redis 8 are left out. */
function canonical(name: string, reply: Value): string {
  if (name === 'XPENDING') return JSON.stringify(masked(reply, 2));
  if (name === 'XINFO') return JSON.stringify(withoutHidden(reply));
  // Redis 8 looks at the greatest deleted id first, 7.0 at the last entry.
  if (name === 'XSETID' && reply instanceof Error) return reply.message.slice(0, 44);
  return JSON.stringify(reply, (_, value) =>
    value instanceof Map ? ['map', ...value] : value instanceof Error ? `-${value.message}` : value,
  );
}

function masked(reply: Value, at: number): unknown {
  if (reply instanceof Error) return reply.message;
  if (!Array.isArray(reply)) return reply;
  return reply.map((item) =>
    Array.isArray(item) && item.length === 4 ? item.with(at, 'time') : item,
  );
}

function withoutHidden(reply: Value): unknown {
  if (reply instanceof Error) return reply.message;
  if (reply instanceof Map) {
    return ['map', ...(withoutHidden([...reply].flat(1) as Value[]) as unknown[])];
  }
  if (!Array.isArray(reply)) return reply;
  const result: unknown[] = [];
  for (let i = 0; i < reply.length; i++) {
    const item = reply[i];
    if (typeof item === 'string' && hidden.has(item)) i++;
    else if (typeof item === 'string' && times.has(item)) i++;
    else if (item === 'pending' && Array.isArray(reply[i + 1])) {
      const rows = reply[++i] as Value[][];
      result.push(
        item,
        rows.map((row) => row.with(-2, 'time')),
      );
    } else result.push(withoutHidden(item));
  }
  return result;
}

/** Redis 8 makes the consumer of these commands at once, 7.0 only once it gets something. */
async function makeConsumer(redis: RespSession, args: readonly Argument[]): Promise<void> {
  if (args[0] === 'XREADGROUP') {
    await redis.call('XGROUP', 'CREATECONSUMER', args[args.length - 2], args[2], args[3]);
  } else if (args[0] === 'XCLAIM' || args[0] === 'XAUTOCLAIM') {
    await redis.call('XGROUP', 'CREATECONSUMER', args[1], args[2], args[3]);
  }
}

async function compare(
  redis: RespSession,
  session: InProcessSession,
  args: readonly Argument[],
): Promise<void> {
  session.reply.release();
  session.run(...args);
  const ours = session.takeBytes();
  if (ours[0] !== 45) await makeConsumer(redis, args);
  const theirs = await redis.call(...args);
  if (ours.equals(theirs)) return;
  const name = String(args[0]);
  const expected = canonical(name, parseReply(theirs));
  const actual = canonical(name, parseReply(ours));
  assert.equal(actual, expected, `${args.join(' ')}`);
}

for (const protocol of [2, 3] as const) {
  test(`stream commands answer as redis-server does, RESP${protocol}`, {
    skip: missing('redis-server'),
  }, async () => {
    const seed = SEED + protocol;
    await using server = await startRedis({ args: ['--stream-node-max-entries', '6'] });
    await using redis = await RespSession.open(server.port, { protocol });
    const mine = new InProcessServer(Date.now());
    mine.engine.nodeLimits.maxEntries = 6;
    const session = mine.session(protocol);
    await redis.call('SET', 'str', 'v');
    session.database.set(Buffer.from('str'), { type: 'string', bytes: Buffer.from('v') }, 0);
    const commands = new Commands(new Random(seed));
    const history: string[] = [];
    for (let i = 0; i < COMMANDS; i++) {
      const args = commands.next();
      // `+` as an id to read after came with Redis 7.4.
      if (/^XREAD/.test(String(args[0])) && args.includes('+')) continue;
      history.push(args.join(' '));
      mine.clock.setNow(Date.now());
      try {
        await compare(redis, session, args);
      } catch (error) {
        (error as Error).message += `\nseed ${seed}, after:\n${history.slice(-25).join('\n')}`;
        throw error;
      }
    }
  });
}

/**
 * Random sequences of commands, the same for the same seed.
 *
 * Holds: a little knowledge of what it has sent (ids used so far, who is inside MULTI), so that most
 * commands mean something, and enough carelessness that many are wrong: wrong types, missing keys and
 * groups, descending ids, bad options. Names come from small sets, so that commands meet each other.
 * Ids are explicit; what depends on the time of the servers is left out (see normalise.ts).
 */
import type { Random } from '../../src/util/random.ts';
import { Reference } from './reference.ts';

/** The id of another connection differs between servers: it stands as a reference until it is sent. */
export type StepArgument = string | Buffer | { readonly clientOf: number };

export interface Step {
  readonly connection: number;
  readonly args: readonly StepArgument[];
}

export const CONNECTIONS = 4;
const STREAMS = ['s1', 's2', 's3', 's4'];
const STRINGS = ['k1', 'k2', 'k3'];
const GROUPS = ['g1', 'g2', 'g\xff'];
const CONSUMERS = ['c1', 'c2', 'c3'];
const MAX = '18446744073709551615';
const EDGE_IDS = [
  '0-0',
  '0-1',
  `0-${MAX}`,
  `${MAX}-0`,
  `${MAX}-${MAX}`,
  '18446744073709551616-0',
  '-',
  '+',
  '$',
  '>',
  '(',
  '1-',
  '-1',
  'abc',
  '1-2-3',
  '01-1',
  '',
];

type Command = (string | number | Buffer | { clientOf: number })[];
/** `needs`: a command that the server beside Rivulet must have. */
type Recipe = readonly [
  weight: number,
  write: (g: Generator) => Command | Command[],
  needs?: string,
];

export class Generator {
  readonly random: Random;
  readonly #inMulti = new Set<number>();
  #lastMs = 0;
  #connection = 0;
  readonly reference: Reference;
  readonly #recipes: readonly Recipe[];
  readonly #totalWeight: number;

  constructor(random: Random, reference = new Reference()) {
    this.random = random;
    this.reference = reference;
    this.#recipes = RECIPES.filter(([, , needs]) => needs === undefined || reference.has(needs));
    this.#totalWeight = this.#recipes.reduce((sum, [weight]) => sum + weight, 0);
  }

  /** At least `count` steps. */
  steps(count: number): Step[] {
    const steps: Step[] = [];
    while (steps.length < count) {
      if (this.random.chance(0.3)) this.#connection = this.random.below(CONNECTIONS);
      const connection = this.#connection;
      const commands = this.#commands(connection);
      for (const command of commands) {
        const args = command.map((arg) => (typeof arg === 'number' ? String(arg) : arg));
        steps.push({ connection, args });
      }
    }
    return steps;
  }

  #commands(connection: number): Command[] {
    if (this.#inMulti.has(connection) && this.random.chance(0.25)) {
      this.#inMulti.delete(connection);
      return [[this.random.chance(0.85) ? 'EXEC' : 'DISCARD']];
    }
    let pick = this.random.below(this.#totalWeight);
    const [, write] = this.#recipes.find(([weight]) => {
      pick -= weight;
      return pick < 0;
    }) as Recipe;
    const written = write(this);
    const commands = (Array.isArray(written[0]) ? written : [written]) as Command[];
    if (commands[0][0] === 'MULTI') this.#inMulti.add(connection);
    return commands;
  }

  // What commands are made of.

  below(bound: number): number {
    return this.random.below(bound);
  }

  chance(probability: number): boolean {
    return this.random.chance(probability);
  }

  pick<T>(items: readonly T[]): T {
    return this.random.pick(items);
  }

  /** These arguments, or none, and none where the server is older than `version`. */
  maybeSince(version: number, probability: number, ...command: Command): Command {
    return this.reference.version >= version ? this.maybe(probability, ...command) : [];
  }

  /** What becomes of references: an option of 8.2. */
  references(probability: number): Command {
    return this.maybeSince(8.2, probability, this.word('KEEPREF', 'DELREF', 'ACKED'));
  }

  /** As `references`, with a trim: 8.2 and 8.4 remove nothing then when it is approximate. */
  referencesOf(trimming: Command, probability: number): Command {
    const isApproximate = trimming.includes('~');
    return isApproximate && this.reference.version < 8.6 ? [] : this.references(probability);
  }

  /** `IDS n id...`, at times with a wrong count. */
  countedIds(): Command {
    const ids = this.ids();
    return ['IDS', this.chance(0.04) ? this.integer(6) : ids.length, ...ids];
  }

  /** These arguments, or none. */
  maybe(probability: number, ...command: Command): Command {
    return this.chance(probability) ? command : [];
  }

  stream(): string {
    return this.chance(0.03) ? this.pick([...STRINGS, 'none']) : this.pick(STREAMS);
  }

  string(): string {
    return this.chance(0.05) ? this.pick([...STREAMS, 'none']) : this.pick(STRINGS);
  }

  key(): string {
    return this.pick(this.chance(0.6) ? STREAMS : STRINGS);
  }

  group(): string {
    return this.chance(0.03) ? 'nogroup' : this.pick(GROUPS);
  }

  consumer(): string {
    return this.pick(CONSUMERS);
  }

  /** One of the words, or in one case of fifty another, to be refused. */
  word(...words: string[]): string {
    const word = this.chance(0.02) ? 'BOGUS' : this.pick(words);
    return this.chance(0.1) ? word.toLowerCase() : word;
  }

  integer(bound: number): string | number {
    return this.chance(0.03)
      ? this.pick(['-1', '0', 'x', '1.5', '', '9223372036854775808'])
      : this.below(bound);
  }

  /** An id that XADD accepts, most of the time. */
  newId(): string {
    if (this.chance(0.03)) return this.pick(EDGE_IDS.slice(0, 4));
    if (this.chance(0.1)) return this.oldId();
    if (this.chance(0.1)) return `${this.#lastMs}-*`;
    this.#lastMs += this.below(3) === 0 ? 0 : 1 + this.below(2);
    return `${this.#lastMs}-${1 + this.below(4)}`;
  }

  /** An id that may be there: near those added before. */
  oldId(): string {
    if (this.chance(0.03)) return this.pick(EDGE_IDS);
    const ms = Math.max(0, this.#lastMs - this.below(this.chance(0.5) ? 12 : 60));
    return this.chance(0.2) ? String(ms) : `${ms}-${1 + this.below(4)}`;
  }

  /** Never more than were added: later versions than 7.0 lower it to that. */
  entriesRead(): string {
    return this.pick(['0', '0', '-1', '-2', 'x']);
  }

  ids(): Command {
    return Array.from({ length: 1 + this.below(4) }, () => this.oldId());
  }

  from(): string {
    const id = this.chance(0.4) ? '-' : this.oldId();
    return this.chance(0.1) ? `(${id}` : id;
  }

  to(): string {
    const id = this.chance(0.5) ? '+' : this.oldId();
    return this.chance(0.1) ? `(${id}` : id;
  }

  value(): string | Buffer {
    switch (this.below(8)) {
      case 0:
        return String(this.below(100_000) - 50_000);
      case 1:
        return this.pick([
          '',
          '-0',
          '007',
          '9223372036854775807',
          '-9223372036854775808',
          ' 1',
          '1e3',
        ]);
      case 2:
        return Buffer.from([0, 13, 10, 255, this.below(256)]);
      case 3:
        return 'long '.repeat(this.below(60));
      default:
        return `v${this.below(100)}`;
    }
  }

  fields(): Command {
    const count = this.chance(0.02) ? 0 : 1 + this.below(this.chance(0.8) ? 2 : 6);
    const names = this.chance(0.8)
      ? ['a', 'b', 'c', 'd', 'e', 'f']
      : ['b', 'a', 'x', 'y', 'z', '7'];
    const pairs = Array.from({ length: count }, (_, i) => [names[i % names.length], this.value()]);
    return this.chance(0.02) ? [...pairs.flat(), 'odd'] : pairs.flat();
  }

  trimming(): Command {
    const isById = this.chance(0.4);
    const approximately = this.maybe(0.6, this.pick(['~', '~', '=']));
    const threshold = isById ? this.oldId() : this.integer(60);
    const limit = this.maybe(0.15, 'LIMIT', this.integer(60));
    const references = this.referencesOf(approximately, 0.3);
    return [
      this.word(isById ? 'MINID' : 'MAXLEN'),
      ...approximately,
      threshold,
      ...limit,
      ...references,
    ];
  }

  /**
   * Streams and ids of XREAD and XREADGROUP. No `+` where it is not known (before 7.4); and a key stands
   * once, because 7.0 wakes a blocked reader with one stream's entries, later versions with all that there are.
   */
  reading(id: () => string, most: number): Command {
    const first = this.stream();
    const second = this.stream();
    const keys = most === 1 || second === first || this.chance(0.8) ? [first] : [first, second];
    const isOld = this.reference.version < 7.4;
    const ids = keys.map(id).map((text) => (isOld && text === '+' ? '-' : text));
    if (this.chance(0.02)) ids.pop();
    return ['STREAMS', ...keys, ...ids];
  }

  block(): Command {
    // A short wait ends by itself; a long one until another client writes, or unblocks it.
    return this.maybe(
      0.35,
      'BLOCK',
      this.chance(0.1) ? this.pick(['1', '-1', 'x']) : this.pick(['0', '100000']),
    );
  }
}

const TRIMMABLE = (g: Generator) => g.maybe(0.2, ...g.trimming());

const STREAM_RECIPES: Recipe[] = [
  [
    30,
    (g) => {
      const trimming = TRIMMABLE(g);
      return [
        'XADD',
        g.stream(),
        ...g.maybe(0.1, 'NOMKSTREAM'),
        ...g.referencesOf(trimming, 0.1),
        ...g.maybeSince(8.6, 0.15, 'IDMP', g.pick(['p1', 'p2']), `i${g.below(20)}`),
        ...trimming,
        g.newId(),
        ...g.fields(),
      ];
    },
  ],
  [
    3,
    (g) => Array.from({ length: 5 + g.below(20) }, () => ['XADD', 's1', g.newId(), 'a', g.value()]),
  ],
  [3, (g) => ['XLEN', g.stream()]],
  [6, (g) => ['XRANGE', g.stream(), g.from(), g.to(), ...g.maybe(0.5, 'COUNT', g.integer(10))]],
  [4, (g) => ['XREVRANGE', g.stream(), g.to(), g.from(), ...g.maybe(0.5, 'COUNT', g.integer(10))]],
  [6, (g) => ['XDEL', g.stream(), ...g.ids()]],
  [5, (g) => ['XTRIM', g.stream(), ...g.trimming()]],
  [
    1,
    (g) => [
      'XSETID',
      g.stream(),
      g.newId(),
      ...g.maybe(0.3, 'ENTRIESADDED', g.integer(200)),
      ...g.maybe(0.3, 'MAXDELETEDID', g.oldId()),
    ],
  ],
  [
    6,
    (g) => [
      'XREAD',
      ...g.maybe(0.5, 'COUNT', g.integer(10)),
      ...g.block(),
      ...g.reading(() => (g.chance(0.4) ? '$' : g.oldId()), 2),
    ],
  ],
  [
    4,
    (g) => [
      'XINFO',
      g.word('STREAM'),
      g.stream(),
      ...g.maybe(0.6, 'FULL', ...g.maybe(0.5, 'COUNT', g.integer(5))),
    ],
  ],
  [3, (g) => ['XDELEX', g.stream(), ...g.references(0.6), ...g.countedIds()], 'XDELEX'],
  [
    1,
    (g) => [
      'XCFGSET',
      g.stream(),
      ...g.maybe(0.6, 'IDMP-DURATION', g.integer(90_000)),
      ...g.maybe(0.6, 'IDMP-MAXSIZE', g.integer(11_000)),
    ],
    'XCFGSET',
  ],
  // Ids from the clock only on a stream of their own, which no command copies or waits for: two that fall
  // into one millisecond on one server need not on the other.
  [1, (g) => ['XADD', 'clock', ...g.maybe(0.2, 'MAXLEN', g.integer(20)), '*', ...g.fields()]],
  [1, (g) => ['XRANGE', 'clock', '-', '+', ...g.maybe(0.5, 'COUNT', g.integer(10))]],
  [1, (g) => ['XREAD', ...g.maybe(0.5, 'COUNT', g.integer(10)), 'STREAMS', 'clock', '0']],
];

/** In 7.0 a read or a claim does not create a consumer that gets nothing; so it is created first. */
function readGroup(g: Generator): Command[] {
  const [group, consumer] = [g.group(), g.consumer()];
  const block = g.block();
  const reading = g.reading(() => (g.chance(0.75) ? '>' : g.oldId()), block.length > 0 ? 1 : 2);
  const keys = reading.slice(1, 1 + Math.floor(reading.length / 2));
  const creating = keys.map((key) => ['XGROUP', 'CREATECONSUMER', key, group, consumer]);
  const options = [
    ...g.maybe(0.5, 'COUNT', g.integer(8)),
    ...block,
    ...g.maybe(0.1, 'NOACK'),
    ...g.maybeSince(8.4, 0.15, 'CLAIM', g.pick(['0', '3600000', '-1', 'x'])),
  ];
  return [...creating, ['XREADGROUP', 'GROUP', group, consumer, ...options, ...reading]];
}

/** XCLAIM and XAUTOCLAIM, with the consumer created first, as in `readGroup`. */
function claim(g: Generator, command: string, ...rest: Command): Command[] {
  const [stream, group, consumer] = [g.stream(), g.group(), g.consumer()];
  const minIdle = g.pick(['0', '0', '0', '3600000', '-5', 'x']);
  return [
    ['XGROUP', 'CREATECONSUMER', stream, group, consumer],
    [command, stream, group, consumer, minIdle, ...rest],
  ];
}

function claimOptions(g: Generator): Command {
  return [
    ...g.maybe(0.2, 'IDLE', g.integer(100_000)),
    ...g.maybe(0.1, 'TIME', g.integer(2_000_000_000)),
    ...g.maybe(0.2, 'RETRYCOUNT', g.integer(10)),
    ...g.maybe(0.2, 'FORCE'),
    ...g.maybe(0.3, g.word('JUSTID')),
    ...g.maybe(0.1, 'LASTID', g.oldId()),
  ];
}

const GROUP_RECIPES: Recipe[] = [
  [
    8,
    (g) => [
      'XGROUP',
      g.word('CREATE'),
      g.stream(),
      g.group(),
      g.pick(['0', '$', g.oldId()]),
      ...g.maybe(0.6, 'MKSTREAM'),
      ...g.maybe(0.1, 'ENTRIESREAD', g.entriesRead()),
    ],
  ],
  [
    2,
    (g) => [
      'XGROUP',
      'SETID',
      g.stream(),
      g.group(),
      g.pick(['0', '$', g.oldId()]),
      ...g.maybe(0.2, 'ENTRIESREAD', g.entriesRead()),
    ],
  ],
  [1, (g) => ['XGROUP', 'DESTROY', g.stream(), g.group()]],
  [
    2,
    (g) => [
      'XGROUP',
      g.pick(['CREATECONSUMER', 'DELCONSUMER']),
      g.stream(),
      g.group(),
      g.consumer(),
    ],
  ],
  [16, readGroup],
  [8, (g) => ['XACK', g.stream(), g.group(), ...g.ids()]],
  [4, (g) => ['XPENDING', g.stream(), g.group()]],
  [
    4,
    (g) => [
      'XPENDING',
      g.stream(),
      g.group(),
      ...g.maybe(0.2, 'IDLE', g.pick(['0', '-1', 'x'])),
      g.from(),
      g.to(),
      g.integer(10),
      ...g.maybe(0.4, g.consumer()),
    ],
  ],
  [6, (g) => claim(g, 'XCLAIM', ...g.ids(), ...claimOptions(g))],
  [
    4,
    (g) =>
      claim(
        g,
        'XAUTOCLAIM',
        g.from(),
        ...g.maybe(0.6, 'COUNT', g.integer(8)),
        ...g.maybe(0.2, 'JUSTID'),
      ),
  ],
  [
    3,
    (g) => ['XACKDEL', g.stream(), g.group(), ...g.references(0.6), ...g.countedIds()],
    'XACKDEL',
  ],
  [
    4,
    (g) => [
      'XNACK',
      g.stream(),
      g.group(),
      g.word('SILENT', 'FAIL', 'FATAL'),
      ...g.countedIds(),
      ...g.maybe(0.2, 'RETRYCOUNT', g.integer(10)),
      ...g.maybe(0.2, 'FORCE'),
    ],
    'XNACK',
  ],
  [3, (g) => ['XINFO', 'GROUPS', g.stream()]],
  [3, (g) => ['XINFO', 'CONSUMERS', g.stream(), g.group()]],
  [
    1,
    (g) => [
      'CLIENT',
      'UNBLOCK',
      { clientOf: g.below(CONNECTIONS) },
      ...g.maybe(0.6, g.pick(['TIMEOUT', 'ERROR', 'x'])),
    ],
  ],
];

function setOptions(g: Generator): Command {
  const expiries = [
    ['EX', g.integer(100_000)],
    ['PX', '9999999'],
    ['EXAT', g.pick(['99999999999', '99999999999', '0'])],
    ['PXAT', '99999999999999'],
    ['KEEPTTL'],
  ];
  return [
    ...g.maybe(0.2, g.word('NX', 'XX')),
    ...g.maybeSince(8.4, 0.2, ...condition(g)),
    ...g.maybe(0.2, 'GET'),
    ...g.maybe(0.3, ...g.pick(expiries)),
  ];
}

function condition(g: Generator): Command {
  const byDigest = g.chance(0.4);
  const digest = g.pick(['9555e8555c62dcfd', '2d06800538d394c2', '2D06800538D394C2', 'abc', '']);
  return byDigest ? [g.word('IFDEQ', 'IFDNE'), digest] : [g.word('IFEQ', 'IFNE'), g.value()];
}

/** A number with a fraction, and some that are none or out of range. */
function float(g: Generator): string {
  if (g.chance(0.1)) return g.pick(['inf', '-inf', 'nan', 'x', '', ' 1', '1e400', '1e-30']);
  return `${g.pick(['', '-'])}${g.below(1000)}.${g.below(1000)}${g.pick(['', '', 'e3', 'e-3'])}`;
}

function bounded(g: Generator): Command {
  const isFloat = g.chance(0.4);
  const number = () => (isFloat ? float(g) : g.pick([String(g.below(100) - 50), g.integer(9)]));
  return [
    ...g.maybe(0.8, isFloat ? 'BYFLOAT' : 'BYINT', number()),
    ...g.maybe(0.3, 'LBOUND', number()),
    ...g.maybe(0.3, 'UBOUND', number()),
    ...g.maybe(0.3, 'SATURATE'),
    ...g.maybe(0.2, 'EX', g.integer(10_000)),
    ...g.maybe(0.1, g.word('ENX', 'PERSIST')),
  ];
}

const STRING_RECIPES: Recipe[] = [
  [5, (g) => ['SET', g.string(), g.value(), ...setOptions(g)]],
  [4, (g) => ['GET', g.string()]],
  [1, (g) => ['GETDEL', g.string()]],
  [1, (g) => ['MGET', g.key(), g.string(), 'none']],
  [
    1,
    (g) => [
      'MSET',
      g.string(),
      g.value(),
      ...g.maybe(0.9, g.string(), g.value()),
      ...g.maybe(0.05, 'odd'),
    ],
  ],
  [3, (g) => [g.word('INCR', 'DECR'), g.string()]],
  [
    2,
    (g) => [
      'INCRBY',
      g.string(),
      g.pick([String(g.below(1000) - 500), '9223372036854775807', 'x']),
    ],
  ],
  [1, (g) => ['APPEND', g.string(), g.value()]],
  [1, (g) => ['STRLEN', g.string()]],
  [1, (g) => ['SETNX', g.string(), g.value()]],
  [1, (g) => ['SETEX', g.string(), g.integer(10_000), g.value()]],
  [1, (g) => ['INCRBYFLOAT', g.string(), float(g)]],
  [1, (g) => ['SETRANGE', g.string(), g.integer(40), g.value()]],
  [
    1,
    (g) => [
      g.pick(['GETRANGE', 'SUBSTR']),
      g.string(),
      String(g.below(40) - 20),
      String(g.below(40) - 20),
    ],
  ],
  [
    1,
    (g) => ['LCS', g.string(), g.string(), ...g.maybe(0.3, g.pick(['LEN', 'IDX', 'WITHMATCHLEN']))],
  ],
  [1, (g) => ['MSETNX', g.string(), g.value(), g.string(), g.value()]],
  [
    1,
    (g) => ['GETEX', g.string(), ...g.maybe(0.5, g.pick(['PERSIST', 'EX']), ...g.maybe(0.6, '99'))],
  ],
  [1, (g) => ['GETSET', g.string(), g.value()]],
  [1, (g) => ['DECRBY', g.string(), g.integer(1000)]],
  [1, (g) => ['DELEX', g.key(), ...g.maybe(0.8, ...condition(g))], 'DELEX'],
  [1, (g) => ['DIGEST', g.string()], 'DIGEST'],
  [
    1,
    (g) => [
      'MSETEX',
      g.chance(0.1) ? g.integer(4) : 2,
      g.string(),
      g.value(),
      g.string(),
      g.value(),
      ...setOptions(g),
    ],
    'MSETEX',
  ],
  [2, (g) => ['INCREX', g.string(), ...bounded(g)], 'INCREX'],
];

const KEY_RECIPES: Recipe[] = [
  [3, (g) => [g.pick(['DEL', 'UNLINK']), g.key(), ...g.maybe(0.2, g.key())]],
  [2, (g) => ['EXISTS', g.key(), g.key()]],
  [2, (g) => ['TYPE', g.key()]],
  [2, (g) => [g.pick(['TTL', 'PTTL', 'EXPIRETIME', 'PEXPIRETIME']), g.key()]],
  [
    2,
    (g) => [
      'EXPIREAT',
      g.key(),
      g.pick(['99999999999', '1', '0', '-1', 'x']),
      ...g.maybe(0.2, g.word('NX', 'XX', 'GT', 'LT')),
    ],
  ],
  [
    1,
    (g) => [
      g.pick(['EXPIRE', 'PEXPIRE']),
      g.key(),
      g.pick(['1000000', '-1', '0', '9223372036854775807']),
      ...g.maybe(0.2, g.word('NX', 'XX')),
    ],
  ],
  [1, (g) => ['PERSIST', g.key()]],
  [1, (g) => ['KEYS', g.pick(['*', 's*', 'k?', '[sk]1', '*2', 'none'])]],
  [
    1,
    (g) => [
      'SCAN',
      '0',
      'COUNT',
      '1000',
      ...g.maybe(0.3, 'MATCH', g.pick(['s*', '*1'])),
      ...g.maybe(0.3, 'TYPE', g.pick(['stream', 'string', 'list'])),
    ],
  ],
  [2, (g) => [g.pick(['RENAME', 'RENAMENX']), g.key(), g.key()]],
  [
    1,
    (g) => [
      'COPY',
      g.key(),
      g.key(),
      ...g.maybe(0.2, 'DB', g.integer(3)),
      ...g.maybe(0.5, 'REPLACE'),
    ],
  ],
  [1, () => ['DBSIZE']],
  [1, (g) => ['SELECT', g.chance(0.7) ? '0' : g.pick(['1', '16', '-1', 'x'])]],
  [
    1,
    (g) => g.pick([['FLUSHDB'], ['FLUSHALL'], ['PING'], ['ECHO', g.value()], ['TOUCH', g.key()]]),
  ],
  [4, () => ['MULTI']],
  [2, (g) => ['WATCH', g.key(), ...g.maybe(0.3, g.key())]],
  [
    1,
    (g) =>
      g.pick([
        ['UNWATCH'],
        ['EXEC'],
        ['DISCARD'],
        ['NOSUCH', 'a', 'b'],
        ['XGROUP', 'NOSUCH'],
        ['GET'],
        ['XADD', 's1'],
      ]),
  ],
];

const RECIPES: readonly Recipe[] = [
  ...STREAM_RECIPES,
  ...GROUP_RECIPES,
  ...STRING_RECIPES,
  ...KEY_RECIPES,
];

/** Whether a command may wait for others, outside MULTI. A short wait is only a slow reply. */
export function mayBlock(step: Step): boolean {
  const [name, ...rest] = step.args.map((arg) => String(arg).toUpperCase());
  if (name !== 'XREAD' && name !== 'XREADGROUP') return false;
  return ['0', '100000'].includes(rest[rest.indexOf('BLOCK') + 1]) && rest.includes('BLOCK');
}

export function describeStep(step: Step): string {
  const words = step.args.map((arg) => {
    if (typeof arg === 'string') return /^[\w$*+.()>=~-]+$/.test(arg) ? arg : JSON.stringify(arg);
    if (Buffer.isBuffer(arg)) return `Buffer(${arg.toString('hex')})`;
    return `<id of connection ${arg.clientOf}>`;
  });
  return `[${step.connection}] ${words.join(' ')}`;
}

/**
 * The arguments of each command in the notation of Redis's pages, and as the trees that COMMAND DOCS
 * replies: redis-cli shows its hints out of them.
 *
 * `key` is a key, other lower-case words are values; upper-case words are tokens, and one that is followed
 * by a value belongs to it; `[...]` is optional, `a | b` one of them, `<...>` groups, `...` repeats what is
 * before it. A tree is made when it is asked for: O(length of the notation).
 */
export interface Argument {
  readonly name: string;
  readonly type: string;
  readonly token?: string;
  readonly optional?: boolean;
  readonly multiple?: boolean;
  readonly parts?: readonly Argument[];
}

const TRIM = '[<MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]]';
const TTL = '[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds';
const EXPIRE = '[NX | XX | GT | LT]';

const SYNTAX: Readonly<Record<string, string>> = {
  xadd: `key [NOMKSTREAM] ${TRIM} [IDMP producer idempotent-id | IDMPAUTO producer] [DELAY milliseconds | AT unix-time-milliseconds] [IFLAST last-id] <* | id> <field value>...`,
  xtrim: 'key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]',
  xlen: 'key',
  xrange: 'key start end [COUNT count]',
  xrevrange: 'key end start [COUNT count]',
  xread: '[COUNT count] [BLOCK milliseconds] STREAMS key... id...',
  xreadgroup:
    'GROUP <group consumer> [COUNT count] [BLOCK milliseconds] [CLAIM min-idle-time] [NOACK] STREAMS key... id...',
  xdel: 'key id...',
  xdelex: 'key [KEEPREF | DELREF | ACKED] IDS <numids id...>',
  xackdel: 'key group [KEEPREF | DELREF | ACKED] IDS <numids id...>',
  'xgroup|create': 'key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]',
  'xgroup|createconsumer': 'key group consumer',
  'xgroup|delconsumer': 'key group consumer',
  'xgroup|destroy': 'key group',
  'xgroup|setid': 'key group <id | $> [ENTRIESREAD entries-read]',
  'xgroup|delpolicy': 'key group',
  'xgroup|getpolicy': 'key group',
  'xgroup|setpolicy':
    'key group [ACKWAIT milliseconds] [MAXDELIVERIES count] [BACKOFF <min-ms max-ms factor> [JITTER] | NOBACKOFF] [DEADLETTER key | NODEADLETTER]',
  xack: 'key group id...',
  xnack:
    'key group <SILENT | FAIL | FATAL | DEADLETTER> IDS <numids id...> [RETRYCOUNT count] [FORCE] [DELAY milliseconds] [REASON text]',
  xpending: 'key group [[IDLE min-idle-time] start end count [consumer]]',
  xclaim:
    'key group consumer min-idle-time id... [IDLE milliseconds] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]',
  xautoclaim: 'key group consumer min-idle-time start [COUNT count] [JUSTID]',
  xsetid: 'key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]',
  xcfgget: 'key',
  xcfgset:
    'key [IDMP-DURATION seconds] [IDMP-MAXSIZE count] [MAXAGE milliseconds] [MAXBYTES bytes] [MAXLEN count]',
  xidmprecord: 'key producer idempotent-id id',
  'xinfo|consumers': 'key group',
  'xinfo|groups': 'key',
  'xinfo|stream': 'key [FULL [COUNT count]]',
  'xschedule|cancel': 'key id...',
  'xschedule|len': 'key',
  'xschedule|list': 'key [COUNT count]',
  append: 'key value',
  get: 'key',
  getdel: 'key',
  getex: `key ${TTL} | PERSIST]`,
  getrange: 'key start end',
  substr: 'key start end',
  setrange: 'key offset value',
  getset: 'key value',
  mget: 'key...',
  mset: '<key value>...',
  msetnx: '<key value>...',
  msetex: `numkeys <key value>... [NX | XX] ${TTL} | KEEPTTL]`,
  psetex: 'key milliseconds value',
  set: `key value [NX | XX | IFEQ match | IFNE match | IFDEQ digest | IFDNE digest] [GET] ${TTL} | KEEPTTL]`,
  setex: 'key seconds value',
  setnx: 'key value',
  strlen: 'key',
  digest: 'key',
  delex: 'key [IFEQ match | IFNE match | IFDEQ digest | IFDNE digest]',
  lcs: 'key key [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]',
  decr: 'key',
  decrby: 'key decrement',
  incr: 'key',
  incrby: 'key increment',
  incrbyfloat: 'key increment',
  increx: `key [BYINT increment | BYFLOAT increment] [LBOUND bound] [UBOUND bound] [SATURATE] ${TTL} | PERSIST] [ENX]`,
  copy: 'key destination [DB index] [REPLACE]',
  del: 'key...',
  exists: 'key...',
  keys: 'pattern',
  move: 'key index',
  rename: 'key newkey',
  renamenx: 'key newkey',
  scan: 'cursor [MATCH pattern] [COUNT count] [TYPE type]',
  touch: 'key...',
  type: 'key',
  unlink: 'key...',
  flushall: '[ASYNC | SYNC]',
  flushdb: '[ASYNC | SYNC]',
  swapdb: 'index index',
  expire: `key seconds ${EXPIRE}`,
  expireat: `key unix-time-seconds ${EXPIRE}`,
  pexpire: `key milliseconds ${EXPIRE}`,
  pexpireat: `key unix-time-milliseconds ${EXPIRE}`,
  expiretime: 'key',
  pexpiretime: 'key',
  pttl: 'key',
  ttl: 'key',
  persist: 'key',
  dump: 'key',
  'object|encoding': 'key',
  'object|freq': 'key',
  'object|idletime': 'key',
  'object|refcount': 'key',
  restore: 'key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]',
  psubscribe: 'pattern...',
  publish: 'channel message',
  'pubsub|channels': '[pattern]',
  'pubsub|numsub': '[channel...]',
  'pubsub|shardchannels': '[pattern]',
  'pubsub|shardnumsub': '[shardchannel...]',
  punsubscribe: '[pattern...]',
  spublish: 'shardchannel message',
  ssubscribe: 'shardchannel...',
  subscribe: 'channel...',
  sunsubscribe: '[shardchannel...]',
  unsubscribe: '[channel...]',
  exec: '[IFLAST <key last-id>...]',
  watch: 'key...',
  'function|flush': '[ASYNC | SYNC]',
  'function|list': '[LIBRARYNAME pattern] [WITHCODE]',
  'script|exists': 'sha1...',
  'script|flush': '[ASYNC | SYNC]',
  auth: '[username] password',
  echo: 'message',
  hello: '[protover [AUTH <username password>] [SETNAME clientname]]',
  ping: '[message]',
  select: 'index',
  'client|caching': '<YES | NO>',
  'client|no-evict': '<ON | OFF>',
  'client|no-touch': '<ON | OFF>',
  'client|pause': 'timeout [WRITE | ALL]',
  'client|reply': '<ON | OFF | SKIP>',
  'client|setinfo': '<LIB-NAME libname | LIB-VER libver>',
  'client|setname': 'connection-name',
  'client|unblock': 'client-id [TIMEOUT | ERROR]',
  'client|list': '[TYPE <normal | master | replica | pubsub>] [ID client-id...]',
  'command|docs': '[command-name...]',
  'command|info': '[command-name...]',
  'command|getkeys': 'command [arg...]',
  'command|getkeysandflags': 'command [arg...]',
  'command|list': '[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]',
  'config|get': 'parameter...',
  'config|set': '<parameter value>...',
  'acl|cat': '[category]',
  'acl|deluser': 'username...',
  'acl|dryrun': 'username command [arg...]',
  'acl|genpass': '[bits]',
  'acl|getuser': 'username',
  'acl|log': '[count | RESET]',
  'acl|setuser': 'username [rule...]',
  ask: 'topic timeout part...',
  cancel: 'number',
  grant: 'number bytes',
  open: 'topic timeout window part...',
  reply: 'number <<LAST part...> | <MORE part...> | <END [head]> | <ERROR code text>>',
  request: 'topic timeout part...',
  respond: 'topic [GROUP name] [CREDIT count] [ALIVE milliseconds] [WINDOW bytes]',
  responders: '[topic]',
  send: 'number <<MORE part...> | END | <ERROR code text>>',
  unrespond: 'topic',
  info: '[section...]',
  'memory|usage': 'key [SAMPLES count]',
  'slowlog|get': '[count]',
  'latency|histogram': '[command...]',
  'latency|history': 'event',
  'latency|reset': '[event...]',
  bgsave: '[SCHEDULE]',
  shutdown: '[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]',
  wait: 'numreplicas timeout',
  waitaof: 'numlocal numreplicas timeout',
};

/** The arguments of a command by its name (`xgroup|create`); empty where it takes none or none are known. */
export function commandArguments(name: string): readonly Argument[] {
  const notation = SYNTAX[name];
  return notation === undefined ? [] : new Notation(notation).sequence();
}

const INTEGERS = new Set(
  'count milliseconds seconds limit index numids numkeys timeout client-id ttl offset increment decrement bits numreplicas numlocal port cursor protover number bytes window'.split(
    ' ',
  ),
);

class Notation {
  readonly #words: readonly string[];
  #at = 0;

  constructor(notation: string) {
    this.#words = notation.match(/\.\.\.|[[\]<>|]|[^\s[\]<>|.]+/g) ?? [];
  }

  /** Items up to a closing bracket, a bar or the end. */
  sequence(): Argument[] {
    const items: Argument[] = [];
    while (this.#at < this.#words.length && !/^[\]>|]$/.test(this.#words[this.#at]!)) {
      const item = this.#item();
      if (this.#words[this.#at] !== '...') {
        items.push(item);
        continue;
      }
      this.#at++;
      items.push({ ...item, multiple: true });
    }
    return items;
  }

  #item(): Argument {
    const word = this.#words[this.#at++]!;
    if (word === '[') return { ...this.#group(']'), optional: true };
    if (word === '<') return this.#group('>');
    if (!isToken(word)) return value(word);
    const next = this.#words[this.#at];
    if (next === '<') {
      this.#at++;
      return { ...this.#group('>'), token: word };
    }
    if (next === undefined || isToken(next) || /^[[\]<>|.]/.test(next)) return pure(word);
    this.#at++;
    return { ...value(next), token: word };
  }

  /** `a | b` is one of them; several items are a block; one is itself. */
  #group(end: string): Argument {
    const choices: Argument[] = [];
    for (;;) {
      const items = this.sequence();
      const [only] = items;
      choices.push(
        items.length === 1 ? only! : { name: nameOf(items), type: 'block', parts: items },
      );
      if (this.#words[this.#at++] !== '|') break;
    }
    if (this.#words[this.#at - 1] !== end) throw new Error(`'${end}' is missing in a notation`);
    if (choices.length === 1) return choices[0]!;
    return { name: nameOf(choices), type: 'oneof', parts: choices };
  }
}

function nameOf(items: readonly Argument[]): string {
  return items.map(({ name }) => name).join('-');
}

/** An upper-case word, or a sign that is a token itself. */
function isToken(word: string): boolean {
  return /^[A-Z][A-Z-]*$/.test(word) || /^[*=~$]$/.test(word);
}

function pure(token: string): Argument {
  return { name: token.toLowerCase(), type: 'pure-token', token };
}

function value(word: string): Argument {
  let type = 'string';
  if (word === 'key' || word === 'newkey' || word === 'destination') type = 'key';
  else if (word === 'pattern') type = 'pattern';
  else if (word.startsWith('unix-time')) type = 'unix-time';
  else if (INTEGERS.has(word)) type = 'integer';
  return { name: word, type };
}

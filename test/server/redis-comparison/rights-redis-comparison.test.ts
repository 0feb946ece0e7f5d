/**
 * What a command needs, beside a real redis-server: COMMAND INFO of every command that both have (arity,
 * flags, categories, tips, key specifications), and for 70 command lines and 9 users what ACL DRYRUN and
 * COMMAND GETKEYSANDFLAGS say. A key specification that is wrong in one flag fails here by its name.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseReply, type Value } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { references } from '../../helpers/references.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { runServer } from '../running-server.ts';

/** Redis's own rows changed after 7.0: tips for the most part. Compared with the newest only. */
const NEWER = new Set(
  `msetnx randomkey scan client|setname command|getkeys command|getkeysandflags config|resetstat
  config|rewrite acl|deluser acl|save acl|setuser latency|reset cluster|slots cluster|shards wait`.split(
    /\s+/,
  ),
);

/** Rows that an addition of ours changes: EXEC takes IFLAST and the keys of its conditions. */
const EXTENDED = new Set(['exec']);

const LINES = `
XADD s * f v
XADD s MAXLEN 10 * f v
XTRIM s MAXLEN 10
XLEN s
XRANGE s - +
XREVRANGE s + -
XREAD STREAMS s t 0 0
XREAD COUNT 1 BLOCK 0 STREAMS s 0
XREADGROUP GROUP g c STREAMS s >
XREADGROUP GROUP g c COUNT 2 NOACK STREAMS s t > >
XDEL s 1-1
XACK s g 1-1
XCLAIM s g c 0 1-1
XAUTOCLAIM s g c 0 0
XPENDING s g
XSETID s 1-1
XGROUP CREATE s g $
XGROUP CREATECONSUMER s g c
XGROUP DELCONSUMER s g c
XGROUP DESTROY s g
XGROUP SETID s g $
XGROUP HELP
XINFO STREAM s
XINFO GROUPS s
XINFO CONSUMERS s g
APPEND s v
GET s
GETDEL s
GETEX s EX 10
GETRANGE s 0 1
GETSET s v
MGET s t
MSET s v t v
PSETEX s 10 v
SET s v
SET s v NX
SET s v GET
SET s GET
SET s v EX 10 get
SETEX s 10 v
SETNX s v
STRLEN s
DECR s
DECRBY s 1
INCR s
INCRBY s 1
COPY s t
COPY t s REPLACE
DEL s t
EXISTS s
EXISTS s t u
MOVE s 1
RENAME s t
RENAME t s
RENAMENX s t
TOUCH s t
TYPE s
UNLINK s t
EXPIRE s 1
EXPIREAT s 1
PEXPIRE s 1
PEXPIREAT s 1
EXPIRETIME s
PEXPIRETIME s
PTTL s
TTL s
PERSIST s
DUMP s
RESTORE s 0 x
OBJECT ENCODING s
OBJECT FREQ s
OBJECT IDLETIME s
OBJECT REFCOUNT s
WATCH s t
MEMORY USAGE s
KEYS *
SCAN 0
DBSIZE
PING
PUBLISH ch v
SPUBLISH ch v
SUBSCRIBE ch no
SSUBSCRIBE ch no
PSUBSCRIBE ch
PSUBSCRIBE c*
UNSUBSCRIBE no
`
  .trim()
  .split('\n');

const USERS = {
  reads: ['%R~*'],
  writes: ['%W~*'],
  both: ['~*'],
  'reads-s-writes-t': ['%R~s', '%W~t'],
  'both-s-writes-t': ['%RW~s', '%W~t'],
  'two-patterns': ['%R~s*', '%W~s', '~t'],
  'other-key': ['~u'],
  'a-selector': ['%R~s', '(%W~t +@all)', '(~t* +@all)'],
  nothing: [],
} as const;

type Info = Value[];

/** Commands and subcommands by name; what Redis sends as a set is sorted. */
function byName(rows: readonly Info[], found = new Map<string, Value[]>()): Map<string, Value[]> {
  for (const row of rows) {
    const [name, arity, flags, first, last, step, categories, tips, specs, subs] = row;
    const sorted = (value: Value | undefined) => [...(value as string[])].sort();
    found.set(
      name as string,
      [
        arity,
        sorted(flags),
        [first, last, step],
        sorted(categories),
        sorted(tips),
        specs,
      ] as Value[],
    );
    byName(subs as Info[], found);
  }
  return found;
}

for (const { program, label, old, skip } of references()) {
  test(`COMMAND INFO says the same as ${label} of every command that both have`, {
    skip,
  }, async () => {
    await using redis = await startRedis({ program });
    await using running = await runServer();
    const [expected, actual] = await Promise.all(
      [redis.port, running.port].map(async (port) => {
        await using session = await RespSession.open(port);
        return byName(parseReply(await session.call('COMMAND')) as Info[]);
      }),
    );
    let compared = 0;
    for (const [name, row] of actual) {
      const other = expected.get(name);
      if (other === undefined || (old && NEWER.has(name)) || EXTENDED.has(name)) continue;
      assert.deepEqual(row, other, name);
      compared++;
    }
    assert.ok(compared > 100, `${compared} commands`);
  });

  test(`every command needs the rights on its keys that ${label} asks for`, {
    skip,
  }, async () => {
    await using redis = await startRedis({ program });
    await using running = await runServer();
    const verdicts = await Promise.all(
      [redis.port, running.port].map(async (port) => {
        await using session = await RespSession.open(port);
        const said = new Map<string, string>();
        for (const [user, rules] of Object.entries(USERS)) {
          await session.call(
            'ACL',
            'SETUSER',
            user,
            'on',
            '+@all',
            'resetchannels',
            '&ch*',
            ...rules,
          );
          for (const line of LINES) {
            const reply = await session.text('ACL', 'DRYRUN', user, ...line.split(' '));
            // 7.0 does not name the user.
            said.set(
              `${user}: ${line}`,
              reply.replace(/^\$\d+/, '').replace(/This user|User \S+/, 'User'),
            );
          }
        }
        for (const line of LINES) {
          // 7.0 wants another argument than the command's name.
          if (!line.includes(' ')) continue;
          const reply = await session.text('COMMAND', 'GETKEYSANDFLAGS', ...line.split(' '));
          said.set(`flags of ${line}`, reply);
        }
        return said;
      }),
    );
    const [expected, actual] = verdicts as [Map<string, string>, Map<string, string>];
    for (const [what, verdict] of expected) {
      assert.equal(actual.get(what), verdict, what);
    }
  });
}

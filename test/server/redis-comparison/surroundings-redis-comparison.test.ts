/**
 * What surrounds streams, tried with every good and bad argument somebody thought of: strings, keys,
 * CLIENT, CONFIG, ACL, MULTI and the rest, to a real redis-server 7.0 and to Rivulet, the same bytes
 * expected in both protocols. A number before a line is the connection.
 *
 * Left out is what shows the insides of a server (encodings, addresses, order of keys) and the texts of
 * HELP, which are ours.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../../helpers/redis-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { runServer } from '../running-server.ts';
import { play } from './played-lines.ts';

const LINES = `
0:SET a 1
0:SET a 1 EX
0:SET a 1 EX 0
0:SET a 1 EX 10 PX 10
0:SET a 1 NX XX
0:SET a 1 GET
0:SET a 2 NX GET
0:SET b 2 NX GET
0:SET a 1 KEEPTTL EX 3
0:SET a 1 EX 9223372036854775807
0:SET a 1 PX 9223372036854775807
0:SETEX a 0 v
0:SETEX a -1 v
0:PSETEX a x v
0:GETEX a EX 10
0:GETEX a PERSIST EX
0:GETEX a PERSIST
0:GETEX nope
0:GETDEL a
0:GETDEL
0:INCR a
0:INCRBY a 9223372036854775807
0:INCRBY a 1.5
0:DECRBY a -9223372036854775808
0:APPEND a x
0:INCR a
0:STRLEN a
0:GETRANGE a 0 -1
0:GETRANGE a -3 -2
0:MSETNX a 1 c 2
0:MSET a 1 c
0:XADD s 1-1 f v
0:GET s
0:INCR s
0:APPEND s x
0:SET s x GET
0:SET s x XX
0:XADD s 1-1 f v
0:DEL s
0:XADD s 1-1 f v
0:TYPE s
0:SET emb aaaa
0:APPEND emb b
0:OBJECT REFCOUNT big
0:OBJECT REFCOUNT a
0:OBJECT FREQ a
0:OBJECT IDLETIME nope
0:OBJECT FOO a
0:OBJECT
0:EXPIRE a 100 NX
0:EXPIRE a 100 NX
0:EXPIRE a 50 GT
0:EXPIRE a 50 LT
0:EXPIRE a 50 NX XX
0:EXPIRE a 50 GT LT
0:EXPIRE a 50 FOO
0:EXPIRE a x
0:EXPIRE a 9223372036854775807
0:EXPIRE a -1
0:EXISTS a
0:EXPIRE nope 1
0:TTL nope
0:TTL big
0:EXPIRETIME big
0:EXPIREAT big 33177117420
0:EXPIRETIME big
0:PEXPIRETIME big
0:PERSIST big
0:PERSIST big
0:RENAME nope x
0:RENAME big big
0:RENAMENX big big
0:RENAMENX big emb
0:COPY big big
0:COPY big big DB 1
0:COPY big big DB 99
0:COPY big q REPLACE FOO
0:COPY big q DB
0:SELECT 99
0:SELECT a
0:SELECT -1
0:SELECT 99999999999
0:SWAPDB 0 1
0:SWAPDB 0 99
0:SWAPDB a 1
0:SWAPDB 0 1
0:DBSIZE
0:SCAN a
0:DUMP nope
0:FLUSHALL FOO
0:FLUSHDB ASYNC
0:FLUSHALL SYNC
0:PING
0:PING a
0:PING a b
0:ECHO a
0:ECHO
0:foo
0:foo a b c
0:client foo
0:client
0:CLIENT SETNAME 'a b'
0:CLIENT SETNAME ab
0:CLIENT GETNAME
0:CLIENT SETNAME ''
0:CLIENT GETNAME
0:CLIENT REPLY foo
0:CLIENT KILL
0:CLIENT KILL foo
0:CLIENT KILL 1.1.1.1:22
0:CLIENT KILL ID 99999
0:CLIENT KILL ID abc
0:CLIENT KILL TYPE foo
0:CLIENT KILL USER nope
0:CLIENT KILL SKIPME foo
0:CLIENT KILL ADDR 1.1.1.1:1
0:CLIENT KILL FOO bar
0:CLIENT LIST TYPE foo
0:CLIENT LIST TYPE replica
0:CLIENT LIST ID abc
0:CLIENT LIST ID 9999
0:CLIENT LIST FOO
0:CLIENT UNBLOCK abc
0:CLIENT UNBLOCK 99999
0:CLIENT UNBLOCK 1 FOO
0:CLIENT PAUSE abc
0:CLIENT PAUSE -1
0:CLIENT PAUSE 10 FOO
0:CLIENT UNPAUSE
0:CLIENT NO-EVICT foo
0:CLIENT NO-EVICT on
0:CLIENT NO-EVICT off
0:CLIENT CACHING yes
0:CLIENT GETREDIR
0:CONFIG GET maxmemory
0:CONFIG SET foo bar
0:CONFIG SET maxmemory abc
0:CONFIG SET maxmemory 10mb
0:CONFIG GET maxmemory
0:CONFIG SET maxmemory 0 maxmemory 0
0:CONFIG SET maxmemory 0
0:CONFIG SET maxmemory 0 timeout
0:CONFIG SET timeout -1
0:CONFIG SET notify-keyspace-events KEA
0:CONFIG GET notify-keyspace-events
0:CONFIG SET notify-keyspace-events KgxE
0:CONFIG GET notify-keyspace-events
0:CONFIG SET notify-keyspace-events foo
0:CONFIG SET notify-keyspace-events ''
0:CONFIG SET appendfsync foo
0:CONFIG SET client-output-buffer-limit 'pubsub 1mb 1mb 10'
0:CONFIG GET client-output-buffer-limit
0:CONFIG SET client-output-buffer-limit 'foo 1 1 1'
0:CONFIG SET client-output-buffer-limit 'normal 1 1'
0:CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'
0:CONFIG SET stream-node-max-bytes 4kb
0:CONFIG GET stream-node-max-bytes
0:CONFIG SET stream-node-max-entries 100
0:CONFIG FOO
0:CONFIG GET
0:CONFIG RESETSTAT
0:CONFIG RESETSTAT a
0:SLOWLOG FOO
0:SLOWLOG GET a
0:SLOWLOG GET -2
0:SLOWLOG RESET
0:LATENCY FOO
0:LATENCY RESET
0:LATENCY HISTORY foo
0:MEMORY FOO
0:MEMORY USAGE nope
0:MEMORY USAGE a SAMPLES
0:MEMORY USAGE a SAMPLES -1
0:MODULE LIST
0:WAIT 0 0
0:WAIT a 0
0:WAIT 0 -1
0:FUNCTION FLUSH
0:FUNCTION FLUSH FOO
0:FUNCTION LIST
0:SCRIPT FLUSH
0:SCRIPT FLUSH FOO
0:SCRIPT EXISTS a b
0:MULTI
0:MULTI
0:EXEC
0:EXEC
0:DISCARD
0:MULTI
0:FOO
0:EXEC
0:MULTI
0:XADD s
0:EXEC
0:MULTI
0:WATCH a
0:EXEC
0:MULTI
0:SUBSCRIBE a
0:EXEC
0:MULTI
0:PING
0:SELECT 3
0:XADD zz 1-1 a b
0:XADD zz 1-1 a b
0:EXEC
0:SELECT 0
0:WATCH a b
0:UNWATCH
0:WATCH
0:MULTI 1
0:AUTH a
0:AUTH a b
0:AUTH default foo
0:AUTH a b c
0:AUTH
0:RESET
0:ACL WHOAMI
0:ACL USERS
0:ACL GETUSER default
0:ACL GETUSER nope
0:ACL SETUSER u1
0:ACL SETUSER u1 on >p ~s* +@stream -xadd &ch*
0:ACL SETUSER u1 foo
0:ACL SETUSER u1 +foo
0:ACL SETUSER u1 +@foo
0:ACL SETUSER u1 %R~x* %W~y* %RW~z*
0:ACL SETUSER u1 (+get ~k*)
0:ACL SETUSER u1 clearselectors
0:ACL SETUSER u1 +client|id -config|get
0:ACL SETUSER u1 +config|foo
0:ACL SETUSER u1 <nopass
0:ACL SETUSER u1 !abc
0:ACL SETUSER u1 #abc
0:ACL SETUSER u1 #e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
0:ACL SETUSER u1 resetpass
0:ACL SETUSER u1 nopass
0:ACL SETUSER 'u 1'
0:ACL SETUSER u1 ~a allkeys
0:ACL SETUSER u1 allkeys ~a
0:ACL SETUSER u1 &a allchannels
0:ACL SETUSER u1 allchannels &a
0:ACL SETUSER u1 (+get
0:ACL SETUSER u1 reset
0:ACL DRYRUN u1 get foo
0:ACL DRYRUN nope get foo
0:ACL DRYRUN u1 foo
0:ACL SETUSER u1 +get ~a*
0:ACL DRYRUN u1 get foo
0:ACL DRYRUN u1 get a1
0:ACL DRYRUN u1 get
0:ACL DELUSER nope
0:ACL DELUSER default
0:ACL DELUSER u1
0:ACL GENPASS 0
0:ACL GENPASS a
0:ACL FOO
0:ACL SAVE
0:ACL LOAD
0:ACL SETUSER u2 on >p ~s* +@all
1:AUTH u2 p
1:SET s1 1
1:SET k1 1
1:MSET s1 1 k1 2
1:XREAD STREAMS s1 k1 0 0
1:XADD k1 * a b
1:PUBLISH foo bar
1:SUBSCRIBE foo
1:PSUBSCRIBE foo*
1:ACL WHOAMI
0:ACL SETUSER u2 -@all +@read +multi +exec +ping
1:SET s1 1
1:XADD s1 * a b
1:MULTI
1:SET s1 1
1:GET s1
1:EXEC
1:MULTI
1:GET s1
0:ACL SETUSER u2 -get
1:EXEC
1:ACL WHOAMI
0:ACL SETUSER u2 off
1:GET s1
1:PING
2:AUTH u2 p
0:ACL DELUSER u2
1:PING
0:ACL SETUSER u3 on >p +@all -@dangerous ~* resetchannels &a*
3:AUTH u3 p
3:KEYS *
3:SUBSCRIBE a1
0:ACL SETUSER u4 on >p +@all -config ~* +config|get
0:ACL GETUSER u4
4:AUTH u4 p
4:CONFIG GET maxmemory
4:CONFIG SET maxmemory 0
0:ACL DELUSER u3 u4
0:ACL LOG a
5:CLIENT TRACKINGINFO
0:CONFIG SET maxmemory 0 timeout
5:READONLY
5:READWRITE
5:ASKING
5:CONFIG SET maxmemory -1
5:ACL GENPASS 1 2
5:RESTORE k 0 abc IDLETIME 1 FREQ 1
5:RESTORE k 0 abc FREQ 1 IDLETIME 1
5:RESTORE k 0 abc IDLETIME 1 IDLETIME x
5:COMMAND INFO readonly readwrite asking
5:COMMAND INFO echo monitor
6:MULTI
6:SUBSCRIBE x
6:EXEC
7:SUBSCRIBE x
7:EXEC
`;

for (const protocol of [2, 3] as const) {
  test(`the same replies as redis-server to what surrounds streams, RESP${protocol}`, {
    skip: missing('redis-server'),
  }, async () => {
    await using redis = await startRedis();
    await using running = await runServer();
    const expected = await play(redis.port, protocol, LINES);
    const actual = await play(running.port, protocol, LINES);
    for (const [i, line] of expected.entries()) {
      assert.equal(withoutUser(actual[i]!), withoutUser(line));
    }
  });
}

/** Newer servers name the user that lacks a right, and say less about the key; 7.0 did not. */
function withoutUser(said: string): string {
  // Since 7.2 users have the flag that is their default.
  const line = said.replace(/flags\r\n[*~]\d/, 'flags').replace('$16\r\nsanitize-payload\r\n', '');
  if (!line.includes('no permissions') && !line.includes('No permissions')) return line;
  return line
    .replace(/\$\d+/, '')
    .replace(/[Tt]his user|User \S+/, 'User')
    .replace(
      /User has no permissions to access one of the (key|channel)s used as arguments/,
      (_, what) => `No permissions to access a ${what}`,
    );
}

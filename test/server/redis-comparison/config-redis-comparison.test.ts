/**
 * Configuration beside a real redis-server: every parameter that both have is set to 30 good and bad values
 * on both, and reply and value afterwards are the same; a file with every directive of Redis starts this
 * server; users, patterns, passwords and values of any bytes go through files and commands unchanged.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readServerFlags } from '../../../src/cli/server/server-flags.ts';
import { Config, parameterOf } from '../../../src/server/config/config.ts';
import { parseReply } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { references } from '../../helpers/references.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { startRivulet } from '../../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';
import { runServer } from '../running-server.ts';

/** Compared elsewhere, or with a meaning of this server's own that README or docs name. */
const APART: Record<string, string> = {
  bind: 'immutable here',
  port: 'immutable here',
  'tls-port': 'immutable here',
  appendonly: 'immutable here',
  maxclients: 'bounded by the descriptors of the process',
  'maxmemory-policy': 'what evicts keys is refused',
  'min-replicas-to-write': 'there are no replicas',
  'notify-keyspace-events': 'the classes of 8.x',
  'maxmemory-clients': 'a share of maxmemory needs maxmemory',
  'client-query-buffer-limit': 'changes what the connection of the test may send',
  'proto-max-bulk-len': 'changes what the connection of the test may send',
  requirepass: 'locks the connection of the test out',
  'tls-protocols': 'needs TLS',
  'oom-score-adj': 'needs rights of the process',
  activedefrag: 'needs jemalloc',
  'repl-diskless-load': 'words of 8.x',
  'repl-backlog-size': 'Redis keeps at least 16384 bytes, and nothing is kept here',
  'active-defrag-threshold-lower': 'newer ranges',
  timeout: 'ends the connection of the test',
  'lua-time-limit': 'alias of another name',
  'latency-tracking-info-percentiles': 'below, with values of its own',
};

const VALUES = [
  'abc',
  '',
  '0',
  '1',
  '2',
  '-1',
  '+1',
  '01',
  ' 1',
  '1.5',
  '1e3',
  '0x10',
  'nan',
  'yes',
  'No',
  'MAYBE',
  '5%',
  '101%',
  '1b',
  '3k',
  '3KB',
  '2mb',
  '2gb',
  '1kk',
  '2147483647',
  '2147483648',
  '4294967295',
  '4294967296',
  '9007199254740993',
  '9223372036854775806',
  '9223372036854775807',
  '9223372036854775808',
  '18446744073709551615',
  'always',
  'warning',
];

for (const { program, label, old, skip } of references()) {
  test(`CONFIG SET takes and refuses what ${label} takes and refuses, and keeps the same value`, {
    skip,
  }, async () => {
    await using redis = await startRedis({ program });
    await using running = await runServer();
    await using theirs = await RespSession.open(redis.port);
    await using ours = await RespSession.open(running.port);
    const names = parseReply(await theirs.call('CONFIG', 'GET', '*')) as string[];
    let compared = 0;
    const different: string[] = [];
    for (const name of names.filter((_, i) => i % 2 === 0)) {
      const parameter = parameterOf(name);
      if (parameter === undefined || parameter.mutable !== true || parameter.name in APART)
        continue;
      // Texts need no check here, and some of Redis's change the process or open files.
      if (parameter.kind === 'text' || name.startsWith('tls-')) continue;
      if (old && (parameter.inert || name === 'loglevel')) continue;
      await theirs.call('CONFIG', 'SET', name, parameter.default);
      for (const value of VALUES) {
        const expected = await theirs.text('CONFIG', 'SET', name, value);
        const actual = await ours.text('CONFIG', 'SET', name, value);
        const theirValue = await theirs.text('CONFIG', 'GET', name);
        const ourValue = await ours.text('CONFIG', 'GET', name);
        if (actual !== expected || ourValue !== theirValue) {
          different.push(
            `${name} '${value}': ${actual}${ourValue} instead of ${expected}${theirValue}`.replaceAll(
              '\r\n',
              ' ',
            ),
          );
          await theirs.call('CONFIG', 'SET', name, parameter.default);
          await ours.call('CONFIG', 'SET', name, parameter.default);
        }
        compared++;
      }
      // Back to what both began with, so that later values are read under the same settings.
      const fallback = parameter.default === '' ? '' : parameter.default;
      await theirs.call('CONFIG', 'SET', name, fallback);
      await ours.call('CONFIG', 'SET', name, fallback);
    }
    assert.deepEqual(different, []);
    assert.ok(compared > 500, `${compared} values`);
    for (const value of [
      'abc',
      '50',
      '',
      '99.9 50',
      '1 2 abc',
      '-1',
      '100.1',
      '50.5000001',
      '1e1',
    ]) {
      const set = ['CONFIG', 'SET', 'latency-tracking-info-percentiles', value] as const;
      assert.equal(await ours.text(...set), await theirs.text(...set), `percentiles '${value}'`);
      const get = ['CONFIG', 'GET', set[2]] as const;
      assert.equal(await ours.text(...get), await theirs.text(...get), `percentiles '${value}'`);
    }
  });

  test(`a file with every directive of ${label} is read, and what has no effect is named`, {
    skip,
  }, async () => {
    await using redis = await startRedis({ program });
    await using theirs = await RespSession.open(redis.port);
    await using place = temporaryDirectory('every-directive');
    const found = parseReply(await theirs.call('CONFIG', 'GET', '*')) as string[];
    const lines: string[] = [];
    for (let i = 0; i < found.length; i += 2) {
      const [name, value] = [found[i]!, found[i + 1]!];
      const several = ['bind', 'save', 'client-output-buffer-limit', 'oom-score-adj-values'];
      lines.push(
        several.includes(name) && value !== '' ? `${name} ${value}` : `${name} "${value}"`,
      );
    }
    const file = join(place.path, 'redis.conf');
    // `replicaof` and `slaveof` show nothing where the server is no replica: their line is another.
    const rows = lines.filter((line) => !/^(replicaof|slaveof|unixsocketperm) /.test(line));
    writeFileSync(file, [...rows, 'replicaof no one', 'unixsocketperm 0', ''].join('\n'));
    const config = new Config();
    readServerFlags(config, [file]);
    config.checkObeyed();
    for (const name of ['rdbcompression', 'repl-diskless-load', 'jemalloc-bg-thread', 'hz']) {
      assert.ok(config.inert.has(name), name);
    }
    assert.ok(!config.inert.has('maxmemory'));
  });

  test(`an ACL file of any bytes is loaded, shown and saved as ${label} does it`, {
    skip,
  }, async () => {
    await using place = temporaryDirectory('acl-bytes');
    // UTF-8, bytes that are no UTF-8, byte 0xA0 (no space), and what JavaScript calls space or lower case.
    const line = (text: string, ...bytes: number[]) =>
      Buffer.concat([Buffer.from(text), Buffer.from(bytes), Buffer.from('\n')]);
    const content = Buffer.concat([
      line('user müller on >gäheim ~bücher:* %R~straße* &kanäle* +@read'),
      line('user default on nopass ~* &* +@all'),
      line('user bytes on nopass +get +xadd ~', 0xff, 0xfe, 0xa0, 0x85, 0x2a),
      line('user ünïcödé on >ÀÉ resetchannels (~ÀÉ* +@write) ~à* -@all +xadd'),
      line('user hyphen on nopass +hget -zadd +script|load +@hash +select|0 ~a'),
    ]);
    const shown: Record<string, string[]> = {};
    for (const who of ['redis', 'rivulet']) {
      const folder = join(place.path, who);
      mkdirSync(folder);
      const aclfile = join(folder, 'users.acl');
      writeFileSync(aclfile, content);
      await using server =
        who === 'redis'
          ? await startRedis({ program, args: ['--aclfile', aclfile] })
          : await startRivulet({ args: ['--appendonly', 'no', '--aclfile', aclfile] });
      await using session = await RespSession.open(server.port);
      const said: string[] = [];
      const say = async (...words: (string | Buffer)[]) => {
        said.push(
          (await session.text(...words))
            .replaceAll('$16\r\nsanitize-payload\r\n', '')
            .replace(/flags\r\n\*\d/, 'flags'),
        );
      };
      await say('ACL', 'USERS');
      await say(
        'ACL',
        'SETUSER',
        Buffer.from('späť'),
        'on',
        Buffer.from('>žluť'),
        Buffer.from('~kůň*'),
        '+@all',
      );
      await say(
        'ACL',
        'SETUSER',
        Buffer.from([0x78, 0xa0, 0xc3]),
        'on',
        'nopass',
        '&*',
        Buffer.from([0x7e, 0xa0]),
      );
      await say('ACL', 'GETUSER', Buffer.from('späť'));
      await say('ACL', 'DRYRUN', Buffer.from('müller'), 'get', Buffer.from('bücher:1'));
      await say('ACL', 'DRYRUN', Buffer.from('müller'), 'get', Buffer.from('bÜcher:1'));
      await say('ACL', 'DRYRUN', 'bytes', 'get', Buffer.from([0xff, 0xfe, 0xa0, 0x85, 1]));
      await say('ACL', 'SAVE');
      await say('ACL', 'LOAD');
      await say('AUTH', Buffer.from('müller'), Buffer.from('gäheim'));
      await say('GET', Buffer.from('bücher:1'));
      await say('SET', Buffer.from('bücher:1'), 'x');
      await say('ACL', 'WHOAMI');
      await say('AUTH', Buffer.from('späť'), Buffer.from('zluť'));
      await say('AUTH', Buffer.from('späť'), Buffer.from('žluť'));
      const info = await session.text('CLIENT', 'INFO');
      said.push(/ user=(\S+) /.exec(info)?.[1] ?? info);
      const entries = await session.text('ACL', 'LOG', '1');
      said.push(/ user=(\S+) /.exec(entries)?.[1] ?? entries);
      await say('ACL', 'WHOAMI');
      await say('CONFIG', 'SET', 'requirepass', Buffer.from([0xe9, 0xff, 0x20, 0x22]));
      await say('CONFIG', 'GET', 'requirepass');
      await say('AUTH', Buffer.from([0xe9, 0xff, 0x20, 0x22]));
      await say('ACL', 'WHOAMI');
      // In the order of names, whatever the order of rules in a line: they are compared as sets of words.
      const saved = readFileSync(aclfile, 'latin1').trim().split('\n').sort();
      // 7.0 writes the command rules that it finds by trying, not those that were given.
      said.push(...saved.filter((each) => !old || !each.includes('hyphen')).map(wordsOf));
      shown[who] = said.map((each) => (old ? withoutUser(each) : each));
    }
    assert.deepEqual(shown.rivulet, shown.redis);
  });
}

/** The words of a user's line, sorted. */
function wordsOf(line: string): string {
  return line.replaceAll(' sanitize-payload', '').split(' ').sort().join(' ');
}

/** 7.0 does not name the user that lacks a right. */
function withoutUser(reply: string): string {
  if (!/no permissions/i.test(reply)) return reply;
  return reply
    .replace(/^\$\d+/, '')
    .replace(/[Tt]his user|User \S+/, 'User')
    .replace(
      /User has no permissions to access one of the keys used as arguments/,
      'No permissions to access a key',
    );
}

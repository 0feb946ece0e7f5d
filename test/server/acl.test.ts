/**
 * Users: rules, what they allow, how they are shown, files. Texts are those of redis-server 7.0.15.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Acl } from '../../src/server/acl/acl.ts';
import { CommandTable } from '../../src/server/command/command-table.ts';
import { allCommands } from '../../src/server/commands/index.ts';
import { Arguments } from '../../src/util/arguments.ts';

const table = new CommandTable(allCommands);

/** Whether this user may run this command: 'yes', or what is refused. */
function verdict(acl: Acl, name: string, ...words: string[]): string {
  const args = Arguments.of(...words);
  let entry = table.find(args);
  if (entry?.subcommands && words.length > 1) entry = entry.subcommands.find(args, 1);
  assert.ok(entry, words.join(' '));
  const refusal = acl.find(name)?.refusal(entry, args);
  if (refusal === null || refusal === undefined) return 'yes';
  return refusal.reason === 'command'
    ? 'command'
    : `${refusal.reason} ${args.text(refusal.argument)}`;
}

function refused(acl: Acl, ...rules: string[]): string {
  try {
    acl.setUser('zed', rules);
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

test('the default user may do everything, without a password', () => {
  const acl = new Acl(table);
  assert.equal(acl.default.line, 'user default on nopass sanitize-payload ~* &* +@all');
  assert.ok(acl.open && acl.default.unrestricted);
});

test('commands, subcommands and categories are allowed and denied in order', () => {
  const acl = new Acl(table);
  acl.setUser('bob', ['on', 'nopass', '~*', '&*', '+@all', '-@dangerous', '+config|get', '-get']);
  assert.equal(verdict(acl, 'bob', 'set', 'k', 'v'), 'yes');
  assert.equal(verdict(acl, 'bob', 'get', 'k'), 'command');
  assert.equal(verdict(acl, 'bob', 'flushall'), 'command');
  assert.equal(verdict(acl, 'bob', 'config', 'get', 'x'), 'yes');
  assert.equal(verdict(acl, 'bob', 'config', 'set', 'x', 'y'), 'command');
  acl.setUser('bob', ['+config']);
  assert.equal(verdict(acl, 'bob', 'config', 'set', 'x', 'y'), 'yes');
  acl.setUser('bob', ['-@all', '+@stream']);
  assert.equal(verdict(acl, 'bob', 'xadd', 's', '*', 'f', 'v'), 'yes');
  assert.equal(verdict(acl, 'bob', 'xgroup', 'create', 's', 'g', '$'), 'yes');
  assert.equal(verdict(acl, 'bob', 'set', 'k', 'v'), 'command');
  assert.equal(verdict(acl, 'bob', 'auth', 'x'), 'yes', 'logging in is always allowed');
});

test('keys are matched by pattern and by what is done to them', () => {
  const acl = new Acl(table);
  acl.setUser('bob', ['on', 'nopass', '+@all', '~app:*', '%R~ro:*', '%W~wo:*']);
  assert.equal(verdict(acl, 'bob', 'xadd', 'app:1', '*', 'f', 'v'), 'yes');
  assert.equal(verdict(acl, 'bob', 'xrange', 'ro:1', '-', '+'), 'yes');
  assert.equal(verdict(acl, 'bob', 'xrange', 'wo:1', '-', '+'), 'key wo:1');
  assert.equal(verdict(acl, 'bob', 'set', 'wo:1', 'v'), 'yes');
  assert.equal(verdict(acl, 'bob', 'mget', 'app:1', 'ro:1', 'other'), 'key other');
  assert.equal(verdict(acl, 'bob', 'xread', 'streams', 'app:1', 'x', '0', '0'), 'key x');
});

test('channels are matched; patterns to subscribe to must stand literally', () => {
  const acl = new Acl(table);
  acl.setUser('bob', ['on', 'nopass', '+@all', 'resetchannels', '&news.*']);
  assert.equal(verdict(acl, 'bob', 'subscribe', 'news.a'), 'yes');
  assert.equal(verdict(acl, 'bob', 'publish', 'other', 'text'), 'channel other');
  assert.equal(verdict(acl, 'bob', 'psubscribe', 'news.*'), 'yes');
  assert.equal(verdict(acl, 'bob', 'psubscribe', 'news.a*'), 'channel news.a*');
});

test('a selector allows what the root permissions do not', () => {
  const acl = new Acl(table);
  acl.setUser('bob', ['on', 'nopass', '+get', '~a*', '(+set', '~b*)']);
  assert.equal(verdict(acl, 'bob', 'get', 'a'), 'yes');
  assert.equal(verdict(acl, 'bob', 'set', 'b', 'v'), 'yes');
  assert.equal(verdict(acl, 'bob', 'set', 'a', 'v'), 'key a');
  assert.equal(verdict(acl, 'bob', 'get', 'b'), 'key b');
  acl.setUser('bob', ['clearselectors']);
  assert.equal(verdict(acl, 'bob', 'set', 'b', 'v'), 'command');
});

test('passwords are kept as hashes, and taken in turn', () => {
  const acl = new Acl(table);
  acl.setUser('bob', ['on', '>one', '>two', '~a*', '+get']);
  const hash = (text: string) => acl.authenticate('bob', Buffer.from(text)) !== null;
  assert.deepEqual([hash('one'), hash('two'), hash('three')], [true, true, false]);
  acl.setUser('bob', ['<two']);
  assert.equal(hash('two'), false);
  assert.equal(
    acl.find('bob')?.line,
    'user bob on sanitize-payload #7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed ~a* resetchannels -@all +get',
  );
  acl.setUser('bob', ['off']);
  assert.equal(hash('one'), false);
  acl.setUser('bob', ['on', 'nopass']);
  assert.equal(hash('anything'), true);
});

test('a bad rule is named, and no rule of its command takes effect', () => {
  const acl = new Acl(table);
  acl.setUser('zed', ['~*']);
  const error = (rule: string) => refused(acl, 'on', rule);
  const bad = (rule: string, why: string) => `Error in ACL SETUSER modifier '${rule}': ${why}`;
  const unknown = 'Unknown command or category name in ACL';
  assert.equal(error('foo'), bad('foo', 'Syntax error'));
  assert.equal(error('+foo'), bad('+foo', unknown));
  assert.equal(error('+@foo'), bad('+@foo', unknown));
  assert.equal(error('-config|foo'), bad('-config|foo', unknown));
  assert.equal(
    error('<x'),
    bad('<x', 'The password you are trying to remove from the user does not exist'),
  );
  assert.match(error('~x'), /Adding a pattern after the \* pattern/);
  assert.match(error('#abc'), /must be exactly 64 characters/);
  assert.match(error('(+get'), /Unmatched parenthesis/);
  assert.equal(acl.find('zed')?.enabled, false);
});

test('ACL LIST lines read back as the same users', () => {
  using place = temporary();
  const acl = new Acl(table);
  acl.setUser('bob', ['on', '>p', '~a*', '%R~r*', '&c*', '+@all', '-config|set', '(+get ~z)']);
  acl.setUser('ann', ['nopass', 'allkeys', '+@read', '-keys']);
  acl.setRequirePass('secret');
  acl.save(place.file);
  const again = new Acl(table);
  again.setUser('gone', ['on']);
  const gone = again.load(place.file);
  assert.deepEqual(
    gone.map((user) => user.name),
    ['gone'],
  );
  assert.deepEqual(
    again.users().map((user) => user.line),
    acl.users().map((user) => user.line),
  );
  assert.equal(readFileSync(place.file, 'utf8').split('\n').length, 4);
});

test('a file with a mistake changes nothing and names the line', () => {
  using place = temporary();
  writeFileSync(place.file, 'user ann on nopass\nuser bob +nonsense\n');
  const acl = new Acl(table);
  assert.throws(() => acl.load(place.file), /users\.acl:2: .*Unknown command or category/);
  assert.equal(acl.find('ann'), undefined);
});

test('refusals of one kind within a minute are one entry of the log', () => {
  const acl = new Acl(table);
  acl.logMax = 3;
  const note = (object: string, createdAt: number) =>
    acl.note({
      reason: 'command',
      context: 'toplevel',
      object,
      username: 'x',
      createdAt,
      clientInfo: '',
    });
  note('get', 0);
  note('set', 1);
  note('get', 1000);
  assert.deepEqual(
    acl.log.map(({ object, count }) => [object, count]),
    [
      ['get', 2],
      ['set', 1],
    ],
  );
  note('get', 100_000);
  note('del', 100_000);
  note('ttl', 100_000);
  assert.deepEqual(
    acl.log.map(({ object, count }) => [object, count]),
    [
      ['ttl', 1],
      ['del', 1],
      ['get', 1],
    ],
  );
});

function temporary(): { file: string; [Symbol.dispose](): void } {
  const directory = mkdtempSync(join(tmpdir(), 'rivulet-acl-'));
  return {
    file: join(directory, 'users.acl'),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

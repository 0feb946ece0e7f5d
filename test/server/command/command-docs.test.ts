/**
 * COMMAND DOCS: the arguments of each command fit its arity, and redis-cli shows them; MEMORY STATS has the
 * fields of Redis.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Argument, commandArguments } from '../../../src/server/command/command-syntax.ts';
import { CommandTable } from '../../../src/server/command/command-table.ts';
import { isForeignCommand } from '../../../src/server/command/foreign-commands.ts';
import { allCommands } from '../../../src/server/commands/index.ts';
import { runTool } from '../../helpers/children.ts';
import { parseReply } from '../../helpers/in-process-server.ts';
import { startRedis } from '../../helpers/redis-server.ts';
import { references } from '../../helpers/references.ts';
import { missing } from '../../helpers/requirements.ts';
import { RespSession } from '../../helpers/resp-session.ts';
import { runServer } from '../running-server.ts';

/** The fewest words that these arguments take, and whether there may be more. */
function words(given: readonly Argument[]): { least: number; more: boolean } {
  let least = 0;
  let more = false;
  for (const argument of given) {
    const { type, token, parts = [] } = argument;
    let own = { least: 1, more: false };
    if (type === 'oneof') {
      const choices = parts.map((part) => words([part]));
      own = {
        least: Math.min(...choices.map((choice) => choice.least)),
        more: choices.some((choice) => choice.more || choice.least !== choices[0]!.least),
      };
    } else if (type === 'block') {
      own = words(parts);
    }
    if (token !== undefined && type !== 'pure-token') own.least++;
    if (argument.optional) more = true;
    else least += own.least;
    more ||= own.more || argument.multiple === true;
  }
  return { least, more };
}

/** Without a notation: they are described in docs/extensions.md, or their forms are too many. */
const UNDESCRIBED = /^(debug|quit|client\|(kill|tracking|list)|cluster\|.*)$/;

test('the arguments that COMMAND DOCS gives fit the arity of each command', () => {
  const table = new CommandTable(allCommands);
  for (const { name, arity, subcommands } of table.entries) {
    if (subcommands !== null || UNDESCRIBED.test(name)) continue;
    const { least, more } = words(commandArguments(name));
    const own = name.includes('|') ? 2 : 1;
    assert.equal(least + own, Math.abs(arity), `${name}: the fewest words`);
    // `acl|log` and the like take optional words; an exact arity takes none.
    if (arity > 0) assert.equal(more, false, `${name}: exactly ${arity} words`);
    else assert.ok(more || own === 1, `${name}: more words are possible`);
  }
});

test('redis-cli shows the arguments of a command', {
  skip: missing('redis-cli'),
}, async () => {
  await using running = await runServer();
  await using session = await RespSession.open(running.port);
  const docs = parseReply(await session.call('COMMAND', 'DOCS', 'xsetid')) as unknown[];
  assert.deepEqual(docs[0], 'xsetid');
  assert.deepEqual((docs[1] as unknown[]).slice(-2), [
    'arguments',
    [
      ['name', 'key', 'type', 'key', 'display_text', 'key'],
      ['name', 'last-id', 'type', 'string', 'display_text', 'last-id'],
      [
        ...['name', 'entries-added', 'type', 'string', 'display_text', 'entries-added'],
        ...['token', 'ENTRIESADDED', 'flags', ['optional']],
      ],
      [
        ...['name', 'max-deleted-id', 'type', 'string', 'display_text', 'max-deleted-id'],
        ...['token', 'MAXDELETEDID', 'flags', ['optional']],
      ],
    ],
  ]);
  const { code } = await runTool('redis-cli', ['-p', String(running.port), 'COMMAND', 'DOCS']);
  assert.equal(code, 0);
});

for (const { program, label, skip } of references()) {
  test(`MEMORY STATS has the fields of ${label}`, { skip }, async () => {
    await using redis = await startRedis({ program });
    await using running = await runServer();
    const fields = await Promise.all(
      [redis.port, running.port].map(async (port) => {
        await using session = await RespSession.open(port);
        await session.call('SET', 'k', 'v');
        const reply = parseReply(await session.call('MEMORY', 'STATS')) as unknown[];
        return new Set(reply.filter((_, i) => i % 2 === 0));
      }),
    );
    const [expected, actual] = fields as [Set<string>, Set<string>];
    const absent = [...expected].filter((field) => !actual.has(field));
    assert.deepEqual(absent, []);
  });
}

test('no command of this server is listed as one that only Redis has', () => {
  const { entries } = new CommandTable(allCommands);
  assert.deepEqual(
    entries.map(({ name }) => name).filter((name) => isForeignCommand(name)),
    [],
  );
});

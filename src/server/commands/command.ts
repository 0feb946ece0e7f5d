/**
 * COMMAND: describes the server's commands from the rows of its table.
 */

import { Arguments } from '../../util/arguments.ts';
import { globMatches } from '../../util/glob.ts';
import type { Command } from '../command/command.ts';
import { type Argument, commandArguments } from '../command/command-syntax.ts';
import type { CommandEntry } from '../command/command-table.ts';
import { keyFlags, keyIndices } from '../command/key-specs.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { writeCommandInfo, writeCommandInfos } from './command-info.ts';
import { replyHelp, SYNTAX } from './common.ts';

const FLAGS = ['loading', 'stale'] as const;

function sub(
  name: string,
  arity: number,
  since: string,
  summary: string,
  run: (session: ClientSession) => void,
): Command<ClientSession> {
  const categories = ['connection'];
  return {
    name: `command|${name}`,
    arity,
    flags: FLAGS,
    group: 'server',
    since,
    summary,
    categories,
    run,
  };
}

export const commandCommands: readonly Command<ClientSession>[] = [
  {
    name: 'command',
    arity: -1,
    flags: FLAGS,
    group: 'server',
    since: '2.8.13',
    summary: 'Returns detailed information about all commands.',
    complexity: 'O(N) where N is the total number of commands',
    categories: ['connection'],
    run: (session) => writeCommandInfos(session, tableOf(session).top),
    subcommands: [
      sub('count', 2, '2.8.13', 'Returns a count of commands.', (session) =>
        session.reply.integer(tableOf(session).top.length),
      ),
      sub('docs', -2, '7.0.0', 'Returns documentary information about commands.', docs),
      sub('getkeys', -3, '2.8.13', 'Extracts the key names from an arbitrary command.', (session) =>
        getKeys(session, false),
      ),
      sub(
        'getkeysandflags',
        -3,
        '7.0.0',
        'Extracts the key names and access flags for an arbitrary command.',
        (session) => getKeys(session, true),
      ),
      sub('help', 2, '5.0.0', 'Returns helpful text about the different subcommands.', help),
      sub('info', -2, '2.8.13', 'Returns information about one, multiple or all commands.', info),
      sub('list', -2, '7.0.0', 'Returns a list of command names.', list),
    ],
  },
];

function tableOf(session: ClientSession) {
  return session.server.table;
}

// ---- INFO

function info(session: ClientSession): void {
  const { args, reply } = session;
  if (args.count === 2) {
    writeCommandInfos(session, tableOf(session).top);
    return;
  }
  reply.array(args.count - 2);
  for (let i = 2; i < args.count; i++) {
    const entry = tableOf(session).byGivenName(args.latin1(i));
    if (entry === null) reply.null();
    else writeCommandInfo(session, entry);
  }
}

// ---- DOCS

function docs(session: ClientSession): void {
  const { args } = session;
  const table = tableOf(session);
  const entries: CommandEntry[] = [];
  if (args.count === 2) entries.push(...table.top);
  for (let i = 2; i < args.count; i++) {
    const entry = table.byGivenName(args.latin1(i));
    if (entry !== null) entries.push(entry);
  }
  docsReplies(session, entries);
}

function docsReplies(session: ClientSession, entries: readonly CommandEntry[]): void {
  const { reply } = session;
  reply.map(entries.length);
  for (const { name, row, subcommands } of entries) {
    const given = commandArguments(name);
    let fields = 3;
    if (row.complexity !== undefined) fields++;
    if (given.length > 0) fields++;
    if (subcommands !== null) fields++;
    reply.bulkText(name);
    reply.map(fields);
    reply.bulkText('summary');
    reply.bulkText(row.summary);
    reply.bulkText('since');
    reply.bulkText(row.since);
    reply.bulkText('group');
    reply.bulkText(row.group);
    if (row.complexity !== undefined) {
      reply.bulkText('complexity');
      reply.bulkText(row.complexity);
    }
    if (given.length > 0) {
      reply.bulkText('arguments');
      argumentReplies(session, given);
    }
    if (subcommands !== null) {
      reply.bulkText('subcommands');
      docsReplies(session, subcommands.all);
    }
  }
}

function argumentReplies(session: ClientSession, given: readonly Argument[]): void {
  const { reply } = session;
  reply.array(given.length);
  for (const { name, type, token, optional, multiple, parts } of given) {
    const flags = [...(optional ? ['optional'] : []), ...(multiple ? ['multiple'] : [])];
    const isValue = parts === undefined && type !== 'pure-token';
    const texts: [string, string][] = [
      ['name', name],
      ['type', type],
    ];
    if (isValue) texts.push(['display_text', name]);
    if (token !== undefined) texts.push(['token', token]);
    reply.map(texts.length + (flags.length > 0 ? 1 : 0) + (parts === undefined ? 0 : 1));
    for (const [field, text] of texts) {
      reply.bulkText(field);
      reply.bulkText(text);
    }
    if (flags.length > 0) {
      reply.bulkText('flags');
      reply.set(flags.length);
      for (const flag of flags) reply.simple(flag);
    }
    if (parts !== undefined) {
      reply.bulkText('arguments');
      argumentReplies(session, parts);
    }
  }
}

// ---- LIST and GETKEYS

function list(session: ClientSession): void {
  const { args, reply } = session;
  let matches: (entry: CommandEntry) => boolean = () => true;
  if (args.count !== 2) {
    if (args.count !== 5 || !args.is(2, 'FILTERBY')) {
      reply.error(SYNTAX);
      return;
    }
    const value = args.text(4).toLowerCase();
    if (args.is(3, 'MODULE')) matches = () => false;
    else if (args.is(3, 'ACLCAT')) matches = (entry) => entry.categories.has(value);
    else if (args.is(3, 'PATTERN')) {
      const pattern = Buffer.from(value);
      matches = (entry) => globMatches(pattern, Buffer.from(entry.name));
    } else {
      reply.error(SYNTAX);
      return;
    }
  }
  const { top, entries } = tableOf(session);
  const found = (args.count === 2 ? top : entries).filter(matches);
  reply.array(found.length);
  for (const entry of found) reply.bulkText(entry.name);
}

function getKeys(session: ClientSession, withFlags: boolean): void {
  const { args, reply } = session;
  const inner = Arguments.of(...Array.from({ length: args.count - 2 }, (_, i) => args.copy(i + 2)));
  let entry = tableOf(session).find(inner);
  if (entry?.subcommands && inner.count > 1) entry = entry.subcommands.find(inner, 1);
  if (entry === null) {
    reply.error('ERR Invalid command specified');
  } else if (!entry.keys.some((spec) => spec.flags[0] !== 'not_key')) {
    reply.error('ERR The command has no key arguments');
  } else if (entry.arity >= 0 ? inner.count !== entry.arity : inner.count < -entry.arity) {
    reply.error('ERR Invalid number of arguments specified for command');
  } else {
    const found = entry.keys.flatMap((spec) =>
      keyIndices(spec, inner).map((index) => ({ index, flags: keyFlags(spec, inner) })),
    );
    if (found.length === 0) {
      reply.error('ERR Invalid arguments specified for command');
      return;
    }
    reply.array(found.length);
    for (const { index, flags } of found) {
      if (withFlags) reply.array(2);
      reply.bulk(inner.view(index));
      if (!withFlags) continue;
      reply.set(flags.length);
      for (const flag of flags) reply.simple(flag);
    }
  }
}

function help(session: ClientSession): void {
  replyHelp(session, 'COMMAND', [
    '(no subcommand)',
    '    Return details about all Redis commands.',
    'COUNT',
    '    Return the total number of commands in this Redis server.',
    'LIST',
    '    Return a list of all commands in this Redis server.',
    'INFO [<command-name> ...]',
    '    Return details about multiple Redis commands.',
    '    If no command names are given, documentation details for all',
    '    commands are returned.',
    'DOCS [<command-name> ...]',
    '    Return documentation details about multiple Redis commands.',
    '    If no command names are given, documentation details for all',
    '    commands are returned.',
    'GETKEYS <full-command>',
    '    Return the keys from a full Redis command.',
    'GETKEYSANDFLAGS <full-command>',
    '    Return the keys and the access flags from a full Redis command.',
  ]);
}

/**
 * CONFIG GET, SET, RESETSTAT and REWRITE.
 */

import { isLocal } from '../acl/protected-mode.ts';
import type { Command } from '../command/command.ts';
import { quoteArg } from '../command/quoting.ts';
import { rewriteConfigFile } from '../config/config-file.ts';
import { ConfigError } from '../config/config-values.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { replyHelp, SYNTAX } from './common.ts';

const FLAGS = ['admin', 'noscript', 'loading', 'stale'] as const;

export const configCommands: readonly Command<ClientSession>[] = [
  {
    name: 'config',
    arity: -2,
    flags: [],
    group: 'server',
    since: '2.0.0',
    summary: 'A container for server configuration commands.',
    subcommands: [
      {
        name: 'config|get',
        arity: -3,
        flags: FLAGS,
        group: 'server',
        since: '2.0.0',
        summary: 'Returns the effective values of configuration parameters.',
        complexity: 'O(N) when N is the number of configuration parameters provided',
        run: get,
      },
      {
        name: 'config|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'server',
        since: '5.0.0',
        summary: 'Returns helpful text about the different subcommands.',
        run: (session) =>
          replyHelp(session, 'CONFIG', [
            'GET <pattern>',
            '    Return parameters matching the glob-like <pattern> and their values.',
            'SET <directive> <value>',
            '    Set the configuration <directive> to <value>.',
            'RESETSTAT',
            '    Reset statistics reported by the INFO command.',
            'REWRITE',
            '    Rewrite the configuration file.',
          ]),
      },
      {
        name: 'config|resetstat',
        arity: 2,
        flags: FLAGS,
        group: 'server',
        since: '2.0.0',
        summary: "Resets the server's statistics.",
        run: resetStatistics,
      },
      {
        name: 'config|rewrite',
        arity: 2,
        flags: FLAGS,
        group: 'server',
        since: '2.8.0',
        summary: 'Persists the effective configuration to file.',
        run: rewrite,
      },
      {
        name: 'config|set',
        arity: -4,
        flags: FLAGS,
        group: 'server',
        since: '2.0.0',
        summary: 'Sets configuration parameters in-flight.',
        complexity: 'O(N) when N is the number of configuration parameters provided',
        run: set,
      },
    ],
  },
];

function get(session: ClientSession): void {
  const { args, reply } = session;
  const globs: string[] = [];
  for (let i = 2; i < args.count; i++) globs.push(args.latin1(i));
  const found = session.server.config.matching(globs);
  reply.map(found.length);
  for (const [name, value] of found) {
    reply.bulkText(name);
    reply.bulk(Buffer.from(value, 'latin1'));
  }
}

function set(session: ClientSession): void {
  const { args, reply } = session;
  if (args.count % 2 !== 0) {
    reply.error(SYNTAX);
    return;
  }
  const { config } = session.server;
  const pairs: [string, string][] = [];
  for (let i = 2; i < args.count; i += 2) pairs.push([args.latin1(i), args.latin1(i + 1)]);
  const protectedConfigs = config.get('enable-protected-configs');
  const privileged =
    protectedConfigs === 'yes' ||
    (protectedConfigs === 'local' && isLocal(session.socket.remoteAddress));
  try {
    config.change(pairs, privileged);
    reply.ok();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    reply.errorBytes(error.message);
  }
}

function resetStatistics(session: ClientSession): void {
  const { server } = session;
  server.statistics.reset();
  for (const entry of server.table.entries) entry.statistics.reset();
  Object.assign(session.engine.statistics, {
    expiredKeys: 0,
    keyspaceHits: 0,
    keyspaceMisses: 0,
  });
  session.reply.ok();
}

function rewrite(session: ClientSession): void {
  const { config, acl, log } = session.server;
  if (config.file === '') {
    session.reply.error('ERR The server is running without a config file');
    return;
  }
  try {
    const users =
      config.get('aclfile') === ''
        ? acl.users().map(({ rules }) => `user ${rules.map(quoteArg).join(' ')}`)
        : null;
    rewriteConfigFile(config, users);
  } catch (error) {
    log.write('warning', `CONFIG REWRITE failed: ${(error as Error).message}`);
    session.reply.error(`ERR Rewriting config file: ${(error as Error).message}`);
    return;
  }
  session.reply.ok();
}

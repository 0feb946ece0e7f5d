/**
 * FUNCTION and SCRIPT, as far as clients' tests and tools call them: there is nothing to flush or
 * list, because the server runs no scripts. EVAL is an unknown command.
 */
import type { Command } from '../command/command.ts';
import type { Session } from '../connection/session.ts';
import { isFlushMode, wrongSubcommand } from './common.ts';

function flushFunctions(session: Session): void {
  const { args, reply } = session;
  if (args.count > 3) wrongSubcommand(session, 'FUNCTION');
  else if (args.count === 3 && !isFlushMode(args, 2)) {
    reply.error('ERR FUNCTION FLUSH only supports SYNC|ASYNC option');
  } else reply.ok();
}

function flushScripts(session: Session): void {
  const { args, reply } = session;
  if (args.count === 2 || (args.count === 3 && isFlushMode(args, 2))) reply.ok();
  else reply.error('ERR SCRIPT FLUSH only support SYNC|ASYNC option');
}

function list(session: Session): void {
  const { args, reply } = session;
  for (let i = 2; i < args.count; i++) {
    if (args.is(i, 'WITHCODE')) continue;
    if (!args.is(i, 'LIBRARYNAME')) {
      reply.error(`ERR Unknown argument ${args.text(i)}`);
      return;
    }
    if (++i === args.count) {
      reply.error('ERR library name argument was not given');
      return;
    }
  }
  reply.array(0);
}

function exists(session: Session): void {
  const { args, reply } = session;
  reply.array(args.count - 2);
  for (let i = 2; i < args.count; i++) reply.integer(0);
}

export const scriptingCommands: readonly Command[] = [
  {
    name: 'function',
    arity: -2,
    flags: [],
    group: 'scripting',
    since: '7.0.0',
    summary: 'Functions in the server: there are none.',
    subcommands: [
      {
        name: 'function|flush',
        arity: -2,
        flags: ['write', 'noscript'],
        group: 'scripting',
        since: '7.0.0',
        summary: 'Removes all functions, of which there are none.',
        complexity: 'O(1)',
        run: flushFunctions,
      },
      {
        name: 'function|list',
        arity: -2,
        flags: ['noscript'],
        group: 'scripting',
        since: '7.0.0',
        summary: 'Lists the functions, of which there are none.',
        complexity: 'O(1)',
        run: list,
      },
    ],
  },
  {
    name: 'script',
    arity: -2,
    flags: [],
    group: 'scripting',
    since: '2.6.0',
    summary: 'Scripts in the server: there are none.',
    subcommands: [
      {
        name: 'script|exists',
        arity: -3,
        flags: ['noscript'],
        group: 'scripting',
        since: '2.6.0',
        summary: 'Tells for each digest that there is no such script.',
        complexity: 'O(N) of digests',
        run: exists,
      },
      {
        name: 'script|flush',
        arity: -2,
        flags: ['noscript'],
        group: 'scripting',
        since: '2.6.0',
        summary: 'Removes all scripts, of which there are none.',
        complexity: 'O(1)',
        run: flushScripts,
      },
    ],
  },
];

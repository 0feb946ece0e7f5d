/**
 * INFO: the sections asked for, as text.
 */
import type { Command } from '../command/command.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { infoShowsKeys, infoText } from '../observability/info-sections.ts';

export const infoCommands: readonly Command<ClientSession>[] = [
  {
    name: 'info',
    arity: -1,
    flags: ['loading', 'stale'],
    categories: ['dangerous'],
    group: 'server',
    since: '1.0.0',
    summary: 'Returns information and statistics about the server.',
    complexity: 'O(1)',
    run: info,
  },
];

function info(session: ClientSession): void {
  const { args } = session;
  const wanted: string[] = [];
  for (let i = 1; i < args.count; i++) wanted.push(args.text(i).toLowerCase());
  const start = session.reply.length;
  session.reply.verbatim(infoText(session.server, wanted));
  if (!infoShowsKeys(session.server, wanted)) session.showsUpTo(start, 0);
}

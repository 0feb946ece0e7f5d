/**
 * INFO: the sections asked for, as text.
 */
import type { Command } from '../command.ts';
import { connectionOf } from '../connection-of.ts';
import { infoText } from '../info-sections.ts';
import type { Session } from '../session.ts';

export const infoCommands: readonly Command[] = [
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

function info(session: Session): void {
  const { args } = session;
  const wanted: string[] = [];
  for (let i = 1; i < args.count; i++) wanted.push(args.text(i).toLowerCase());
  session.reply.verbatim(infoText(connectionOf(session).server, wanted));
}

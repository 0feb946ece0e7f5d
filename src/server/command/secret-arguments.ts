/**
 * Hides secret arguments (passwords) where MONITOR and SLOWLOG show commands.
 *
 * As in Redis's redactClientCommandArgument: of AUTH and HELLO the user's name too, of ACL SETUSER
 * everything after the subcommand. Off the hot path.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { CommandEntry } from './command-table.ts';

const REDACTED = Buffer.from('(redacted)');

const SECRET_PARAMETERS = new Set([
  'requirepass',
  'masterauth',
  'masteruser',
  'tls-key-file-pass',
  'tls-client-key-file-pass',
]);

/** The arguments as they may be shown; views, valid as long as `args` is. */
export function shownArguments(entry: CommandEntry, args: Arguments): Buffer[] {
  const shown: Buffer[] = [];
  for (let i = 0; i < args.count; i++) shown.push(args.view(i));
  switch (entry.name) {
    case 'auth':
      shown.fill(REDACTED, 1, 3);
      break;
    case 'acl|setuser':
      shown.fill(REDACTED, 2);
      break;
    case 'config|set':
      for (let i = 2; i + 1 < args.count; i += 2) {
        if (SECRET_PARAMETERS.has(args.latin1(i).toLowerCase())) shown[i + 1] = REDACTED;
      }
      break;
    case 'hello':
      for (let i = 2; i < args.count; i++) {
        if (args.is(i, 'AUTH') && i + 2 < args.count) shown.fill(REDACTED, i + 1, i + 3);
        i += args.is(i, 'AUTH') ? 2 : 1;
      }
  }
  return shown;
}

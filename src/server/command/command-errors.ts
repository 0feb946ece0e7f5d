/**
 * The errors of commands that are refused, in Redis's exact words, and what is recorded of refused and slow
 * commands. None of it is on the hot path.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { Refusal } from '../acl/acl-permissions.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { clientBytes } from '../observability/client-info.ts';
import { type CommandEntry, FLAG } from './command-table.ts';
import { shownArguments } from './secret-arguments.ts';

/** Redis quotes at most this many bytes of an argument. */
const SHOWN = 128;

/** Bytes as latin1, as ReplyWriter.errorBytes takes them. */
export function unknownCommand(args: Arguments): string {
  let shown = '';
  for (let i = 1; i < args.count && shown.length < SHOWN; i++) {
    shown += `'${clipped(args, i, SHOWN - shown.length)}' `;
  }
  return `ERR unknown command '${clipped(args, 0, SHOWN)}', with args beginning with: ${shown}`;
}

/** Bytes as latin1. */
export function unknownSubcommand(args: Arguments, container: CommandEntry): string {
  const name = container.name.toUpperCase();
  return `ERR unknown subcommand '${clipped(args, 1, SHOWN)}'. Try ${name} HELP.`;
}

export function notWhileListening(args: Arguments): string {
  const name = args.text(0).toLowerCase();
  return `ERR Can't execute '${name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context`;
}

/** One argument as latin1: at most `max` bytes, and only up to a NUL, as C's %.*s prints it. */
function clipped(args: Arguments, index: number, max: number): string {
  const text = args.latin1(index).slice(0, max);
  const nul = text.indexOf('\0');
  return nul < 0 ? text : text.slice(0, nul);
}

/** Notes a refusal by the ACL in its log and counters; returns the words behind NOPERM, bytes as latin1. */
export function noteDenied(client: ClientSession, entry: CommandEntry, refusal: Refusal): string {
  const { statistics, acl } = client.server;
  acl.note({
    reason: refusal.reason,
    context: client.denyBlocking ? 'multi' : 'toplevel',
    object: refusal.reason === 'command' ? entry.name : client.args.latin1(refusal.argument),
    username: client.user.name,
    createdAt: client.engine.now,
    clientInfo: clientBytes(client),
  });
  switch (refusal.reason) {
    case 'command':
      statistics.aclDeniedCommand++;
      return deniedCommand(client.user.name, entry);
    case 'key':
      statistics.aclDeniedKey++;
      return 'No permissions to access a key';
    case 'channel':
      statistics.aclDeniedChannel++;
      return 'No permissions to access a channel';
  }
}

/** Bytes as latin1, as the name of a user is. */
export function deniedCommand(user: string, entry: CommandEntry): string {
  return `User ${user} has no permissions to run the '${entry.name}' command`;
}

/** The user was allowed the command when it was queued, and is not at EXEC. */
export function deniedSinceQueued(refusal: Refusal): string {
  return (
    'ACLs rules changed between the moment the transaction was accumulated and the EXEC call. ' +
    `This command is no longer allowed for the following reason: ${DENIED_BECAUSE[refusal.reason]}`
  );
}

const DENIED_BECAUSE = {
  command: 'no permission to execute the command or subcommand',
  key: 'no permission to touch the specified keys',
  channel: 'no permission to access one of the channels used as arguments to the command',
} as const;

/**
 * Records a command that was run and took `elapsed` ms: for MONITOR, SLOWLOG and LATENCY. `args` are those
 * that were received; a command that blocks may have replaced `client.args`.
 */
export function noteRun(
  client: ClientSession,
  entry: CommandEntry,
  args: Arguments,
  elapsed: number,
): void {
  const { slowlog, latency, monitors } = client.server;
  if (monitors.any) monitors.feed(client, entry, args);
  const at = client.engine.seconds;
  const microseconds = Math.floor(elapsed * 1000);
  const slow = slowlog.threshold >= 0 && microseconds >= slowlog.threshold;
  if (slow && (entry.flags & FLAG.skip_slowlog) === 0) {
    slowlog.add(microseconds, shownArguments(entry, args), {
      at,
      address: client.address,
      clientName: client.name,
    });
  }
  if (latency.threshold > 0 && elapsed >= latency.threshold) {
    const event = (entry.flags & FLAG.fast) !== 0 ? 'fast-command' : 'command';
    latency.note(event, at, Math.floor(elapsed));
  }
}

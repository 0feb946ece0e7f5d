/**
 * What a command does to a connection that many callers share.
 *
 * Invariant: every command that is sent gets its own reply, and so do those behind it. A command that would
 * change that for the others is refused. A command's name is the same as text and as bytes.
 * Cost: one comparison per command for those that are sent.
 */
import type { CommandArgument } from './command-encoder.ts';

/** Names in lower case, and why the others could not go on. */
const REFUSED: Readonly<Record<string, string>> = {
  monitor: 'MONITOR would send what is no reply',
  reset: 'RESET would end the protocol and the subscriptions of all callers',
  hello: 'HELLO would change the protocol for all callers: use the option protocol',
  sync: 'SYNC would send what is no reply',
  psync: 'PSYNC would send what is no reply',
};
const LONGEST = 7;

/** The argument as text; bytes are taken as latin1, as names of commands and options are. */
export function textOf(argument: CommandArgument | undefined): string {
  if (typeof argument === 'string') return argument;
  if (!(argument instanceof Uint8Array)) return String(argument);
  return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength).toString('latin1');
}

/** Why the command cannot be sent; null where it can. */
export function refusalOf(args: readonly CommandArgument[]): string | null {
  const name = textOf(args[0]);
  if (name.length > LONGEST) return null;
  const command = name.toLowerCase();
  if (command === 'client' && textOf(args[1]).toLowerCase() === 'reply') {
    return 'CLIENT REPLY would leave the calls of all callers without replies';
  }
  return Object.hasOwn(REFUSED, command) ? (REFUSED[command] as string) : null;
}

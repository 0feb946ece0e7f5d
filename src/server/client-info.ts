/**
 * One client as CLIENT LIST, CLIENT INFO and ACL LOG show it.
 */
import type { Connection } from './connection.ts';

/** The line without its line break. */
export function clientLine(client: Connection): string {
  const { server, transaction, subscriptions, output } = client;
  const now = server.monotonic();
  const idle = Math.floor(Math.max(0, now - client.activeAt) / 1000);
  const { pending } = output;
  const held = client.inputHeld;
  const fields: [string, string | number][] = [
    ['id', client.id],
    ['addr', client.address],
    ['laddr', client.localAddress],
    ['fd', fileDescriptor(client)],
    ['name', client.name],
    ['age', Math.max(0, Math.floor((now - client.createdAt) / 1000))],
    ['idle', idle],
    ['flags', flagsOf(client)],
    ['db', client.database.index],
    ['sub', subscriptions?.channels ?? 0],
    ['psub', subscriptions?.patterns ?? 0],
    ['ssub', 0],
    ['multi', transaction?.active ? transaction.queued : -1],
    ['watch', transaction?.watched ?? 0],
    ['qbuf', client.inputWaiting],
    ['qbuf-free', Math.max(0, held - client.inputWaiting)],
    ['argv-mem', 0],
    ['multi-mem', 0],
    ['rbs', client.reply.buffer.length],
    ['rbp', client.reply.length],
    ['obl', client.reply.length],
    ['oll', output.held],
    ['omem', pending],
    ['tot-mem', held + pending + client.reply.buffer.length + CONNECTION_BYTES],
    ['events', pending > 0 ? 'rw' : 'r'],
    ['cmd', client.lastCommand?.name ?? 'NULL'],
    ['user', client.user.name],
    ['redir', -1],
    ['resp', client.reply.protocol],
    ['lib-name', client.libName],
    ['lib-ver', client.libVersion],
    ['tot-net-in', client.inputBytes],
    ['tot-net-out', client.outputBytes],
    ['tot-cmds', client.commands],
  ];
  return fields.map(([name, value]) => `${name}=${value}`).join(' ');
}

/** What a connection without data costs: session, parser, socket; measured, rounded up. */
const CONNECTION_BYTES = 6 * 1024;

/** `127.0.0.1:5000`, `[::1]:5000`; a unix socket is shown by its path. */
export function shownAddress(
  address: string | undefined,
  port: number | undefined,
  unixSocket: string,
): string {
  if (address === undefined) return `${unixSocket}:0`;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function flagsOf(client: Connection): string {
  let flags = client.server.monitors.has(client) ? 'O' : '';
  if (client.listening) flags += 'P';
  if (client.transaction?.active) flags += 'x';
  if (client.blocked) flags += 'b';
  if (client.socket.remoteAddress === undefined) flags += 'U';
  if (client.noEvict) flags += 'e';
  if (client.noTouch) flags += 'T';
  return flags === '' ? 'N' : flags;
}

function fileDescriptor(client: Connection): number {
  const handle = (client.socket as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

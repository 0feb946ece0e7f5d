/**
 * One client as CLIENT LIST, CLIENT INFO and ACL LOG show it.
 */

import { shown } from '../config/config.ts';
import type { ClientView } from '../connection/client-view.ts';
import { commandBytes, heldBytes, multiBytes, outputBytes } from './client-memory.ts';

/** The line without its line break. */
/** For people, as the log shows it. */
export function clientLine(client: ClientView): string {
  return shown(clientBytes(client));
}

/** As CLIENT LIST replies it: bytes as latin1, since names of users are any bytes. */
export function clientBytes(client: ClientView): string {
  const { transaction, subscriptions, output, reply } = client;
  const now = client.engine.clock.monotonic();
  const age = Math.floor(Math.max(0, now - client.createdAt) / 1000);
  const idle = Math.floor(Math.max(0, now - client.lastActiveAt) / 1000);
  const waiting = client.inputWaiting;
  const pending = outputBytes(client);
  const total = heldBytes(client) + CONNECTION_BYTES;
  return (
    `id=${client.id} addr=${client.address} laddr=${client.localAddress}` +
    ` fd=${fileDescriptor(client)} name=${client.name} age=${age} idle=${idle}` +
    ` flags=${flagsOf(client)} db=${client.database.index} sub=${subscriptions?.channels ?? 0}` +
    ` psub=${subscriptions?.patterns ?? 0} ssub=${subscriptions?.shardChannels ?? 0}` +
    ` multi=${transaction?.active ? transaction.queued : -1} watch=${transaction?.watched ?? 0}` +
    ` qbuf=${waiting} qbuf-free=${Math.max(0, client.inputHeld - waiting)}` +
    ` argv-mem=${commandBytes(client)} multi-mem=${multiBytes(client)}` +
    ` rbs=${reply.buffer.length} rbp=${reply.length} obl=${reply.length} oll=${output.held}` +
    ` omem=${pending} tot-mem=${total} events=${pending > 0 ? 'rw' : 'r'}` +
    ` cmd=${client.lastCommand?.name ?? 'NULL'} user=${client.user.name} redir=-1` +
    ` resp=${reply.protocol} lib-name=${client.libName} lib-ver=${client.libVersion}` +
    ` tot-net-in=${client.inputBytes} tot-net-out=${client.outputBytes} tot-cmds=${client.commands}`
  );
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

function flagsOf(client: ClientView): string {
  let flags = client.isMonitor ? 'O' : '';
  if (client.listening) flags += 'P';
  if (client.transaction?.active) flags += 'x';
  if (client.commandWaits) flags += 'b';
  if (client.isLocalSocket) flags += 'U';
  if (client.noEvict) flags += 'e';
  if (client.noTouch) flags += 'T';
  return flags === '' ? 'N' : flags;
}

function fileDescriptor(client: ClientView): number {
  const handle = (client.socket as { _handle?: { fd?: number } | null })._handle;
  return handle?.fd ?? -1;
}

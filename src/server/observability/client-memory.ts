/**
 * The bytes that are held because of one client, added up in one place, by kind.
 *
 * Everything that is kept for a client is here: what it sent and was not yet run (input, a command
 * that waits, MULTI's queue), what it is to be sent (output of any kind), what it asked others for
 * (requests that wait or are unanswered), and what it watches and listens to.
 * Invariant: CLIENT LIST, INFO, the limits of the client's class and maxmemory-clients all read these
 * numbers.
 * Cost: a dozen additions, no allocation.
 */
import type { ClientView } from '../connection/client-view.ts';

/** Bytes on their way to the client, on any path. */
export function outputBytes(client: ClientView): number {
  return client.output.pending + client.reply.length + client.pushBytes;
}

/** What it sent and has not been run: Redis bounds the sum by client-query-buffer-limit. */
export function unrunBytes(client: ClientView): number {
  return client.inputWaiting + commandBytes(client) + multiBytes(client);
}

/** Commands that wait: for their data, for CLIENT PAUSE to end, for memory. */
export function commandBytes(client: ClientView): number {
  return client.waitingBytes;
}

/** MULTI's queue. */
export function multiBytes(client: ClientView): number {
  return client.transaction === null ? 0 : client.transaction.queuedBytes;
}

/** All bytes that are held because of this client. */
export function heldBytes(client: ClientView): number {
  const { transaction, subscriptions, requests } = client;
  let bytes =
    client.inputHeld + client.output.pending + client.reply.buffer.length + client.pushBytes;
  bytes += client.waitingBytes;
  if (transaction !== null) bytes += transaction.queuedBytes + transaction.watchedBytes;
  if (subscriptions !== null) bytes += subscriptions.bytes;
  if (requests !== null) bytes += requests.bytes;
  return bytes;
}

/**
 * Waits for the end of a connection. `once(socket, 'close')` rejects with an error that comes before, and a peer
 * that closes with bytes unread causes one: a reset.
 */
import type { EventEmitter } from 'node:events';

/** Resolves when it has closed, after an error too. */
export function closed(connection: EventEmitter): Promise<void> {
  connection.on('error', () => {});
  return new Promise((resolve) => {
    connection.once('close', () => resolve());
  });
}

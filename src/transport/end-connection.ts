/** The end of a connection that no server of Node reads any more, as after a refused upgrade. Cost: one timer. */
import type { Duplex } from 'node:stream';
import type { Scheduler } from '../util/time/scheduler.ts';

/** How long a client may take to end its side of a connection that is over. */
const LINGER_MS = 2000;

/**
 * Ends our side after `lastWords`. What the client still sends is dropped, so that its end is seen, and a client
 * that does not end its own side is disconnected.
 */
export function endConnection(
  socket: Duplex,
  scheduler: Scheduler,
  lastWords: string | null = null,
): void {
  if (socket.destroyed) return;
  if (lastWords === null) socket.end();
  else socket.end(lastWords);
  const stop = scheduler.after(LINGER_MS, () => socket.destroy(), false);
  socket.once('close', stop).resume();
}

/**
 * A signal that aborts when a client's connection ends: one for all requests of the connection, because a
 * request of HTTP/1.1 whose client leaves is a connection that ends.
 *
 * Invariant: each listener is removed when its request ends. Cost: one controller per connection.
 */
import type { Socket } from 'node:net';
import { onAbort } from '../util/time/on-abort.ts';

const signals = new WeakMap<Socket, AbortSignal>();

export function goneSignal(socket: Socket): AbortSignal {
  const known = signals.get(socket);
  if (known !== undefined) return known;
  const controller = new AbortController();
  if (socket.destroyed) controller.abort();
  else socket.once('close', () => controller.abort());
  signals.set(socket, controller.signal);
  // While one waits, the next ones cost no listener: each request would add and remove one.
  onAbort(controller.signal, () => {});
  return controller.signal;
}

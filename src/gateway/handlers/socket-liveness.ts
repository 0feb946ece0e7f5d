/**
 * Pings on a WebSocket, so that a client that left without a close frame is noticed.
 *
 * Invariant: a client that says nothing within one interval after a ping is disconnected. One whose messages
 * are not read now, because the service is slower, cannot be heard: it is pinged and kept, until the system
 * of the other side says that the connection is no more. Cost: one timer a socket, and one frame of two
 * bytes an interval.
 */
import type { WebSocket } from 'ws';

export function keepAlive(socket: WebSocket, intervalMs: number): void {
  let isAlive = true;
  const heard = () => {
    isAlive = true;
  };
  socket.on('pong', heard).on('message', heard);
  const ask = () => {
    isAlive = false;
    socket.ping();
  };
  const timer = setInterval(() => {
    if (socket.isPaused) {
      heard();
      socket.ping();
    } else if (isAlive) ask();
    // After a turn that took long the answer waits to be read: timers come before what has arrived.
    else setImmediate(() => (isAlive || socket.isPaused ? ask() : socket.terminate()));
  }, intervalMs);
  timer.unref();
  socket.once('close', () => clearInterval(timer));
}

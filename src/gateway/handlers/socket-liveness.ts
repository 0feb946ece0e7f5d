/**
 * Pings on a WebSocket, so that a client that left without a close frame is noticed.
 *
 * Invariant: a client that says nothing within one interval after a ping is disconnected; it has an interval more
 * for each MiB in front of the ping that it has yet to read. One whose messages are not read now, because the
 * service is slower, cannot be heard: it is pinged and kept, until the system of the other side says that the
 * connection is no more. One that a message is being sent to is judged by its reading (stalled.ts). Cost: one
 * timer a socket, and one frame of two bytes an interval.
 */
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { isSending } from '../stalled.ts';

const BYTES_AN_INTERVAL = 2 ** 20;
/** More than both systems keep of a connection. */
const MOST_INTERVALS = 16;

/** `connection` is the one under the socket. */
export function keepAlive(socket: WebSocket, connection: Socket, intervalMs: number): void {
  let isAlive = true;
  /** Bytes in front of the last ping, and of the last one that was answered. */
  let sentAt = 0;
  let readAt = 0;
  let intervals = 0;
  const heard = () => {
    isAlive = true;
  };
  socket.on('message', heard).on('pong', () => {
    heard();
    readAt = sentAt;
  });
  const ask = () => {
    isAlive = false;
    sentAt = connection.bytesWritten;
    intervals = Math.min(MOST_INTERVALS, Math.floor((sentAt - readAt) / BYTES_AN_INTERVAL));
    socket.ping();
  };
  const timer = setInterval(() => {
    if (isSending(socket)) heard();
    else if (socket.isPaused) {
      heard();
      socket.ping();
    } else if (isAlive) ask();
    else if (intervals > 0) intervals--;
    else {
      // After a turn that took long the answer waits to be read: timers come before what has arrived.
      setImmediate(() => {
        if (isAlive || socket.isPaused || isSending(socket)) ask();
        else socket.terminate();
      });
    }
  }, intervalMs);
  timer.unref();
  socket.once('close', () => clearInterval(timer));
}

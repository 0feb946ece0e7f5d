/**
 * Clients that take nothing of their answer.
 *
 * Invariants: a client that takes nothing of what waits for it for `stalledMs` is disconnected, whether more is
 * to be written or the answer has been written whole; the time of an answer begins when those before it on
 * its connection have left. A long text is written in pieces and the time begins again with each piece, so that
 * a slow client that goes on reading stays, however long one message is. The system says that there is room again
 * when a third of its send buffer is free (4 MB on Linux): a client has to read about 1.5 MB in `stalledMs`. No
 * listener stays behind. Cost: a timer while something waits, none else.
 */
import type { ServerResponse } from 'node:http';
import { WebSocket } from 'ws';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { type Timeout, Timeouts } from '../util/time/timeouts.ts';

/** One timer for the answers of all requests. */
const timeouts = new Timeouts(systemScheduler);
/** A longer body waits for its client after each of its pieces. */
const PIECE_BYTES = 64 * 1024;

/** Sockets to which a message is being sent, and what is to be done when it has left. */
const sending = new WeakMap<WebSocket, (() => void)[]>();

/**
 * Writes a part of an answer, of which nothing else may write until this resolves: when more may be written, or
 * when the client is gone.
 */
export async function writeTo(
  response: ServerResponse,
  part: string | Uint8Array,
  stalledMs: number,
  waits = timeouts,
): Promise<void> {
  if (!isLong(part)) {
    if (!response.write(part)) await drained(response, stalledMs, waits);
    return;
  }
  const bytes = typeof part === 'string' ? Buffer.from(part) : part;
  for (let at = 0; at < bytes.length && !response.destroyed; at += PIECE_BYTES) {
    const isTaken = response.write(bytes.subarray(at, at + PIECE_BYTES));
    if (!isTaken) await drained(response, stalledMs, waits);
  }
}

/** To be called once the answer has been written whole. */
export function mustBeTaken(response: ServerResponse, stalledMs: number): void {
  if (response.destroyed || response.writableFinished) return;
  if (response.socket !== null && response.writableLength === 0) return;
  untilTaken(response, 'finish', stalledMs, timeouts, () => {});
}

/** Ends an answer with a body; of a long one no more than a piece waits in memory for the client. */
export async function endInPieces(
  response: ServerResponse,
  body: Uint8Array,
  stalledMs: number,
): Promise<void> {
  await writeTo(response, body, stalledMs);
  response.end();
  mustBeTaken(response, stalledMs);
}

/**
 * Resolves when the system has the message, or when the client is gone. A long message is sent in fragments
 * (RFC 6455, 5.4), between which control frames pass.
 */
export async function sendTo(
  socket: WebSocket,
  message: string | Buffer,
  stalledMs: number,
  waits = timeouts,
): Promise<void> {
  const whenSent: (() => void)[] = [];
  sending.set(socket, whenSent);
  const bytes = typeof message === 'string' && isLong(message) ? Buffer.from(message) : message;
  let at = 0;
  do {
    const isLast = at + PIECE_BYTES >= bytes.length;
    const piece = isLong(bytes) ? (bytes as Buffer).subarray(at, at + PIECE_BYTES) : bytes;
    await sendPiece(socket, piece, isLast, stalledMs, waits);
    at += PIECE_BYTES;
  } while (at < bytes.length && socket.readyState === WebSocket.OPEN);
  sending.delete(socket);
  for (const act of whenSent) act();
}

/** Whether a message is on its way to the client, whose reading `stalledMs` bounds. */
export function isSending(socket: WebSocket): boolean {
  return sending.has(socket);
}

/** Closes a socket behind the message that is being sent. */
export function closeWhenSent(socket: WebSocket, code: number, reason: string): void {
  const whenSent = sending.get(socket);
  const close = () => socket.close(code, reason);
  if (whenSent === undefined) close();
  else whenSent.push(close);
}

export function isLong(body: string | Uint8Array): boolean {
  return body.length > PIECE_BYTES;
}

/** Resolves when more may be written, or when the client is gone. */
function drained(response: ServerResponse, stalledMs: number, waits: Timeouts): Promise<void> {
  if (response.destroyed || !response.writableNeedDrain) return Promise.resolve();
  return new Promise((resolve) => {
    untilTaken(response, 'drain', stalledMs, waits, resolve);
  });
}

function sendPiece(
  socket: WebSocket,
  piece: string | Buffer,
  isLast: boolean,
  stalledMs: number,
  waits: Timeouts,
): Promise<void> {
  return new Promise((resolve) => {
    const timer = waits.start(stalledMs, { expire: () => socket.terminate() });
    socket.send(piece, { binary: false, fin: isLast }, () => {
      timer.cancel();
      resolve();
    });
  });
}

function untilTaken(
  response: ServerResponse,
  event: 'drain' | 'finish',
  stalledMs: number,
  waits: Timeouts,
  then: () => void,
): void {
  let timer: Timeout | null = null;
  const start = () => {
    timer = waits.start(stalledMs, { expire: () => response.destroy() });
  };
  const end = () => {
    timer?.cancel();
    response.off(event, end).off('close', end).off('socket', start);
    then();
  };
  response.once(event, end).once('close', end);
  if (response.socket === null) response.once('socket', start);
  else start();
}

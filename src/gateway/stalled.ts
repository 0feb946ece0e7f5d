/**
 * Clients that take nothing of their answer.
 *
 * Invariants: a client that takes nothing of what waits for it for `stalledMs` is disconnected, whether more is
 * to be written or the answer has been written whole; the time of an answer begins when those before it on
 * its connection have left. No listener stays behind. Cost: a timer while something waits, none else.
 */
import type { ServerResponse } from 'node:http';
import type { WebSocket } from 'ws';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { type Timeout, Timeouts } from '../util/time/timeouts.ts';

/** One timer for the answers of all requests. */
const timeouts = new Timeouts(systemScheduler);
/** A longer body waits for its client after each of its pieces. */
const PIECE_BYTES = 64 * 1024;

/** Resolves when more may be written, or when the client is gone. */
export function drained(response: ServerResponse, stalledMs: number): Promise<void> {
  if (response.destroyed || !response.writableNeedDrain) return Promise.resolve();
  return new Promise((resolve) => {
    untilTaken(response, 'drain', stalledMs, resolve);
  });
}

/** To be called once the answer has been written whole. */
export function mustBeTaken(response: ServerResponse, stalledMs: number): void {
  if (response.destroyed || response.writableFinished) return;
  if (response.socket !== null && response.writableLength === 0) return;
  untilTaken(response, 'finish', stalledMs, () => {});
}

/** Ends an answer with a body; of a long one no more than a piece waits in memory for the client. */
export function endInPieces(response: ServerResponse, body: Uint8Array, stalledMs: number): void {
  const write = async () => {
    for (let at = 0; at < body.length && !response.destroyed; at += PIECE_BYTES) {
      const isTaken = response.write(body.subarray(at, at + PIECE_BYTES));
      if (!isTaken) await drained(response, stalledMs);
    }
    response.end();
    mustBeTaken(response, stalledMs);
  };
  void write();
}

/** Resolves when the system has the message, or when the client is gone. */
export function sendTo(socket: WebSocket, text: string | Buffer, stalledMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = timeouts.start(stalledMs, { expire: () => socket.terminate() });
    socket.send(text, { binary: false }, () => {
      timer.cancel();
      resolve();
    });
  });
}

export function isLong(body: string | Uint8Array): boolean {
  return body.length > PIECE_BYTES;
}

function untilTaken(
  response: ServerResponse,
  event: 'drain' | 'finish',
  stalledMs: number,
  then: () => void,
): void {
  let timer: Timeout | null = null;
  const start = () => {
    timer = timeouts.start(stalledMs, { expire: () => response.destroy() });
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

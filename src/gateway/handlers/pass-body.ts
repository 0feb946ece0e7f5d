/**
 * A body on its way from one HTTP connection to another.
 *
 * Invariants: what the receiver does not take holds the sender back; a sender that ends early is an error,
 * never a short body that looks whole; no listener stays. Cost: no copy, and none of what a general
 * pipeline needs for each request.
 */
import type { IncomingMessage } from 'node:http';
import type { Writable } from 'node:stream';
import { HttpError } from '../http-error.ts';

/** Resolves when the body has come whole and `to` has been ended. Rejects with 413 beyond `maxBytes`. */
export function passBody(
  from: IncomingMessage,
  to: Writable,
  maxBytes = Number.POSITIVE_INFINITY,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let size = 0;
    const onData = (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) {
        from.pause();
        over(new HttpError(413, `the body has more than ${maxBytes} bytes`));
      } else if (!to.write(chunk)) from.pause();
    };
    const onDrain = () => from.resume();
    const onEnd = () => {
      to.end();
      over(null);
    };
    const onCut = () => over(new Error('the connection was cut'));
    const over = (error: Error | null) => {
      from.off('data', onData).off('end', onEnd).off('error', onCut).off('close', onCut);
      to.off('drain', onDrain).off('error', onCut).off('close', onCut);
      if (error === null) resolve();
      else reject(error);
    };
    to.on('drain', onDrain).once('error', onCut).once('close', onCut);
    from.once('end', onEnd).once('error', onCut).once('close', onCut).on('data', onData);
    if (from.readableEnded) onEnd();
    else if (from.destroyed || to.destroyed) onCut();
  });
}

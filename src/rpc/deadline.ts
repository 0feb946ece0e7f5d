/**
 * Waits of a call that nothing else bounds: a registry that does not answer, a node that is dialled.
 *
 * Invariant: the wait ends with the call's deadline or its signal, whatever it waits for; what it
 * waited for goes on and its outcome is dropped. Cost: one entry in a queue of timeouts.
 */
import { RivuletError } from '../errors.ts';
import { onAbort } from '../util/time/on-abort.ts';
import type { Timeouts } from '../util/time/timeouts.ts';

/** A nested call ends so much before the call that caused it: the reply has to travel back. */
export const MARGIN_MS = 5;

export function within<T>(
  wait: Promise<T>,
  ms: number | null,
  signal: AbortSignal | undefined,
  timeouts: Timeouts,
  endpoint: string,
): Promise<T> {
  if (ms === null && signal === undefined) return wait;
  return new Promise<T>((resolve, reject) => {
    let unwatch = () => {};
    const finish = () => {
      stop?.();
      unwatch();
    };
    const fail = (error: RivuletError) => {
      finish();
      reject(error);
    };
    const abort = () => {
      const text = `the call of ${endpoint} was aborted before it was sent`;
      fail(new RivuletError('ABORTED', text, { sent: 'no', cause: signal?.reason }));
    };
    const stop =
      ms === null
        ? null
        : timeouts.add(ms, () => {
            const text = `no node was found and reached for ${endpoint} within the ${Math.round(ms)} ms of the call`;
            fail(new RivuletError('TIMEOUT', text, { sent: 'no' }));
          });
    wait.then(
      (value) => {
        finish();
        resolve(value);
      },
      (error) => {
        finish();
        reject(error);
      },
    );
    if (signal !== undefined) unwatch = onAbort(signal, abort);
  });
}

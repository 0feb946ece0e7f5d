/**
 * The time in which the console must have an answer.
 *
 * Invariant: a caller waits at most `ms`; what is late is dropped. Cost: one timer for each answer.
 */
import { RivuletError } from '../../errors.ts';

/** A request that takes longer, ms, is answered with TIMEOUT. */
const ANSWER_MS = 30_000;

/** Rejects with TIMEOUT where the answer takes longer than `ms`. */
export async function inTime<T>(answer: Promise<T>, ms = ANSWER_MS): Promise<T> {
  let timer!: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new RivuletError('TIMEOUT', `no answer within ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

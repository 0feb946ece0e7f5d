/**
 * Values as a journal keeps them: JSON, bounded.
 *
 * Invariant: what a program gets live is what it would get on replay: the value as it comes out of JSON.
 */
import { RivuletError } from '../../errors.ts';
import { messageOf } from '../errors.ts';

/** The value as JSON gives it back. Throws VALIDATION_FAILED or BODY_TOO_LARGE. */
export function stored(value: unknown, what: string, most: number): unknown {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (cause) {
    const message = `${what} cannot be stored as JSON: ${messageOf(cause)}`;
    throw new RivuletError('VALIDATION_FAILED', message, { cause });
  }
  if (text === undefined) {
    if (value === undefined) return undefined;
    throw new RivuletError(
      'VALIDATION_FAILED',
      `${what} cannot be stored: a ${typeof value} is no JSON`,
    );
  }
  if (text.length > most || (text.length * 3 > most && Buffer.byteLength(text) > most)) {
    throw new RivuletError(
      'BODY_TOO_LARGE',
      `${what} has ${Buffer.byteLength(text)} bytes as JSON, and at most ${most} are stored: store it elsewhere and return where it is`,
    );
  }
  return JSON.parse(text);
}

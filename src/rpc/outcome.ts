/** What the end of a call says of the node that was called. */
import { RivuletError } from '../errors.ts';
import type { Outcome } from '../selector/selector.ts';

export const OK: Outcome = { result: 'ok' };

/** What the failure says of the node: an error that the application sent says that it lives. */
export function outcomeOf(error: unknown): Outcome {
  if (!(error instanceof RivuletError)) return OK;
  switch (error.code) {
    case 'CONNECTION_FAILED':
    case 'RESPONDER_LOST':
    case 'UNAVAILABLE':
    case 'NOT_CONNECTED':
      return { result: 'unreachable' };
    case 'TIMEOUT':
      return { result: 'timeout' };
    default:
      return OK;
  }
}

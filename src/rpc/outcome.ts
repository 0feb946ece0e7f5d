/** What the end of a call says of the node that was called. */
import { RivuletError } from '../errors.ts';
import type { Outcome } from '../selector/selector.ts';
import { CallError } from '../transport/transport.ts';

export const OK: Outcome = { result: 'ok' };
/** The call says nothing of the node. */
export const NONE: Outcome = { result: 'none' };
const UNREACHABLE: Outcome = { result: 'unreachable' };
const TIMEOUT: Outcome = { result: 'timeout' };

/**
 * An error that a handler threw says that the node lives, whatever its code is: it may come from a call
 * that the handler made. A node that refuses calls because it stops is as good as gone.
 */
export function outcomeOf(error: unknown): Outcome {
  if (!(error instanceof RivuletError)) return OK;
  if (error instanceof CallError) {
    const { code, sent } = error.failure;
    return code === 'UNAVAILABLE' && sent === 'no' ? UNREACHABLE : OK;
  }
  switch (error.code) {
    case 'CONNECTION_FAILED':
    case 'RESPONDER_LOST':
    case 'UNAVAILABLE':
    case 'NO_RESPONDERS':
    case 'NOT_CONNECTED':
      return UNREACHABLE;
    case 'TIMEOUT':
      return error.sent === 'no' ? NONE : TIMEOUT;
    case 'ABORTED':
      return NONE;
    default:
      return OK;
  }
}

/**
 * As `outcomeOf` for a call whose channel could not be had. A dial that took all the time of a call says
 * what a late answer does: a machine that swallows packets must not be chosen again and again.
 */
export function outcomeOfDial(error: unknown): Outcome {
  return error instanceof RivuletError && error.code === 'TIMEOUT' ? TIMEOUT : outcomeOf(error);
}

/**
 * Whether sending the call again costs the service nothing: no handler ran, because the node was gone
 * or said that it leaves. A node that refuses because it is busy is another matter.
 */
export function isFree(error: unknown): boolean {
  if (!(error instanceof RivuletError) || error.sent !== 'no') return false;
  return error.code === 'UNAVAILABLE' || outcomeOf(error) === UNREACHABLE;
}

/** Whether the call failed because the nodes that it knew of were gone or are leaving. */
export function isNodeless(error: unknown): boolean {
  if (isFree(error)) return true;
  return error instanceof RivuletError && error.code === 'CIRCUIT_OPEN' && error.sent === 'no';
}

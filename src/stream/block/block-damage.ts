/**
 * The error of a stream whose blocks in the checkpoint are missing or damaged.
 */
import { RivuletError } from '../../errors.ts';

/** STORAGE_DAMAGED: `what` names the block. */
export function damaged(what: string, cause?: unknown): RivuletError {
  return new RivuletError(
    'STORAGE_DAMAGED',
    `The checkpoint is damaged: ${what}. Delete the stream, or restore the data directory from a ` +
      'backup. Other keys are not affected. `micro repair DIR` shows what is damaged.',
    { cause },
  );
}

/** Whether an error says that stored blocks are missing or damaged. */
export function isDamage(error: unknown): error is RivuletError {
  return error instanceof RivuletError && error.code === 'STORAGE_DAMAGED';
}

/**
 * KEEPREF, DELREF and ACKED: what becomes of references to an entry that is deleted, from groups.
 */
import type { References } from '../../../engine/streams/stream-entries.ts';
import type { Session } from '../../connection/session.ts';

/** Null where the argument is another one. */
export function readReferences({ args }: Session, i: number): References | null {
  if (args.is(i, 'KEEPREF')) return 'keepref';
  if (args.is(i, 'DELREF')) return 'delref';
  if (args.is(i, 'ACKED')) return 'acked';
  return null;
}

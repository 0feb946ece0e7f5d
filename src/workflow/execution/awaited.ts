/**
 * What a suspended instance waits for, in words of its record: a person who looks at it has no code to read.
 *
 * Invariant: at most MOST names. Cost: one look at each pending operation.
 */
import type { Awaited } from '../journal/records.ts';

const MOST = 10;

export function awaitedIn(pending: Iterable<{ kind: string; name: string }>): Awaited[] {
  const found: Awaited[] = [];
  for (const { kind, name } of pending) {
    if (kind !== 'wait' && kind !== 'child') continue;
    found.push({ kind: kind === 'wait' ? 'signal' : 'child', name });
    if (found.length === MOST) break;
  }
  return found;
}

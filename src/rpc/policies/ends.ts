/**
 * The ends of calls that nothing was sent for: kept answers, and refusals.
 *
 * A caller that calls again at once would otherwise go on within one turn of the event loop, and a
 * circuit that is open would never be probed. Invariant: of these calls at most `MOST` end in one turn.
 * Cost: a microtask, and one immediate for each turn in which there is such a call.
 */
import { TurnBudget } from '../../util/time/turn-budget.ts';

const MOST = 100;

/** Of this process: what is kept waiting are all its timers and sockets. */
const turns = new TurnBudget(MOST);

/** Runs `settle` soon: in a microtask, or in the next turn of the event loop. */
export function settleSoon(settle: () => void): void {
  turns.run(settle);
}

export function rejectSoon(error: unknown): Promise<never> {
  return new Promise((_, reject) => settleSoon(() => reject(error)));
}

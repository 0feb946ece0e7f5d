/**
 * Every case of the transport suite, and the function that registers them.
 */
import { endingCases } from './cases-endings.ts';
import { streamCases } from './cases-streams.ts';
import { unaryCases } from './cases-unary.ts';
import { registerTransportCases, type TransportCase, type TransportSetup } from './suite.ts';

export type {
  Ability,
  Bound,
  TransportCase,
  TransportFixture,
  TransportNode,
} from './suite.ts';

export const transportCases: readonly TransportCase[] = [
  ...unaryCases,
  ...streamCases,
  ...endingCases,
];

/** One test per case; see suite.ts for what a fixture is. */
export function transportConformance(setup: Omit<TransportSetup, 'cases'>): void {
  registerTransportCases({ ...setup, cases: transportCases });
}

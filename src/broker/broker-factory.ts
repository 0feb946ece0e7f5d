/**
 * How a scheme makes its broker.
 *
 * Types only.
 */
import type { Broker } from './broker.ts';
import type { BrokerOptions } from './options/options.ts';

/** Makes a broker that is not connected. All addresses have one scheme. */
export type BrokerFactory = (
  addresses: readonly string[],
  options: Partial<BrokerOptions>,
) => Broker;

/** What an adapter's module exports. */
export interface BrokerModule {
  readonly createBroker: BrokerFactory;
}

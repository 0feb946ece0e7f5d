/** Rivulet's broker on NATS. `openBroker('nats://...')` finds it by itself. */
import type { Broker, BrokerOptions } from 'rivulet';
import { NatsBroker } from './nats-broker.ts';

export { NatsBroker } from './nats-broker.ts';

/** Not connected yet; `connect` does that. */
export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions> = {},
): Broker {
  return new NatsBroker(addresses, options);
}

/** On a connection of @nats-io/transport-node that is open already; it is never closed here. */
export function fromConnection(connection: unknown, options: Partial<BrokerOptions> = {}): Broker {
  return new NatsBroker([], { ...options, client: { ...options.client, connection } });
}

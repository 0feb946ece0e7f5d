/** Rivulet's broker on NATS. `openBroker('nats://...')` finds it by itself. */
import type { NatsConnection } from '@nats-io/transport-node';
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

/** On a connection of @nats-io that is open already; it is used, and never closed here. */
export function natsBroker(
  connection: NatsConnection,
  options: Partial<BrokerOptions> = {},
): Broker {
  return new NatsBroker([], { ...options, client: { ...options.client, connection } });
}

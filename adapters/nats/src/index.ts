/** Rivulet's broker on NATS. `openBroker('nats://...')` finds it by itself. */
import type { NatsConnection, NodeConnectionOptions } from '@nats-io/transport-node';
import type { Broker, BrokerOptions } from 'rivulet';
import { NatsBroker } from './nats-broker.ts';

export { NatsBroker } from './nats-broker.ts';
export { openRegistryBus, type RegistryBus } from './registry-bus.ts';

/** The options of `openBroker('nats://...', { client })`: those of nats.js, and these. */
export interface NatsClientOptions extends NodeConnectionOptions {
  /** A connection that is open already; it is used, and never closed here. */
  connection?: NatsConnection;
  /** Copies of each stream. Default: 3 in a cluster, 1 on a single server. */
  replicas?: number;
}

declare module 'rivulet' {
  interface SchemeOptions {
    nats: NatsClientOptions;
    tls: NatsClientOptions;
  }
}

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

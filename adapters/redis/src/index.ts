/** The public names of @rivulet/redis. `openBroker('redis://...')` loads this by itself. */
import type { Cluster, Redis, RedisOptions } from 'ioredis';
import type { Broker, BrokerOptions } from 'rivulet';
import { RedisBroker } from './redis-broker.ts';

/** What `openBroker('redis://...', { client })` may hold: what ioredis takes and the URL does not say. */
export interface RedisClientOptions extends RedisOptions {
  /** A client whose connection settings are used; it is duplicated, and never closed here. */
  redis?: Redis | Cluster;
}

declare module 'rivulet' {
  interface SchemeOptions {
    redis: RedisClientOptions;
    rediss: RedisClientOptions;
  }
}

/** Made for `openBroker`; not connected yet. */
export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions> = {},
): Broker {
  return new RedisBroker(addresses, options);
}

/**
 * A broker on the connection settings of an ioredis client that is there already: Sentinel, TLS,
 * credentials, cluster. The client itself is not used and not closed; it is duplicated, because a
 * broker needs connections that block and others that listen. Connect before use.
 */
export function redisBroker(client: Redis | Cluster, options: Partial<BrokerOptions> = {}): Broker {
  return new RedisBroker([], { ...options, client: { ...options.client, redis: client } });
}

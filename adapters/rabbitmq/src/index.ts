/** Rivulet's broker on RabbitMQ. `openBroker('amqp://...')` finds it by itself. */
import type { ChannelModel } from 'amqplib';
import type { Broker, BrokerOptions } from 'rivulet';
import { RabbitMqBroker } from './rabbitmq-broker.ts';

export { RabbitMqBroker } from './rabbitmq-broker.ts';

/** Not connected yet; `connect` does that. */
export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions> = {},
): Broker {
  return new RabbitMqBroker(addresses, options);
}

/**
 * On a connection of amqplib that is open already, or on a function that opens one. A connection
 * that was given is never closed here, and once lost it is not replaced; a function is called again.
 */
export function rabbitMqBroker(
  connection: ChannelModel | (() => Promise<ChannelModel>),
  options: Partial<BrokerOptions> = {},
): Broker {
  return new RabbitMqBroker([], { ...options, client: { ...options.client, connection } });
}

/** Rivulet's broker on RabbitMQ. `openBroker('amqp://...')` finds it by itself. */
import type { TcpSocketConnectOpts } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { ChannelModel } from 'amqplib';
import type { Broker, BrokerOptions } from 'rivulet';
import { RabbitMqBroker } from './rabbitmq-broker.ts';

export { RabbitMqBroker } from './rabbitmq-broker.ts';

/** The options of `openBroker('amqp://...', { client })`: amqplib's socket options, and these. */
export interface RabbitMqClientOptions
  extends Partial<Omit<TcpSocketConnectOpts, 'host' | 'port' | 'timeout'>>,
    Omit<ConnectionOptions, keyof TcpSocketConnectOpts> {
  /** The longest time of one attempt to connect, ms. Default 5000. */
  timeout?: number;
  /** Properties that RabbitMQ's management page shows for this connection. */
  clientProperties?: Record<string, unknown>;
  /** A connection that is open already, or a function that opens one. */
  connection?: ChannelModel | (() => Promise<ChannelModel>);
}

declare module 'rivulet' {
  interface SchemeOptions {
    amqp: RabbitMqClientOptions;
    amqps: RabbitMqClientOptions;
  }
}

/** A broker that is not connected yet. */
export function createBroker(
  addresses: readonly string[],
  options: Partial<BrokerOptions> = {},
): Broker {
  return new RabbitMqBroker(addresses, options);
}

/**
 * A broker on an open connection of amqplib, or on a function that opens one. A given connection is never
 * closed here, and is not replaced when it is lost; a function is called again.
 */
export function rabbitMqBroker(
  connection: ChannelModel | (() => Promise<ChannelModel>),
  options: Partial<BrokerOptions> = {},
): Broker {
  return new RabbitMqBroker([], { ...options, client: { ...options.client, connection } });
}

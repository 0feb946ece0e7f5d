/**
 * The transport `broker`: calls go over the broker that carries the events.
 *
 * A node's record names the broker that the node answers on (`rivulet.broker`). A node of another broker
 * is not dialled. Topics: `<service>` for any node, `<service>.<nodeId>` for one. Cost: that of the broker.
 */
import type { Broker } from '../../broker/broker.ts';
import { RivuletError } from '../../errors.ts';
import type { ServiceNode } from '../../registry/registry.ts';
import type { Channel, Listener, ListenOptions, Transport } from '../../transport/transport.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { BrokerChannel } from './broker-channel.ts';
import { BrokerListener } from './broker-listener.ts';
import { topicOf } from './broker-wire.ts';

const BROKER_NAME = 'rivulet.broker';
/** The service whose topic is called. */
const BROKER_SERVICE = 'rivulet.service';

export class BrokerTransport implements Transport {
  readonly name = 'broker';
  readonly #broker: Broker;
  readonly #scheduler: Scheduler;

  /** `broker` is connected and carries requests. The transport does not disconnect it. */
  constructor(broker: Broker, scheduler: Scheduler = systemScheduler) {
    this.#broker = broker;
    this.#scheduler = scheduler;
  }

  canDial(node: ServiceNode): boolean {
    return node.metadata[BROKER_NAME] === this.#broker.name;
  }

  async listen({ handler, nodeId, service }: ListenOptions): Promise<Listener> {
    if (nodeId === undefined || service === undefined) {
      const text = 'the transport "broker" needs the name of the service and the id of the node';
      throw new RivuletError('INVALID_ARGUMENT', text);
    }
    const metadata = { [BROKER_NAME]: this.#broker.name, [BROKER_SERVICE]: service };
    const broker = this.#broker;
    const scheduler = this.#scheduler;
    return BrokerListener.open({ broker, service, nodeId, handler, scheduler, metadata });
  }

  async dial(node: ServiceNode): Promise<Channel> {
    const service = node.metadata[BROKER_SERVICE];
    if (service === undefined) {
      const text = `node ${node.id} does not say the service whose calls it takes over the broker`;
      throw new RivuletError('CONNECTION_FAILED', text);
    }
    // The node that represents all nodes has the service's own name.
    const isAny = node.id === service;
    const topic = topicOf(service, isAny ? null : node.id);
    const whoseNodes = isAny ? service : null;
    const scheduler = this.#scheduler;
    return new BrokerChannel({ broker: this.#broker, topic, whoseNodes, scheduler });
  }
}

/** The node that represents all nodes of a service: the broker chooses. */
export function anyNode(broker: Broker, service: string): ServiceNode {
  const metadata = { [BROKER_NAME]: broker.name, [BROKER_SERVICE]: service };
  return { id: service, address: broker.address, metadata };
}

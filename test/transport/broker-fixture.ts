/** A fixture of the transport suite over any broker: two brokers on one server, as two processes have. */

import type { Fixture } from '../../src/conformance/case-context.ts';
import type { TransportFixture } from '../../src/conformance/transport/index.ts';
import type { ServiceNode } from '../../src/registry/registry.ts';
import { BrokerTransport } from '../../src/rpc/broker/broker-transport.ts';
import type { TlsOptions } from '../../src/transport/tls.ts';
import type { Transport } from '../../src/transport/transport.ts';

export const SERVICE = 'conformance.transport';
/** The window of one direction. */
export const WINDOW = 256 * 1024;
let nodes = 0;

/** Listens and dials by one transport, as two processes would. */
export function pair(
  server: Transport,
  client: Transport,
  tls?: TlsOptions,
): TransportFixture['listen'] {
  return async (handler) => {
    const nodeId = `${SERVICE}-${process.pid}-${nodes++}`;
    const listener = await server.listen({
      address: '127.0.0.1:0',
      handler,
      nodeId,
      service: SERVICE,
      token: `token-${nodeId}`,
      tls,
    });
    const { address, metadata } = listener;
    const node: ServiceNode = { id: nodeId, address, metadata };
    return { listener, dial: () => client.dial(node, { timeoutMs: 5000 }) };
  };
}

export async function brokerFixture(
  opening: Promise<Fixture>,
  changes: Partial<TransportFixture> = {},
): Promise<TransportFixture> {
  const fixture = await opening;
  const [server, client] = [await fixture.open(), await fixture.open()];
  return {
    listen: pair(new BrokerTransport(server), new BrokerTransport(client)),
    bound: { bytes: WINDOW },
    ...changes,
    async [Symbol.asyncDispose]() {
      await client.disconnect();
      await server.disconnect();
      await fixture[Symbol.asyncDispose]();
    },
  };
}

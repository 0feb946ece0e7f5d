/** The registry suite on a gossip ring over loopback sockets. */
import { createSocket } from 'node:dgram';
import { after, before, describe, test } from 'node:test';
import { registryConformance } from '../../../src/conformance/registry/suite.ts';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import { encodeMessage, USER } from '../../../src/registry/gossip/wire/messages.ts';
import { SocketNetwork } from '../../../src/registry/gossip/wire/network.ts';
import { encodeUpdate } from '../../../src/registry/gossip/wire/update.ts';
import type { Registry } from '../../../src/registry/registry.ts';

const runner = { describe, test, before, after };
const quick = {
  probeIntervalMs: 200,
  probeTimeoutMs: 100,
  gossipIntervalMs: 20,
  onWarning: () => {},
};

registryConformance({
  name: 'gossip',
  runner,
  factory: async () => {
    const seed = new GossipRegistry(quick);
    const seeds = [await seed.address()];
    const foreign = createSocket('udp4');
    let version = 0n;
    const networks = new Map<Registry, SocketNetwork>();
    return {
      open: async () => {
        const network = new SocketNetwork();
        const registry = new GossipRegistry({ ...quick, seeds }, network);
        await registry.address();
        networks.set(registry, network);
        return registry;
      },
      // The sockets end without a word.
      kill: async (registry) => networks.get(registry)?.close(),
      writeForeign: async (_service, record) => {
        const member = 'foreign';
        const update = {
          action: 'create',
          version: ++version,
          ttlMs: null,
          member,
          record,
        } as const;
        const bytes = encodeMessage({ type: USER, bytes: encodeUpdate(update) });
        for (const { address } of seed.members()) {
          const port = Number(address.split(':')[1]);
          await new Promise((resolve) => foreign.send(bytes, port, '127.0.0.1', resolve));
        }
      },
      shortestTtlMs: 1000,
      [Symbol.asyncDispose]: async () => {
        foreign.close();
        await seed.close();
      },
    };
  },
});

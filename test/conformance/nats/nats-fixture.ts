/** Real NATS for the suite: one server, or a cluster of three with three replicas of everything. */
import { DiscardPolicy, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import { FaultyProxy, type Fixture } from '../../../src/conformance/index.ts';
import { type NatsNode, startNats } from '../../helpers/nats-server.ts';
import { until } from '../../helpers/until.ts';

export async function natsFixture(): Promise<Fixture> {
  const server = await startNats();
  const node = server.nodes[0] as NatsNode;
  return {
    url: node.url,
    open: (options) => openBroker(node.url, options),
    async behindProxy() {
      const proxy = await FaultyProxy.start(node.port);
      const open = (options?: Partial<BrokerOptions>) =>
        openBroker(`nats://127.0.0.1:${proxy.port}`, options);
      return { proxy, open };
    },
    kill: () => node.kill(),
    start: () => node.start(),
    flush: () => removeAll([node]),
    occupy: (topic) => occupy(node, topic),
    connections: () => node.connections(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export async function natsClusterFixture(): Promise<Fixture> {
  const server = await startNats(3);
  const alive = new Set(server.nodes);
  const urls = server.nodes.map(({ url }) => url);
  const one = () => [...alive][0] as NatsNode;
  return {
    url: urls.join(','),
    open: (options) => openBroker(urls, options),
    async killNodeOf(topic) {
      const leader = await managing(one(), async (manager) => {
        const info = await manager.streams.info(await manager.streams.find(topic));
        return info.cluster?.leader;
      });
      const node = server.nodes.find(({ name }) => name === leader) as NatsNode;
      alive.delete(node);
      await node.kill();
      return undefined;
    },
    flush: () => removeAll([...alive]),
    occupy: (topic) => occupy(one(), topic),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function managing<T>(
  node: NatsNode,
  work: (manager: JetStreamManager, connection: NatsConnection) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: `127.0.0.1:${node.port}` });
  try {
    return await work(await jetstreamManager(connection), connection);
  } finally {
    await connection.close();
  }
}

/** Another program's stream holds the subject, and is full. */
async function occupy(node: NatsNode, topic: string): Promise<() => Promise<void>> {
  const name = `occupied-${topic.replaceAll('.', '-')}`;
  const full = { name, subjects: [topic], max_msgs: 1, discard: DiscardPolicy.New };
  await managing(node, async (manager, connection) => {
    await manager.streams.add(full);
    await connection.request(topic, 'no topic');
  });
  return () =>
    managing(node, async (manager) => {
      await manager.streams.delete(name);
    });
}

/** Removes a stream. NATS removes one without an answer while it elects a leader; the second call finds none. */
async function remove(manager: JetStreamManager, name: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await manager.streams.delete(name);
      return;
    } catch (error) {
      if (/stream not found/.test(String(error))) return;
      if (tries === 3 || (error as Error).name !== 'TimeoutError') throw error;
    }
  }
}

/**
 * NATS 2.9 removes the files of a stream after it has confirmed the deletion. A stream of the same name
 * that is made before that loses its files, so this waits until they are gone.
 */
async function removeAll(nodes: readonly NatsNode[]): Promise<void> {
  const [node] = nodes as [NatsNode];
  const directories = () => nodes.flatMap((each) => each.streamDirectories());
  const removed = new Set(directories());
  await managing(node, async (manager) => {
    for await (const name of manager.streams.names()) await remove(manager, name);
  });
  const left = () => directories().filter((directory) => removed.has(directory));
  await until(
    () => left().length === 0,
    () => `NATS has removed its directories: ${left()}`,
  );
}

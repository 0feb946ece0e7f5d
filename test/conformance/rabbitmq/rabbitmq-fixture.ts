/** Real RabbitMQ for the suite: one node, or a cluster of three. */
import { openBroker } from '../../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../../src/broker/options/options.ts';
import { FaultyProxy, type Fixture } from '../../../src/conformance/index.ts';
import { type RabbitMqNode, startRabbitMq } from '../../helpers/rabbitmq-server.ts';

/** Deletes every queue, as a wiped broker has none. */
const FLUSH =
  '[rabbit_amqqueue:delete(Q, false, false, <<"test">>) || Q <- rabbit_amqqueue:list(<<"/">>)], ok.';

/**
 * RabbitMQ writes the register of its quorum queues and streams to disk up to a second after one was
 * made, whatever it has confirmed. Cases kill the server right after they have made a topic.
 */
const SAVE = '[dets:sync(Table) || Table <- dets:all()], ok.';

export async function rabbitMqFixture(): Promise<Fixture> {
  const server = await startRabbitMq();
  const node = server.nodes[0] as RabbitMqNode;
  return {
    url: node.url,
    open: (options) => openBroker(node.url, options),
    async behindProxy() {
      const proxy = await FaultyProxy.start(node.port);
      const open = (options?: Partial<BrokerOptions>) =>
        openBroker(`amqp://guest:guest@127.0.0.1:${proxy.port}`, options);
      return { proxy, open };
    },
    async kill() {
      await node.evaluate(SAVE);
      await node.kill();
    },
    start: () => node.start(),
    async flush() {
      await node.evaluate(FLUSH);
    },
    occupy: (topic) => occupy(node, topic),
    async connections() {
      return Number(await node.evaluate('length(rabbit_networking:connections()).'));
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** A queue of another kind has the name of the topic's log. */
async function occupy(node: RabbitMqNode, topic: string): Promise<() => Promise<void>> {
  const name = `{resource, <<"/">>, queue, <<"rivulet.topic.${topic}">>}`;
  await node.evaluate(`rabbit_amqqueue:declare(${name}, true, false, [], none, <<"test">>), ok.`);
  return async () => {
    await node.evaluate(
      `{ok, Q} = rabbit_amqqueue:lookup(${name}), rabbit_amqqueue:delete(Q, false, false, <<"test">>), ok.`,
    );
  };
}

export async function rabbitMqClusterFixture(): Promise<Fixture> {
  const server = await startRabbitMq(3);
  const alive = new Set(server.nodes);
  const urls = server.nodes.map(({ url }) => url);
  return {
    url: urls.join(','),
    open: (options) => openBroker(urls, options),
    async killNodeOf(topic) {
      const [witness] = alive;
      const leader = await witness?.evaluate(
        `{ok, Q} = rabbit_amqqueue:lookup({resource, <<"/">>, queue, <<"rivulet.group.g:${topic}">>}), {_, Node} = amqqueue:get_pid(Q), Node.`,
      );
      const node = server.nodes.find(({ name }) => leader?.includes(name)) as RabbitMqNode;
      alive.delete(node);
      await node.kill();
      // As the adapter's README says, wait queues of RabbitMQ 3.10 may hold their messages until it is back.
      return async () => {
        await node.start();
        alive.add(node);
      };
    },
    async flush() {
      await [...alive][0]?.evaluate(FLUSH);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

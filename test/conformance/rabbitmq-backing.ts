/** Real RabbitMQ for the suite: one node, or a cluster of three. */
import { openBroker } from '../../src/broker/open-broker.ts';
import type { BrokerOptions } from '../../src/broker/options.ts';
import { type Backing, FaultyProxy } from '../../src/conformance/index.ts';
import { type RabbitMqNode, startRabbitMq } from '../helpers/rabbitmq-server.ts';

/** Every queue of ours, as somebody who wipes the broker would. */
const FLUSH =
  '[rabbit_amqqueue:delete(Q, false, false, <<"test">>) || Q <- rabbit_amqqueue:list(<<"/">>)], ok.';

/** Cases that this broker does not pass yet. */
export const NOT_YET: readonly string[] = [
  'ordered strictly: a handler slower than ackWaitMs uses up its attempts, then its successors come',
  'ordered by-key: a handler slower than ackWaitMs uses up its attempts, then its successors come',
  'what waits behind a handler when its consumer leaves comes as the first attempt',
  'a message amid others that makes its process exit is dead after its attempts alone',
  'a message that kills its process is dead after its attempts, and nothing else is',
  'with one attempt a message that kills its process gets one, and its neighbours theirs',
  'in strict order a message that kills its process is dead after its attempts, then its successors come',
  'after the server has forgotten everything, delays, ids and wildcards go on',
  'a topic deleted under a subscriber with wildcards stays deleted, and is found when made again',
  'one group with an exact and a wildcard subscriber handles each message once',
  'retries and delays that have lost their group or topic hold up nobody else',
  'unsubscribe inside a handler does not wait for itself, and its message is settled',
  'publishes of one topic that wait through an outage are stored in the order of the calls',
  'an ordered group with wildcards and two members: each topic has a leader, and is read in order',
  'disconnect inside a handler that throws then: the message comes again as the next attempt',
  'replay takes back retries that are waiting',
  'a missed deadline is an attempt: after the last one the message is dead',
  'options at their limits give a subscriber that works',
  'a message that kills its process takes no attempt from those for handlers beside it',
  'deliveries whose replies are cut off are no attempts: none is dead without its hand-overs',
];

export async function rabbitMqBacking(): Promise<Backing> {
  const server = await startRabbitMq();
  const node = server.nodes[0] as RabbitMqNode;
  return {
    notYet: NOT_YET,
    url: node.url,
    open: (options) => openBroker(node.url, options),
    async behindProxy() {
      const proxy = await FaultyProxy.start(node.port);
      const open = (options?: Partial<BrokerOptions>) =>
        openBroker(`amqp://guest:guest@127.0.0.1:${proxy.port}`, options);
      return { proxy, open };
    },
    kill: () => node.kill(),
    start: () => node.start(),
    async flush() {
      await node.evaluate(FLUSH);
    },
    async connections() {
      return Number(await node.evaluate('length(rabbit_networking:connections()).'));
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export async function rabbitMqClusterBacking(): Promise<Backing> {
  const server = await startRabbitMq(3);
  const alive = new Set(server.nodes);
  const urls = server.nodes.map(({ url }) => url);
  return {
    notYet: NOT_YET,
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
    },
    async flush() {
      await [...alive][0]?.evaluate(FLUSH);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

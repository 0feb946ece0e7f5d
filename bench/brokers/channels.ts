/**
 * The same work through @moleculer/channels 0.1 on Moleculer 0.15: its adapters for Redis Streams,
 * AMQP and NATS JetStream. It is found among the benchmarks' own modules.
 *
 * Its AMQP adapter neither asks for confirms nor for quorum queues, and its publish resolves before
 * RabbitMQ has said anything: its rate of publishing there is that of writing to a socket.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { repositoryRoot } from '../../test/house/source-file.ts';
import { IN_FLIGHT, type Worker } from './worker.ts';

const requirePeer = createRequire(join(repositoryRoot, 'bench', 'package.json'));

export async function channels(type: 'Redis' | 'AMQP' | 'NATS', url: string): Promise<Worker> {
  const { ServiceBroker } = requirePeer('moleculer');
  const { Middleware } = requirePeer('@moleculer/channels');
  const place: Readonly<Record<typeof type, object>> = {
    Redis: { redis: url },
    AMQP: { amqp: { url } },
    NATS: { nats: { connectionOptions: { servers: [url] } } },
  };
  const broker = new ServiceBroker({
    logger: false,
    middlewares: [Middleware({ adapter: { type, options: place[type] } })],
  });
  await broker.start();
  let services = 0;
  const begin = (topic: string, handle: (body: Uint8Array) => void) => {
    const service = broker.createService({
      name: `bench${services++}`,
      channels: {
        [topic]: {
          group: 'bench',
          maxInFlight: IN_FLIGHT,
          handler: (payload: { body: string }) => handle(Buffer.from(payload.body, 'latin1')),
        },
      },
    });
    return { name: service.name, stop: () => broker.destroyService(service) };
  };
  return {
    async prepare(topic) {
      const { name, stop } = begin(topic, () => {});
      await broker.waitForServices(name, 10_000);
      await stop();
    },
    async publish(topic, body) {
      try {
        // Its packets are JSON, which has no bytes.
        await broker.sendToChannel(topic, { body: body.toString('latin1') });
      } catch (error) {
        // amqplib has taken the message and asks for a pause; sending again would double it.
        if (!/Write buffer is full/.test((error as Error).message)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
    // Not waited for: that looks once a second.
    consume: async (topic, handle) => begin(topic, handle).stop,
    async remove() {
      // It has no word for it; the server goes when the benchmark ends.
    },
    [Symbol.asyncDispose]: () => broker.stop(),
  };
}

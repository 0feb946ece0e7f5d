/**
 * Publishing and consuming as one worker does it: through a broker of ours, or with the raw client by
 * hand. `channels.ts` has the third way, @moleculer/channels.
 *
 * All do the same: a publish resolves once the server has the message as safely as it will; a consumer
 * is one of a durable group, has at most `IN_FLIGHT` messages unacknowledged, and acknowledges each message.
 */
import { randomUUID } from 'node:crypto';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect as connectNats } from '@nats-io/transport-node';
import { type ConfirmChannel, connect as connectAmqp } from 'amqplib';
import { Redis } from 'ioredis';
import { openBroker } from '../../src/index.ts';

export const IN_FLIGHT = 1000;
const CONCURRENCY = 100;
const GROUP = 'bench';
const EXCHANGE = 'bench';

export interface Worker extends AsyncDisposable {
  /** Makes the topic, with its group: what is published from now on is for it. */
  prepare(topic: string): Promise<void>;
  publish(topic: string, body: Buffer): Promise<unknown>;
  /** Hands every message over until the returned function is called, which ends with the last ack. */
  consume(topic: string, handle: (body: Uint8Array) => void): Promise<() => Promise<void>>;
  remove(topic: string): Promise<void>;
}

export async function ours(address: string): Promise<Worker> {
  const broker = await openBroker(address);
  const options = { group: GROUP, concurrency: CONCURRENCY, maxInFlight: IN_FLIGHT };
  return {
    async prepare(topic) {
      await (await broker.subscribe(topic, () => {}, options)).unsubscribe();
    },
    publish: (topic, body) => broker.publish(topic, { headers: {}, body }),
    async consume(topic, handle) {
      const subscriber = await broker.subscribe(
        topic,
        ({ message }) => handle(message.body),
        options,
      );
      return () => subscriber.unsubscribe();
    },
    remove: (topic) => broker.deleteTopic(topic),
    [Symbol.asyncDispose]: () => broker.disconnect(),
  };
}

export async function ioredis(port: number): Promise<Worker> {
  // Replies in the shapes of RESP2; what is asked in one turn goes out in one write.
  const options = { protocol: 2, replyMapping: 'legacy', enableAutoPipelining: true } as const;
  const redis = new Redis(port, options);
  return {
    async prepare(topic) {
      await redis.xgroup('CREATE', topic, GROUP, '$', 'MKSTREAM');
    },
    publish: (topic, body) => redis.xadd(topic, '*', 'body', body),
    async consume(topic, handle) {
      const reader = redis.duplicate({ enableAutoPipelining: false });
      let stopped = false;
      const running = (async () => {
        let acknowledged: Promise<unknown> = Promise.resolve();
        while (!stopped) {
          const reply = (await reader.callBuffer(
            ...(['XREADGROUP', 'GROUP', GROUP, 'c', 'COUNT', IN_FLIGHT / 2] as const),
            ...(['BLOCK', 100, 'STREAMS', topic, '>'] as const),
          )) as [Buffer, [Buffer, Buffer[]][]][] | null;
          const entries = reply?.[0]?.[1] ?? [];
          if (entries.length === 0) continue;
          for (const [, fields] of entries) handle(fields[1] as Buffer);
          await acknowledged;
          acknowledged = redis.xack(topic, GROUP, ...entries.map(([id]) => id));
        }
        await acknowledged;
      })();
      return async () => {
        stopped = true;
        await running;
        reader.disconnect();
      };
    },
    async remove(topic) {
      await redis.del(topic);
    },
    async [Symbol.asyncDispose]() {
      redis.disconnect();
    },
  };
}

export async function amqplib(url: string): Promise<Worker> {
  const connection = await connectAmqp(url);
  const channel: ConfirmChannel = await connection.createConfirmChannel();
  return {
    // A log that can be replayed, and the group's queue: what a topic with a group is.
    async prepare(topic) {
      const queue = (type: string) => ({ durable: true, arguments: { 'x-queue-type': type } });
      await channel.assertExchange(EXCHANGE, 'topic', { durable: true });
      await channel.assertQueue(`${topic}.log`, queue('stream'));
      await channel.assertQueue(topic, queue('quorum'));
      for (const name of [topic, `${topic}.log`]) await channel.bindQueue(name, EXCHANGE, topic);
    },
    publish: (topic, body) =>
      new Promise<void>((resolve, reject) => {
        const options = { persistent: true, mandatory: true };
        channel.publish(EXCHANGE, topic, body, options, (error) =>
          error ? reject(error) : resolve(),
        );
      }),
    async consume(topic, handle) {
      const own = await connection.createChannel();
      await own.prefetch(IN_FLIGHT);
      await own.consume(topic, (message) => {
        if (message === null) return;
        handle(message.content);
        own.ack(message);
      });
      // Closing a channel comes after the acks on it.
      return () => own.close();
    },
    async remove(topic) {
      await channel.deleteQueue(topic);
      await channel.deleteQueue(`${topic}.log`);
    },
    [Symbol.asyncDispose]: () => connection.close(),
  };
}

export async function natsJs(url: string): Promise<Worker> {
  const connection = await connectNats({ servers: url });
  const manager = await jetstreamManager(connection);
  const streams = jetstream(connection);
  const run = randomUUID();
  let published = 0;
  return {
    async prepare(topic) {
      await manager.streams.add({ name: streamOf(topic), subjects: [topic] });
      await manager.consumers.add(streamOf(topic), {
        durable_name: GROUP,
        ack_policy: AckPolicy.Explicit,
        max_ack_pending: IN_FLIGHT,
      });
    },
    // With an id, so that what is tried again after an outage is stored once, as through our broker.
    publish: (topic, body) => streams.publish(topic, body, { msgID: `${run}-${published++}` }),
    async consume(topic, handle) {
      const consumer = await streams.consumers.get(streamOf(topic), GROUP);
      const messages = await consumer.consume({
        max_messages: IN_FLIGHT,
        callback: (message) => {
          handle(message.data);
          message.ack();
        },
      });
      return async () => {
        await messages.close();
        await connection.flush();
      };
    },
    async remove(topic) {
      await manager.streams.delete(streamOf(topic));
    },
    [Symbol.asyncDispose]: () => connection.close(),
  };
}

function streamOf(topic: string): string {
  return topic.replaceAll('.', '_');
}

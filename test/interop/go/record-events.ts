/** Recorders of events: what a Go publisher sends over each broker, and what a Go subscriber registers. */
import { connect as connectNats } from '@nats-io/transport-node';
import { Seen } from '../../../src/conformance/case-context.ts';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import type { EtcdNode } from '../../helpers/etcd-server.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import type { EtcdEntry, GoFixtures } from './fixtures.ts';
import { type GoMicro, startGo } from './go-programs.ts';
import { MucpRecorder } from './record-calls.ts';
import { entryOf } from './record-etcd.ts';

export const TOPIC = 'go.to.us';
const SUBSCRIBERS = 'micro.http.broker';
const CLIENT: string = 'amqplib';

type Events = GoFixtures['events'];

export async function recordEvents(
  version: GoMicro,
  etcd: EtcdNode,
): Promise<{ events: Events; subscriber: EtcdEntry }> {
  const http = await recordHttp(version, etcd);
  const nats = await recordNats(version, etcd);
  const rabbitmq = version === 'v5' ? await recordRabbitMq(version, etcd) : [];
  await using _go = await startGo(version, 'subscribe', etcd.url, 'http', TOPIC);
  return { events: { http, nats, rabbitmq }, subscriber: await entryOf(etcd, SUBSCRIBERS) };
}

async function recordHttp(version: GoMicro, { url }: EtcdNode): Promise<string[]> {
  await using recorder = await MucpRecorder.start();
  await using registry = await openRegistry(url);
  const metadata = { broker: 'http', topic: TOPIC, secure: 'false' };
  const node = { id: `${TOPIC}-1`, address: recorder.address, metadata };
  const record = {
    name: SUBSCRIBERS,
    version: 'ff.http.broadcast',
    metadata: {},
    endpoints: [],
    nodes: [node],
  };
  await registry.register(record, { ttlMs: 60_000 });
  await using _go = await startGo(version, 'publish', url, 'http', TOPIC);
  const requests = await recorder.seen.count(2);
  await registry.deregister(record);
  return [...requests];
}

async function recordNats(version: GoMicro, etcd: EtcdNode): Promise<string[]> {
  await using server = await startNats();
  const url = server.nodes[0]?.url ?? '';
  const connection = await connectNats({ servers: url });
  const seen = new Seen<string>();
  connection.subscribe(TOPIC, { callback: (_, message) => seen.add(message.string()) });
  await connection.flush();
  await using _go = await startGo(version, 'publish', etcd.url, url, TOPIC);
  const events = await seen.count(2);
  await connection.close();
  return [...events];
}

async function recordRabbitMq(version: GoMicro, etcd: EtcdNode): Promise<Events['rabbitmq']> {
  await using server = await startRabbitMq();
  const url = server.nodes[0]?.url ?? '';
  // biome-ignore lint/suspicious/noExplicitAny: amqplib is a dependency of the adapter only
  const { connect }: any = await import(CLIENT);
  const connection = await connect(url);
  const channel = await connection.createChannel();
  // As go-micro makes it.
  await channel.assertExchange('micro', 'topic', { durable: false });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, 'micro', TOPIC);
  const seen = new Seen<Events['rabbitmq'][number]>();
  await channel.consume(
    queue,
    // biome-ignore lint/suspicious/noExplicitAny: see above
    ({ content, properties }: any) =>
      seen.add({ headers: properties.headers, body: content.toString('latin1') }),
    { noAck: true },
  );
  await using _go = await startGo(version, 'publish', etcd.url, url, TOPIC);
  const events = await seen.count(2);
  await connection.close();
  return [...events];
}

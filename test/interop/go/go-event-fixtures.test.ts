/** Events as go-micro sent them over NATS and RabbitMQ, fed to our brokers without Go, and ours beside them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect as connectNats } from '@nats-io/transport-node';
import type { ReceivedMessage } from '../../../src/broker/message/received-message.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { Seen } from '../../../src/conformance/case-context.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { type GoFixtures, readFixtures } from './fixtures.ts';
import { GO_MICRO_VERSIONS } from './go-programs.ts';

const TOPIC = 'go.to.us';
/** By a name that is no literal: the client belongs to the adapter. */
const CLIENT: string = 'amqplib';
/** StringValue "ü %", and the JSON of Go's encoder, which ends with a newline. */
const PROTOBUF = '\n\u0004\u00c3\u00bc %';
const JSON_BODY = '{"id":7,"what":"ü %"}\n';

function check([json, proto]: readonly ReceivedMessage[], { goMicro }: GoFixtures): void {
  assert.equal(String(json?.body), JSON_BODY);
  assert.equal(json?.headers['Content-Type'], 'application/json');
  assert.equal(json?.headers['X-Caller'], `go-micro ${goMicro}`);
  assert.equal(json?.headers['Micro-Topic'], TOPIC);
  assert.equal(Buffer.from(proto?.body ?? []).toString('latin1'), PROTOBUF);
  assert.equal(proto?.headers['Content-Type'], 'application/protobuf');
}

const ours = {
  headers: { 'Content-Type': 'application/json', 'X-Caller': 'us' },
  body: Buffer.from(JSON_BODY),
};

for (const version of GO_MICRO_VERSIONS) {
  const fixtures = readFixtures(version);
  const { nats, rabbitmq } = fixtures.events;

  test(`events of go-micro ${version} over NATS arrive whole, and ours have its form`, {
    skip: missing('nats-server'),
  }, async () => {
    await using server = await startNats();
    const url = server.nodes[0]?.url ?? '';
    await using broker = await openBroker(url, { goMicro: true });
    const seen = new Seen<ReceivedMessage>();
    await broker.subscribe(TOPIC, ({ message }) => seen.add(message), { group: 'g' });
    const go = await connectNats({ servers: url });
    const published = new Seen<string>();
    for (const event of nats) go.publish(TOPIC, event);
    check(await seen.count(2), fixtures);
    go.subscribe('us.to.go', { callback: (_, message) => published.add(message.string()) });
    await go.flush();
    await broker.publish('us.to.go', ours);
    const [mine] = (await published.count(1)).map((each) => JSON.parse(each));
    const theirs = JSON.parse(nats[0] ?? '');
    assert.deepEqual(Object.keys(mine), Object.keys(theirs));
    assert.equal(mine.Body, theirs.Body);
    for (const name of ['Content-Type', 'Micro-Topic', 'X-Caller']) assert.ok(name in mine.Header);
    await go.close();
  });

  test(`events of go-micro ${version} over RabbitMQ arrive whole, and ours have its form`, {
    skip:
      missing('rabbitmq-server') || (rabbitmq.length === 0 && 'not recorded: see docs/go-micro.md'),
  }, async () => {
    await using server = await startRabbitMq();
    const url = server.nodes[0]?.url ?? '';
    // biome-ignore lint/suspicious/noExplicitAny: a client whose types are not of this project
    const go: any = await (await import(CLIENT)).connect(url);
    const channel = await go.createChannel();
    // Go was here first, and has made the exchange.
    await channel.assertExchange('micro', 'topic', { durable: false });
    await using broker = await openBroker(url, { goMicro: true });
    const seen = new Seen<ReceivedMessage>();
    await broker.subscribe(TOPIC, ({ message }) => seen.add(message), { group: 'g' });
    for (const { headers, body } of rabbitmq) {
      channel.publish('micro', TOPIC, Buffer.from(body, 'latin1'), { headers });
    }
    check(await seen.count(2), fixtures);
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'micro', 'us.to.go');
    const published = new Seen<{ body: string; headers: Record<string, unknown> }>();
    await channel.consume(
      queue,
      // biome-ignore lint/suspicious/noExplicitAny: see above
      ({ content, properties }: any) =>
        published.add({ body: content.toString('latin1'), headers: properties.headers }),
      { noAck: true },
    );
    await broker.publish('us.to.go', ours);
    const [mine] = await published.count(1);
    assert.equal(mine?.body, rabbitmq[0]?.body);
    for (const name of ['Content-Type', 'Micro-Topic', 'X-Caller']) {
      assert.equal(typeof mine?.headers[name], typeof rabbitmq[0]?.headers[name]);
    }
    await go.close();
  });
}

/**
 * Events between go-micro and us, both directions, in go-micro's envelope: over its http broker, found
 * over etcd, and over NATS and RabbitMQ.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Broker } from '../../../src/broker/broker.ts';
import type { ReceivedMessage } from '../../../src/broker/message/received-message.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { Seen } from '../../../src/conformance/case-context.ts';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { startEtcd } from '../../helpers/etcd-server.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing, type Requirement } from '../../helpers/requirements.ts';
import { type GoName, missingGo, startGo } from './go-programs.ts';

interface Place extends AsyncDisposable {
  /** What the Go program opens as its broker. */
  readonly url: string;
  open(registry: Registry): Promise<Broker>;
}

interface Kind {
  readonly name: string;
  readonly needs: readonly Requirement[];
  readonly versions: readonly GoName[];
  start(): Promise<Place>;
}

/** The body of StringValue "ü %". */
const PROTOBUF = Buffer.from([0x0a, 0x04, 0xc3, 0xbc, 0x20, 0x25]);

const kinds: readonly Kind[] = [
  {
    name: 'http',
    needs: ['etcd'],
    versions: ['v2', 'v4', 'v5'],
    start: async () => ({
      url: 'http',
      open: (registry) => openBroker('http://127.0.0.1:0', { client: { registry } }),
      [Symbol.asyncDispose]: async () => {},
    }),
  },
  {
    name: 'nats',
    needs: ['etcd', 'nats-server'],
    versions: ['v2', 'v5'],
    start: async () => placeOf(await startNats()),
  },
  {
    name: 'rabbitmq',
    needs: ['etcd', 'rabbitmq-server'],
    // The broker of v2 is a plugin.
    versions: ['v2-plugins', 'v5'],
    start: async () => placeOf(await startRabbitMq()),
  },
];

for (const { name, needs, versions, start } of kinds) {
  for (const version of versions) {
    const skip = missingGo(version) || missing(...needs);
    test(`events over ${name} between go-micro ${version} and us arrive whole, both ways`, {
      skip,
    }, async () => {
      await using etcd = await startEtcd();
      await using registry = await openRegistry(etcd.url);
      await using place = await start();
      await using broker = await place.open(registry);

      const seen = new Seen<ReceivedMessage>();
      await broker.subscribe('go.to.us', ({ message }) => seen.add(message), { group: 'ours' });
      await using publisher = await startGo(version, 'publish', etcd.url, place.url, 'go.to.us');
      const [json, proto] = await seen.count(2);
      await publisher[Symbol.asyncDispose]();
      assert.deepEqual(JSON.parse(String(json?.body)), { id: 7, what: 'ü %' });
      assert.equal(header(json, 'Content-Type'), 'application/json');
      assert.equal(header(json, 'X-Caller'), `go-micro ${version.split('-')[0]}`);
      assert.deepEqual(Buffer.from(proto?.body ?? []), PROTOBUF);
      assert.equal(header(proto, 'Content-Type'), 'application/protobuf');

      await using go = await startGo(version, 'subscribe', etcd.url, place.url, 'us.to.go');
      const printed = go.lines.next();
      let isPrinted = false;
      printed.then(() => {
        isPrinted = true;
      });
      // go-micro's brokers do not say when a subscription is made, and drop what comes before it.
      while (!isPrinted) {
        await broker.publish('us.to.go', {
          headers: { 'Content-Type': 'application/json', 'X-Caller': 'us' },
          body: Buffer.from(JSON.stringify({ id: 8, what: 'ü %' })),
        });
        await Promise.race([printed, delay(200)]);
      }
      const { value } = await printed;
      assert.deepEqual(value, { caller: 'us', event: { id: 8, what: 'ü %' } });
    });
  }
}

function header(message: ReceivedMessage | undefined, name: string): string | undefined {
  const found = Object.entries(message?.headers ?? {}).find(
    ([each]) => each.toLowerCase() === name.toLowerCase(),
  );
  return found === undefined ? undefined : String(found[1]);
}

function placeOf(
  server: { readonly nodes: readonly { readonly url: string }[] } & AsyncDisposable,
): Place {
  const url = server.nodes[0]?.url ?? '';
  return {
    url,
    open: () => openBroker(url, { goMicro: true }),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** The suite of calls over brokers with a server: ours, RabbitMQ, Redis and NATS, the last two as clusters too. */
import { after, describe, test } from 'node:test';
import type { Fixture } from '../../src/conformance/case-context.ts';
import { rpcConformance } from '../../src/conformance/rpc/suite.ts';
import { natsClusterFixture, natsFixture } from '../conformance/nats/nats-fixture.ts';
import { rpcFixture } from '../conformance/programming-model/fixtures.ts';
import { rabbitMqFixture } from '../conformance/rabbitmq/rabbitmq-fixture.ts';
import { redisClusterFixture, redisFixture } from '../conformance/redis/redis-fixture.ts';
import { remoteFixture } from '../conformance/remote-fixture.ts';
import { missing } from '../helpers/requirements.ts';

const all = { hasStreams: true, hasCancel: true } as const;

function overBroker(name: string, start: () => Promise<Fixture>, reason: string | false): void {
  rpcConformance({
    name: `the ${name} broker`,
    runner: { describe: reason ? describe.skip : describe, test },
    async factory() {
      const server = await start();
      const broker = await server.open();
      const fixture = rpcFixture({ transport: 'broker', broker }, all);
      return {
        ...fixture,
        async [Symbol.asyncDispose]() {
          await fixture[Symbol.asyncDispose]();
          await broker.disconnect();
          await server[Symbol.asyncDispose]();
        },
      };
    },
  });
}

/** A RabbitMQ takes long to start: all cases have one. */
let rabbitMq: Promise<Fixture> | null = null;
after(async () => (await rabbitMq)?.[Symbol.asyncDispose]());

async function sharedRabbitMq(): Promise<Fixture> {
  rabbitMq ??= rabbitMqFixture();
  return { ...(await rabbitMq), [Symbol.asyncDispose]: async () => {} };
}

const noRedis = missing('redis-server', 'redis-cli');
const noNats = missing('nats-server');
overBroker('rivulet', remoteFixture, false);
overBroker('redis', redisFixture, noRedis);
overBroker('redis cluster', redisClusterFixture, noRedis);
overBroker('rabbitmq', sharedRabbitMq, missing('rabbitmq-server'));
overBroker('nats', natsFixture, noNats);
overBroker('nats cluster', natsClusterFixture, noNats);

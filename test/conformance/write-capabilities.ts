/**
 * `node scripts/capabilities.mjs`: starts every kind of server, asks the broker on it what it can do,
 * and writes README's table again.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Capabilities } from '../../src/broker/capabilities.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { capabilityTable, type Fixture } from '../../src/conformance/index.ts';
import { README, TABLE } from './documented.ts';
import { fileFixture, memoryFixture } from './embedded-fixture.ts';
import { natsClusterFixture, natsFixture } from './nats/nats-fixture.ts';
import { rabbitMqClusterFixture, rabbitMqFixture } from './rabbitmq/rabbitmq-fixture.ts';
import { redisClusterFixture, redisFixture } from './redis/redis-fixture.ts';
import { remoteFixture } from './remote-fixture.ts';

const backings: Readonly<Record<string, () => Promise<Fixture>>> = {
  memory: memoryFixture,
  file: fileFixture,
  rivulet: remoteFixture,
  redis: redisFixture,
  'redis cluster': redisClusterFixture,
  rabbitmq: rabbitMqFixture,
  'rabbitmq cluster': rabbitMqClusterFixture,
  nats: natsFixture,
  'nats cluster': natsClusterFixture,
  http: async () => ({
    open: () => openBroker('http://127.0.0.1:0'),
    async [Symbol.asyncDispose]() {},
  }),
};

const claimed: Record<string, Readonly<Capabilities>> = {};
for (const [name, start] of Object.entries(backings)) {
  await using fixture = await start();
  await using broker = await fixture.open();
  claimed[name] = broker.capabilities;
  process.stdout.write(`${name}\n`);
}
const text = readFileSync(README, 'utf8');
if (!TABLE.test(text)) throw new Error('README has no table of capabilities between its markers');
const table = capabilityTable(claimed).join('\n');
writeFileSync(
  README,
  text.replace(TABLE, (_, begin: string, __, end: string) => begin + table + end),
);
process.exit(0);

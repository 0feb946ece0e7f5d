/**
 * `node scripts/capabilities.mjs`: starts every kind of server, asks the broker on it what it can do,
 * and writes README's table anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Capabilities } from '../../src/broker/capabilities.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { type Backing, capabilityTable } from '../../src/conformance/index.ts';
import { README, TABLE } from './documented.ts';
import { fileBacking, memoryBacking } from './embedded-backing.ts';
import { natsBacking, natsClusterBacking } from './nats-backing.ts';
import { rabbitMqBacking, rabbitMqClusterBacking } from './rabbitmq-backing.ts';
import { redisBacking, redisClusterBacking } from './redis-backing.ts';
import { remoteBacking } from './remote-backing.ts';

const backings: Readonly<Record<string, () => Promise<Backing>>> = {
  memory: memoryBacking,
  file: fileBacking,
  rivulet: remoteBacking,
  redis: redisBacking,
  'redis cluster': redisClusterBacking,
  rabbitmq: rabbitMqBacking,
  'rabbitmq cluster': rabbitMqClusterBacking,
  nats: natsBacking,
  'nats cluster': natsClusterBacking,
  http: async () => ({
    open: () => openBroker('http://127.0.0.1:0'),
    async [Symbol.asyncDispose]() {},
  }),
};

const claimed: Record<string, Readonly<Capabilities>> = {};
for (const [name, start] of Object.entries(backings)) {
  await using backing = await start();
  await using broker = await backing.open();
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

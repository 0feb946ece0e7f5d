/** The transport suite over the redis broker, on one server and on a cluster. */
import { after, before, describe, test } from 'node:test';
import { transportConformance } from '../../src/conformance/transport/index.ts';
import { redisClusterFixture, redisFixture } from '../conformance/redis/redis-fixture.ts';
import { missing } from '../helpers/requirements.ts';
import { brokerFixture } from './broker-fixture.ts';

const reason = missing('redis-server', 'redis-cli');
const runner = { describe: reason ? describe.skip : describe, test, before, after };
const only = process.env.CONFORMANCE_ONLY ?? '';

transportConformance({
  name: 'broker over redis',
  runner,
  only,
  factory: () =>
    brokerFixture(redisFixture(), {
      manyCalls: 2000,
    }),
});

transportConformance({
  name: 'broker over a redis cluster',
  runner,
  only,
  factory: () =>
    brokerFixture(redisClusterFixture(), {
      manyCalls: 2000,
    }),
});

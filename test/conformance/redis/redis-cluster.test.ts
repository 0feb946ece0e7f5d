/** The suite against a Redis Cluster of three masters with a replica each. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { redisClusterFixture } from './redis-fixture.ts';

const reason = missing('redis-server', 'redis-cli');

conformance({
  name: 'redis cluster',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: redisClusterFixture,
  capabilities: documented('redis cluster'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

/** The suite against a Redis Cluster of three masters with a replica each. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { redisClusterBacking } from './redis-backing.ts';

conformance({
  name: 'redis cluster',
  runner: { describe, test, before, after },
  factory: redisClusterBacking,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

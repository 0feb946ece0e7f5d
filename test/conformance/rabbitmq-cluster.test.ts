/** The suite against a RabbitMQ cluster of three nodes. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { rabbitMqClusterBacking } from './rabbitmq-backing.ts';

conformance({
  name: 'rabbitmq cluster',
  runner: { describe, test, before, after },
  factory: rabbitMqClusterBacking,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

/** The suite against a RabbitMQ cluster of three nodes. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { rabbitMqClusterFixture } from './rabbitmq-fixture.ts';

const reason = missing('rabbitmq-server');

conformance({
  name: 'rabbitmq cluster',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: rabbitMqClusterFixture,
  capabilities: documented('rabbitmq cluster'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

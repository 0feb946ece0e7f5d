/** The suite against a real RabbitMQ node, through `openBroker` and the adapter's package. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { rabbitMqFixture } from './rabbitmq-fixture.ts';

const reason = missing('rabbitmq-server');

conformance({
  name: 'rabbitmq',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: rabbitMqFixture,
  capabilities: documented('rabbitmq'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

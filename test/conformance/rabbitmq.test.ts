/** The suite against a real RabbitMQ node, through `openBroker` and the adapter's package. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { missing } from '../helpers/requirements.ts';
import { documented } from './documented.ts';
import { rabbitMqBacking } from './rabbitmq-backing.ts';

const reason = missing('rabbitmq-server');

conformance({
  name: 'rabbitmq',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: rabbitMqBacking,
  capabilities: documented('rabbitmq'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

// Once the process of this file did not end after its last case had passed. What it had left open is
// not known: ten seconds later it ends all the same.
after(() => {
  setTimeout(() => process.exit(), 10_000).unref();
});

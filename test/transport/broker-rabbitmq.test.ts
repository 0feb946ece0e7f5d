/** The transport suite over the rabbitmq broker. */
import { after, before, describe, test } from 'node:test';
import { transportConformance } from '../../src/conformance/transport/index.ts';
import { rabbitMqFixture } from '../conformance/rabbitmq/rabbitmq-fixture.ts';
import { missing } from '../helpers/requirements.ts';
import { brokerFixture } from './broker-fixture.ts';

const reason = missing('rabbitmq-server');
const runner = { describe: reason ? describe.skip : describe, test, before, after };
const only = process.env.CONFORMANCE_ONLY ?? '';

transportConformance({
  name: 'broker over rabbitmq',
  runner,
  only,
  factory: () =>
    brokerFixture(rabbitMqFixture(), {
      manyCalls: 2000,
    }),
});

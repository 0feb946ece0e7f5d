/** The transport suite over the nats broker, on one server and on a cluster. */
import { after, before, describe, test } from 'node:test';
import { transportConformance } from '../../src/conformance/transport/index.ts';
import { natsClusterFixture, natsFixture } from '../conformance/nats/nats-fixture.ts';
import { missing } from '../helpers/requirements.ts';
import { brokerFixture } from './broker-fixture.ts';

const reason = missing('nats-server');
const runner = { describe: reason ? describe.skip : describe, test, before, after };
const only = process.env.CONFORMANCE_ONLY ?? '';

transportConformance({
  name: 'broker over nats',
  runner,
  only,
  factory: () =>
    brokerFixture(natsFixture(), {
      manyCalls: 2000,
    }),
});

transportConformance({
  name: 'broker over a nats cluster',
  runner,
  only,
  factory: () =>
    brokerFixture(natsClusterFixture(), {
      manyCalls: 2000,
    }),
});

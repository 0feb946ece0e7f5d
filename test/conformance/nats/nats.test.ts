/** The suite against a real nats-server, through `openBroker` and the adapter's package. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { natsFixture } from './nats-fixture.ts';

const reason = missing('nats-server');

conformance({
  name: 'nats',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: natsFixture,
  capabilities: documented('nats'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

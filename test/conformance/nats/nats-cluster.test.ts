/** The suite against a NATS cluster of three servers, with three replicas. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { natsClusterFixture } from './nats-fixture.ts';

const reason = missing('nats-server');

conformance({
  name: 'nats cluster',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: natsClusterFixture,
  capabilities: documented('nats cluster'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

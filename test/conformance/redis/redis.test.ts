/** The suite against a real redis-server, through `openBroker` and the adapter's package. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { missing } from '../../helpers/requirements.ts';
import { documented } from '../documented.ts';
import { redisFixture } from './redis-fixture.ts';

const reason = missing('redis-server');

conformance({
  name: 'redis',
  runner: { describe: reason ? describe.skip : describe, test, before, after },
  factory: redisFixture,
  capabilities: documented('redis'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

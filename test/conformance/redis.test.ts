/** The suite against a real redis-server, through `openBroker` and the adapter's package. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { redisBacking } from './redis-backing.ts';

conformance({
  name: 'redis',
  runner: { describe, test, before, after },
  factory: redisBacking,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

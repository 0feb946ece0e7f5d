/** The suite against the broker in memory. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { seedNamed } from '../helpers/seed.ts';
import { documented } from './documented.ts';
import { memoryFixture } from './embedded-fixture.ts';

conformance({
  seed: seedNamed('conformance'),
  name: 'memory',
  runner: { describe, test, before, after },
  factory: () => memoryFixture(),
  capabilities: documented('memory'),
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

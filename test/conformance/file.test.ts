/** The suite against the broker in a data directory. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { seedNamed } from '../helpers/seed.ts';
import { documented } from './documented.ts';
import { fileFixture } from './embedded-fixture.ts';

conformance({
  seed: seedNamed('conformance'),
  name: 'file',
  runner: { describe, test, before, after },
  factory: fileFixture,
  capabilities: documented('file'),
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

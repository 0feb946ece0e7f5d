/** The suite against `micro server`, through `openBroker('rivulet://...')`. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { seedNamed } from '../helpers/seed.ts';
import { documented } from './documented.ts';
import { remoteFixture } from './remote-fixture.ts';

conformance({
  seed: seedNamed('conformance'),
  name: 'remote',
  runner: { describe, test, before, after },
  factory: () => remoteFixture(),
  capabilities: documented('rivulet'),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

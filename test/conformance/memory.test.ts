/** The suite against the broker in memory. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../src/conformance/index.ts';
import { documented } from './documented.ts';
import { memoryBacking } from './embedded-backing.ts';

conformance({
  name: 'memory',
  runner: { describe, test, before, after },
  factory: () => memoryBacking(),
  capabilities: documented('memory'),
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

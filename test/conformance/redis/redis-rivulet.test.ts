/** The suite against `micro server` through the redis adapter: a Redis client is enough. */
import { after, before, describe, test } from 'node:test';
import { conformance } from '../../../src/conformance/index.ts';
import { documented } from '../documented.ts';
import { remoteFixture } from '../remote-fixture.ts';

conformance({
  name: 'rivulet through the redis adapter',
  runner: { describe, test, before, after },
  factory: () => remoteFixture('redis'),
  // README says that it is the same as through our own broker, but for this.
  capabilities: documented(
    'rivulet',
    { retriedPublish: 'at-least-once' },
    { retriedPublish: 'once' },
  ),
  sideBySide: 3,
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

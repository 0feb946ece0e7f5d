/** The transport suite over the rivulet broker: a real server between the two. */
import { after, before, describe, test } from 'node:test';
import { transportConformance } from '../../src/conformance/transport/index.ts';
import { remoteFixture } from '../conformance/remote-fixture.ts';
import { brokerFixture } from './broker-fixture.ts';

const runner = { describe, test, before, after };
const only = process.env.CONFORMANCE_ONLY ?? '';

transportConformance({
  name: 'broker over rivulet',
  runner,
  only,
  factory: () => brokerFixture(remoteFixture()),
});

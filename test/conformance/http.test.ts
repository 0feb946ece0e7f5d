/** The suite against go-micro's http broker: subscribers that find each other in one registry. */
import { after, before, describe, test } from 'node:test';
import { LocalRegistry } from '../../src/broker/http/http-registry.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { conformance } from '../../src/conformance/index.ts';
import { seedNamed } from '../helpers/seed.ts';
import { documented } from './documented.ts';

conformance({
  seed: seedNamed('conformance'),
  name: 'http',
  runner: { describe, test, before, after },
  factory: async () => {
    const registry = new LocalRegistry();
    return {
      open: (options) => openBroker('http://127.0.0.1:0', { ...options, client: { registry } }),
      async [Symbol.asyncDispose]() {},
    };
  },
  capabilities: documented('http'),
  ...(process.env.CONFORMANCE_ONLY ? { only: process.env.CONFORMANCE_ONLY } : {}),
});

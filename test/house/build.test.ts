/** `npm run build` builds every package: none of the adapters is left out. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { repositoryRoot } from './source-file.ts';

test('the build script goes over every adapter, and each one that was built loads', async () => {
  const { scripts } = JSON.parse(readFileSync(join(repositoryRoot, 'package.json'), 'utf8'));
  assert.equal(scripts.build, 'node scripts/build.mjs');
  const adapters = readdirSync(join(repositoryRoot, 'adapters'));
  assert.deepEqual(adapters.sort(), ['nats', 'rabbitmq', 'redis']);
  for (const name of adapters) {
    const folder = join(repositoryRoot, 'adapters', name);
    const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const built = join(folder, exports['.'].default);
    assert.ok(existsSync(built), `${built} is missing: npm run build`);
  }
  // Each adapter is loaded: what fails is the connection to a port that nothing listens on.
  for (const url of ['redis://127.0.0.1:1', 'nats://127.0.0.1:1', 'amqp://127.0.0.1:1']) {
    await assert.rejects(openBroker(url, { connectTimeoutMs: 300 }), { code: 'CONNECTION_FAILED' });
  }
});

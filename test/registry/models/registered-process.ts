/** A process with a node in a registry: `node registered-process.js URL`. Its events are lines of its output. */
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { Registration } from '../../../src/service/registration.ts';
import { systemScheduler } from '../../../src/util/time/system-scheduler.ts';

const registry = await openRegistry(process.argv[2] as string);
const events = registry.watch();
await registry.listServices();
const record = {
  name: 'stopped',
  version: 'latest',
  metadata: {},
  endpoints: [],
  nodes: [{ id: 'stopped-1', address: '127.0.0.1:40001', metadata: {} }],
};
const options = { ttlMs: 1000, intervalMs: 300 };
await new Registration(registry, record, systemScheduler, options).start();
for await (const { action, service } of events) {
  process.stdout.write(`${action} ${service.nodes[0]?.id}\n`);
}

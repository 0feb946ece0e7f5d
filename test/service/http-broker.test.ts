/** A service on go-micro's http broker: its subscribers are nodes of the registry of the service. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Seen } from '../../src/conformance/case-context.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { createService } from '../../src/service/service.ts';

const outside = { args: false, environment: false } as const;

test('events over http reach the services that are in the registry, until they stop', async () => {
  const registry = new MemoryRegistry();
  const options = { registry, broker: 'http://127.0.0.1:0', ...outside };
  const reader = createService({ name: 'reader', ...options });
  const seen = new Seen<unknown>();
  reader.subscribe('orders', ({ message }) => seen.add(JSON.parse(String(message.body))));
  await reader.start();
  const [found] = await registry.getService('micro.http.broker');
  assert.equal(found?.version, 'ff.http.broadcast');
  assert.equal(found.nodes[0]?.metadata.topic, 'orders');

  await using writer = createService({ name: 'writer', ...options });
  await (await writer.broker()).topic('orders').publish({ id: 7 });
  assert.deepEqual([...(await seen.count(1))], [{ id: 7 }]);
  await reader.stop();
  assert.deepEqual(await registry.getService('micro.http.broker'), []);
  await registry.close();
});

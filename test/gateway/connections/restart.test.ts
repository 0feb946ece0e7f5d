/** Requests to a service that was there a moment ago. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { startGateway } from '../../../src/gateway/gateway.ts';
import { MemoryRegistry } from '../../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../../src/rpc/contract.ts';
import { createService } from '../../../src/service/service.ts';
import { until } from '../../helpers/until.ts';
import { ask, post } from '../fixture.ts';

const Counter = contract('go.micro.api.counter', {
  Counter: {
    Get: unary<unknown, unknown>(),
    Count: serverStream<unknown, unknown>(),
    Raw: unary<unknown, unknown>({ metadata: { handler: 'api', path: '/raw' } }),
  },
});

test('a service without a node is 503 where it was known, for calls and streams, and else 404', async () => {
  const registry = new MemoryRegistry();
  const own = { registry, transport: 'tcp', environment: false, args: false } as const;
  const service = createService(own).handle(Counter, {
    Counter: {
      Get: () => ({ n: 1 }),
      async *Count() {
        yield { n: 1 };
      },
      Raw: () => ({ statusCode: 200, body: '' }),
    },
  });
  await service.start();
  await using gateway = await startGateway({ address: ':0', registry });
  const paths = ['/counter/get', '/counter/count', '/raw'];
  const statuses = () =>
    Promise.all(
      paths.map(async (path) => {
        const { status, headers } = await ask(gateway.url + path, post({}));
        return [status, headers.get('retry-after')];
      }),
    );
  const all = (each: [number, string | null]) => paths.map(() => each);
  await until(async () => (await statuses()).every(([status]) => status === 200), 'all answer');
  await service.stop();
  // A route goes with its service.
  paths.pop();
  assert.deepEqual(await statuses(), all([503, '1']));
  assert.equal((await ask(`${gateway.url}/nothing/get`, post({}))).status, 404);
});

/**
 * Services through the console: list, schema, calls with metadata and deadline, streams, a node dropped.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { serveConsole } from '../../src/console/index.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { askAt } from './fixture.ts';

const Greeter = contract('greeter', {
  Say: {
    Hello: unary<{ name: string }, { text: string; tenant: string }>(),
    Fails: unary<unknown, unknown>(),
    Slow: unary<unknown, unknown>(),
    Count: serverStream<{ to: number }, { n: number }>(),
  },
});

async function fixture() {
  const registry = new MemoryRegistry();
  const broker = await openBroker('memory:');
  const service = createService({
    name: 'greeter',
    version: '1.2.3',
    registry,
    transport: 'tcp',
    environment: false,
    args: false,
  });
  service.handle(Greeter, {
    Say: {
      Hello: ({ name }, { metadata }) => ({
        text: `hello ${name}`,
        tenant: metadata.get('tenant') ?? '',
      }),
      Fails() {
        throw new Error('card declined');
      },
      Slow: () => new Promise((resolve) => setTimeout(resolve, 60_000).unref()),
      async *Count({ to }) {
        for (let n = 1; n <= to; n++) yield { n };
      },
    },
  });
  await service.start();
  const console = await serveConsole({ broker, registry, port: 0 });
  return {
    ask: (path: string, body?: object) =>
      askAt(console.port, `/console/api/v1/${path}`, body ? { method: 'POST', body } : {}),
    async [Symbol.asyncDispose]() {
      await console.close();
      await service.stop();
      await broker.disconnect();
    },
  };
}

test('services are listed with versions, nodes and the shape of their endpoints', async () => {
  await using console = await fixture();
  const list = (await console.ask('services')).json();
  assert.deepEqual(
    list.map(({ name, versions, nodes }: Record<string, unknown>) => [name, versions, nodes]),
    [['greeter', ['1.2.3'], 1]],
  );
  const [version] = (await console.ask('services/greeter')).json().versions;
  const names = version.endpoints.map(({ name }: { name: string }) => name);
  assert.ok(names.includes('Say.Hello'));
  const count = version.endpoints.find(({ name }: { name: string }) => name === 'Say.Count');
  assert.equal(count.stream, true);
  assert.match(version.nodes[0].address, /:\d+$/);
  assert.equal((await console.ask('services/none')).status, 404);
});

test('an endpoint is called with metadata, on a node, within a deadline, and it is in the audit', async () => {
  await using console = await fixture();
  const call = async (body: object) => (await console.ask('call', body)).json();
  const request = { name: 'ann' };
  const hello = { service: 'greeter', endpoint: 'Say.Hello', request, metadata: { tenant: 't' } };
  const reply = await call(hello);
  assert.deepEqual(reply.replies, [{ text: 'hello ann', tenant: 't' }]);
  const [version] = (await console.ask('services/greeter')).json().versions;
  const node = version.nodes[0].address;
  assert.equal((await call({ ...hello, node })).ok, true);
  const failed = await call({ service: 'greeter', endpoint: 'Say.Fails', request: {} });
  assert.equal(failed.ok, false);
  assert.match(failed.error.message, /card declined|Internal|internal/i);
  const late = await call({
    service: 'greeter',
    endpoint: 'Say.Slow',
    request: {},
    deadlineMs: 50,
  });
  assert.equal(late.error.code, 'TIMEOUT');
  const health = await call({ service: 'greeter', endpoint: 'Debug.Health', request: {}, node });
  assert.equal(health.ok, true);
  const audit = (await console.ask('audit')).json();
  const shown = audit.entries.map(
    ({ phase, target }: Record<string, string>) => `${phase} ${target}`,
  );
  assert.ok(shown.includes('done greeter Say.Hello'));
  assert.ok(shown.includes('failed greeter Say.Fails'));
  assert.ok(!JSON.stringify(audit).includes('ann'), 'no bodies');
  assert.ok(!shown.some((each: string) => each.includes('Debug.')));
  for (const wrong of [
    {},
    { service: 'greeter' },
    { ...hello, endpoint: 'x' },
    { ...hello, deadlineMs: -1 },
  ]) {
    assert.equal((await console.ask('call', wrong)).status, 400, JSON.stringify(wrong));
  }
});

test('of a stream at most 100 replies are taken', async () => {
  await using console = await fixture();
  const count = { service: 'greeter', endpoint: 'Say.Count', stream: true };
  const few = (await console.ask('call', { ...count, request: { to: 3 } })).json();
  assert.deepEqual([few.replies, few.cut], [[{ n: 1 }, { n: 2 }, { n: 3 }], false]);
  const many = (await console.ask('call', { ...count, request: { to: 1_000_000 } })).json();
  assert.deepEqual([many.replies.length, many.cut], [100, true]);
});

test('a node is dropped from the registry after its name was typed', async () => {
  await using console = await fixture();
  const [version] = (await console.ask('services/greeter')).json().versions;
  const target = { service: 'greeter', node: version.nodes[0].id };
  const plan = (await console.ask('actions/service.dropNode', { dryRun: true, target })).json();
  assert.equal(plan.confirm, target.node);
  const run = { token: plan.token, confirm: plan.confirm, reason: 'gone' };
  assert.equal((await console.ask('actions/service.dropNode', run)).json().done, 1);
  assert.equal((await console.ask('services/greeter')).status, 404);
});

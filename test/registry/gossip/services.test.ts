/** Services that find each other in a ring: one call, a stop that is heard at once, and an end by itself. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { GossipRegistry } from '../../../src/registry/gossip/gossip.ts';
import { contract, unary } from '../../../src/rpc/contract.ts';
import { createService } from '../../../src/service/service.ts';

const NAME = 'go.micro.srv.greeter';
const greeter = contract(NAME, {
  Say: { Hello: unary<{ name: string }, { text: string }>() },
});
const bare = { environment: false, args: false } as const;

test('a call finds its service by gossip, and after its stop the service is gone for all', async () => {
  await using seed = new GossipRegistry();
  const registry = `gossip://${await seed.address()}`;
  const events = seed.watch(NAME)[Symbol.asyncIterator]();
  await using provider = createService({ ...bare, name: NAME, registry });
  provider.handle(greeter, { Say: { Hello: async ({ name }) => ({ text: `hello ${name}` }) } });
  await provider.start();
  assert.equal((await events.next()).value?.action, 'create');
  await using caller = createService({ ...bare, name: 'caller', registry });
  const answer = await caller.client(greeter).Say.Hello({ name: 'ann' });
  assert.deepEqual(answer, { text: 'hello ann' });
  await provider.stop();
  assert.equal((await events.next()).value?.action, 'delete');
  assert.deepEqual(await seed.getService(NAME), []);
});

test('a program that closes its registry ends by itself', () => {
  const module = new URL('../../../src/registry/open-registry.js', import.meta.url);
  const program = `
    const { openRegistry } = await import(${JSON.stringify(module.href)});
    const registry = await openRegistry('gossip');
    registry.watch();
    await registry.listServices();
    await registry.close();
    console.log('closed');`;
  const args = ['--input-type=module', '-e', program];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 20_000,
  });
  assert.equal(status, 0, stderr);
  assert.equal(stdout, 'closed\n');
});

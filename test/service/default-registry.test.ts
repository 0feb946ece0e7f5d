/** Which registry a service has when none is given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { REGISTRY_TOPIC } from '../../src/registry/broker/broker.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { createService } from '../../src/service/service.ts';
import { memoryFixture } from '../conformance/embedded-fixture.ts';

const Users = contract('users', { UserSrv: { Get: unary<object, { name: string }>() } });

for (const kind of ['an open broker', 'the URL of a broker'] as const) {
  test(`with ${kind} and no registry, services find each other through the broker`, async () => {
    await using server = await memoryFixture();
    const url = 'memory:default-registry';
    await using shared = kind === 'an open broker' ? await server.open() : await openBroker(url);
    const broker = kind === 'an open broker' ? shared : url;
    await using users = createService({ name: 'users', broker, transport: 'tcp' });
    users.handle(Users, { UserSrv: { Get: async () => ({ name: 'Ada' }) } });
    await using caller = createService({ name: 'caller', broker, transport: 'tcp' });
    await Promise.all([users.start(), caller.start()]);
    assert.deepEqual(await caller.call('users', 'UserSrv.Get', {}), { name: 'Ada' });
    const topics: string[] = [];
    for await (const { topic } of shared.topics()) topics.push(topic);
    assert.ok(topics.includes(REGISTRY_TOPIC));
  });
}

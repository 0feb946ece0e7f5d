/**
 * The console reads the registry of its own server, whatever the passwords of the users are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../../src/client/index.ts';
import type { ServiceRow } from '../../../src/console/api-types.ts';
import { contract, unary } from '../../../src/rpc/contract.ts';
import { createService } from '../../../src/service/service.ts';
import { type OpenConsole, openConsole } from '../fixture.ts';

const basic = (login: string) => ({
  headers: { authorization: `Basic ${Buffer.from(login).toString('base64')}` },
});

/** Names of the services that the console shows while one is registered. */
async function shown(console: OpenConsole, login: string): Promise<string[]> {
  await using service = createService({
    name: 'greeter',
    broker: `rivulet://${login}@127.0.0.1:${console.running.port}`,
    registry: 'broker',
    transport: 'tcp',
    environment: false,
    args: false,
  });
  service.handle(contract('greeter', { Say: { Hello: unary<undefined, string>() } }), {
    Say: { Hello: () => 'hello' },
  });
  await service.start();
  const rows = await console.get<ServiceRow[]>('services', basic(login));
  await service.stop();
  return rows.map(({ name }) => name);
}

test('a password of `default` that only the ACL knows', async () => {
  const rules = ['default', 'resetpass', '>secret'];
  await using console = await openConsole({}, [rules], { password: 'secret' });
  assert.deepEqual(await shown(console, 'default:secret'), ['greeter']);
});

test('a password that is changed while the server runs', async () => {
  await using console = await openConsole({ requirepass: 'one' }, [], { password: 'one' });
  await console.client.call('CONFIG', 'SET', 'requirepass', 'two');
  assert.deepEqual(await shown(console, 'default:two'), ['greeter']);
});

test('a `default` that is switched off', async () => {
  const ann = ['ann', 'on', '>pw', '~*', '&*', '+@all'];
  await using console = await openConsole({}, [ann, ['default', 'off']], {
    username: 'ann',
    password: 'pw',
  });
  assert.deepEqual(await shown(console, 'ann:pw'), ['greeter']);
});

test("the server's own login is in no list, and nothing but its password opens it", async () => {
  await using console = await openConsole();
  await console.get('services');
  const { client, running } = console;
  for (const command of ['LIST', 'USERS']) {
    assert.doesNotMatch(String(await client.call('ACL', command)), /_rivulet/);
  }
  assert.equal(await client.call('ACL', 'GETUSER', '_rivulet'), null);
  const { password } = running.server.state.acl.ownLogin();
  const wrong = [...password].reverse().join('');
  for (const each of ['', 'x', wrong]) {
    await assert.rejects(connect({ port: running.port, username: '_rivulet', password: each }), {
      code: 'AUTHENTICATION_FAILED',
    });
    const { status } = await console.ask('topics', basic(`_rivulet:${each}`));
    assert.equal(status, 401, 'nor by the console');
  }
});

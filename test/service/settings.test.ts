/** Options of a service: by code, by variable, by flag, and what is said of wrong ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { ServiceOptions } from '../../src/service/options/options.ts';
import { resolveSettings } from '../../src/service/options/settings.ts';
import { createService } from '../../src/service/service.ts';

function settings(options: ServiceOptions) {
  return resolveSettings({ environment: false, args: false, ...options });
}

test('code gives way to variables and both to flags, and each value says where it came from', () => {
  const options = {
    name: 'by.code',
    registerTtlMs: 10_000,
    environment: { MICRO_SERVER_NAME: 'by.variable', MICRO_REGISTER_TTL: '20', MICRO_BROKER: '' },
    args: ['positional', '--register_ttl=30', '-server_version', '1.2', '--unknown', 'x'],
  };
  const made = createService(options);
  assert.deepEqual(made.options.name, { value: 'by.variable', from: 'MICRO_SERVER_NAME' });
  assert.deepEqual(made.options.registerTtlMs, { value: 30_000, from: '--register_ttl' });
  assert.deepEqual(made.options.version, { value: '1.2', from: '--server_version' });
  assert.deepEqual(made.options.registerIntervalMs, { value: 10_000, from: 'default' });
  assert.deepEqual(made.options.broker, { value: undefined, from: 'default' });
  assert.equal(made.name, 'by.variable');
  assert.deepEqual(settings({ name: 'x' }).name, { value: 'x', from: 'code' });
});

test('the defaults are those of go-micro', () => {
  const made = settings({});
  const values = Object.fromEntries(Object.entries(made).map(([name, { value }]) => [name, value]));
  assert.equal(values.name, 'go.micro.server');
  assert.equal(values.version, 'latest');
  assert.equal(values.address, ':0');
  assert.deepEqual(
    [values.registerTtlMs, values.registerIntervalMs, values.requestTimeoutMs, values.retries],
    [90_000, 30_000, 5000, 1],
  );
  assert.deepEqual([values.poolSize, values.poolTtlMs, values.dialTimeoutMs], [100, 60_000, 5000]);
});

test('a name and an address in two variables are one URL', () => {
  const from = (environment: Record<string, string>) => settings({ environment }).broker.value;
  const address = 'MICRO_BROKER_ADDRESS';
  assert.equal(
    from({ MICRO_BROKER: 'nats', [address]: 'a:4222, b:4222' }),
    'nats://a:4222,nats://b:4222',
  );
  assert.equal(from({ [address]: '127.0.0.1:7488' }), 'rivulet://127.0.0.1:7488');
  assert.equal(from({ [address]: 'redis://h:1' }), 'redis://h:1');
  assert.equal(from({ MICRO_BROKER: 'redis://h:1', [address]: 'x:2' }), 'redis://h:1');
  const registry = settings({
    args: ['--registry', 'etcd', '--registry_address', 'e:2379'],
  }).registry;
  assert.deepEqual(registry, { value: 'etcd://e:2379', from: '--registry' });
});

test('several servers of a registry in its address are one registry', async () => {
  const ports = { etcd: 2379, zookeeper: 2181, eureka: 8761, nats: 4222 };
  for (const [name, port] of Object.entries(ports)) {
    const address = `a:${port},b:${port}`;
    const environment = { MICRO_REGISTRY: name, MICRO_REGISTRY_ADDRESS: address };
    const url = settings({ environment }).registry.value as string;
    // It connects with its first call; an address that cannot be meant is refused before.
    const registry = await openRegistry(url);
    assert.equal(registry.name, name);
    await registry.close();
    const secret = `${name}://u:p,w@a:${port},${name}://u:p,w@b:${port}`;
    await (await openRegistry(secret)).close();
  }
});

test('metadata and durations are read as go-micro writes them', () => {
  const made = settings({
    environment: {
      MICRO_SERVER_METADATA: 'region=eu, zone=a=b,__proto__=x',
      MICRO_CLIENT_REQUEST_TIMEOUT: '1m30s',
      MICRO_REGISTER_INTERVAL: '5s',
    },
  });
  assert.deepEqual(Object.entries(made.metadata.value as object), [
    ['region', 'eu'],
    ['zone', 'a=b'],
    ['__proto__', 'x'],
  ]);
  assert.equal(made.requestTimeoutMs.value, 90_000);
  assert.equal(made.registerIntervalMs.value, 5000);
});

test('a wrong variable or flag is an error that names it', () => {
  const wrong: [Record<string, string>, RegExp][] = [
    [{ MICRO_REGISTER_TTL: 'soon' }, /MICRO_REGISTER_TTL="soon".*duration/],
    [{ MICRO_REGISTER_TTL: '-1' }, /MICRO_REGISTER_TTL/],
    [{ MICRO_CLIENT_RETRIES: '1.5' }, /MICRO_CLIENT_RETRIES.*whole/],
    [{ MICRO_CLIENT_RETRIES: '100' }, /MICRO_CLIENT_RETRIES.*99/],
    [{ MICRO_SERVER_NAME: 'a/b' }, /MICRO_SERVER_NAME.*"\/"/],
    [{ MICRO_SERVER_METADATA: 'region' }, /MICRO_SERVER_METADATA.*key=value/],
    [{ MICRO_CLIENT_POOL_SIZE: '0' }, /MICRO_CLIENT_POOL_SIZE/],
  ];
  for (const [environment, message] of wrong) {
    assert.throws(() => settings({ environment }), { code: 'INVALID_ARGUMENT', message });
  }
  assert.throws(
    () => settings({ args: ['--client_pool_size', 'many'] }),
    /--client_pool_size="many"/,
  );
});

test('every number of an option is checked, and a misspelt option is named', () => {
  const numbers = [
    'registerTtlMs',
    'registerIntervalMs',
    'requestTimeoutMs',
    'dialTimeoutMs',
    'poolSize',
    'poolTtlMs',
    'maxConcurrentCalls',
    'maxMessageBytes',
  ] as const;
  for (const name of numbers) {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 0, -1, 2 ** 31, 2 ** 53, '5']) {
      assert.throws(() => createService({ [name]: value }), { code: 'INVALID_ARGUMENT' }, name);
    }
  }
  const registerTtl = 5000;
  assert.throws(() => createService({ registerTtl } as never), /did you mean registerTtlMs/);
  assert.throws(() => createService({ selector: 'randon' }), /did you mean random/);
  assert.throws(() => createService({ transport: 'tpc' }), /did you mean tcp/);
  assert.throws(() => createService({ codec: 'jsn' }), { code: 'UNSUPPORTED' });
  assert.throws(
    () => createService({ wrap: { servers: [] } } as never),
    /did you mean wrap.server/,
  );
  assert.throws(() => settings({ registerTtlMs: 1000, registerIntervalMs: 1000 }), /must be below/);
});

test('the settings show no password', () => {
  const broker = 'rivulet://user:secret@127.0.0.1:7488';
  const made = createService({ broker, registry: ['memory', 'etcd://u:secret@e:2379'] });
  assert.ok(!JSON.stringify(made.options).includes('secret'));
  assert.equal(made.options.broker.value, 'rivulet://127.0.0.1:7488');
  const environment = { MICRO_SELECTOR: 'random', MICRO_PROXY: 'http://u:secret@h' };
  assert.throws(
    () => createService({ environment }),
    (error: Error) => !error.message.includes('secret'),
  );
});

test('no part of a password is shown, whatever it holds and wherever the address is wrong', async () => {
  const schemes = ['etcd', 'nats', 'consul', 'zookeeper', 'eureka', 'gossip', 'rivulet', 'redis'];
  const separators = [',', ',,', '/', '@', '?', '#', ':', ',nats://', ', ', '%', '&x=', ';'];
  const words = /alpha|bravo|1234/;
  for (const scheme of schemes) {
    for (const separator of separators) {
      for (const place of ['@host:2379', '@a:2379,b:2379', '@host:port', '@', '@host:2379/p?q=1']) {
        for (const secret of [`alpha${separator}bravo`, `1234${separator}1234${separator}alpha`]) {
          for (const credentials of [`user:${secret}`, secret]) {
            const url = `${scheme}://${credentials}${place}`;
            const shown: string[] = [];
            const environment = {
              MICRO_REGISTRY: scheme,
              MICRO_REGISTRY_ADDRESS: `${credentials}${place}`,
              MICRO_BROKER: url,
            };
            for (const options of [{ registry: url, broker: url }, { environment }]) {
              try {
                shown.push(JSON.stringify(createService({ args: false, ...options }).options));
              } catch (error) {
                shown.push((error as Error).message);
              }
            }
            try {
              // It connects with its first call.
              await (await openRegistry(url)).close();
            } catch (error) {
              shown.push((error as Error).message);
            }
            for (const text of shown) {
              assert.doesNotMatch(text, words, `${url} is shown as ${text}`);
            }
          }
        }
      }
    }
  }
});

/** Commands over go-micro's http broker: its subscribers are found by a registry, and nothing is stored. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { ended, startChild } from '../helpers/children.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';
import { MICRO, micro } from './micro.ts';

const ANY_PORT = 'http://127.0.0.1:0';

let server: RivuletServer;
let registryUrl: string;
let registry: Registry;
let subscribers: Broker;
before(async () => {
  server = await startRivulet({ args: ['--appendonly', 'no'] });
  registryUrl = `broker:rivulet://127.0.0.1:${server.port}`;
  registry = await openRegistry(registryUrl);
  subscribers = await openBroker(ANY_PORT, { client: { registry } } as never);
});
after(async () => {
  await subscribers?.disconnect();
  await registry?.close();
  await server[Symbol.asyncDispose]();
});

const run = (...args: string[]) =>
  micro([...args, '--broker', ANY_PORT], { env: { MICRO_REGISTRY: registryUrl } });

test('a publish reaches the subscribers of the registry, and says where there are none', async () => {
  const received = new Promise<string>((resolve) => {
    void subscribers.subscribe('orders', ({ message }) => resolve(message.text()));
  });
  await until(async () => (await run('list', 'topics', '-q')).stdout.includes('orders'));
  const sent = await run('publish', 'orders', '{"id":1}');
  assert.deepEqual([sent.code, sent.stdout], [0, 'ok\n'], sent.stderr);
  assert.equal(await received, '{"id":1}');
  const flag = await micro(
    ['publish', 'orders', 'x', '--broker', ANY_PORT, '--registry', registryUrl],
    {},
  );
  assert.equal(flag.code, 0, flag.stderr);
  const lost = await run('publish', 'nobody', 'x');
  assert.equal(lost.code, 3);
  assert.match(lost.stderr, /no subscriber of nobody is in the registry/);
});

test('a subscription is found by publishers of other processes', async () => {
  const child = startChild(
    process.execPath,
    [MICRO, 'subscribe', 'news', '--count', '1', '--raw', '--broker', ANY_PORT],
    { env: { PATH: process.env.PATH, MICRO_REGISTRY: registryUrl } },
  );
  let output = '';
  child.stdout?.on('data', (text) => {
    output += text;
  });
  await until(async () => (await run('list', 'topics', '-q')).stdout.includes('news'));
  assert.equal((await run('publish', 'news', 'hello')).code, 0);
  assert.equal(await ended(child), 0);
  assert.equal(output, 'hello\n');
});

test('what an http broker cannot do is refused with what to do instead', async () => {
  const taken = createServer();
  taken.listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  for (const [args, code, text] of [
    [
      ['publish', 'orders', 'x', '--registry', 'broker'],
      2,
      /stores nothing, so that it is no registry/,
    ],
    [['topic', 'tail', 'orders'], 1, /works on rivulet:\/\/ and redis:\/\/ only/],
    [['topic', 'replay', 'orders', 'g', '--from', 'earliest'], 1, /UNSUPPORTED/],
    [['request', 'orders', '{}'], 1, /UNSUPPORTED/],
  ] as const) {
    const refused = await run(...args);
    assert.deepEqual([refused.code, refused.stdout], [code, ''], `${args}: ${refused.stderr}`);
    assert.match(refused.stderr, text);
  }
  const inUse = await micro(['publish', 'orders', 'x', '--broker', `http://127.0.0.1:${port}`], {
    env: { MICRO_REGISTRY: registryUrl },
  });
  assert.equal(inUse.code, 4, inUse.stderr);
  assert.match(inUse.stderr, /listens at its own address: write http:\/\/127\.0\.0\.1:0/);
  const url = `rivulet://127.0.0.1:${server.port}`;
  for (const [from, to] of [
    [ANY_PORT, url],
    [url, ANY_PORT],
  ] as const) {
    const mirrored = await micro(['mirror', '--from', from, '--to', to]);
    assert.deepEqual([mirrored.code, mirrored.stdout], [2, '']);
    assert.match(mirrored.stderr, /an http:\/\/ broker stores nothing to mirror/);
  }
  taken.close();
});

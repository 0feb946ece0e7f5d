/** Web services: an HTTP server that is found by its name, behind the gateway, until it stops. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import Fastify from 'fastify';
import { RivuletError } from '../../src/errors.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { webService } from '../../src/service/web-service.ts';

test('a fastify and a node:http server are reached by their names through the gateway', async () => {
  const registry = new MemoryRegistry();
  const app = Fastify();
  app.get('/cart', () => ({ by: 'fastify' }));
  await using shop = webService({ name: 'go.micro.web.shop', server: app, registry });
  const plain = createServer((request, response) => {
    response.end(JSON.stringify({ by: 'node', url: request.url }));
  });
  await using blog = webService({ name: 'go.micro.web.blog', server: plain, registry });
  await Promise.all([shop.start(), blog.start()]);
  await using gateway = await startGateway({
    address: ':0',
    registry,
    type: 'web',
    handler: 'web',
  });
  const cart = await fetch(`${gateway.url}/shop/cart`);
  assert.deepEqual(await cart.json(), { by: 'fastify' });
  const post = await fetch(`${gateway.url}/blog/2026/11?page=2`);
  assert.deepEqual(await post.json(), { by: 'node', url: '/2026/11?page=2' });
});

test('stop withdraws the name first and answers what has arrived', async () => {
  const registry = new MemoryRegistry();
  let answer: () => void = () => {};
  let onArrived: () => void = () => {};
  const arrived = new Promise<void>((resolve) => {
    onArrived = resolve;
  });
  const server = createServer((_request, response) => {
    answer = () => response.end('whole');
    onArrived();
  });
  const shop = webService({ name: 'go.micro.web.shop', server, registry });
  await shop.start();
  const reply = fetch(`http://${shop.address}/`);
  await arrived;
  const watcher = registry.watch('go.micro.web.shop')[Symbol.asyncIterator]();
  const withdrawn = watcher.next();
  const stopping = shop.stop();
  await withdrawn;
  assert.deepEqual(await registry.getService('go.micro.web.shop'), []);
  answer();
  assert.equal(await (await reply).text(), 'whole');
  await stopping;
  await watcher.return?.();
  await assert.rejects(shop.start(), { code: 'CLOSED' });
});

test('a stop during the start leaves nothing that listens or is registered', async () => {
  const registry = new MemoryRegistry();
  const server = createServer();
  const shop = webService({ name: 'go.micro.web.shop', server, registry });
  const starting = shop.start();
  await shop.stop();
  await starting;
  assert.equal(server.listening, false);
  assert.deepEqual(await registry.listServices(), []);
});

test('a port that is taken stops the start and registers nothing', async () => {
  const registry = new MemoryRegistry();
  const other = createServer();
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const shop = webService({
    name: 'go.micro.web.shop',
    server: createServer(),
    address: `127.0.0.1:${port}`,
    registry,
  });
  await assert.rejects(
    shop.start(),
    (error) => error instanceof RivuletError && error.code === 'CONNECTION_FAILED',
  );
  assert.deepEqual(await registry.listServices(), []);
  other.close();
});

test('a name, a server or an address that cannot be is refused with what is right', async () => {
  const server = createServer();
  assert.throws(() => webService({ name: 'a b', server }), { code: 'INVALID_ARGUMENT' });
  assert.throws(
    () => webService({ name: 'web', server: {} as never }),
    /http\.Server or a fastify/,
  );
  assert.throws(() => webService({ name: 'web', server, adress: ':1' } as never), /address/);
  const shop = webService({ name: 'web', server, address: 'nowhere', registry: 'memory' });
  await assert.rejects(shop.start(), /no host:port/);
});

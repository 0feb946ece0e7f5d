/** grpc-js with its own stubs against our server, its server behind our client, and its resolver. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract } from '../../src/rpc/contract.ts';
import { grpcStruct } from '../../src/rpc/proto/grpc-definition.ts';
import { createService } from '../../src/service/service.ts';
import { registerGrpcResolver } from '../../src/transport/grpc/grpc-resolver.ts';
import { until } from '../helpers/until.ts';
import { openShop, SHOP } from './shop.ts';

interface Order {
  readonly id: string;
  readonly userName: string;
}

/** grpc-js's client of the .proto, as its users make it. */
function definitionOf(proto: string): grpc.ServiceDefinition {
  const loaded = loadSync(proto, { longs: String, enums: String, defaults: true, oneofs: true });
  return loaded['shop.OrderSrv'] as grpc.ServiceDefinition;
}

function clientOf(proto: string, address: string): grpc.Client & Record<string, never> {
  const Client = grpc.makeGenericClientConstructor(definitionOf(proto), 'OrderSrv');
  return new Client(address, grpc.credentials.createInsecure()) as never;
}

test('grpc-js calls four kinds of methods by the package of the .proto', async () => {
  await using shop = await openShop();
  // biome-ignore lint/suspicious/noExplicitAny: stubs of proto-loader have no types
  const client = clientOf(shop.proto, shop.address) as any;
  const metadata = new grpc.Metadata();
  metadata.set('x-caller', 'grpc-js');
  const order = await new Promise<Order>((resolve, reject) => {
    const call = client.getOrder({ id: 7 }, metadata, (error: Error | null, value: Order) =>
      error === null ? resolve(value) : reject(error),
    );
    call.on('metadata', (head: grpc.Metadata) => {
      assert.deepEqual(head.get('x-served-by'), ['grpc-js']);
    });
  });
  assert.deepEqual(order, {
    id: '7',
    userName: 'Micro',
    state: 'PAID',
    tags: ['a', 'ü'],
    price: { cents: '9007199254740993', currency: 'EUR' },
    counts: { apples: 3 },
  });
  const ids: string[] = [];
  for await (const each of client.watch({ id: 2000 })) ids.push(each.id);
  assert.equal(ids.length, 2000);
  assert.equal(ids[1999], '1999');
  const summary = await new Promise((resolve, reject) => {
    const call = client.import((error: Error | null, value: unknown) =>
      error === null ? resolve(value) : reject(error),
    );
    for (let id = 1; id <= 1000; id++) call.write({ id });
    call.end();
  });
  assert.deepEqual(summary, { n: 1000, sum: '500500' });
  const chat = client.chat();
  const doubled: string[] = [];
  chat.on('data', ({ id }: Order) => doubled.push(id));
  for (const id of [1, 2, 3]) chat.write({ id });
  chat.end();
  await once(chat, 'end');
  assert.deepEqual(doubled, ['2', '4', '6']);
  client.close();
});

test("grpc-js gets go-micro's errors, unknown methods, deadlines, and cancels", async () => {
  await using shop = await openShop();
  // biome-ignore lint/suspicious/noExplicitAny: stubs of proto-loader have no types
  const client = clientOf(shop.proto, shop.address) as any;
  const failed = (request: unknown, options = {}) =>
    new Promise<grpc.ServiceError>((resolve) => {
      client.getOrder(request, options, (error: grpc.ServiceError) => resolve(error));
    });
  const conflict = await failed({ what: 'fail' });
  assert.equal(conflict.code, grpc.status.ALREADY_EXISTS);
  assert.deepEqual(JSON.parse(conflict.details), {
    id: 'shop.orders',
    code: 409,
    detail: 'Schon da: ü %',
    status: 'Conflict',
  });
  const late = await failed({ what: 'hang' }, { deadline: Date.now() + 100 });
  assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
  assert.match(await shop.ended, /^left true$/);
  const other = grpc.makeGenericClientConstructor({}, 'X');
  const raw = new other(shop.address, grpc.credentials.createInsecure());
  const identity = (bytes: Buffer) => bytes;
  const unknown = await new Promise<grpc.ServiceError | null>((resolve) => {
    raw.makeUnaryRequest('/shop.OrderSrv/None', identity, identity, Buffer.alloc(0), resolve);
  });
  assert.equal(unknown?.code, grpc.status.UNIMPLEMENTED);
  const watching = client.watch({ id: 1_000_000_000 });
  await once(watching, 'data');
  watching.on('error', () => {});
  watching.cancel();
  await until(() => shop.service.server.running === 0);
  raw.close();
  client.close();
});

test('grpc-js finds services by name, follows the registry, and says why there is none', async () => {
  const registry = new MemoryRegistry();
  registerGrpcResolver(registry);
  const first = await openShop(registry);
  // biome-ignore lint/suspicious/noExplicitAny: stubs of proto-loader have no types
  const client = clientOf(first.proto, `rivulet:///${SHOP}`) as any;
  const get = () =>
    new Promise<Order>((resolve, reject) => {
      const deadline = Date.now() + 10_000;
      const done = (error: Error | null, value: Order) =>
        error === null ? resolve(value) : reject(error);
      client.getOrder({ id: 1 }, new grpc.Metadata({ waitForReady: true }), { deadline }, done);
    });
  assert.equal((await get()).userName, 'Micro');
  const second = await openShop(registry);
  await first[Symbol.asyncDispose]();
  for (let n = 0; n < 5; n++) assert.equal((await get()).userName, 'Micro');
  client.close();
  // biome-ignore lint/suspicious/noExplicitAny: stubs of proto-loader have no types
  const lost = clientOf(second.proto, 'rivulet:///no.such.service') as any;
  const error = await new Promise<grpc.ServiceError>((resolve) => {
    lost.getOrder({ id: 1 }, resolve);
  });
  assert.equal(error.code, grpc.status.UNAVAILABLE);
  assert.match(error.details, /no node of no\.such\.service that takes gRPC/);
  lost.close();
  await second[Symbol.asyncDispose]();
  await registry.close();
});

test("our client calls grpc-js's own server, and a definition of grpc-js is a contract on both sides", async () => {
  await using shop = await openShop();
  const definition = definitionOf(shop.proto);
  const Orders = contract('shop', { OrderSrv: grpcStruct(definition) });
  assert.deepEqual(Object.keys(Orders.OrderSrv).sort(), ['Chat', 'GetOrder', 'Import', 'Watch']);
  const server = new grpc.Server();
  server.addService(definition, {
    GetOrder(call: grpc.ServerUnaryCall<Order, Order>, callback: grpc.sendUnaryData<unknown>) {
      if (call.request.id === '0') {
        callback({ code: grpc.status.NOT_FOUND, details: 'no order 0' });
        return;
      }
      const [caller = ''] = call.metadata.get('x-caller');
      callback(null, { id: call.request.id, userName: String(caller) });
    },
    Watch(call: grpc.ServerWritableStream<Order, unknown>) {
      for (let id = 0; id < 100; id++) call.write({ id });
      call.end();
    },
    Import(call: grpc.ServerReadableStream<Order, unknown>, callback: grpc.sendUnaryData<unknown>) {
      let n = 0;
      call.on('data', () => n++);
      call.on('end', () => callback(null, { n }));
    },
    Chat(call: grpc.ServerDuplexStream<Order, unknown>) {
      call.on('data', (order: Order) => call.write({ id: Number(order.id) * 2 }));
      call.on('end', () => call.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    const insecure = grpc.ServerCredentials.createInsecure();
    server.bindAsync('127.0.0.1:0', insecure, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const registry = new MemoryRegistry();
  await registry.register(
    {
      name: 'shop',
      version: '1',
      metadata: {},
      endpoints: [],
      nodes: [{ id: 'js-1', address: `127.0.0.1:${port}`, metadata: { protocol: 'grpc' } }],
    },
    { ttlMs: 60_000 },
  );
  await using caller = createService({ name: 'caller', registry, args: false, environment: false });
  const orders = caller.client(Orders).OrderSrv;
  const order = await orders.GetOrder({ id: 5 }, { metadata: { 'X-Caller': 'us' } });
  assert.deepEqual([order.id, order.userName], ['5', 'us']);
  await assert.rejects(orders.GetOrder({ id: 0 }), { code: 'NOT_FOUND', detail: 'no order 0' });
  await assert.rejects(caller.call('shop', 'OrderSrv.None', {}), {
    code: 'METHOD_NOT_FOUND',
    sent: 'no',
  });
  let count = 0;
  for await (const _ of orders.Watch({ id: 1 })) count++;
  assert.equal(count, 100);
  assert.equal((await orders.Import([{ id: 1 }, { id: 2 }])).n, 2);
  const doubled: string[] = [];
  for await (const each of orders.Chat([{ id: 1 }, { id: 2 }])) doubled.push(each.id);
  assert.deepEqual(doubled, ['2', '4']);
  server.forceShutdown();

  // The same definition at our server, and its own client.
  const own = createService({ name: 'own.shop', registry, args: false, environment: false });
  own.handle(contract('own.shop', { OrderSrv: grpcStruct(definition) }), {
    OrderSrv: {
      GetOrder: async (request: Order) => ({ id: request.id, userName: 'ours' }),
      Watch: async function* () {},
      Import: async () => ({ n: 0 }),
      Chat: async function* () {},
    },
  });
  await own.start();
  const [record] = await registry.getService('own.shop');
  // biome-ignore lint/suspicious/noExplicitAny: stubs of proto-loader have no types
  const client = clientOf(shop.proto, record?.nodes[0]?.address ?? '') as any;
  const reply = await new Promise<Order>((resolve, reject) => {
    client.getOrder({ id: 9 }, (error: Error | null, value: Order) =>
      error === null ? resolve(value) : reject(error),
    );
  });
  assert.deepEqual([reply.id, reply.userName], ['9', 'ours']);
  client.close();
  await own.stop();
});

/** A service and its client: local and over TCP, every kind of call, errors, cancellation, drain. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { bidi, clientStream, contract, serverStream, unary } from '../../src/rpc/contract.ts';
import { errorType } from '../../src/rpc/service-error.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';

interface Account {
  readonly id: number;
  readonly username: string;
}
const TooBroad = errorType<{ limit: number }>({ status: 400, detail: 'the query is too broad' });

const Users = contract('go.micro.api.userservices', {
  UserSrv: {
    GetAccount: unary<{ id: number }, Account>(),
    Search: unary<{ query: string }, Account[], { TooBroad: typeof TooBroad }>({
      errors: { TooBroad },
    }),
    Watch: serverStream<{ count: number }, { n: number }>(),
    Import: clientStream<{ n: number }, { total: number }>(),
    Chat: bidi<string, string>(),
    Slow: unary<undefined, string>(),
  },
});

interface World extends AsyncDisposable {
  readonly server: Service;
  readonly client: Service;
  readonly aborted: AbortSignal[];
}

async function world(transport: string): Promise<World> {
  const registry = new MemoryRegistry();
  const aborted: AbortSignal[] = [];
  const server = createService({ name: 'go.micro.api.userservices', registry, transport });
  server.handle(Users, {
    UserSrv: {
      async GetAccount(request, context) {
        context.responseMetadata.set('X-Served-By', context.service);
        return { id: request.id, username: `Hello ${context.metadata.get('X-Tenant') ?? 'Micro'}` };
      },
      Search({ query }) {
        if (query === '*') throw new Users.UserSrv.Search.errors.TooBroad({ limit: 100 });
        throw new Error('the index is gone');
      },
      async *Watch({ count }, context) {
        aborted.push(context.signal);
        for (let n = 0; n < count; n++) yield { n };
      },
      async Import(rows) {
        let total = 0;
        for await (const { n } of rows) total += n;
        return { total };
      },
      async *Chat(lines) {
        for await (const line of lines) yield line.toUpperCase();
      },
      async Slow(_request, context) {
        aborted.push(context.signal);
        await once(context.signal, 'abort');
        return 'too late';
      },
    },
  });
  const client = createService({ name: 'test.client', registry, transport });
  await server.start();
  await client.start();
  return {
    server,
    client,
    aborted,
    async [Symbol.asyncDispose]() {
      await client.stop();
      await server.stop();
      await registry.close();
    },
  };
}

for (const transport of ['local', 'tcp', 'grpc', 'ws', 'http']) {
  test(`${transport}: a unary call carries its request, reply and metadata both ways`, async () => {
    await using w = await world(transport);
    const users = w.client.client(Users);
    let servedBy: string | undefined;
    const account = await users.UserSrv.GetAccount(
      { id: 7 },
      {
        metadata: { 'X-Tenant': 'a' },
        onMetadata: (metadata) => {
          servedBy = metadata.get('x-served-by');
        },
      },
    );
    assert.deepEqual(account, { id: 7, username: 'Hello a' });
    assert.equal(servedBy, 'go.micro.api.userservices');
    assert.deepEqual(
      await w.client.call('go.micro.api.userservices', 'UserSrv.GetAccount', { id: 1 }),
      {
        id: 1,
        username: 'Hello Micro',
      },
    );
  });

  test(`${transport}: a typed error arrives as its class with its data, an unknown one without its stack`, async () => {
    await using w = await world(transport);
    const users = w.client.client(Users);
    const error = await users.UserSrv.Search({ query: '*' }).catch((thrown) => thrown);
    assert.ok(error instanceof Users.UserSrv.Search.errors.TooBroad);
    assert.equal(error.data.limit, 100);
    assert.equal(error.status, 400);
    assert.equal(error.sent, 'maybe');
    await assert.rejects(users.UserSrv.Search({ query: 'a' }), {
      code: 'RESPONDER_FAILED',
      detail: 'the index is gone',
      id: 'go.micro.api.userservices',
      status: 500,
    });
    await assert.rejects(w.client.call('go.micro.api.userservices', 'UserSrv.None'), {
      code: 'METHOD_NOT_FOUND',
      sent: 'no',
    });
    await assert.rejects(w.client.call('nobody', 'A.B'), { code: 'SERVICE_NOT_FOUND', sent: 'no' });
  });
}

for (const transport of ['local', 'tcp', 'grpc', 'ws']) {
  test(`${transport}: streams in each direction arrive whole and in order`, async () => {
    await using w = await world(transport);
    const users = w.client.client(Users);
    const seen: number[] = [];
    for await (const { n } of users.UserSrv.Watch({ count: 5000 })) seen.push(n);
    assert.deepEqual(
      seen,
      Array.from({ length: 5000 }, (_, index) => index),
    );
    const rows = Array.from({ length: 5000 }, (_, n) => ({ n }));
    assert.deepEqual(await users.UserSrv.Import(rows), { total: (4999 * 5000) / 2 });
    const replies: string[] = [];
    for await (const reply of users.UserSrv.Chat(['a', 'b', 'c'])) replies.push(reply);
    assert.deepEqual(replies, ['A', 'B', 'C']);
    for await (const _ of users.UserSrv.Watch({ count: 0 })) assert.fail('nothing was sent');
  });

  test(`${transport}: leaving the loop cancels the handler`, async () => {
    await using w = await world(transport);
    const users = w.client.client(Users);
    for await (const { n } of users.UserSrv.Watch({ count: 1_000_000 })) if (n === 10) break;
    const [signal] = w.aborted;
    if (!signal?.aborted) await once(signal as AbortSignal, 'abort');
    assert.equal(w.server.server.running, 0);
  });

  test(`${transport}: a deadline ends the call on both sides, and so does the caller's signal`, async () => {
    await using w = await world(transport);
    const users = w.client.client(Users);
    // The connection is there before the deadline runs, so that it is the handler that is late.
    await users.UserSrv.GetAccount({ id: 1 });
    await assert.rejects(users.UserSrv.Slow(undefined, { timeoutMs: 200 }), { code: 'TIMEOUT' });
    const [byDeadline] = w.aborted;
    if (!byDeadline?.aborted) await once(byDeadline as AbortSignal, 'abort');
    const controller = new AbortController();
    const call = users.UserSrv.Slow(undefined, { signal: controller.signal });
    const rejected = assert.rejects(call, { code: 'ABORTED' });
    await until(() => w.aborted.length >= 2);
    controller.abort();
    await rejected;
    const second = w.aborted[1] as AbortSignal;
    if (!second.aborted) await once(second, 'abort');
  });

  test(`${transport}: a service that stops lets its calls finish and refuses new ones`, async () => {
    const w = await world(transport);
    const users = w.client.client(Users);
    const stream = users.UserSrv.Watch({ count: 1000 });
    await stream.next();
    const stopped = w.server.stop();
    let count = 1;
    for await (const _ of stream) count++;
    assert.equal(count, 1000);
    await stopped;
    await assert.rejects(users.UserSrv.GetAccount({ id: 1 }), { sent: 'no' });
    await w[Symbol.asyncDispose]();
  });
}

test('a service on every address, or with another one to advertise, says where it can be dialled', async () => {
  const registry = new MemoryRegistry();
  const node = async (options: { address: string; advertise?: string }) => {
    const name = `dialled.${options.advertise === undefined ? 'any' : 'told'}`;
    const service = createService({ name, registry, args: false, environment: false, ...options });
    service.handle(contract(name, { S: { M: unary<undefined, string>() } }), {
      S: { M: () => 'here' },
    });
    await service.start();
    const [record] = await registry.getService(name);
    return { service, name, node: record?.nodes[0] };
  };
  const any = await node({ address: '0.0.0.0:0' });
  assert.doesNotMatch(any.node?.address ?? '0.0.0.0', /^0\.0\.0\.0/);
  assert.equal(any.node?.metadata['rivulet.tcp'], any.node?.address);
  assert.equal(await any.service.call(any.name, 'S.M'), 'here');
  const told = await node({ address: '127.0.0.1:0', advertise: 'shop.example:4000' });
  assert.equal(told.node?.address, 'shop.example:4000');
  assert.equal(told.node?.metadata['rivulet.tcp'], 'shop.example:4000');
  await any.service.stop();
  await told.service.stop();
  await registry.close();
});

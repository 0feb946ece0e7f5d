/** Services that call each other over the broker: without a registry's help, and beside tcp. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { errorType } from '../../src/rpc/service-error.ts';
import type { Filter } from '../../src/selector/selector.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { until } from '../helpers/until.ts';

const TooBroad = errorType<{ limit: number }>({ status: 400, detail: 'the query is too broad' });
const Users = contract('go.micro.api.userservices', {
  UserSrv: {
    GetAccount: unary<{ id: number }, { id: number; node: string; tenant: string }>(),
    Search: unary<{ query: string }, string[], { TooBroad: typeof TooBroad }>({
      errors: { TooBroad },
    }),
    Slow: unary<undefined, string>(),
  },
});

interface Node extends AsyncDisposable {
  readonly service: Service;
  readonly signals: AbortSignal[];
}

async function node(options: Parameters<typeof createService>[0]): Promise<Node> {
  const signals: AbortSignal[] = [];
  const service = createService({ name: 'go.micro.api.userservices', ...options });
  service.handle(Users, {
    UserSrv: {
      GetAccount({ id }, context) {
        context.responseMetadata.set('X-Served-By', service.nodeId);
        return { id, node: service.nodeId, tenant: context.metadata.get('X-Tenant') ?? '' };
      },
      Search() {
        throw new Users.UserSrv.Search.errors.TooBroad({ limit: 100 });
      },
      async Slow(_request, context) {
        signals.push(context.signal);
        await once(context.signal, 'abort');
        return 'too late';
      },
    },
  });
  await service.start();
  return { service, signals, [Symbol.asyncDispose]: () => service.stop() };
}

let names = 0;

function calls(name: string, url: () => string): void {
  describe(`over the ${name} broker`, () => {
    /** A registry of their own, asked only where a call wants a certain node. */
    const options = () => ({
      broker: url(),
      transport: 'broker',
      registry: new MemoryRegistry(),
    });

    test('a unary call carries its request, reply and metadata both ways', async () => {
      const shared = options();
      await using server = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      let servedBy: string | undefined;
      const reply = await client.client(Users).UserSrv.GetAccount(
        { id: 7 },
        {
          metadata: { 'X-Tenant': 'a' },
          onMetadata: (metadata) => {
            servedBy = metadata.get('x-served-by');
          },
        },
      );
      assert.deepEqual(reply, { id: 7, node: server.service.nodeId, tenant: 'a' });
      assert.equal(servedBy, server.service.nodeId);
    });

    test('a typed error arrives as its class, a missing service and method as what they are', async () => {
      const shared = options();
      await using _server = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      const error = await client
        .client(Users)
        .UserSrv.Search({ query: '*' })
        .catch((thrown) => thrown);
      assert.ok(error instanceof Users.UserSrv.Search.errors.TooBroad);
      assert.equal(error.data.limit, 100);
      await assert.rejects(client.call('go.micro.api.userservices', 'UserSrv.None'), {
        code: 'METHOD_NOT_FOUND',
        sent: 'no',
      });
      await assert.rejects(client.call('nobody.there', 'A.B'), {
        code: 'SERVICE_NOT_FOUND',
        sent: 'no',
      });
    });

    test('a deadline and an abort reach the handler', async () => {
      const shared = options();
      await using server = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      const users = client.client(Users);
      await assert.rejects(users.UserSrv.Slow(undefined, { timeoutMs: 50 }), { code: 'TIMEOUT' });
      const [byDeadline] = server.signals;
      if (!byDeadline?.aborted) await once(byDeadline as AbortSignal, 'abort');
      const controller = new AbortController();
      const rejected = assert.rejects(
        users.UserSrv.Slow(undefined, { signal: controller.signal }),
        { code: 'ABORTED' },
      );
      await until(() => server.signals.length >= 2);
      controller.abort();
      await rejected;
      const second = server.signals[1] as AbortSignal;
      if (!second.aborted) await once(second, 'abort');
    });

    test('calls that time out at one node open no circuit for the service', async () => {
      const shared = options();
      await using _server = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      const users = client.client(Users);
      const late = Array.from({ length: 30 }, () =>
        assert.rejects(users.UserSrv.Slow(undefined, { timeoutMs: 20 }), { code: 'TIMEOUT' }),
      );
      await Promise.all(late);
      for (let id = 0; id < 5; id++) assert.equal((await users.UserSrv.GetAccount({ id })).id, id);
    });

    test('a filter chooses the node, and its calls go to that node alone', async () => {
      const shared = options();
      await using one = await node(shared);
      await using two = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      for (const { service } of [one, two]) {
        const filters: Filter[] = [
          (records) =>
            records
              .map((each) => ({
                ...each,
                nodes: each.nodes.filter(({ id }) => id === service.nodeId),
              }))
              .filter(({ nodes }) => nodes.length > 0),
        ];
        for (let i = 0; i < 5; i++) {
          const reply = await client.client(Users).UserSrv.GetAccount({ id: i }, { filters });
          assert.equal(reply.node, service.nodeId);
        }
      }
    });

    test('a node that stops fails no call of those that go on', async () => {
      const shared = options();
      await using _one = await node(shared);
      const two = await node(shared);
      await using client = createService({ ...shared, name: 'test.client' });
      await client.start();
      const users = client.client(Users);
      let isStopped = false;
      const stopping = two.service.stop().then(() => {
        isStopped = true;
      });
      let calls = 0;
      while (!isStopped || calls < 100) {
        await Promise.all(Array.from({ length: 20 }, (_, id) => users.UserSrv.GetAccount({ id })));
        calls += 20;
      }
      await stopping;
    });
  });
}

calls('memory', () => `memory:calls-${names++}`);

describe('with a server', () => {
  let server: Awaited<ReturnType<typeof startRivulet>>;
  before(async () => {
    server = await startRivulet();
  });
  after(() => server.stop());
  calls('rivulet', () => `rivulet://127.0.0.1:${server.port}`);
});

/**
 * go-micro v2, v4 and v5 beside us, both directions, by mucp and by gRPC, found over etcd; services of v5
 * that serve gRPC over NATS, because go-micro v5 cannot have both etcd and a server of gRPC. The programs
 * are built from interop/go where `go` and the modules are; else each test names the reason of its skip.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openRegistry } from '../../../src/registry/open-registry.ts';
import { createService } from '../../../src/service/service.ts';
import { startEtcd } from '../../helpers/etcd-server.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { callOrders, checkReport, ordersOf, startOrders } from './go-orders.ts';
import { type GoName, missingGo, runGo, startGo } from './go-programs.ts';

const OURS = 'go.micro.ts.orders';
const THEIRS = 'go.micro.go.orders';
const outside = { args: false, environment: false } as const;

for (const version of ['v2', 'v4', 'v5'] as const) {
  for (const protocol of ['mucp', 'grpc'] as const) {
    const transport = protocol === 'grpc' ? 'grpc' : 'http';
    const isSplit = version === 'v5' && protocol === 'grpc';
    const server: GoName = isSplit ? 'v5-grpc' : version;
    const startRegistry = isSplit ? natsPlace : startEtcd;
    const over = isSplit ? 'NATS' : 'etcd';
    const skip = missingGo(server) || missing(isSplit ? 'nats-server' : 'etcd');

    test(`a go-micro ${version} client calls our service by ${protocol}, found over etcd: JSON, protobuf, metadata, errors, deadlines, streams`, {
      skip: missingGo(version) || missing('etcd'),
    }, async () => {
      await using place = await startEtcd();
      await using registry = await openRegistry(place.url);
      await using _service = await startOrders(OURS, registry, transport, THEIRS);
      const seen = await runGo(version, 'call', protocol, place.url, OURS);
      checkReport(seen, protocol, `go-micro ${version}`);
    });

    test(`our client calls a go-micro ${version} service by ${protocol}, found over ${over}: JSON, protobuf, metadata, errors, deadlines, streams`, {
      skip,
    }, async () => {
      await using place = await startRegistry();
      await using registry = await openRegistry(place.url);
      await using _go = await startGo(server, 'serve', protocol, place.url, THEIRS, OURS);
      await using caller = createService({ name: 'caller', registry, ...outside });
      await callOrders(caller, THEIRS, protocol);
    });

    test(`go-micro ${version}'s order service calls our user service by ${protocol}, and ours calls its, found over ${over}`, {
      skip,
    }, async () => {
      await using place = await startRegistry();
      await using registry = await openRegistry(place.url);
      await using _go = await startGo(server, 'serve', protocol, place.url, THEIRS, OURS);
      await using service = await startOrders(OURS, registry, transport, THEIRS);
      for (const [name, user] of [
        [THEIRS, 'Hello TypeScript, called by us'],
        [OURS, 'Hello Go, called by us'],
      ] as const) {
        const orders = service.client(await ordersOf(name)).OrderSrv;
        const metadata = { 'X-Caller': 'us' };
        const order = await orders.GetOrder({ id: 7, what: 'user' }, { metadata });
        assert.deepEqual(order, { id: 7, user, caller: 'us' });
      }
    });
  }
}

async function natsPlace(): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = await startNats();
  return {
    url: server.nodes[0]?.url ?? '',
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

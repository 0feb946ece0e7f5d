/** The services of the Go programs on our side: their contract, handlers, and the calls of a client. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Registry } from '../../../src/registry/registry.ts';
import type { CallContext } from '../../../src/rpc/context.ts';
import { contract, unary } from '../../../src/rpc/contract.ts';
import { loadProto } from '../../../src/rpc/proto/proto-contract.ts';
import { ServiceError } from '../../../src/rpc/service-error.ts';
import { createService, type Service } from '../../../src/service/service.ts';
import { temporaryDirectory } from '../../helpers/temporary-directory.ts';

const PROTO = `syntax = "proto3";
package go_interop;
import "google/protobuf/wrappers.proto";
service OrderSrv {
  rpc Name(google.protobuf.Int64Value) returns (google.protobuf.StringValue);
  rpc Watch(google.protobuf.Int64Value) returns (stream google.protobuf.StringValue);
  rpc Import(stream google.protobuf.Int64Value) returns (google.protobuf.Int64Value);
  rpc Chat(stream google.protobuf.Int64Value) returns (stream google.protobuf.StringValue);
}
`;

interface Request {
  readonly id?: number;
  readonly what?: string;
}

interface Order {
  readonly id: number;
  readonly user: string;
  readonly caller: string;
}

interface Account {
  readonly id: number;
  readonly username: string;
}

interface Wrapped {
  readonly value?: bigint;
}

export const USERS = 'go.micro.api.userservices';

export const Users = contract(USERS, {
  UserSrv: { GetAccount: unary<{ id: number }, Account>() },
});

/** As `Users`, of another service. */
export const usersOf = (name: string) => contract(name, { UserSrv: Users.UserSrv });

export async function ordersOf(name: string) {
  await using place = temporaryDirectory('go-micro');
  const file = join(place.path, 'interop.proto');
  writeFileSync(file, PROTO);
  const { OrderSrv } = await loadProto(file);
  if (OrderSrv === undefined) throw new Error('the .proto has no OrderSrv');
  const { Name, Watch, Import, Chat } = OrderSrv;
  if (!Name || !Watch || !Import || !Chat) throw new Error('the .proto lacks a method');
  return contract(name, {
    OrderSrv: { GetOrder: unary<Request, Order>(), Name, Watch, Import, Chat },
  });
}

/** The order service and the user service, started. `users` is the service that orders ask. */
export async function startOrders(
  name: string,
  registry: Registry,
  transport: 'grpc' | 'http',
  users: string,
): Promise<Service> {
  const service = createService({ name, registry, transport, args: false, environment: false });
  service.handle(await ordersOf(name), {
    OrderSrv: {
      async GetOrder({ id = 0, what }: Request, context: CallContext) {
        const caller = context.metadata.get('X-Caller') ?? '';
        if (what === 'fail') {
          const detail = 'already there: ü %';
          throw new ServiceError({ code: 'CONFLICT', id: 'ts.orders', status: 409, detail });
        }
        if (what === 'panic') throw new Error('a plain error');
        if (what === 'slow') {
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
        }
        if (what !== 'user') return { id, user: 'TypeScript', caller };
        const metadata = { 'X-Caller': caller };
        const client = service.client(usersOf(users));
        const { username } = await client.UserSrv.GetAccount({ id }, { metadata });
        return { id, user: username, caller };
      },
      async Name(request: unknown) {
        return { value: `order ${(request as Wrapped).value ?? 0n}` };
      },
      async *Watch(request: unknown) {
        const { value = 0n } = request as Wrapped;
        for (let n = 0n; n < value; n++) yield { value: `order ${n}` };
      },
      async Import(requests: AsyncIterable<unknown>) {
        let sum = 0n;
        for await (const each of requests) sum += (each as Wrapped).value ?? 0n;
        return { value: sum };
      },
      async *Chat(requests: AsyncIterable<unknown>) {
        for await (const each of requests)
          yield { value: `order ${(each as Wrapped).value ?? 0n}` };
      },
    },
  });
  service.handle(usersOf(name), {
    UserSrv: {
      async GetAccount({ id }, context) {
        const caller = context.metadata.get('X-Caller') ?? '';
        return { id, username: `Hello TypeScript, called by ${caller}` };
      },
    },
  });
  await service.start();
  return service;
}

/** What a Go client printed after it called our service. */
// biome-ignore lint/suspicious/noExplicitAny: a report of another program
export function checkReport(seen: any, protocol: string, caller: string): void {
  assert.deepEqual(seen.failures, null);
  assert.deepEqual(seen.order, { id: 7, user: 'TypeScript', caller });
  assert.equal(seen.name, 'order 5');
  const [conflict, plain, late, unknown] = seen.errors;
  assert.deepEqual(
    [conflict.id, conflict.code, conflict.detail],
    ['ts.orders', 409, 'already there: ü %'],
  );
  assert.match(plain.detail, /a plain error/);
  assert.equal(late.code, 408);
  assert.ok(unknown.code === 404 || /no endpoint/.test(unknown.detail));
  if (protocol !== 'grpc') return;
  assert.deepEqual(seen.watched, ['order 0', 'order 1', 'order 2']);
  assert.deepEqual(seen.chatted, ['order 1', 'order 2', 'order 3']);
  // go-micro v2 cannot end a stream of its caller.
  if ('imported' in seen) assert.equal(seen.imported, 5050);
}

/** Calls the order service of a Go program in every form. */
export async function callOrders(caller: Service, name: string, protocol: string): Promise<void> {
  const orders = caller.client(await ordersOf(name)).OrderSrv;
  const order = await orders.GetOrder({ id: 7 }, { metadata: { 'X-Caller': 'us' } });
  assert.deepEqual(order, { id: 7, user: 'Go', caller: 'us' });
  assert.deepEqual(await orders.Name({ value: 5n }), { value: 'order 5' });
  await assert.rejects(orders.GetOrder({ what: 'fail' }), {
    id: 'go.orders',
    status: 409,
    code: 'CONFLICT',
    detail: 'already there: ü %',
  });
  await assert.rejects(orders.GetOrder({ what: 'panic' }), { detail: /a plain error/ });
  await assert.rejects(orders.GetOrder({ what: 'slow' }, { timeoutMs: 300 }), { code: 'TIMEOUT' });
  await assert.rejects(caller.call(name, 'OrderSrv.None', {}));
  const many = await Promise.all(Array.from({ length: 200 }, (_, id) => orders.GetOrder({ id })));
  assert.deepEqual(
    many.map(({ id }) => id),
    Array.from({ length: 200 }, (_, id) => id),
  );
  if (protocol !== 'grpc') {
    // go-micro sends the replies of such a stream unasked: see docs/go-micro.md.
    await assert.rejects(
      async () => {
        for await (const _ of orders.Watch({ value: 1n }));
      },
      { code: 'UNSUPPORTED' },
    );
    return;
  }
  const watched: unknown[] = [];
  for await (const each of orders.Watch({ value: 1000n })) watched.push(each);
  assert.equal(watched.length, 1000);
  assert.deepEqual(watched.at(-1), { value: 'order 999' });
  await assert.rejects(
    async () => {
      for await (const _ of orders.Watch({ value: -1n }));
    },
    { id: 'go.orders', status: 400, detail: 'nothing to watch' },
  );
  const numbers = Array.from({ length: 100 }, (_, index) => ({ value: BigInt(index + 1) }));
  assert.deepEqual(await orders.Import(numbers), { value: 5050n });
  const chatted: unknown[] = [];
  for await (const each of orders.Chat(numbers.slice(0, 3))) chatted.push(each);
  assert.deepEqual(chatted, [{ value: 'order 1' }, { value: 'order 2' }, { value: 'order 3' }]);
  for await (const _ of orders.Watch({ value: 1_000_000n })) break;
}

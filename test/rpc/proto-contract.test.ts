/** Contracts from .proto files: loaded at run time, generated as TypeScript, called. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract } from '../../src/rpc/contract.ts';
import { loadProto, protoSource } from '../../src/rpc/proto/proto-contract.ts';
import { createService } from '../../src/service/service.ts';
import { runTool, type ToolResult } from '../helpers/children.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const repository = fileURLToPath(new URL('../../../', import.meta.url));

const USER = `syntax = "proto3";
package user;
// An account.
message Account { int64 id = 1; string user_name = 2; }
`;
const ORDER = `syntax = "proto3";
package order;
import "user/user.proto";
import "google/protobuf/timestamp.proto";
import "google/api/annotations.proto";
service OrderSrv {
  // Gives one order.
  rpc GetOrder(GetOrderRequest) returns (Order) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Watch(GetOrderRequest) returns (stream Order);
  rpc Import(stream Order) returns (Summary);
  rpc Chat(stream Order) returns (stream Order);
}
enum State { NEW = 0; PAID = 1; }
message GetOrderRequest { int64 id = 1; }
message Order {
  int64 id = 1; user.Account buyer = 2; State state = 3; map<string, double> price_of = 4;
  repeated string tags = 5; oneof by { string card = 6; bytes token = 7; }
  google.protobuf.Timestamp at = 8; message Line { int32 count = 1; } repeated Line lines = 9;
  optional uint64 weight = 10;
}
message Summary { int32 n = 1; }
`;

function protos(directory: string): string {
  mkdirSync(join(directory, 'user'), { recursive: true });
  writeFileSync(join(directory, 'user/user.proto'), USER);
  writeFileSync(join(directory, 'order.proto'), ORDER);
  return join(directory, 'order.proto');
}

function micro(args: string[]): Promise<ToolResult> {
  return runTool(process.execPath, [join(repository, 'bin/micro.js'), ...args], {
    timeoutMs: 60_000,
  });
}

for (const transport of ['local', 'tcp']) {
  test(`a .proto loaded at run time is a contract with four kinds of calls over ${transport}`, async () => {
    await using place = temporaryDirectory('load-proto');
    const { OrderSrv } = await loadProto(protos(place.path));
    assert.ok(OrderSrv);
    assert.deepEqual(
      Object.entries(OrderSrv).map(([name, { kind }]) => [name, kind]),
      [
        ['GetOrder', 'unary'],
        ['Watch', 'serverStream'],
        ['Import', 'clientStream'],
        ['Chat', 'bidi'],
      ],
    );
    assert.equal(OrderSrv.GetOrder?.options.idempotent, true);
    assert.equal(protoSource(OrderSrv.Watch!)?.service, 'order.OrderSrv');
    const Orders = contract('orders', { OrderSrv });
    assert.equal(protoSource(Orders.OrderSrv.Watch!)?.service, 'order.OrderSrv');
    const registry = new MemoryRegistry();
    await using server = createService({ name: 'orders', registry, transport });
    server.handle(Orders, {
      OrderSrv: {
        GetOrder: (request: { id: bigint }) => ({ id: request.id + 1n, state: 1 }),
        *Watch(request: { id: bigint }) {
          for (let id = 0n; id < request.id; id++) yield { id };
        },
        async Import(orders: AsyncIterable<unknown>) {
          let n = 0;
          for await (const _ of orders) n++;
          return { n };
        },
        async *Chat(orders: AsyncIterable<{ id: bigint }>) {
          for await (const { id } of orders) yield { id: -id };
        },
      },
    });
    await server.start();
    const [record] = await registry.getService('orders');
    assert.deepEqual(record?.endpoints[0]?.request, {
      name: 'GetOrderRequest',
      type: 'GetOrderRequest',
      values: [{ name: 'id', type: 'int64', values: [] }],
    });
    await using client = createService({ name: 'caller', registry, transport });
    await client.start();
    const orders = client.client(Orders).OrderSrv!;
    const order = await orders.GetOrder!({ id: 2n ** 62n } as never);
    assert.equal((order as { id: bigint }).id, 2n ** 62n + 1n);
    assert.equal((order as { state: string }).state, 'PAID');
    const ids: bigint[] = [];
    for await (const each of orders.Watch!({ id: 3 } as never) as AsyncIterable<{ id: bigint }>) {
      ids.push(each.id);
    }
    assert.deepEqual(ids, [0n, 1n, 2n]);
    assert.deepEqual(await orders.Import!([{}, {}] as never), { n: 2 });
    // An untyped caller speaks JSON, in either form of a name.
    const untyped = await client.call<{ id: unknown }>('orders', 'OrderSrv.GetOrder', { id: 5 });
    assert.equal(String(untyped.id), '6');
    await assert.rejects(orders.GetOrder!({ idd: 1 } as never) as Promise<unknown>, {
      code: 'VALIDATION_FAILED',
    });
  });
}

test('what is wrong with a .proto is said with its file and line', async () => {
  await using place = temporaryDirectory('bad-protos');
  const bad: [string, RegExp][] = [
    ['syntax = "proto3";\nmessage M {\n  int32 x = ;\n}', /bad\.proto:3: unexpected id ';'/],
    ['syntax = "proto3";\nmessage M {\n  int32 x = 1;\n  Foo y = 2;\n}', /bad\.proto:4: .*Foo/],
    ['syntax = "proto3";\n\nimport "none.proto";', /bad\.proto:3: "none\.proto".*--include/],
    [
      'syntax = "proto3";\nmessage M {\n int32 a = 1;\n int32 b = 1;\n}',
      /bad\.proto:4: duplicate id 1/,
    ],
    ['syntax = "proto3";\nmessage M {\n', /bad\.proto:\d: the file ends/],
    ['syntax = "proto3";\nmessage M {}', /declares no service/],
    ['syntax = "proto3";\nservice S {\n  rpc Get(Q) returns (Q);\n}', /bad\.proto:3: .*Q/],
  ];
  const file = join(place.path, 'bad.proto');
  for (const [text, expected] of bad) {
    writeFileSync(file, text);
    await assert.rejects(loadProto(file), { code: 'INVALID_ARGUMENT', message: expected });
  }
  await assert.rejects(
    loadProto(join(place.path, 'absent.proto')),
    /absent\.proto: there is no such/,
  );
});

test('files that import each other are read once', async () => {
  await using place = temporaryDirectory('import-loop');
  const at = (name: string) => join(place.path, name);
  writeFileSync(at('a.proto'), 'syntax = "proto3"; import "b.proto"; message A { B b = 1; }');
  const b = 'syntax = "proto3"; import "a.proto"; message B { A a = 1; }';
  writeFileSync(at('b.proto'), `${b} service S { rpc Get(A) returns (B); }`);
  assert.deepEqual(Object.keys(await loadProto(at('b.proto'))), ['S']);
});

test('micro generate writes types that the compiler holds both sides to', async () => {
  await using place = temporaryDirectory('generate');
  const file = protos(place.path);
  const first = await micro(['generate', file]);
  assert.equal(first.code, 0, first.stderr);
  const made = join(place.path, 'order.proto.ts');
  const text = readFileSync(made, 'utf8');
  assert.match(text, /export interface Order_Line/);
  assert.match(text, /\/\*\* Gives one order\. \*\//);
  const again = await micro(['generate', file, '--out', join(place.path, 'other/same.ts')]);
  assert.equal(again.code, 0, again.stderr);
  assert.equal(readFileSync(join(place.path, 'other/same.ts'), 'utf8'), text);
  assert.match((await micro(['generate', file])).stdout, /up to date/);
  writeFileSync(
    join(place.path, 'use.ts'),
    `import { client, contract, server } from './shim.ts';
import { OrderSrv, type Order } from './order.proto.ts';
const Orders = contract('orders', { OrderSrv });
const order: Order = { id: 1n, state: 'PAID', priceOf: { a: 1 }, tags: [], lines: [{ count: 1 }] };
server.handle(Orders, {
  OrderSrv: {
    GetOrder: (request) => ({ ...order, id: request.id }),
    async *Watch() { yield order; },
    async Import(orders) { let n = 0; for await (const each of orders) n += each.lines.length; return { n }; },
    async *Chat(orders) { yield* orders; },
  },
});
// @ts-expect-error a missing handler
server.handle(Orders, { OrderSrv: { GetOrder: () => order } });
server.handle(Orders, {
  OrderSrv: {
    // @ts-expect-error a reply of the wrong type
    GetOrder: () => ({ n: 'x' }),
    async *Watch() { yield order; },
    Import: async () => ({ n: 1 }),
    async *Chat(orders) { yield* orders; },
  },
});
const orders = client.of(Orders);
const reply: Order = await orders.OrderSrv.GetOrder({ id: 1n });
for await (const each of orders.OrderSrv.Watch({ id: 2n })) each.buyer?.userName.length;
const { n } = await orders.OrderSrv.Import([reply]);
n.toFixed();
// @ts-expect-error a number where an int64 is a bigint
orders.OrderSrv.GetOrder({ id: 1 });
// @ts-expect-error no such method
orders.OrderSrv.GetOrders({ id: 1n });
`,
  );
  const source = (path: string) => JSON.stringify(join(repository, 'dist/src', path));
  writeFileSync(
    join(place.path, 'shim.ts'),
    `export { contract, type Method } from ${source('rpc/contract.js')};
export { protoStructs } from ${source('rpc/proto/proto-contract.js')};
import type { Client } from ${source('rpc/client.js')};
import type { Server } from ${source('rpc/server.js')};
export declare const client: Client;
export declare const server: Server;
`,
  );
  writeFileSync(made, text.replace("from 'rivulet'", "from './shim.ts'"));
  writeFileSync(join(place.path, 'package.json'), '{"type":"module"}');
  const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
  const compiler = join(typescript, 'bin/tsc');
  const flags = [
    '--ignoreConfig',
    '--noEmit',
    '--strict',
    '--exactOptionalPropertyTypes',
    '--module',
    'nodenext',
  ];
  const more = ['--target', 'es2023', '--skipLibCheck', '--allowImportingTsExtensions'];
  const types = ['--types', 'node', '--typeRoots', join(repository, 'node_modules/@types')];
  const { code, stdout } = await runTool(
    process.execPath,
    [compiler, ...flags, ...more, ...types, '--erasableSyntaxOnly', join(place.path, 'use.ts')],
    { timeoutMs: 120_000 },
  );
  assert.equal(code, 0, stdout);
});

test('micro generate says what is wrong and writes nothing', async () => {
  await using place = temporaryDirectory('generate-bad');
  const file = join(place.path, 'bad.proto');
  writeFileSync(file, 'syntax = "proto3";\nmessage M {\n  int32 x = ;\n}');
  const { code, stderr } = await micro(['generate', file]);
  assert.equal(code, 1);
  assert.match(stderr, /^micro: .*bad\.proto:3: unexpected id ';'\n$/);
});

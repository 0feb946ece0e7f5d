/**
 * The service of the interoperability tests: one .proto with every kind of call, its handlers, and
 * clients of it that are not ours.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { Registry } from '../../src/registry/registry.ts';
import type { CallContext } from '../../src/rpc/context.ts';
import { contract } from '../../src/rpc/contract.ts';
import { loadProto } from '../../src/rpc/proto/proto-contract.ts';
import { ServiceError } from '../../src/rpc/service-error.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

export const SHOP = 'go.micro.shop';

const MONEY = `syntax = "proto3";
package shop.money;
message Money { int64 cents = 1; string currency = 2; }
`;
const PROTO = `syntax = "proto3";
package shop;
import "money.proto";
service OrderSrv {
  rpc GetOrder(GetOrderRequest) returns (Order);
  rpc Watch(GetOrderRequest) returns (stream Order);
  rpc Import(stream Order) returns (Summary);
  rpc Chat(stream Order) returns (stream Order);
}
enum State { NEW = 0; PAID = 1; }
message GetOrderRequest { int64 id = 1; string what = 2; }
message Order {
  int64 id = 1; string user_name = 2; State state = 3; repeated string tags = 4;
  money.Money price = 5; map<string, int32> counts = 6;
}
message Summary { int32 n = 1; int64 sum = 2; }
`;

export interface Shop extends AsyncDisposable {
  readonly service: Service;
  readonly registry: Registry;
  /** host:port */
  readonly address: string;
  /** The .proto file, beside what it imports. */
  readonly proto: string;
  readonly directory: string;
  /** What the handler of `what: "hang"` was told at its end. */
  readonly ended: Promise<string>;
}

interface OrderLike {
  readonly id?: bigint;
  readonly user_name?: string;
  readonly userName?: string;
}

export async function openShop(
  registry: Registry = new MemoryRegistry(),
  options: Partial<Parameters<typeof createService>[0]> = {},
): Promise<Shop> {
  const place = temporaryDirectory('shop');
  writeFileSync(join(place.path, 'money.proto'), MONEY);
  const proto = join(place.path, 'shop.proto');
  writeFileSync(proto, PROTO);
  const { OrderSrv } = await loadProto(proto);
  if (OrderSrv === undefined) throw new Error('the .proto has no OrderSrv');
  const Orders = contract(SHOP, { OrderSrv });
  const service = createService({
    name: SHOP,
    registry,
    args: false,
    environment: false,
    ...options,
  });
  let tell: (text: string) => void = () => {};
  const ended = new Promise<string>((resolve) => {
    tell = resolve;
  });
  service.handle(Orders, {
    OrderSrv: {
      async GetOrder(request: unknown, context: CallContext) {
        const { id, what } = request as { id: bigint; what: string };
        if (what === 'fail') {
          throw new ServiceError({
            code: 'CONFLICT',
            id: 'shop.orders',
            status: 409,
            detail: 'Schon da: ü %',
          });
        }
        if (what === 'hang') {
          await new Promise((resolve) => context.signal.addEventListener('abort', resolve));
          tell(`left ${context.remainingMs() < 10_000}`);
        }
        context.responseMetadata.set('X-Served-By', context.metadata.get('X-Caller') ?? 'none');
        const price = { cents: 9_007_199_254_740_993n, currency: 'EUR' };
        return { id, userName: 'Micro', state: 1, tags: ['a', 'ü'], price, counts: { apples: 3 } };
      },
      async *Watch(request: unknown) {
        const { id } = request as { id: bigint };
        for (let n = 0n; n < id; n++) yield { id: n };
      },
      async Import(orders: AsyncIterable<unknown>) {
        let [n, sum] = [0, 0n];
        for await (const order of orders) {
          n++;
          sum += (order as OrderLike).id ?? 0n;
        }
        return { n, sum };
      },
      async *Chat(orders: AsyncIterable<unknown>) {
        for await (const order of orders) {
          const { id = 0n } = order as OrderLike;
          yield { id: id * 2n };
        }
      },
    },
  });
  await service.start();
  const [record] = await registry.getService(SHOP);
  const address = record?.nodes[0]?.address ?? '';
  return {
    service,
    registry,
    address,
    proto,
    directory: place.path,
    ended,
    async [Symbol.asyncDispose]() {
      await service.stop();
      await place[Symbol.asyncDispose]();
    },
  };
}

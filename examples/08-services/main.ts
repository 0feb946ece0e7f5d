/**
 * Two services that call each other by name: go-micro's tutorial, in plain TypeScript.
 *
 *   npm run example 08
 *
 * Both run in this process and find each other in the memory registry. With `registry: 'mdns'`,
 * `'etcd://host:2379'` or `'broker:rivulet://host:7488'` they run in separate processes.
 */
import { contract, createService, errorType, ServiceError, serverStream, unary } from 'rivulet';

interface Account {
  readonly id: number;
  readonly username: string;
}

interface Order {
  readonly id: number;
  readonly orderId: string;
  readonly username: string;
}

const NotFound = errorType({ status: 404, detail: 'there is no such order' });
const Users = contract('go.micro.api.userservices', {
  UserSrv: { GetAccount: unary<{ id: number }, Account>() },
});
const Orders = contract('go.micro.api.orderservice', {
  OrderSrv: {
    GetOrder: unary<{ id: number }, Order, { NotFound: typeof NotFound }>({ errors: { NotFound } }),
    Watch: serverStream<{ count: number }, { number: number }>(),
  },
});

const users = createService({ name: 'go.micro.api.userservices', registry: 'memory' });
users.handle(Users, {
  UserSrv: { GetAccount: ({ id }) => ({ id, username: 'Hello Micro' }) },
});

const orders = createService({ name: 'go.micro.api.orderservice', registry: 'memory' });
orders.handle(Orders, {
  OrderSrv: {
    async GetOrder({ id }) {
      if (id !== 1) throw new Orders.OrderSrv.GetOrder.errors.NotFound();
      const account = await orders.client(Users).UserSrv.GetAccount({ id: 7 });
      return { id, orderId: '1', username: account.username };
    },
    async *Watch({ count }) {
      for (let number = 1; number <= count; number++) yield { number };
    },
  },
});

await users.start();
await orders.start();
const client = orders.client(Orders);
console.log(JSON.stringify(await client.OrderSrv.GetOrder({ id: 1 })));
try {
  await client.OrderSrv.GetOrder({ id: 2 });
} catch (error) {
  if (error instanceof ServiceError) console.log(`${error.status} ${error.detail}`);
}
for await (const { number } of client.OrderSrv.Watch({ count: 3 })) console.log(`order ${number}`);
await orders.stop();
await users.stop();

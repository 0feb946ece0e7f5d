/**
 * The order service, which calls the user service:
 *
 *   MICRO_BROKER=rivulet://127.0.0.1:7488 node dist/examples/09-tutorial/orders.js
 *   MICRO_BROKER=rivulet://127.0.0.1:7488 node bin/micro.js call go.micro.api.orderservice OrderSrv.GetOrder '{"id":1}'
 */
import { createService } from 'rivulet';
import { Orders, Users } from './contracts.ts';

const service = createService({ name: 'go.micro.api.orderservice' });
const users = service.client(Users);
service.handle(Orders, {
  OrderSrv: {
    async GetOrder({ id }) {
      if (id !== 1) throw new Orders.OrderSrv.GetOrder.errors.NotFound();
      const account = await users.UserSrv.GetAccount({ id: 7 });
      return { id, orderId: '1', username: account.username };
    },
  },
});
await service.run();

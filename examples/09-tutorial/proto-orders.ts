/** The order service from its .proto; it calls the user service by that one's .proto. */
import { fileURLToPath } from 'node:url';
import { contract, createService, loadProto } from 'rivulet';

const load = (name: string) =>
  loadProto(fileURLToPath(new URL(`../../../examples/09-tutorial/${name}`, import.meta.url)));
const { OrderSrv } = await load('order.proto');
const { UserSrv } = await load('user.proto');
const Orders = contract('go.micro.api.orderservice', { OrderSrv });
const Users = contract('go.micro.api.userservices', { UserSrv });

const service = createService({ name: 'go.micro.api.orderservice' });
const users = service.client(Users);
service.handle(Orders, {
  OrderSrv: {
    async GetOrder({ id }: { id: number }) {
      const account = await users.UserSrv.GetAccount({ id: 7 });
      return { id, orderId: '1', username: account.username };
    },
  },
});
await service.run();

/** The contracts of go-micro's tutorial, in plain TypeScript: what both processes share. */
import { contract, errorType, unary } from 'rivulet';

export interface Account {
  readonly id: number;
  readonly username: string;
}

export interface Order {
  readonly id: number;
  readonly orderId: string;
  readonly username: string;
}

const NotFound = errorType({ status: 404, detail: 'there is no such order' });

export const Users = contract('go.micro.api.userservices', {
  UserSrv: { GetAccount: unary<{ id: number }, Account>({ idempotent: true }) },
});

export const Orders = contract('go.micro.api.orderservice', {
  OrderSrv: {
    GetOrder: unary<{ id: number }, Order, { NotFound: typeof NotFound }>({ errors: { NotFound } }),
  },
});

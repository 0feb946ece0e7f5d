/**
 * A user's program, against the packed tarball: every entry point, and the public API of 1.0.
 * tarball.test.ts type-checks it under both module resolutions, and runs it.
 */
import assert from 'node:assert/strict';
import {
  type BoundTopic,
  contract,
  createService,
  type Delivery,
  errorType,
  type Message,
  openBroker,
  RivuletError,
  type StandardSchema,
  type Subscriber,
  serverStream,
  topic,
  unary,
} from 'rivulet';
import { BrokerBase, type RawMessage } from 'rivulet/adapter';
import { connect } from 'rivulet/client';
import { cases, conformance } from 'rivulet/conformance';
import { createTestBroker } from 'rivulet/testing';

interface Order {
  readonly id: number;
  readonly total: number;
}

const orderSchema: StandardSchema<Order> = {
  '~standard': {
    version: 1,
    vendor: 'program',
    validate: (value) =>
      typeof (value as Order | null)?.total === 'number'
        ? { value: value as Order }
        : { issues: [{ message: 'must be a number', path: ['total'] }] },
  },
};

const broker = await openBroker('memory:program');

// Headers are optional, a body is text or bytes.
const plain: Message = { body: 'text' };
const seen: string[] = [];
const subscriber: Subscriber = await broker.subscribe(
  'plain',
  (delivery: Delivery) => {
    seen.push(delivery.text());
  },
  { group: 'g', ordered: 'strict', ack: 'auto' },
);
await broker.publish('plain', plain, { dedupId: 'once' });
assert.equal((await broker.publish('plain', plain, { dedupId: 'once' })).duplicate, true);
await broker.publishBatch('plain', [{ body: new Uint8Array([65]), headers: { a: 'b' }, key: 'k' }]);
while (seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
await subscriber.unsubscribe();
assert.deepEqual(seen, ['text', 'A']);

// A loop, a batch, a typed topic.
await using loop = await broker.subscribe('numbers', { group: 'loop', ordered: 'key' });
const batches: number[] = [];
await broker.subscribe('numbers', (deliveries) => batches.push(deliveries.length), {
  group: 'batch',
  batch: { size: 10, waitMs: 5 },
});
await broker.publishBatch(
  'numbers',
  [1, 2, 3].map((n) => ({ body: JSON.stringify({ n }) })),
);
let sum = 0;
for await (const delivery of loop) {
  sum += delivery.json<{ n: number }>().n;
  await delivery.ack();
  if (sum === 6) break;
}
assert.throws(() => broker.topic('orders', { skema: 5 } as never), { code: 'INVALID_ARGUMENT' });
const orders: BoundTopic<Order> = broker.topic('orders', { schema: orderSchema });
await orders.respond((order) => ({ doubled: order.total * 2 }));
const answer = await broker.topic<Order, Order, { doubled: number }>('orders').request({
  id: 1,
  total: 21,
});
assert.equal(answer.doubled, 42);
assert.equal((await broker.request('orders', { body: '{"total":1}' })).json().doubled, 2);
await assert.rejects(orders.publish({ id: 1 } as Order), { code: 'VALIDATION_FAILED' });
const created = topic<Order>('orders.created');
await created.subscribe(broker, (order) => order.total);
await created.publish(broker, { id: 1, total: 1 });

// Types: each of these lines is an error of the compiler.
async function refused(): Promise<void> {
  // @ts-expect-error: not a property of Order
  await orders.subscribe((order) => order.totals);
  // @ts-expect-error: a batch handler gets an array
  await broker.subscribe('t', (delivery) => delivery.text(), { batch: { size: 2 } });
  // @ts-expect-error: renamed
  await broker.subscribe('t', () => {}, { ordered: 'strictly' });
  // @ts-expect-error: misspelt
  await openBroker('memory:', { publishTimeoutMS: 5 });
  // @ts-expect-error: no body
  await broker.publish('t', { headers: {} });
}
assert.equal(typeof refused, 'function');

// Services.
const TooBroad = errorType({ status: 400, detail: 'too broad' });
const Users = contract('users', {
  UserSrv: {
    GetAccount: unary<{ id: number }, { id: number; username: string }>(),
    Search: unary<{ text: string }, string[], { TooBroad: typeof TooBroad }>({
      errors: { TooBroad },
    }),
    Watch: serverStream<{ count: number }, { number: number }>(),
  },
});
const service = createService({ name: 'users', registry: 'memory' });
service.handle(Users, {
  UserSrv: {
    GetAccount: ({ id }) => ({ id, username: 'Hello Micro' }),
    Search: () => {
      throw new Users.UserSrv.Search.errors.TooBroad();
    },
    async *Watch({ count }) {
      for (let number = 0; number < count; number++) yield { number };
    },
  },
});
await service.start();
const users = service.client(Users);
assert.equal((await users.UserSrv.GetAccount({ id: 7 })).username, 'Hello Micro');
let watched = 0;
for await (const { number } of users.UserSrv.Watch({ count: 3 })) watched += number;
assert.equal(watched, 3);
await service.stop();

// The other entry points.
await using virtual = await createTestBroker({ seed: 7 });
await virtual.advance(24 * 3600_000);
assert.equal(typeof conformance, 'function');
assert.ok(Object.keys(cases).length > 10);
assert.ok(BrokerBase.prototype instanceof Object);
const raw: RawMessage = { headers: {}, body: new Uint8Array() };
assert.equal(raw.body.length, 0);
await assert.rejects(connect({ port: 1, reconnect: false }), RivuletError);

await broker.disconnect();
console.log(`sum ${sum}, batches of ${batches}`);

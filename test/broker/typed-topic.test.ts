/** Typed topics: values go in and come out on every path, and what does not fit is refused or buried. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { createTestBroker } from '../../src/broker/testing.ts';
import {
  type BoundTopic,
  type StandardSchema,
  topic,
  type ValueCodec,
} from '../../src/broker/topics/topic.ts';
import { fc } from '../helpers/property.ts';

interface Order {
  readonly id: number;
  readonly total: number;
}

function schema<Input, Output = Input>(
  read: (value: unknown) => Output | string,
): StandardSchema<Input, Output> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const result = read(value);
        return typeof result === 'string'
          ? { issues: [{ message: result, path: ['total'] }] }
          : { value: result };
      },
    },
  };
}

const orderSchema = schema<Order>((value) => {
  const order = value as Partial<Order> | null;
  return typeof order?.total === 'number' ? (order as Order) : 'must be a number';
});
/** A text comes in, a date comes out. */
const dateSchema = schema<string, Date>((value) =>
  typeof value === 'string' ? new Date(value) : 'must be a text',
);

let names = 0;

async function withBroker(work: (broker: Broker) => Promise<void>): Promise<void> {
  await using broker = await openBroker(`memory:typed-${names++}`);
  await work(broker);
}

function next<T>() {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

test('values are published as JSON, one or many, and handed over as values', () =>
  withBroker(async (broker) => {
    const orders = broker.topic<Order>('orders');
    const seen: [Order, string, string | undefined, string | undefined][] = [];
    const three = next<void>();
    await orders.subscribe((order, delivery) => {
      const { headers, key } = delivery.message;
      assert.equal(delivery.value, order);
      assert.deepEqual(delivery.json(), order);
      seen.push([order, headers['Content-Type'] ?? '', headers.a, key]);
      if (seen.length === 3) three.resolve();
    });
    await orders.publish({ id: 1, total: 3 }, { headers: { a: 'b' }, key: 'k' });
    const receipts = await orders.publishBatch(
      [
        { id: 2, total: 4 },
        { id: 3, total: 5 },
      ],
      { key: (order) => `of ${order.id}` },
    );
    assert.equal(receipts.length, 2);
    await three.promise;
    assert.deepEqual(seen, [
      [{ id: 1, total: 3 }, 'application/json', 'b', 'k'],
      [{ id: 2, total: 4 }, 'application/json', undefined, 'of 2'],
      [{ id: 3, total: 5 }, 'application/json', undefined, 'of 3'],
    ]);
  }));

test('what does not validate is neither sent nor handled: it goes to the dead letter, with the reason', () =>
  withBroker(async (broker) => {
    const orders = broker.topic('orders', { schema: orderSchema });
    const wrong = { id: 1, total: 'three' } as unknown as Order;
    const failed = { code: 'VALIDATION_FAILED', message: /total: must be a number/ };
    await assert.rejects(orders.publish(wrong), failed);
    await assert.rejects(orders.publishBatch([{ id: 2, total: 1 }, wrong]), failed);
    const handled: number[] = [];
    const done = next<void>();
    const dead: string[] = [];
    const buried = next<void>();
    await broker.subscribe('orders.dead', (delivery) => {
      dead.push(delivery.message.headers['rivulet-dead-reason'] ?? '');
      if (dead.length === 2) buried.resolve();
    });
    await orders.subscribe(
      (order) => {
        handled.push(order.id);
        done.resolve();
      },
      { group: 'g' },
    );
    await broker.publish('orders', { body: '{"total":"three"}' });
    await broker.publish('orders', { body: '{' });
    await orders.publish({ id: 7, total: 7 });
    await Promise.all([done.promise, buried.promise]);
    assert.deepEqual(handled, [7], 'nothing of the batch was sent either');
    assert.match(dead.join('\n'), /total: must be a number\n.*is not JSON/);
  }));

test('batches are arrays of values, without those that cannot be read', () =>
  withBroker(async (broker) => {
    const orders = broker.topic('orders', { schema: orderSchema });
    const done = next<readonly Order[]>();
    await orders.subscribe(
      (values, deliveries) => {
        assert.deepEqual(
          deliveries.map(({ value }) => value),
          values,
        );
        done.resolve(values);
      },
      { group: 'g', batch: { size: 3, waitMs: 20 } },
    );
    await broker.publishBatch('orders', [{ body: '{"id":1,"total":1}' }, { body: 'x' }]);
    assert.deepEqual(await done.promise, [{ id: 1, total: 1 }]);
  }));

test('a loop has values, one at a time or in batches, and skips what cannot be read', () =>
  withBroker(async (broker) => {
    const orders = broker.topic('orders', { schema: orderSchema });
    const single = await orders.subscribe({ group: 'single' });
    const batched = await orders.subscribe({ group: 'batched', batch: { size: 2, waitMs: 20 } });
    await broker.publish('orders', { body: 'unreadable' });
    await orders.publishBatch([
      { id: 1, total: 1 },
      { id: 2, total: 2 },
    ]);
    const ids: number[] = [];
    for await (const delivery of single) {
      ids.push(delivery.value.id);
      await delivery.ack();
      if (ids.length === 2) break;
    }
    assert.deepEqual(ids, [1, 2]);
    assert.equal(single.inFlight, 0);
    const totals: number[] = [];
    for await (const deliveries of batched) {
      for (const { value } of deliveries) totals.push(value.total);
      if (totals.length === 2) await batched.unsubscribe();
    }
    assert.deepEqual(totals, [1, 2]);
  }));

test('requests and answers are values, checked on both sides', () =>
  withBroker(async (broker) => {
    const quotes = broker.topic('quotes', { schema: orderSchema, response: dateSchema });
    await quotes.respond(async (order, { request, topic, signal }) => {
      assert.equal(request.json().id, order.id);
      assert.equal(topic, 'quotes');
      assert.ok(!signal.aborted);
      if (order.id === 2) return 5 as unknown as string;
      return '2026-01-01T00:00:00Z';
    });
    const date = await quotes.request({ id: 1, total: 1 });
    assert.equal(date.getUTCFullYear(), 2026, 'what the schema makes of it');
    // What the responder gives is looked at before it is sent, and again where it arrives.
    await assert.rejects(quotes.request({ id: 2, total: 1 }), {
      code: 'VALIDATION_FAILED',
      message: /a reply on quotes/,
    });
    await assert.rejects(broker.request('quotes', { body: '{"id":2,"total":1}' }), {
      code: 'VALIDATION_FAILED',
      message: /a reply on quotes/,
    });
    await broker.respond('loose', () => ({ body: '5' }));
    const loose = broker.topic('loose', { response: dateSchema });
    await assert.rejects(loose.request('?'), { code: 'VALIDATION_FAILED' });
    await assert.rejects(quotes.request({ id: 1 } as Order), { code: 'VALIDATION_FAILED' });
    // A request of another program, that does not validate.
    await assert.rejects(broker.request('quotes', { body: '{}' }), { code: 'VALIDATION_FAILED' });
    await assert.rejects(broker.request('quotes', { body: '' }), { code: 'DECODING_FAILED' });
  }));

test('many answers are values too, and an answer may be empty', () =>
  withBroker(async (broker) => {
    const counts = broker.topic<number, number, number>('counts');
    await counts.respond(async function* (upTo) {
      for (let n = 1; n <= upTo; n++) yield n;
    });
    const all: number[] = [];
    for await (const n of counts.requestMany(3)) all.push(n);
    assert.deepEqual(all, [1, 2, 3]);
    const commands = broker.topic<string, string, void>('commands');
    await commands.respond(() => {});
    assert.equal(await commands.request('go'), undefined);
  }));

test('replay, pending and redrive are those of the topic', async () => {
  await using t = await createTestBroker();
  const orders = t.broker.topic<Order>('orders');
  let fails = true;
  const seen: number[] = [];
  await orders.subscribe(
    ({ id }) => {
      if (fails) throw new Error('not now');
      seen.push(id);
    },
    { group: 'g', retry: { attempts: 2, backoff: { minMs: 1000, jitter: false } } },
  );
  await orders.publish({ id: 1, total: 1 });
  await t.advance(10);
  assert.equal((await orders.pending('g')).length, 1);
  await t.advance(60_000);
  assert.equal((await orders.pending('g')).length, 0);
  fails = false;
  assert.equal(await orders.redrive(), 1);
  await t.advance(10);
  await orders.replay('g', 'earliest');
  await t.advance(10);
  assert.deepEqual(seen, [1, 1, 1], 'redriven, and again with the original: both are stored');
});

test('a definition is shared, and bound to a broker by either of two ways', () =>
  withBroker(async (broker) => {
    const definition = topic('orders', { schema: orderSchema });
    const seen: number[] = [];
    const three = next<void>();
    await definition.subscribe(broker, (order) => {
      seen.push(order.total);
      if (seen.length === 3) three.resolve();
    });
    await definition.publish(broker, { id: 1, total: 1 });
    await definition.on(broker).publish({ id: 1, total: 2 });
    await broker.topic(definition).publish({ id: 1, total: 3 });
    await assert.rejects(broker.topic(definition).publish({ id: 1 } as Order), {
      code: 'VALIDATION_FAILED',
    });
    await three.promise;
    assert.deepEqual(seen, [1, 2, 3]);
  }));

test('another codec writes and reads the bodies; its errors are ours', () =>
  withBroker(async (broker) => {
    const lines: ValueCodec<unknown> = {
      contentType: 'text/lines',
      encode: (value) => Buffer.from((value as string[]).join('\n')),
      decode: (bytes) => {
        if (bytes[0] === 0) throw new Error('a zero');
        return Buffer.from(bytes).toString().split('\n');
      },
    };
    const texts = broker.topic<string[]>('texts', { codec: lines });
    await texts.respond((value) => value.toReversed());
    assert.deepEqual(await texts.request(['a', 'b']), ['b', 'a']);
    await assert.rejects(broker.request('texts', { body: '\0' }), {
      code: 'DECODING_FAILED',
      message: /cannot be read as text\/lines: a zero/,
    });
    await assert.rejects(texts.publish(5 as never), { code: 'VALIDATION_FAILED' });
  }));

test('any options of a topic are usable, or INVALID_ARGUMENT', () =>
  withBroker(async (broker) => {
    const options = fc.oneof(
      fc.anything(),
      fc.dictionary(fc.constantFrom('codec', 'schema', 'response', 'skema'), fc.anything()),
    );
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.constant('good')), options, (name, given) => {
        try {
          broker.topic(name as never, given as never);
        } catch (error) {
          const { code } = error as { code?: string };
          assert.ok(code === 'INVALID_ARGUMENT' || code === 'TOPIC_ILLEGAL', String(error));
        }
      }),
      { numRuns: 1000 },
    );
    assert.throws(() => broker.topic('good', { skema: orderSchema } as never), {
      code: 'INVALID_ARGUMENT',
      message: /did you mean schema\?/,
    });
    const orders = broker.topic<Order>('orders');
    for (const bad of [null, 5, [], 'x', { kee: 1 }, { id: 'old' }]) {
      await assert.rejects(orders.publish({ id: 1, total: 1 }, bad as never), {
        code: 'INVALID_ARGUMENT',
      });
      await assert.rejects(orders.request({ id: 1, total: 1 }, bad as never), {
        code: 'INVALID_ARGUMENT',
      });
      await assert.rejects(
        orders.subscribe(() => {}, bad as never),
        { code: 'INVALID_ARGUMENT' },
      );
    }
    await assert.rejects(orders.respond(5 as never), { code: 'INVALID_ARGUMENT' });
  }));

/** Compiled, not run: what the types promise. */
export async function types(broker: Broker): Promise<void> {
  const orders: BoundTopic<Order> = broker.topic<Order>('orders');
  // @ts-expect-error: a property is missing
  await orders.publish({ id: 1 });
  // @ts-expect-error: it is an array of values
  await orders.publishBatch({ id: 1, total: 1 });
  await orders.subscribe((order) => order.total.toFixed());
  // @ts-expect-error: there is no such property
  await orders.subscribe((order) => order.totals);
  await orders.subscribe((values) => values.map(({ id }) => id), { batch: { size: 5 } });
  // @ts-expect-error: with a batch the handler gets an array
  await orders.subscribe((order) => order.total, { batch: { size: 5 } });
  const dates = broker.topic('dates', { schema: dateSchema });
  await dates.publish('2026-01-01');
  // @ts-expect-error: a text goes in
  await dates.publish(new Date());
  await dates.subscribe((date) => date.getTime());
  for await (const { value } of await dates.subscribe()) value.getTime();
  const quotes = broker.topic('quotes', { schema: orderSchema, response: dateSchema });
  (await quotes.request({ id: 1, total: 1 })).getTime();
  // @ts-expect-error: the answer is a text
  await quotes.respond(() => 5);
  await broker.subscribe('t', (delivery) => delivery.text());
  await broker.subscribe('t', (deliveries) => deliveries.length, { batch: {} });
  // @ts-expect-error: with a batch the handler gets an array
  await broker.subscribe('t', (delivery) => delivery.text(), { batch: {} });
  for await (const delivery of await broker.subscribe('t', { group: 'g' })) delivery.json().any;
  for await (const all of await broker.subscribe('t', { batch: {} })) all.length;
  // @ts-expect-error: it was renamed
  await broker.publish('t', { body: 'x' }, { id: 'x' });
  // @ts-expect-error: it was renamed
  await broker.subscribe('t', () => {}, { ordered: 'by-key' });
  const total: number = (await broker.request('t', { body: '' })).json<Order>().total;
  // @ts-expect-error: a value is no body
  await broker.publish('t', { body: { total } });
}

/**
 * Programs as their authors write them: an order over three services, in a service of its own, with types
 * that follow from definitions; and the same saga while each service dies in turn.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Broker,
  Cancelled,
  contract,
  createService,
  Failure,
  openBroker,
  type Service,
  type StandardSchema,
  signal,
  Terminal,
  topic,
  unary,
  workflow,
  workflows,
} from '../../src/index.ts';

const DAY = 86_400_000;

interface OrderIn {
  readonly id: string;
  readonly sku: string;
  readonly cents: number;
}

/** As zod and its like: a schema from which the types come. */
function schemaOf<T>(check: (value: T) => boolean): StandardSchema<T, T> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        check(value as T) ? { value: value as T } : { issues: [{ message: 'it does not fit' }] },
    },
  };
}

const Stock = contract('test.stock', {
  Stock: {
    Reserve: unary<{ sku: string }, { reservation: string }>({ idempotent: true }),
    Release: unary<{ reservation: string }, { ok: boolean }>({ idempotent: true }),
  },
});
const Payment = contract('test.payment', {
  Payment: {
    Charge: unary<{ cents: number }, { payment: string }>({ idempotent: true }),
    Refund: unary<{ payment: string }, { ok: boolean }>({ idempotent: true }),
  },
});
const Shipping = contract('test.shipping', {
  Shipping: { Ship: unary<{ id: string }, { label: string }>({ idempotent: true }) },
});

const approved = signal<{ by: string; ok: boolean }>('approved');
const shipped = topic<{ id: string }>('orders.shipped');
class Rejected extends Error {}

const RETRY = { attempts: 50, backoff: { minMs: 20, maxMs: 200 } };

const labelling = workflow(
  { name: 'labelling', version: 1, retry: RETRY },
  async (wf, input: { id: string }) => {
    const { label } = await wf.call(Shipping.Shipping.Ship, { id: input.id });
    return label;
  },
);

const order = workflow(
  {
    name: 'order',
    version: 3,
    input: schemaOf<OrderIn>(({ cents }) => cents > 0),
    retry: RETRY,
    timeoutMs: 7 * DAY,
    retentionMs: 30 * DAY,
    concurrency: 100,
  },
  async (wf, input) => {
    const paid = await wf.call(
      Payment.Payment.Charge,
      { cents: input.cents },
      { compensate: ({ payment }, { key }) => refunds.push(`${payment} ${key}`) },
    );
    const [stock, tax] = await Promise.all([
      wf.call(Stock.Stock.Reserve, { sku: input.sku }),
      wf.step('tax', () => Math.round(input.cents * 0.19), { timeoutMs: 10_000 }),
    ]);
    const decision = await wf.wait(approved, { timeoutMs: DAY });
    if (!decision?.ok) throw new Rejected('not approved');
    await wf.sleep(20);
    await wf.publish(shipped, { id: input.id });
    const label = await wf.child(labelling, { id: input.id }, { id: `ship-${input.id}` });
    wf.state({ stage: 'labelled' });
    return { paid, reservation: stock.reservation, tax, label, at: wf.now(), by: decision.by };
  },
);
const refunds: string[] = [];

const handlers = {
  stock: (broker: Broker) =>
    createService({ name: 'test.stock', broker, environment: false, args: false }).handle(Stock, {
      Stock: {
        Reserve: async ({ sku }) => ({ reservation: `r-${sku}` }),
        Release: async () => ({ ok: true }),
      },
    }),
  payment: (broker: Broker) =>
    createService({ name: 'test.payment', broker, environment: false, args: false }).handle(
      Payment,
      {
        Payment: {
          Charge: async ({ cents }, context) => ({
            payment: `p-${cents}-${context.idempotencyKey ?? ''}`,
          }),
          Refund: async () => ({ ok: true }),
        },
      },
    ),
  shipping: (broker: Broker) =>
    createService({ name: 'test.shipping', broker, environment: false, args: false }).handle(
      Shipping,
      {
        Shipping: { Ship: async ({ id }) => ({ label: `l-${id}` }) },
      },
    ),
};

test('an order over three services, in a service of its own', async () => {
  await using broker = await openBroker('memory:');
  const services = Object.values(handlers).map((make) => make(broker));
  const orders = createService({ name: 'test.orders', broker, environment: false, args: false });
  orders.workflow(order).workflow(labelling);
  await Promise.all([...services, orders].map((service) => service.start()));
  const events: string[] = [];
  await shipped.subscribe(broker, ({ id }) => void events.push(id));
  const flows = orders.workflows;
  const handle = await flows.start(order, { id: '17', sku: 'ab', cents: 100 }, { id: 'order-17' });
  await handle.signal(approved, { by: 'ann', ok: true }, { id: 'click-1' });
  const result = await handle.result({ timeoutMs: 20_000 });
  // The types follow: these are errors of the compiler where they do not.
  const label: string = result.label;
  const payment: string = result.paid.payment;
  const tax: number = result.tax;
  assert.deepEqual([label, tax, result.by, result.reservation], ['l-17', 19, 'ann', 'r-ab']);
  assert.match(payment, /^p-100-/);
  assert.deepEqual(await handle.state(), { stage: 'labelled' });
  assert.deepEqual(events, ['17']);
  const child = await flows.get(labelling, 'ship-17').info();
  assert.equal(child.status, 'completed');
  const rejected = await flows.start(order, { id: '18', sku: 'ab', cents: 5 }, { id: 'order-18' });
  await rejected.signal(approved, { by: 'bob', ok: false });
  const error = await rejected.result().catch((error) => error);
  assert.ok(error instanceof Failure && !(error instanceof Cancelled));
  assert.equal(error.message, 'not approved');
  assert.deepEqual(refunds, ['p-5-order/order-18/1 order/order-18/-1']);
  await assert.rejects(flows.start(order, { id: 'x', sku: 'y', cents: -1 }), {
    code: 'VALIDATION_FAILED',
  });
  const runs: string[] = [];
  for await (const run of flows.list({ name: 'order', since: new Date(0) })) {
    runs.push(`${run.id} ${run.status}`);
  }
  assert.deepEqual(runs, ['order-17 completed', 'order-18 failed']);
  await Promise.all([...services, orders].map((service) => service.stop()));
});

test('a saga over three services ends right although each of them dies in turn', async () => {
  await using broker = await openBroker('memory:');
  const running = new Map<string, Service>();
  const start = async (name: keyof typeof handlers) => {
    const service = handlers[name](broker);
    running.set(name, service);
    await service.start();
  };
  for (const name of ['stock', 'payment', 'shipping'] as const) await start(name);
  await using flows = await workflows(broker, {
    definitions: [order, labelling],
    verify: 'always',
  });
  const names = ['payment', 'stock', 'shipping'] as const;
  const handles = [];
  for (const name of names) {
    await running.get(name)?.stop();
    const id = `saga-${name}`;
    const handle = await flows.start(order, { id, sku: name, cents: 7 }, { id });
    await handle.signal(approved, { by: 'ann', ok: true });
    handles.push(handle);
    const pending = handle.result({ timeoutMs: 200 }).catch((error) => error.code);
    assert.equal(await pending, 'TIMEOUT', `${name} is away`);
    await start(name);
  }
  for (const [i, handle] of handles.entries()) {
    const { label } = await handle.result({ timeoutMs: 30_000 });
    assert.equal(label, `l-saga-${names[i]}`);
  }
  for (const service of running.values()) await service.stop();
});

test('types that do not fit are errors of the compiler', async () => {
  await using broker = await openBroker('memory:');
  await using flows = await workflows(broker);
  const check = async () => {
    // @ts-expect-error the input has another type
    await flows.start(labelling, { id: 7 });
    // @ts-expect-error the input is missing
    await flows.start(labelling);
    const handle = await flows.start(labelling, { id: 'x' });
    // @ts-expect-error the result is a text
    const wrong: number = await handle.result();
    // @ts-expect-error the signal has a value
    await handle.signal(approved);
    await flows.schedule('nightly', labelling, {
      cron: '0 3 * * *',
      timeZone: 'Europe/Berlin',
      overlap: 'skip',
      catchUp: 1,
      input: { id: 'x' },
    });
    workflow({ name: 'x' }, async (wf) => {
      const n: number = await wf.step('n', () => 1);
      // @ts-expect-error without a limit of time there is always a value
      const none: undefined = await wf.wait(approved);
      const text: string = await wf.child(labelling, { id: 'x' });
      // @ts-expect-error the child takes an id
      await wf.child(labelling, {});
      return [n, none, text];
    });
    return wrong;
  };
  assert.equal(typeof check, 'function');
  assert.ok(new Terminal('x') instanceof Failure);
});

/** Typed topics, the opening of brokers, traces and events: the small parts of the kit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutPassword } from '../../src/broker/addresses.ts';
import type { Broker, Delivery, Handler } from '../../src/broker/broker.ts';
import { Events } from '../../src/broker/events.ts';
import type { Message } from '../../src/broker/message.ts';
import { openBroker, registerScheme } from '../../src/broker/open-broker.ts';
import { Timeouts } from '../../src/broker/timeouts.ts';
import { type StandardSchema, topic } from '../../src/broker/topic.ts';
import { passingOn, throughOpenTelemetry } from '../../src/broker/trace.ts';
import { VirtualScheduler } from '../../src/broker/virtual-scheduler.ts';

interface Order {
  readonly total: number;
}

const orderSchema: StandardSchema<Order> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: (value) =>
      typeof (value as Order | null)?.total === 'number'
        ? { value: value as Order }
        : { issues: [{ message: 'must be a number', path: ['total'] }] },
  },
};

/** A broker that keeps what is published and lets a test deliver. */
function loopback() {
  const sent: Message[] = [];
  let handler: Handler = () => {};
  const broker = {
    publish: async (_: string, message: Message) => {
      sent.push(message);
      return { id: '1', duplicate: false };
    },
    subscribe: async (_: string, each: Handler) => {
      handler = each;
    },
  } as unknown as Broker;
  const deliver = async (body: string) => {
    let dead: string | null = null;
    await handler({
      topic: 'orders',
      message: { headers: {}, body: Buffer.from(body) },
      deadLetter: async (reason: string) => {
        dead = reason;
      },
    } as unknown as Delivery);
    return dead;
  };
  return { broker, sent, deliver };
}

test('a typed topic publishes JSON and hands over values', async () => {
  const { broker, sent, deliver } = loopback();
  const orders = topic('orders', { schema: orderSchema });
  await orders.publish(broker, { total: 3 }, { key: 'k', headers: { a: 'b' } });
  assert.deepEqual(sent[0]?.headers, { 'Content-Type': 'application/json', a: 'b' });
  assert.equal(Buffer.from(sent[0]?.body ?? []).toString(), '{"total":3}');
  assert.equal(sent[0]?.key, 'k');
  const seen: number[] = [];
  await orders.subscribe(broker, (order) => seen.push(order.total));
  assert.equal(await deliver('{"total":5}'), null);
  assert.deepEqual(seen, [5]);
});

test('what does not validate is neither sent nor handled, but goes to the dead letter', async () => {
  const { broker, sent, deliver } = loopback();
  const orders = topic('orders', { schema: orderSchema });
  const wrong = { total: 'three' } as unknown as Order;
  await assert.rejects(orders.publish(broker, wrong), {
    code: 'VALIDATION_FAILED',
    message: /total: must be a number/,
  });
  assert.equal(sent.length, 0);
  await orders.subscribe(broker, () => assert.fail('handled'));
  assert.match((await deliver('{}')) ?? '', /total: must be a number/);
  assert.match((await deliver('{')) ?? '', /JSON/);
});

test('a broker is opened by its scheme, and anybody may register one', async () => {
  const opened: unknown[] = [];
  registerScheme('test', async () => ({
    createBroker: (addresses) => {
      opened.push(addresses);
      return { connect: async () => {}, name: 'test' } as unknown as Broker;
    },
  }));
  assert.equal((await openBroker('test://a:1,b:2')).name, 'test');
  assert.deepEqual(opened, [['test://a:1', 'test://b:2']]);
  await assert.rejects(openBroker('resid://x'), {
    code: 'UNKNOWN_SCHEME',
    message: /did you mean redis:/,
  });
  await assert.rejects(openBroker('localhost'), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(openBroker(['redis://a', 'nats://b']), { code: 'INVALID_ARGUMENT' });
  assert.equal(withoutPassword('redis://me:secret@host:1/0'), 'redis://host:1/0');
});

test('a trace goes on to what a handler publishes, and ends with it', () => {
  const tracing = passingOn();
  const brought = { traceparent: '00-1-2-01', tracestate: 's', other: 'x' };
  tracing.run(brought, () => {
    const headers = tracing.inject({ own: 'y' });
    assert.deepEqual(headers, { own: 'y', traceparent: '00-1-2-01', tracestate: 's' });
    tracing.run({}, () => assert.deepEqual(tracing.inject({}), {}));
    assert.equal(tracing.inject({ traceparent: 'mine' }).traceparent, 'mine');
  });
  assert.deepEqual(tracing.inject({}), {});
});

test('with OpenTelemetry its propagator writes the headers and its context is active', () => {
  let active: { traceparent?: string } = { traceparent: 'here' };
  const tracing = throughOpenTelemetry({
    context: {
      active: () => active,
      with: (context, run) => {
        const before = active;
        active = context;
        try {
          return run();
        } finally {
          active = before;
        }
      },
    },
    propagation: {
      fields: () => ['traceparent'],
      inject: (context, carrier) => Object.assign(carrier, context),
      extract: (_, carrier) => ({ traceparent: carrier.traceparent }),
    },
  });
  assert.deepEqual(tracing.inject({ a: 'b' }), { a: 'b', traceparent: 'here' });
  tracing.run({ traceparent: 'there' }, () =>
    assert.equal(tracing.inject({}).traceparent, 'there'),
  );
});

test('events reach every listener until it is removed', () => {
  const events = new Events<{ a: number }>();
  const seen: number[] = [];
  const remove = events.on('a', (value) => seen.push(value));
  events.on('a', (value) => seen.push(value * 10));
  events.emit('a', 1);
  remove();
  events.emit('a', 2);
  assert.deepEqual(seen, [1, 10, 20]);
});

test('timeouts fall due in order, and hold one timer only while somebody waits', async () => {
  const scheduler = new VirtualScheduler();
  const timeouts = new Timeouts(scheduler);
  const due: string[] = [];
  const add = (ms: number) => timeouts.add(ms, () => due.push(`${ms}@${scheduler.monotonic()}`));
  add(100);
  const removed = add(50);
  add(10);
  assert.equal(scheduler.pendingTimers, 1);
  removed();
  await scheduler.advance(60);
  add(100);
  await scheduler.advance(200);
  assert.deepEqual(due, ['10@10', '100@100', '100@160']);
  assert.equal(scheduler.pendingTimers, 0);
});

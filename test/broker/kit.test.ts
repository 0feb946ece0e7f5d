/** The opening of brokers, traces, events and timeouts: the small parts of the kit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutPassword } from '../../src/broker/addresses.ts';
import type { Broker } from '../../src/broker/broker.ts';
import { Events } from '../../src/broker/events.ts';
import { openBroker, registerScheme } from '../../src/broker/open-broker.ts';
import { openTelemetryTracing, passthroughTracing } from '../../src/broker/trace.ts';
import { Timeouts } from '../../src/util/time/timeouts.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';

test('a broker is opened by its scheme, and a program may register one', async () => {
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
  const tracing = passthroughTracing();
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
  const tracing = openTelemetryTracing({
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

test('timeouts fall due in order, and hold one timer only while a caller waits', async () => {
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

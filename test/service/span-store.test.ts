/** Spans of a service in the stream `_rivulet.spans`: batches, bounds, shares, and a broker that is away. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EmbeddedBroker } from '../../src/broker/embedded/embedded-broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import type { SpanFacts } from '../../src/rpc/seen/spans.ts';
import {
  MAX_ENTRY_BYTES,
  readSpanEntry,
  SPANS_MAX_AGE_MS,
  SPANS_MAX_BYTES,
  SPANS_TOPIC,
  type SpanEntry,
  spanMessages,
} from '../../src/service/observation/span-entry.ts';
import { SpanStore } from '../../src/service/observation/span-store.ts';
import { createService } from '../../src/service/service.ts';
import { createTestService, type TestService } from '../../src/service/testing.ts';
import { systemScheduler } from '../../src/util/time/system-scheduler.ts';
import { freePort } from '../helpers/free-port.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

const own = { environment: false, args: false } as const;
const Pay = contract('pay', { Cards: { Charge: unary<undefined, string>() } });
const message = { body: '{}' };

/** Entries of the stream in a test world, in order. */
async function entriesOf(t: TestService): Promise<SpanEntry[]> {
  const found: SpanEntry[] = [];
  const subscriber = await t.broker.subscribe(
    SPANS_TOPIC,
    (delivery) => {
      const entry = readSpanEntry(delivery.bytes());
      if (entry !== null) found.push(entry);
    },
    { from: 'earliest' },
  );
  await t.settle();
  await t.finish(subscriber.unsubscribe());
  return found;
}

function span(number: number, more: Partial<SpanFacts> = {}): SpanFacts {
  const digits = number.toString(16).padStart(16, '0');
  const facts = { kind: 'serve', id: digits, parent: '', name: 'A.B', at: 1, ms: 1 } as const;
  return { ...facts, trace: `1${digits.padStart(31, '0')}`, error: null, ...more };
}

test('publish, deliver, settle, call and serve of one trace are stored, each below what caused it', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1 } });
  const pay = t.open({ name: 'pay', trace: { store: 1 } });
  pay.handle(Pay, { Cards: { Charge: () => 'paid' } });
  t.service.subscribe('orders', () => t.service.client(Pay).Cards.Charge(), { queue: 'billing' });
  await pay.start();
  await t.service.start();
  const { id } = await t.broker.publish('orders', message);
  await t.advance(2000);
  const entries = await entriesOf(t);
  const spans = entries.flatMap(({ service, spans }) =>
    spans.map((each) => ({ service, ...each })),
  );
  const of = (kind: string) => spans.find((each) => each.kind === kind)!;
  assert.deepEqual(spans.map(({ service, kind, name }) => `${service} ${kind} ${name}`).sort(), [
    'pay publish orders',
    'pay serve Cards.Charge',
    'shop call pay.Cards.Charge',
    'shop deliver topic orders',
    'shop settle orders: acknowledged',
  ]);
  assert.equal(new Set(spans.map(({ trace }) => trace)).size, 1);
  assert.equal(of('publish').parent, '');
  assert.equal(of('publish').message, id);
  assert.equal(of('deliver').parent, of('publish').id);
  assert.equal(of('settle').parent, of('deliver').id);
  assert.equal(of('call').parent, of('deliver').id);
  assert.equal(of('serve').parent, of('call').id);
  const { topic, group, message: of1, attempt } = of('deliver');
  assert.deepEqual([topic, group, of1, attempt], ['orders', 'billing', id, 1]);
});

test('a process stores one batch a second, and nothing while nothing happens', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1 } });
  t.service.subscribe('orders', () => {}, { queue: 'billing' });
  await t.service.start();
  await t.advance(5000);
  assert.deepEqual(await entriesOf(t), []);
  for (let n = 0; n < 30; n++) {
    await t.broker.publish('orders', message);
    await t.advance(100);
  }
  await t.advance(2000);
  const entries = await entriesOf(t);
  assert.ok(entries.length >= 3 && entries.length <= 4, `${entries.length} batches in 3 s`);
  assert.equal(entries.flatMap(({ spans }) => spans).length, 90);
  await t.advance(10_000);
  assert.equal((await entriesOf(t)).length, entries.length);
});

test('spans beyond the queue are dropped and counted, and the next batch has the count', async () => {
  await using t = await createTestService({ name: 'shop' });
  const warnings: unknown[] = [];
  const store = new SpanStore({
    scheduler: t.scheduler,
    service: () => 'shop',
    node: () => 'shop-1',
    share: 1,
    maxQueued: 10,
    warn: (error) => warnings.push(error),
  });
  for (let n = 0; n < 25; n++) store.add(span(n));
  assert.deepEqual([store.queued, store.dropped], [10, 15]);
  store.attach(t.broker);
  await t.advance(1000);
  assert.equal(store.queued, 0);
  store.add(span(99));
  await t.finish(store.close());
  const entries = await entriesOf(t);
  assert.deepEqual(
    entries.map(({ dropped, spans }) => [dropped, spans.length]),
    [
      [15, 10],
      [0, 1],
    ],
  );
  assert.deepEqual(warnings, []);
});

test('of a share of the traces all spans are stored, of the others only errors', async () => {
  await using t = await createTestService({ name: 'shop' });
  const open = (share: number) =>
    new SpanStore({
      scheduler: t.scheduler,
      service: () => 'shop',
      node: () => 'n',
      share,
      maxQueued: 100_000,
      warn: () => {},
    });
  const [a, b] = [open(0.1), open(0.1)];
  for (let n = 0; n < 10_000; n++) a.add(span(n));
  for (let n = 0; n < 10_000; n++) b.add(span(n));
  assert.ok(a.queued > 700 && a.queued < 1300, `${a.queued} of 10 000`);
  assert.equal(b.queued, a.queued, 'two processes choose the same traces');
  const before = a.queued;
  for (let n = 0; n < 100; n++) a.add(span(n, { error: 'no' }));
  assert.equal(a.queued, before + 100);
});

test('an entry has at most 32 KiB whatever the spans say, and what is no entry is read as none', () => {
  const spans = Array.from({ length: 500 }, (_, n) =>
    span(n, { name: '\u0000'.repeat(5000), error: 'é'.repeat(5000), topic: '\ud800'.repeat(999) }),
  );
  const messages = spanMessages({ service: '\u0001'.repeat(999), node: 'n', dropped: 3, spans });
  const entries = messages.map(({ body }) => {
    const bytes = Buffer.from(body as string);
    assert.ok(bytes.length <= MAX_ENTRY_BYTES, `${bytes.length} bytes`);
    return readSpanEntry(bytes)!;
  });
  assert.equal(entries.flatMap((entry) => entry.spans).length, 500);
  assert.deepEqual(entries.map(({ dropped }) => dropped).slice(0, 2), [3, 0]);
  for (const body of ['', '{', 'null', '[]', '{"v":2}', '{"v":1,"service":"s","node":"n"}']) {
    assert.equal(readSpanEntry(Buffer.from(body)), null, body);
  }
  const odd = '{"v":1,"service":"s","node":"n","spans":[1,null,{"kind":"x"},{"kind":"call"}]}';
  assert.deepEqual(readSpanEntry(Buffer.from(odd))?.spans, []);
});

test('the stream keeps 64 MiB and 24 hours', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1 } });
  await t.service.start();
  await t.broker.publish('orders', message);
  await t.advance(1000);
  const host = EmbeddedBroker.hostOf(t.broker)!;
  const value = host.database.findKey(Buffer.from(SPANS_TOPIC))?.value;
  assert.ok(value?.type === 'stream');
  assert.deepEqual(value.retention, {
    maxLen: 0,
    maxAge: SPANS_MAX_AGE_MS,
    maxBytes: SPANS_MAX_BYTES,
  });
  await t.advance(SPANS_MAX_AGE_MS + 2000);
  assert.deepEqual(await entriesOf(t), []);
});

test('spans are stored on a loopback broker, and nowhere else unless asked for', async () => {
  const shares: [string | undefined, object | undefined, boolean][] = [
    ['rivulet://127.0.0.1:7488', undefined, true],
    ['rivulet://localhost', undefined, true],
    ['redis://[::1]:6379', undefined, true],
    ['rivulet://127.0.0.1:7488,10.0.0.5:7488', undefined, false],
    ['rivulet://broker.example:7488', undefined, false],
    ['nats://127.0.0.1:4222', undefined, false],
    ['memory:', undefined, false],
    [undefined, undefined, false],
    [undefined, { store: 1 }, false],
    ['rivulet://127.0.0.1', { store: 0 }, false],
    ['rivulet://broker.example', { store: 0.01 }, true],
    ['memory:', { store: 1 }, true],
  ];
  const { traceOf } = await import('../../src/service/options/trace-options.ts');
  for (const [broker, trace, isOn] of shares) {
    const { share } = traceOf({ broker: { value: broker }, trace: { value: trace } });
    assert.equal(share > 0, isOn, `${broker} ${JSON.stringify(trace)}`);
  }
  const set = (MICRO_TRACE_STORE: string) =>
    createService({ args: false, environment: { MICRO_TRACE_STORE } });
  assert.deepEqual(set('0.25').options.trace.value, { store: 0.25 });
  for (const wrong of ['2', '-1', 'all', '1e9']) {
    assert.throws(() => set(wrong), { code: 'INVALID_ARGUMENT', message: /MICRO_TRACE_STORE/ });
  }
  assert.throws(() => createService({ ...own, trace: { store: 2 } }), { code: 'INVALID_ARGUMENT' });
});

test('while the broker is down nothing is stored and the service goes on; then the spans follow', async () => {
  await using directory = temporaryDirectory('spans');
  const port = await freePort();
  const start = () => startRivulet({ args: ['--port', `${port}`], directory: directory.path });
  let server = await start();
  const url = `rivulet://127.0.0.1:${port}`;
  const pay = createService({
    ...own,
    name: 'pay',
    broker: url,
    registry: 'memory',
    transport: 'local',
  });
  pay.handle(Pay, { Cards: { Charge: () => 'paid' } });
  await pay.start();
  const broker = await pay.broker();
  const away = new Promise((resolve) => broker.on('disconnected', resolve));
  const back = new Promise((resolve) => broker.on('connected', resolve));
  await server.stop('SIGKILL');
  await away;
  for (let n = 0; n < 5; n++) assert.equal(await pay.client(Pay).Cards.Charge(), 'paid');
  server = await start();
  await back;
  await using reader = await openBroker(url);
  const found: SpanFacts[] = [];
  const all = new Promise<void>((resolve) => {
    void reader.subscribe(
      SPANS_TOPIC,
      (delivery) => {
        found.push(...(readSpanEntry(delivery.bytes())?.spans ?? []));
        if (found.filter(({ kind }) => kind === 'serve').length === 5) resolve();
      },
      { from: 'earliest' },
    );
  });
  await all;
  await pay.stop();
  await server.stop('SIGKILL');
});

test('a broker that refuses the spans costs the service a warning and a count', async () => {
  await using t = await createTestService({ name: 'shop' });
  const warnings: unknown[] = [];
  const store = new SpanStore({
    scheduler: t.scheduler,
    service: () => 'shop',
    node: () => 'n',
    share: 1,
    maxQueued: 10,
    warn: (error) => warnings.push(error),
  });
  const host = EmbeddedBroker.hostOf(t.broker)!;
  const key = Buffer.from(SPANS_TOPIC);
  host.change(() => host.database.set(key, { type: 'string', bytes: Buffer.from('x') }, 0));
  store.attach(t.broker);
  for (let n = 0; n < 3; n++) {
    store.add(span(n));
    await t.advance(1000);
  }
  assert.deepEqual([warnings.length, store.dropped], [1, 3]);
  host.change(() => host.database.remove(host.database.findKey(key)!));
  store.add(span(9));
  await t.finish(store.close());
  assert.deepEqual(
    (await entriesOf(t)).map(({ dropped, spans }) => [dropped, spans.length]),
    [[3, 1]],
  );
});

test('a service stops within seconds although its broker does not answer a batch', async () => {
  await using server = await startRivulet({ longTurns: 'it is stopped on purpose' });
  const scheduler = systemScheduler;
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.port}`, {
    drainTimeoutMs: 100,
  });
  const store = new SpanStore({
    scheduler,
    service: () => 'shop',
    node: () => 'n',
    share: 1,
    maxQueued: 10,
    warn: () => {},
  });
  store.attach(broker);
  process.kill(server.pid, 'SIGSTOP');
  const from = scheduler.monotonic();
  store.add(span(1));
  await store.close();
  const ms = scheduler.monotonic() - from;
  process.kill(server.pid, 'SIGCONT');
  assert.ok(ms < broker.options.publishTimeoutMs, `${ms} ms`);
  assert.equal(store.dropped, 1);
});

test('services that share a broker record a publish once: the one whose handler publishes', async () => {
  await using t = await createTestService({ name: 'first', trace: { store: 1 } });
  const second = t.open({ name: 'second', trace: { store: 1 } });
  second.subscribe('orders', () => t.broker.publishBatch('bills', [message, message]), {
    queue: 'q',
  });
  await t.service.start();
  await second.start();
  await t.broker.publish('orders', message);
  await t.advance(2000);
  const spans = (await entriesOf(t)).flatMap(({ service, spans: some }) =>
    some.map((each) => ({ service, ...each })),
  );
  const publishes = spans.filter(({ kind }) => kind === 'publish');
  assert.deepEqual(
    publishes.map(({ service, name, message: id }) => [service, name, id !== undefined]),
    [
      ['first', 'orders', true],
      ['second', 'bills', false],
    ],
    'a batch is one span, about no single message',
  );
  const deliver = spans.find(({ kind }) => kind === 'deliver');
  assert.equal(publishes[1]?.parent, deliver?.id);
  await t.finish(second.stop());
  await t.broker.publish('late', message);
  await t.advance(2000);
  const later = (await entriesOf(t)).flatMap(({ spans: some }) => some);
  assert.ok(
    later.some(({ name }) => name === 'late'),
    'the other service still records',
  );
});

test('a message keeps the trace that its publisher gave it', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1 } });
  const seen: (string | undefined)[] = [];
  t.service.subscribe(
    'orders',
    (delivery) => {
      seen.push(delivery.message.headers.traceparent);
    },
    { queue: 'q' },
  );
  await t.service.start();
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  await t.broker.publish('orders', { body: '', headers: { traceparent } });
  await t.broker.publish('orders', { body: '' });
  await t.advance(2000);
  assert.equal(seen[0], traceparent);
  assert.match(seen[1] ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
});

test('how a handler settles its delivery is recorded, and a publish that fails', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1 } });
  const ways = ['ack', 'nack', 'deadLetter'] as const;
  t.service.subscribe(
    'orders',
    async (delivery) => {
      const way = ways.find((each) => each === delivery.text());
      if (delivery.attempt > 1 || way === 'ack') await delivery.ack();
      else if (way === 'nack') await delivery.nack({ delayMs: 0 });
      else await delivery.deadLetter('no use');
    },
    { queue: 'q', autoAck: false },
  );
  await t.service.start();
  for (const body of ways) await t.broker.publish('orders', { body });
  const signal = AbortSignal.abort(new Error('given up'));
  await assert.rejects(t.broker.publish('orders', { body: 'x' }, { signal }));
  await t.advance(3000);
  const spans = (await entriesOf(t)).flatMap(({ spans: some }) => some);
  const settled = spans.filter(({ kind }) => kind === 'settle').map(({ name }) => name);
  assert.deepEqual(settled.sort(), [
    'orders: acknowledged',
    'orders: acknowledged',
    'orders: dead letter',
    'orders: given back',
  ]);
  const failed = spans.filter(({ kind, error }) => kind === 'publish' && error !== null);
  assert.equal(failed.length, 1);
});

test('the metrics of a service say how many spans were dropped', async () => {
  await using t = await createTestService({ name: 'shop', trace: { store: 1, maxQueued: 2 } });
  await t.service.start();
  for (let n = 0; n < 5; n++) await t.broker.publish('orders', message);
  assert.match(t.service.metrics(), /^micro_spans_dropped_total\{[^}]*\} 3$/m);
  const silent = t.open({ name: 'silent' });
  assert.doesNotMatch(silent.metrics(), /spans_dropped/);
});

/** What a service shows of itself: Debug, health, metrics, log, and one trace through everything. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { Metadata } from '../../src/rpc/metadata.ts';
import { type DebugSpan, debugOf } from '../../src/rpc/seen/debug.ts';
import { Tracer } from '../../src/rpc/seen/spans.ts';
import { Statistics } from '../../src/rpc/seen/statistics.ts';
import { createService } from '../../src/service/service.ts';
import { createTestService } from '../../src/service/testing.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { until } from '../helpers/until.ts';

const own = { environment: false, args: false } as const;
const One = contract('one', { Hop: { Go: unary<undefined, string>(), Fail: unary() } });
const Two = contract('two', { Hop: { Go: unary<undefined, string>() } });
const message = { headers: {}, body: Buffer.from('{}') };

test('Debug answers on every transport, in protobuf and in JSON, and is not advertised', async () => {
  const registry = new MemoryRegistry();
  for (const transport of ['local', 'tcp']) {
    await using service = createService({ ...own, name: 'one', registry, transport });
    service.handle(One, { Hop: { Go: () => 'ok', Fail: () => Promise.reject(new Error('no')) } });
    await service.start();
    await using caller = createService({ ...own, name: 'caller', registry, transport });
    const { Debug } = caller.client(debugOf('one'));
    assert.deepEqual({ ...(await Debug.Health({})) }, { status: 'ok' });
    await caller.client(One).Hop.Go();
    await caller
      .client(One)
      .Hop.Fail()
      .catch(() => {});
    const stats = await Debug.Stats({});
    assert.deepEqual([stats.requests, stats.errors], [2n, 1n]);
    assert.ok(stats.memory > 1_000_000n && stats.threads >= 1n && stats.started > 1_600_000_000n);
    const raw = await caller.call<Record<string, unknown>>('one', 'Debug.Health', {});
    assert.equal(raw.status, 'ok');
    const { spans } = await Debug.Trace({});
    assert.deepEqual(spans.map(({ name }) => name).sort(), ['Hop.Fail', 'Hop.Go']);
    const [record] = await registry.getService('one');
    assert.ok(record!.endpoints.every(({ name }) => !name.startsWith('Debug.')));
  }
});

test('Debug.Log gives what was logged, and follows it', async () => {
  await using t = await createTestService({ name: 'caller' });
  const one = t.open({ name: 'one', accessLog: true });
  one.handle(One, {
    Hop: {
      Go(_request, { log }) {
        log.info({ user: 7, secret: undefined }, 'going');
        return 'ok';
      },
      Fail: () => {},
    },
  });
  await one.start();
  await t.finish(t.service.client(One).Hop.Go());
  const { Debug } = t.service.client(debugOf('one'));
  const seen: { message: string; metadata: Readonly<Record<string, string>> }[] = [];
  const stream = Debug.Log({ stream: true });
  const reading = (async () => {
    for await (const record of stream) {
      seen.push(record);
      if (record.message === 'last') break;
    }
  })();
  await t.settle();
  one.log.warn('last');
  await t.finish(reading);
  assert.deepEqual(
    seen.map((record) => record.message),
    ['started', 'going', 'call', 'last'],
  );
  assert.equal(seen[1]?.metadata.user, '7');
  assert.equal(seen[1]?.metadata.endpoint, 'Hop.Go');
  assert.match(seen[1]?.metadata.trace ?? '', /^[0-9a-f]{32}$/);
  assert.deepEqual(
    [seen[2]?.metadata.endpoint, seen[2]?.metadata.code, seen[2]?.metadata.peer],
    ['Hop.Go', 'ok', 'local'],
  );
  const few: string[] = [];
  const last = (async () => {
    for await (const record of Debug.Log({ count: 1 })) few.push(record.message);
  })();
  await t.finish(last);
  assert.deepEqual(few, ['last']);
});

test('one trace goes through calls and messages, each hop the child of the last', async () => {
  await using t = await createTestService({ name: 'caller' });
  const one = t.open({ name: 'one' });
  const two = t.open({ name: 'two' });
  const three = t.open({ name: 'three' });
  one.handle(One, {
    Hop: { Go: () => one.client(Two).Hop.Go(), Fail: () => {} },
  });
  two.handle(Two, {
    Hop: {
      async Go() {
        await t.broker.publish('gone', message);
        return 'ok';
      },
    },
  });
  three.subscribe('gone', () => three.client(One).Hop.Fail());
  for (const service of [one, two, three]) await service.start();
  const parent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  await t.finish(t.service.client(One).Hop.Go(undefined, { metadata: { traceparent: parent } }));
  await t.advance(1000);
  const spans: DebugSpan[] = [];
  for (const name of ['one', 'two', 'three']) {
    const { Debug } = t.service.client(debugOf(name));
    spans.push(...(await t.finish(Debug.Trace({ id: 'a'.repeat(32) }))).spans);
  }
  const named = (name: string) => spans.find((span) => span.name === name)!;
  assert.deepEqual(spans.map(({ name }) => name).sort(), [
    'Hop.Fail',
    'Hop.Go',
    'Hop.Go',
    'topic gone',
  ]);
  const first = spans.find((span) => span.parent === 'b'.repeat(16))!;
  const second = spans.find((span) => span.name === 'Hop.Go' && span.parent === first.id)!;
  assert.equal(named('topic gone').parent, second.id);
  assert.equal(named('Hop.Fail').parent, named('topic gone').id);
  assert.equal(new Set(spans.map(({ id }) => id)).size, 4);
});

test('a call without a trace begins one, and a malformed one counts as none', () => {
  const tracer = new Tracer(new VirtualScheduler());
  const metadata = new Metadata();
  tracer.inject(metadata);
  assert.match(metadata.get('traceparent') ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  const valid = `00-${'1'.repeat(32)}-${'2'.repeat(16)}-00`;
  assert.equal(tracer.begin('x', valid).trace, '1'.repeat(32));
  for (const wrong of [
    '',
    `ff${valid.slice(2)}`,
    `00-${'0'.repeat(32)}-${'2'.repeat(16)}-00`,
    `00-${'1'.repeat(32)}-${'0'.repeat(16)}-00`,
    `00-${'G'.repeat(32)}-${'2'.repeat(16)}-00`,
    valid.slice(0, 40),
  ]) {
    const span = tracer.begin('x', wrong);
    assert.deepEqual([span.parent, span.trace === '1'.repeat(32)], ['', false], wrong);
  }
  for (let n = 0; n < 2500; n++) tracer.end(tracer.begin(`s${n}`, valid), null);
  const kept = tracer.spans();
  assert.deepEqual([kept.length, kept[0]?.name, kept.at(-1)?.name], [1000, 's1500', 's2499']);
});

test('health fails when consumption has stopped, and readiness while the broker is away', async () => {
  await using t = await createTestService({ name: 'worker' });
  assert.deepEqual(t.service.health().reasons, ['the service has not started']);
  let release: () => void = () => {};
  const stuck = new Promise<void>((resolve) => {
    release = resolve;
  });
  t.service.subscribe('work', () => stuck, { queue: 'q', ackWaitMs: 5000 });
  await t.service.start();
  const { Debug } = t.open({ name: 'prober' }).client(debugOf('worker'));
  assert.deepEqual({ ...(await t.finish(Debug.Health({}))) }, { status: 'ok' });
  await t.broker.publish('work', message);
  await t.advance(4000);
  assert.equal(t.service.health().ready, true, 'a handler may take its time');
  await t.advance(2000);
  const reason = /consumption of work by q has stopped: 1 handlers run/;
  assert.match(t.service.health().reasons.join(), reason);
  assert.equal(t.service.health().live, true);
  await assert.rejects(t.finish(Debug.Health({})), { code: 'UNAVAILABLE', detail: reason });
  release();
  await t.settle();
  assert.equal(t.service.health().ready, true);
});

test('a service whose registry is away starts, is unready and says so, and registers when it is back', async () => {
  await using t = await createTestService({ name: 'one' });
  t.service.handle(One, { Hop: { Go: () => 'ok', Fail: () => {} } });
  t.registryDown(true);
  await t.service.start();
  assert.match(
    t.service.health().reasons.join(),
    /not registered: the registry of the test is down/,
  );
  t.registryDown(false);
  await t.advance(10_000);
  assert.equal(t.service.health().ready, true);
  // Those who know it still call it: an outage later on does not make it unready.
  t.registryDown(true);
  await t.advance(120_000);
  assert.equal(t.service.health().ready, true);
});

test('metrics count calls, messages and failures per endpoint, over HTTP beside the probes', async () => {
  const registry = new MemoryRegistry();
  await using service = createService({
    ...own,
    name: 'one',
    id: 'one-1',
    registry,
    broker: 'memory:',
    debugAddress: '127.0.0.1:0',
  });
  service.handle(One, { Hop: { Go: () => 'ok', Fail: () => Promise.reject(new Error('no')) } });
  let handled = 0;
  service.subscribe('work', () => handled++);
  await service.start();
  for (let call = 0; call < 3; call++) await service.client(One).Hop.Go();
  await service
    .client(One)
    .Hop.Fail()
    .catch(() => {});
  await service.call('one', 'No.Such').catch(() => {});
  await service.call('one', 'No.Such').catch(() => {});
  await (await service.broker()).publish('work', message);
  await until(() => handled > 0);
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${service.debugAddress}${path}`, { method });
    return { status: response.status, text: await response.text() };
  };
  assert.deepEqual(await get('/livez'), { status: 200, text: 'ok\n' });
  assert.deepEqual(await get('/healthz'), { status: 200, text: 'ok\n' });
  assert.deepEqual(await get('/readyz'), { status: 200, text: 'ok\n' });
  assert.equal((await get('/')).status, 404);
  assert.equal((await get('/metrics', 'POST')).status, 405);
  const { status, text } = await get('/metrics');
  assert.equal(status, 200);
  const labels = 'micro_name="one",micro_version="latest",micro_id="one-1"';
  for (const line of [
    `micro_request_total{${labels},micro_endpoint="Hop.Go",micro_status="success",code=""} 3`,
    `micro_request_total{${labels},micro_endpoint="Hop.Fail",micro_status="failure",code="HANDLER_FAILED"} 1`,
    `micro_request_total{${labels},micro_endpoint="unknown",micro_status="failure",code="METHOD_NOT_FOUND"} 2`,
    `micro_request_duration_seconds_count{${labels},micro_endpoint="Hop.Go"} 3`,
    `micro_request_duration_seconds_bucket{${labels},micro_endpoint="Hop.Go",le="+Inf"} 3`,
    `micro_client_request_total{${labels},micro_service="one",micro_endpoint="Hop.Go",micro_status="success",code=""} 3`,
    `micro_subscriber_request_total{${labels},micro_topic="work",micro_status="success",code=""} 1`,
    `micro_ready{${labels}} 1`,
  ]) {
    assert.ok(text.includes(`${line}\n`), `${line}\n${text}`);
  }
});

test('statistics of many names stay within their bound', () => {
  const statistics = new Statistics();
  for (let n = 0; n < 5000; n++) statistics.observe('client', `s${n}`, 'A.B', n % 20_000, null);
  assert.equal(statistics.rows.length, 1001);
  assert.equal(
    statistics.rows.reduce((sum, { count }) => sum + count, 0),
    5000,
  );
});

/** Spans in the console: one trace through two services, journeys with calls and steps, rights, limits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { connect } from '../../src/client/index.ts';
import type { Journey, Root, SpanRow, Trace } from '../../src/console/api-types.ts';
import { SpanTable } from '../../src/console/journey/span-table.ts';
import { serveConsole } from '../../src/console/serve.ts';
import { BrokerSource } from '../../src/console/sources/broker-source.ts';
import { RespSource } from '../../src/console/sources/resp-source.ts';
import type { Viewer } from '../../src/console/sources/source.ts';
import { RivuletError } from '../../src/errors.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { SPANS_TOPIC, spanMessages } from '../../src/service/observation/span-entry.ts';
import { createService } from '../../src/service/service.ts';
import { workflow } from '../../src/workflow/index.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { missing } from '../helpers/requirements.ts';
import { askAt, type OpenConsole, openConsole } from './fixture.ts';

const own = { environment: false, args: false } as const;
const Pay = contract('pay', { Cards: { Charge: unary<undefined, string>() } });

/** Asks again until the answer is complete: batches are stored once a second. */
async function until<T>(ask: () => Promise<T>, isThere: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await ask();
    if (isThere(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function failingServices(console: OpenConsole) {
  const broker = `rivulet://127.0.0.1:${console.running.port}`;
  const pay = createService({ ...own, name: 'pay', broker, transport: 'tcp' });
  pay.handle(Pay, {
    Cards: {
      Charge: () => {
        throw new RivuletError('FAILED_PRECONDITION', 'card declined');
      },
    },
  });
  const shop = createService({ ...own, name: 'shop', broker, transport: 'tcp' });
  shop.subscribe('orders', () => shop.client(Pay).Cards.Charge(), {
    queue: 'billing',
    retry: { attempts: 2, backoff: { minMs: 1, maxMs: 2 } },
  });
  return { pay, shop };
}

test('a publish whose handler calls another service and fails is one trace, and a journey', async () => {
  await using console = await openConsole();
  const { pay, shop } = failingServices(console);
  await pay.start();
  await shop.start();
  const dead = new Promise((resolve) => {
    void shop.broker().then((broker) => broker.on('deadLettered', resolve));
  });
  const broker = await shop.broker();
  const { id } = await broker.publish('orders', { body: '{"n":1}' });
  await dead;
  const isSettled = ({ groups }: Journey) => groups[0]?.spans.some(isDeadLetter) === true;
  const journey = await until(
    () => console.get<Journey>(`journey/orders/${id}`),
    (each) =>
      isSettled(each) && each.groups[0]!.spans.filter(({ kind }) => kind === 'serve').length === 2,
  );
  const traceId = journey.traceId ?? '';
  assert.match(traceId, /^[0-9a-f]{32}$/);
  const [billing] = journey.groups;
  assert.equal(billing?.state, 'dead');
  const shape = (rows: readonly SpanRow[]) =>
    rows.map(({ service, kind, name, attempt }) =>
      `${service} ${kind} ${name} ${attempt ?? ''}`.trim(),
    );
  assert.deepEqual(shape(billing!.spans).sort(), [
    'pay serve Cards.Charge',
    'pay serve Cards.Charge',
    'shop call pay.Cards.Charge',
    'shop call pay.Cards.Charge',
    'shop deliver orders 1',
    'shop deliver orders 2',
    'shop settle orders: dead letter 2',
    'shop settle orders: given back 1',
  ]);
  assert.deepEqual(shape(journey.spans), ['shop publish orders']);
  const deliver = billing!.spans.filter(({ kind }) => kind === 'deliver');
  for (const { error } of deliver) assert.match(error ?? '', /card declined/);
  const trace = await console.get<Trace>(`traces/${traceId}`);
  assert.equal(trace.spans.length, 9);
  const ids = new Set(trace.spans.map(({ spanId }) => spanId));
  const roots = trace.spans.filter(({ parentId }) => parentId === null || !ids.has(parentId));
  assert.deepEqual(
    roots.map(({ kind }) => kind),
    ['publish'],
    'every other span has its parent',
  );
  const known = new Set<string | null>();
  for (const { spanId, parentId } of trace.spans) {
    assert.ok(parentId === null || known.has(parentId), 'a span comes after its parent');
    known.add(spanId);
  }
  assert.deepEqual(trace.messages, [{ topic: 'orders', id }]);
  assert.deepEqual(trace.missing, []);
  await shop.stop();
  await pay.stop();
});

function isDeadLetter({ kind, name }: SpanRow): boolean {
  return kind === 'settle' && name.endsWith('dead letter');
}

test('steps of a workflow that a message caused are spans of its trace', async () => {
  await using console = await openConsole();
  const broker = `rivulet://127.0.0.1:${console.running.port}`;
  const order = workflow({ name: 'order', version: 1 }, async (flow) => {
    return flow.step('charge', () => 'charged');
  });
  await using shop = createService({ ...own, name: 'shop', broker });
  shop.workflow(order);
  shop.subscribe(
    'orders',
    async ({ topic, id, message }) => {
      const { traceparent } = message.headers;
      const cause = { topic, id, ...(traceparent === undefined ? {} : { traceparent }) };
      await shop.workflows.start(order, undefined, { id: 'order-17', cause });
    },
    { queue: 'starter' },
  );
  await shop.start();
  const { id } = await (await shop.broker()).publish('orders', { body: '{}' });
  const isStep = ({ kind }: SpanRow) => kind === 'step';
  const journey = await until(
    () => console.get<Journey>(`journey/orders/${id}`),
    ({ spans }) => spans.some(isStep),
  );
  const step = journey.spans.find(isStep);
  assert.equal(step?.name, 'order/order-17 charge');
  assert.equal(step?.traceId, journey.traceId);
  assert.equal(step?.error, null);
});

test('a trace without spans says why, and a wrong id is refused', async () => {
  await using console = await openConsole();
  const root = await console.get<Root>('');
  assert.equal(root.capabilities.spans, true);
  const trace = await console.get<Trace>(`traces/${'a'.repeat(32)}`);
  assert.deepEqual([trace.spans, trace.messages], [[], []]);
  assert.match(trace.missing.join(), /no spans are recorded/);
  await console.client.call('XADD', 'orders', '1-0', 'body', 'x');
  const journey = await console.get<Journey>('journey/orders/1-0');
  assert.match(journey.missing.join(), /no spans are recorded/);
  for (const id of ['x', '', 'a'.repeat(31), `${'a'.repeat(32)}b`]) {
    assert.ok([400, 404].includes((await console.ask(`traces/${id}`)).status), id);
  }
});

test('a user without the right to read the stream of spans is shown none, and why', async () => {
  const user = ['ann', 'on', '>pw', '+@all', '~orders'];
  await using console = await openConsole({}, [user]);
  const trace = 'b'.repeat(32);
  const stored = { kind: 'serve', id: 'c'.repeat(16), parent: '', name: 'A.B' } as const;
  const [entry] = spanMessages({
    service: 'shop',
    node: 'n',
    dropped: 0,
    spans: [{ ...stored, trace, at: 1, ms: 1, error: null }],
  });
  await console.client.call('XADD', SPANS_TOPIC, '*', 'body', String(entry!.body));
  const headers = { authorization: `Basic ${Buffer.from('ann:pw').toString('base64')}` };
  const hidden = await console.get<Trace>(`traces/${trace}`, { headers });
  assert.deepEqual(hidden.spans, []);
  assert.match(hidden.missing.join(), /not yours to read/);
  assert.equal((await console.get<Trace>(`traces/${trace}`)).spans.length, 1);
});

test('what is in the stream and no entry of spans is passed over', async () => {
  await using console = await openConsole();
  const { client } = console;
  const trace = 'd'.repeat(32);
  const span = `{"kind":"call","trace":"${trace}","id":"e","parent":"","name":"x","at":1,"ms":1,"error":null}`;
  await client.call('XADD', SPANS_TOPIC, '*', 'other', 'field');
  await client.call('XADD', SPANS_TOPIC, '*', 'body', '{');
  await client.call(
    'XADD',
    SPANS_TOPIC,
    '*',
    'body',
    `{"v":1,"service":"s","node":"n","spans":[null,${span}]}`,
  );
  await client.call('XADD', SPANS_TOPIC, '*', 'body', Buffer.from([0xff, 0xfe]));
  const found = await console.get<Trace>(`traces/${trace}`);
  assert.deepEqual(
    found.spans.map(({ name }) => name),
    ['x'],
  );
  // The stream may go while its entries are known.
  await client.call('DEL', SPANS_TOPIC);
  assert.deepEqual((await console.get<Trace>(`traces/${trace}`)).spans, []);
});

test('a console beside the server reads the spans by commands, with the rights of its address', async () => {
  await using server = await openConsole();
  const trace = 'f'.repeat(32);
  const span = `{"kind":"call","trace":"${trace}","id":"e","parent":"","name":"x","at":1,"ms":1,"error":null}`;
  await using client = await connect({ port: server.running.port });
  await client.call(
    'XADD',
    SPANS_TOPIC,
    '*',
    'body',
    `{"v":1,"service":"s","node":"n","spans":[${span}]}`,
  );
  const broker = `rivulet://127.0.0.1:${server.running.port}`;
  await using console = await serveConsole({ broker, port: 0 });
  const answer = await askAt(console.port, `/console/api/v1/traces/${trace}`, {});
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json<Trace>().spans[0]?.service, 's');
});

/** An entry with one span of the trace `number`. */
function spanEntry(number: number): string {
  const trace = number.toString(16).padStart(32, '0');
  return `{"v":1,"service":"s","node":"n","spans":[{"kind":"call","trace":"${trace}","id":"${number}","parent":"","name":"x","at":${number},"ms":1,"error":null}]}`;
}

test('the table reads the newest entries first, goes on with each question, and holds a limited number', async () => {
  await using server = await openConsole();
  const { client } = server;
  const add = (number: number) =>
    client.call('XADD', SPANS_TOPIC, `${number}-0`, 'body', spanEntry(number));
  for (let number = 1; number <= 100; number++) await add(number);
  await using broker = await openBroker(`rivulet://127.0.0.1:${server.running.port}`);
  const source = new RespSource('rivulet', '', client, broker, {});
  const viewer: Viewer = {
    user: '',
    address: '',
    commands: {
      call: (...args) => client.call(...(args as [string])),
      transaction: async () => [],
    },
    seesAll: true,
    sees: () => true,
    may: () => true,
    mayAnyKey: () => true,
  };
  const limits = { entries: 30, bytes: 1e9, ms: 10_000, keys: 160 };
  const table = new SpanTable(source, limits);
  const ask = async (number: number) => {
    const unseen: string[] = [];
    const trace = number.toString(16).padStart(32, '0');
    const found = await table.ofTrace(viewer, trace, unseen);
    return [found.length, unseen.join()] as const;
  };
  const [newest, first] = await ask(100);
  assert.equal(newest, 1);
  assert.match(first, /^spans before .* are not read yet: ask again$/);
  assert.equal((await ask(10))[0], 0, 'the second question has read back to the 41st');
  assert.equal((await ask(41))[0], 1);
  const [oldest, last] = await ask(15);
  assert.deepEqual([oldest, table.size], [0, 80], 'half of the keys are held');
  assert.match(last, /are too many to be searched/);
  for (let number = 101; number <= 200; number++) await add(number);
  for (let question = 0; question < 5; question++) await ask(200);
  assert.ok(table.size <= limits.keys, `${table.size} keys`);
  const [found, rest] = await ask(200);
  assert.equal(found, 1);
  assert.match(rest, /too many|not read yet/);
  table.close();
  assert.equal(table.size, 0);
});

test('spans on Redis, and those of a broker in memory, are shown by the console for it', {
  skip: missing('redis-server'),
}, async () => {
  await using redis = await startRedis();
  await using memory = await openBroker('memory:');
  for (const broker of [`redis://127.0.0.1:${redis.port}`, memory]) {
    const shop = createService({
      ...own,
      name: 'shop',
      broker,
      registry: 'memory',
      transport: 'local',
      ...(broker === memory ? { trace: { store: 1 } } : {}),
    });
    shop.subscribe('orders', () => {}, { queue: 'billing' });
    await shop.start();
    const { id } = await (await shop.broker()).publish('orders', { body: '{}' });
    await using console = await serveConsole({ broker, port: 0, registry: 'memory' });
    const answer = async () =>
      (await askAt(console.port, `/console/api/v1/journey/orders/${id}`, {})).json<Journey>();
    const { groups, spans } = await until(answer, (each) =>
      each.groups.some((group) => group.spans.some(({ kind }) => kind === 'settle')),
    );
    assert.deepEqual(groups[0]?.spans.map(({ kind }) => kind).sort(), ['deliver', 'settle']);
    assert.deepEqual(
      spans.map(({ kind, name }) => `${kind} ${name}`),
      ['publish orders'],
    );
    await shop.stop();
  }
});

test('where a broker is read through groups only, spans are not there, and the console says so', async () => {
  await using memory = await openBroker('memory:');
  const source = new BrokerSource(memory, {});
  assert.equal(source.capabilities.spans, false);
  assert.match(source.capabilities.missing.spans ?? '', /through a group only/);
});

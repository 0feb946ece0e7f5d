/**
 * A console over RabbitMQ and NATS, which speak no RESP: messages by their places, dead letters, actions,
 * monitoring, and what each of them cannot tell. Real servers of the machine's own.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Broker } from '../../../src/broker/broker.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import type {
  AuditPage,
  DeadPage,
  EntriesPage,
  EntryDetail,
  GroupDetail,
  Journey,
  Overview,
  Root,
  ServerFacts,
  TopicDetail,
  TopicsPage,
} from '../../../src/console/api-types.ts';
import { serveConsole } from '../../../src/console/index.ts';
import { createService } from '../../../src/service/service.ts';
import { freePort } from '../../helpers/free-port.ts';
import { startNats } from '../../helpers/nats-server.ts';
import { startRabbitMq } from '../../helpers/rabbitmq-server.ts';
import { missing } from '../../helpers/requirements.ts';
import { live } from '../fixture.ts';
import { consoleFor } from './source-fixture.ts';

type Opened = Awaited<ReturnType<typeof consoleFor>>;

const bodiesOf = ({ entries }: EntriesPage) => entries.map(({ preview }) => preview.text);
const where = (text: string) => `where=${encodeURIComponent(text)}`;

/** Letters of the numbers, in this order, in `orders.dead`. */
async function bury(broker: Broker, numbers: readonly number[]): Promise<void> {
  for (const n of numbers) {
    await broker.publish('orders', { body: `{"n":${n}}`, headers: { tenant: `t${n}` }, key: 'k' });
  }
  let left = numbers.length;
  let all!: () => void;
  const ended = new Promise<void>((resolve) => {
    all = resolve;
  });
  const subscriber = await broker.subscribe(
    'orders',
    async (delivery) => {
      await delivery.deadLetter(`reason ${delivery.json().n % 2}`);
      if (--left === 0) all();
    },
    { group: 'billing', from: 'earliest', ack: 'manual', concurrency: 1 },
  );
  await ended;
  await subscriber.unsubscribe();
}

/** What both show of ten messages, `{"n":1}` to `{"n":10}`. */
async function browses(console: Opened, broker: Broker): Promise<void> {
  const began = Date.now();
  for (let n = 1; n <= 10; n++) {
    await broker.publish('orders', { body: `{"n":${n}}`, headers: { tenant: n > 5 ? 'b' : 'a' } });
  }
  const path = 'topics/orders/entries';
  const newest = await console.get<EntriesPage>(`${path}?newest=1&limit=3`);
  assert.deepEqual(bodiesOf(newest), ['{"n":10}', '{"n":9}', '{"n":8}']);
  assert.equal(newest.length, 10);
  const older = await console.get<EntriesPage>(`${path}?newest=1&limit=100&after=${newest.next}`);
  assert.deepEqual(bodiesOf(older)[0], '{"n":7}');
  assert.deepEqual([bodiesOf(older).length, older.next], [7, null]);
  const oldest = await console.get<EntriesPage>(`${path}?from=0&limit=4`);
  assert.deepEqual(bodiesOf(oldest), ['{"n":1}', '{"n":2}', '{"n":3}', '{"n":4}']);
  const rest = await console.get<EntriesPage>(`${path}?after=${oldest.next}`);
  assert.deepEqual([bodiesOf(rest)[0], rest.entries.length], ['{"n":5}', 6]);
  const filtered = await console.get<EntriesPage>(
    `${path}?${where('json.n > 3 && header.tenant == "a"')}`,
  );
  assert.deepEqual(bodiesOf(filtered), ['{"n":4}', '{"n":5}']);
  for (const { at } of newest.entries) {
    assert.ok(at !== null && Math.abs(at - began) < 60_000, 'each message has its time');
  }
  assert.ok((newest.lastAt ?? 0) >= (newest.firstAt ?? Number.NaN));
  const sinceHour = await console.get<EntriesPage>(`${path}?from=${began - 3_600_000}`);
  assert.equal(sinceHour.entries.length, 10, 'a position may be a time');
  const later = await console.get<EntriesPage>(`${path}?from=${began + 3_600_000}`);
  assert.deepEqual([later.entries, later.stopped], [[], 'end']);
  const [, second, third] = oldest.entries;
  const detail = await console.get<EntryDetail>(`${path}/${second!.id}`);
  assert.deepEqual(
    [detail.body?.text.includes('2'), detail.previousId, detail.nextId],
    [true, oldest.entries[0]!.id, third!.id],
  );
  const body = await console.ask(`${path}/${second!.id}/body`);
  assert.deepEqual(
    [body.text, body.headers['content-type']],
    ['{"n":2}', 'application/octet-stream'],
  );
  assert.equal((await console.ask(`${path}/999999`)).status, 404);
  assert.equal((await console.ask('topics/nothing/entries')).status, 404);
  const topic = await console.get<TopicDetail>('topics/orders');
  assert.deepEqual([topic.length, topic.groups], [10, 0], 'looking has made no group');
}

/** A message that is published while a page shows the tail of its topic. */
async function tails(console: Opened, broker: Broker): Promise<void> {
  const frames = live(console.port, 'tail:orders');
  await frames.next();
  await broker.publish('orders', { body: '{"n":"new"}' });
  for await (const { parts } of frames) {
    const [entry] = parts['tail:orders']?.entries ?? [];
    if (entry === undefined) continue;
    assert.equal(entry.preview.text, '{"n":"new"}');
    return;
  }
  assert.fail('the tail ended');
}

async function cannotTell(console: Opened, abilities: readonly (keyof Root['capabilities'])[]) {
  const { capabilities } = await console.get<Root>('');
  for (const ability of abilities) {
    assert.ok([false, 'none'].includes(capabilities[ability] as never), ability);
    assert.ok(
      (capabilities.missing[ability] ?? '').length > 10,
      `a sentence says why no ${ability}`,
    );
  }
}

test('nats: messages are read by sequence, across gaps, without a consumer', {
  skip: missing('nats-server'),
}, async () => {
  await using nats = await startNats();
  const url = nats.nodes[0]!.url;
  await using broker = await openBroker(url);
  await using console = await consoleFor({ broker: url });
  await browses(console, broker);
  await tails(console, broker);
  const path = 'topics/orders/entries';
  // 200 messages of which all but the first and the last are gone.
  for (let n = 0; n < 200; n++) await broker.publish('gaps', { body: String(n) });
  for (let place = 2; place < 200; place++) await broker.log!.remove!('gaps', place);
  for (const newest of ['', '&newest=1']) {
    const page = await console.get<EntriesPage>(`topics/gaps/entries?limit=10${newest}`);
    const bodies = newest === '' ? ['0', '199'] : ['199', '0'];
    assert.deepEqual([bodiesOf(page), page.next], [bodies, null], newest);
  }
  assert.equal((await console.ask(`${path}/17`)).status, 404, 'an id in a gap');
  const { topics } = await console.get<TopicsPage>('topics?sort=length');
  assert.deepEqual(topics[0]!.name, 'orders');
  assert.ok((topics[0]!.bytes ?? 0) > 0, 'the protocol tells bytes');
  await cannotTell(console, ['settle', 'schedule', 'consumers', 'pending', 'server', 'clients']);
});

test('nats: single dead letters are redriven, edited and deleted; the audit is read back', {
  skip: missing('nats-server'),
}, async () => {
  await using nats = await startNats();
  const url = nats.nodes[0]!.url;
  await using broker = await openBroker(url);
  await bury(broker, [1, 2, 3, 4, 5]);
  await using console = await consoleFor({ broker: url });
  const dead = await console.get<DeadPage>('dead');
  assert.deepEqual(
    dead.entries.map(({ origin }) => [origin.topic, origin.group, origin.id, origin.reason]),
    [5, 4, 3, 2, 1].map((n) => ['orders', 'billing', String(n), `reason ${n % 2}`]),
  );
  const idOf = (n: number) => dead.entries.find(({ origin }) => origin.id === String(n))!.id;
  const target = (...ids: string[]) => ({ target: { topic: 'orders.dead', ids } });
  const one = await console.act('dead.redrive', target(idOf(2)));
  assert.deepEqual([one.outcome.done, one.outcome.made], [1, ['6']]);
  const copy = await console.get<EntryDetail>('topics/orders/entries/6');
  assert.equal(copy.preview.text, '{"n":2}');
  assert.equal(copy.redrivenFrom, `${idOf(2)}@orders.dead`);
  assert.ok(copy.headers.some(([name, value]) => name === 'tenant' && value === 't2'));
  const edited = await console.act('dead.edit', {
    ...target(idOf(3)),
    options: { body: '{"n":33}' },
  });
  const changed = await console.get<EntryDetail>(`topics/orders/entries/${edited.outcome.made[0]}`);
  assert.deepEqual([changed.preview.text, changed.key], ['{"n":33}', 'k']);
  await console.act('dead.delete', target(idOf(5)));
  const again = await console.ask('actions/dead.redrive', {
    method: 'POST',
    body: { dryRun: true, ...target(idOf(5)) },
  });
  assert.equal(again.json().impossible.length, 1, 'what is gone is impossible');
  const rest = await console.get<DeadPage>('dead');
  assert.deepEqual(
    rest.entries.map(({ origin }) => origin.id),
    ['4', '1'],
  );
  await console.act('dead.redrive', {
    target: {
      topic: 'orders.dead',
      all: true,
      where: 'header["rivulet-dead-reason"] == "reason 1"',
    },
  });
  assert.deepEqual(
    (await console.get<DeadPage>('dead')).entries.map(({ origin }) => origin.id),
    ['4'],
  );
  const audit = await console.get<AuditPage>('audit');
  assert.deepEqual(audit.entries.map(({ phase, verb }) => `${phase} ${verb}`).slice(0, 4), [
    'done dead.redrive',
    'intent dead.redrive',
    'done dead.delete',
    'intent dead.delete',
  ]);
  assert.ok(audit.entries.every(({ at }) => at > 1e12));
  const published = await console.act('topic.publish', {
    target: { topic: 'orders' },
    options: { body: 'hello', headers: { a: 'b' } },
  });
  const made = published.outcome.made[0];
  assert.equal(
    (await console.get<EntryDetail>(`topics/orders/entries/${made}`)).preview.text,
    'hello',
  );
  const removed = await console.act('topic.delete', { target: { topic: 'orders' } });
  assert.equal(removed.plan.confirm, 'orders');
  assert.equal((await console.ask('topics/orders/entries')).status, 404);
});

test('nats: the places of a group tell the way of a message, and a page says what is not told', {
  skip: missing('nats-server'),
}, async () => {
  await using nats = await startNats();
  const url = nats.nodes[0]!.url;
  await using broker = await openBroker(url);
  for (let n = 1; n <= 4; n++) await broker.publish('orders', { body: `{"n":${n}}` });
  let hold!: () => void;
  const held = new Promise<void>((resolve) => {
    hold = resolve;
  });
  await broker.subscribe(
    'orders',
    async (delivery) => {
      const { n } = delivery.json();
      if (n === 1) await delivery.ack();
      if (n === 2) await delivery.deadLetter('no use');
      if (n === 3) hold();
    },
    { group: 'billing', from: 'earliest', ack: 'manual', concurrency: 1, maxInFlight: 1 },
  );
  await held;
  await using console = await consoleFor({ broker: url });
  const group = await console.get<GroupDetail>('topics/orders/groups/billing');
  assert.deepEqual(
    [group.lastDeliveredId, group.settledUpTo, group.pending, group.lag, group.consumers],
    ['3', '2', 1, 1, null],
  );
  const states: unknown[] = [];
  for (const id of ['1', '2', '3', '4']) {
    const journey = await console.get<Journey>(`journey/orders/${id}`);
    const [row] = journey.groups;
    states.push([row!.state, row!.before, row!.dead?.origin.reason ?? null]);
    assert.ok(journey.at !== null && journey.at > 1e12, 'the time is the one of the log');
    assert.ok(journey.missing.some((text) => /only how many are pending/.test(text)));
  }
  assert.deepEqual(states, [
    ['settled', null, null],
    ['dead', null, 'no use'],
    ['unknown', null, null],
    ['waiting', 0, null],
  ]);
  const letter = await console.get<Journey>('journey/orders.dead/1');
  assert.deepEqual(letter.copies, [{ kind: 'origin', topic: 'orders', id: '2' }]);
});

test('nats: monitoring tells the server and its clients; a page says so where it fails', {
  skip: missing('nats-server'),
}, async () => {
  await using nats = await startNats();
  const { url, monitor } = nats.nodes[0]!;
  {
    await using console = await consoleFor({ broker: url, natsMonitor: monitor });
    const { sections } = await console.get<ServerFacts>('server');
    assert.deepEqual(
      sections.map(({ title }) => title),
      ['NATS', 'JetStream'],
    );
    assert.ok(sections[0]!.facts.some(([name]) => name === 'version'));
    assert.ok((await console.get('clients')).length >= 1);
    await console.get('overview');
  }
  const nowhere = `http://127.0.0.1:${await freePort()}`;
  await using console = await consoleFor({ broker: url, natsMonitor: nowhere });
  const answer = await console.ask('server');
  assert.deepEqual([answer.status, answer.json().code], [503, 'NOT_CONNECTED']);
  const overview = await console.get<Overview>('overview');
  assert.match(overview.reason ?? '', /--nats-monitor .* cannot be reached/);
  await assert.rejects(
    serveConsole({ broker: url, port: 0, rabbitMqApi: nowhere }),
    /--rabbitmq-api is for RabbitMQ/,
  );
  await assert.rejects(
    serveConsole({ broker: url, port: 0, natsMonitor: 'nats://x' }),
    /begins with http/,
  );
});

test('rabbitmq: a journey has what dead letters and spans say, and names what is not told', {
  skip: missing('rabbitmq-server'),
}, async () => {
  await using rabbit = await startRabbitMq(1);
  const url = rabbit.nodes[0]!.url;
  await using broker = await openBroker(url);
  await using shop = createService({
    ...{ name: 'shop', broker: url, registry: 'memory:journeys', environment: false, args: false },
    trace: { store: 1 },
  });
  shop.subscribe('orders', () => {}, { queue: 'billing' });
  await shop.start();
  // What is read by it is recorded by no service.
  await broker.subscribe('orders', () => {}, { group: 'statistics', from: 'earliest' });
  const { id } = await broker.publish('orders', { body: '{"n":1}' });
  await using console = await consoleFor({ broker: url });
  const stateOf = ({ groups }: Journey, name: string) =>
    groups.find(({ group }) => group === name)?.state;
  let journey: Journey | null = null;
  const until = performance.now() + 120_000;
  // A batch of spans is stored once a second; a stream that was just declared cannot be read at first.
  while (journey === null || stateOf(journey, 'billing') !== 'settled') {
    const answer = await console.ask(`journey/orders/${id}`);
    assert.ok(performance.now() < until, `nothing says that it is settled: ${answer.text}`);
    journey = answer.status === 200 ? answer.json<Journey>() : null;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(stateOf(journey, 'statistics'), 'untold');
  assert.ok(journey.missing.some((text) => /rabbitmq does not tell which group/.test(text)));
  assert.equal(journey.entry?.preview.text, '{"n":1}');
});

test('rabbitmq: messages of the log, dead letters in their order, the management API', {
  skip: missing('rabbitmq-server'),
}, async () => {
  const apiPort = await freePort();
  const config = [`management.tcp.port = ${apiPort}`, 'management.tcp.ip = 127.0.0.1'];
  await using rabbit = await startRabbitMq(1, config, ['rabbitmq_management']);
  const url = rabbit.nodes[0]!.url;
  await using broker = await openBroker(url);
  {
    await using console = await consoleFor({ broker: url });
    await browses(console, broker);
    await tails(console, broker);
    await cannotTell(console, [
      'settle',
      'schedule',
      'pending',
      'rates',
      'redriveChosen',
      'server',
    ]);
    await broker.deleteTopic('orders');
    await bury(broker, [1, 2, 3]);
  }
  await using console = await consoleFor({
    broker: url,
    rabbitMqApi: `http://127.0.0.1:${apiPort}`,
  });
  const dead = await console.get<DeadPage>('dead');
  assert.deepEqual(
    dead.entries.map(({ origin, preview }) => [origin.topic, origin.reason, preview.text]),
    [3, 2, 1].map((n) => ['orders', `reason ${n % 2}`, `{"n":${n}}`]),
  );
  const chosen = { dryRun: true, target: { topic: 'orders.dead', ids: [dead.entries[0]!.id] } };
  for (const verb of ['dead.redrive', 'dead.edit', 'dead.delete']) {
    const refused = await console.ask(`actions/${verb}`, { method: 'POST', body: chosen });
    assert.equal(refused.status, 501, verb);
    assert.match(refused.json().message, /in their order/);
  }
  const { origin } = dead.entries[0]!;
  const way = async (id: string) => (await console.get<Journey>(`journey/orders/${id}`)).groups;
  const [letter] = await way(origin.id);
  assert.deepEqual([letter!.state, letter!.dead?.origin.reason], ['dead', origin.reason]);
  const all = await console.act('dead.redrive', { target: { topic: 'orders.dead', all: true } });
  assert.deepEqual([all.plan.count, all.outcome.done], [3, 3]);
  const [redriven] = await way(origin.id);
  assert.deepEqual([redriven!.state, redriven!.dead], ['settled', null]);
  const letters = await console.get<DeadPage>('dead');
  assert.deepEqual(letters.entries, [], 'what was redriven stays in the log, and waits no more');
  assert.equal((await console.get<TopicDetail>('topics/orders')).length, 6);
  const { sections } = await console.get<ServerFacts>('server');
  assert.ok(sections.some(({ title }) => title.startsWith('Node rivulet-')));
  const { capabilities, verbs } = await console.get<Root>('');
  assert.deepEqual([capabilities.rates, capabilities.clients], [true, true]);
  assert.equal(verbs.includes('dead.edit'), false);
  assert.equal((await console.get('overview')).reason, null);
  // A subscriber of another process holds one message: AMQP does not tell, and the API does, each 5 s.
  await broker.publish('held', { body: 'x' });
  await broker.subscribe('held', () => new Promise<void>(() => {}), {
    group: 'a:b%',
    from: 'earliest',
  });
  const told = async (): Promise<GroupDetail> => {
    for (;;) {
      const answer = await console.ask('topics/held/groups/a%3Ab%25');
      if (answer.status === 200 && answer.json<GroupDetail>().pending === 1) return answer.json();
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  const group = await told();
  assert.deepEqual([group.consumers, group.lag, group.lastDeliveredId], [1, 0, '']);
  const wrong = await consoleFor({
    broker: url,
    rabbitMqApi: `http://ann:wrong@127.0.0.1:${apiPort}`,
  });
  await using _ = wrong;
  const refused = await wrong.ask('server');
  assert.equal(refused.status, 403);
  assert.doesNotMatch(refused.text, /wrong@|ann:/);
});

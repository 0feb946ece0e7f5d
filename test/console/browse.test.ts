/**
 * Topics, messages, groups, pending messages and dead letters through the API of a real server.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type {
  DeadPage,
  EntriesPage,
  EntryDetail,
  EntryRow,
  LiveFrame,
  PendingPage,
  TopicDetail,
  TopicsPage,
} from '../../src/console/api-types.ts';
import { decode } from '../../src/console/messages/decode.ts';
import { Masks } from '../../src/console/messages/mask.ts';
import { live, type OpenConsole, openConsole } from './fixture.ts';

const add = (console: OpenConsole, topic: string | Buffer, ...fields: (string | Buffer)[]) =>
  console.client.call('XADD', topic, '*', ...fields);

test('topics are listed with their numbers, sorted, searched and paged', async () => {
  await using console = await openConsole();
  for (let i = 0; i < 250; i++) await add(console, `t${String(i).padStart(3, '0')}`, 'body', 'x');
  for (let i = 0; i < 5; i++) await add(console, 't100', 'body', 'y');
  await console.client.call('XGROUP', 'CREATE', 't100', 'g', '0');
  await console.client.call('SET', 'no-topic', 'x');
  const all: string[] = [];
  let page: TopicsPage;
  let after = '';
  do {
    page = await console.get<TopicsPage>(`topics?after=${after}`);
    all.push(...page.topics.map(({ name }) => name));
    after = page.next ?? '';
  } while (page.next !== null);
  assert.equal(page.total, 250);
  assert.deepEqual(all, [...all].sort());
  assert.equal(all.length, 250);
  const longest = await console.get<TopicsPage>('topics?sort=length');
  assert.deepEqual(
    longest.topics.slice(0, 2).map(({ name, length, lag, groups }) => [name, length, lag, groups]),
    [
      ['t100', 6, 6, 1],
      ['t000', 1, null, 0],
    ],
  );
  const second = await console.get<TopicsPage>(`topics?sort=length&after=${longest.next}`);
  const shown = [...longest.topics, ...second.topics].map(({ name }) => name);
  assert.equal(new Set(shown).size, 200);
  const found = await console.get<TopicsPage>('topics?q=T01');
  assert.equal(found.matched, 10);
  assert.equal(found.total, 250);
  assert.equal((await console.ask('topics?sort=evil')).status, 400);
  assert.equal((await console.ask('topics?after=%00rubbish')).status, 200);
});

test('looking makes nothing: no key, no group, no consumer, no change', async () => {
  await using console = await openConsole();
  await add(console, 'orders', 'body', '{"total":1}');
  await console.client.call('XGROUP', 'CREATE', 'orders', 'g', '0');
  await console.client.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'orders', '>');
  const dump = async () =>
    JSON.stringify([
      await console.client.call('DBSIZE'),
      await console.client.call('DUMP', 'orders'),
      console.running.server.state.engine.changes,
    ]);
  const before = await dump();
  for (const path of [
    'overview',
    'topics',
    'topics/orders',
    'topics/none',
    'topics/orders/entries?where=json.total==1',
    'topics/none/entries',
    'topics/orders/groups',
    'topics/orders/groups/g',
    'topics/orders/groups/none',
    'topics/orders/groups/g/pending',
    'topics/orders/groups/none/pending',
    'topics/orders/scheduled',
    'dead',
    'server',
    'clients',
    'slowlog',
  ]) {
    const { status } = await console.ask(path);
    assert.equal(status, path.includes('none') ? 404 : 200, path);
  }
  assert.equal(await dump(), before);
});

test('messages are browsed by id, time, from the newest, and beyond a page', async () => {
  await using console = await openConsole();
  const pipeline = [];
  for (let i = 1; i <= 2500; i++) {
    pipeline.push(['XADD', 'orders', `${1_700_000_000_000 + i}-0`, 'body', `{"n":${i}}`]);
  }
  await console.client.pipeline(pipeline);
  const get = (query: string) => console.get<EntriesPage>(`topics/orders/entries?${query}`);
  const numbers = ({ entries }: EntriesPage) =>
    entries.map(({ preview }) => JSON.parse(preview.text).n);
  const first = await get('limit=3');
  assert.deepEqual(numbers(first), [1, 2, 3]);
  assert.deepEqual(
    [first.stopped, first.length, first.firstId, first.lastId],
    ['page', 2500, '1700000000001-0', '1700000002500-0'],
  );
  assert.deepEqual(numbers(await get(`limit=2&after=${first.next}`)), [4, 5]);
  assert.deepEqual(numbers(await get('limit=2&newest=1')), [2500, 2499]);
  assert.deepEqual(numbers(await get('limit=2&from=1700000001000')), [1000, 1001]);
  assert.deepEqual(numbers(await get('limit=1&from=2023-11-14T22:13:21.000Z')), [1000]);
  const end = await get('from=1700000002499-0');
  assert.deepEqual([numbers(end), end.stopped, end.next], [[2499, 2500], 'end', null]);
  const all: number[] = [];
  let next: string | null = null;
  do {
    const page: EntriesPage = await get(`limit=1000${next === null ? '' : `&after=${next}`}`);
    all.push(...numbers(page));
    next = page.next;
  } while (next !== null);
  assert.deepEqual(
    all,
    Array.from({ length: 2500 }, (_, i) => i + 1),
  );
  for (const wrong of ['from=x', 'after=1-', 'limit=0', 'limit=1001', 'decode=js', 'where=(']) {
    assert.equal((await console.ask(`topics/orders/entries?${wrong}`)).status, 400, wrong);
  }
  // Half an id is a position, and the id of no message.
  assert.equal((await console.ask('topics/orders/entries/1')).status, 404);
});

test('a filter finds what is there and says how far it looked', async () => {
  await using console = await openConsole();
  const pipeline = [];
  for (let i = 1; i <= 60_000; i++) {
    pipeline.push(['XADD', 'orders', `${i}-0`, 'headers', '{"tenant":"a"}', 'body', `{"n":${i}}`]);
  }
  await console.client.pipeline(pipeline);
  const where = encodeURIComponent('json.n > 59998 && header.tenant == "a"');
  const found: string[] = [];
  let after = '';
  let page: EntriesPage;
  let requests = 0;
  do {
    page = await console.get(`topics/orders/entries?where=${where}${after}`);
    found.push(...page.entries.map(({ id }) => id));
    after = `&after=${page.next}`;
    assert.ok(page.scanned <= 50_000);
    requests++;
  } while (page.next !== null);
  assert.deepEqual(found, ['59999-0', '60000-0']);
  assert.ok(requests >= 2);
});

test('bodies are decoded by what they are, and a failure shows hex and its reason', async () => {
  await using console = await openConsole();
  const bodies: [Buffer, string, string][] = [
    [Buffer.from('{"a":9007199254740993}'), 'json', '{"a":9007199254740993}'],
    [Buffer.from('plain text'), 'text', 'plain text'],
    [Buffer.from([0x81, 0xa1, 0x61, 0x01]), 'msgpack', '{"a":1}'],
    [Buffer.from([0xff, 0x00, 0xfe]), 'hex', 'ff00fe'],
    [Buffer.alloc(0), 'empty', ''],
    [Buffer.from('<img src=x onerror=alert(1)>'), 'text', '<img src=x onerror=alert(1)>'],
    [Buffer.from('[1,2'), 'text', '[1,2'],
  ];
  for (const [body] of bodies) await add(console, 'mixed', 'body', body);
  const page = await console.get<EntriesPage>('topics/mixed/entries');
  assert.deepEqual(
    page.entries.map(({ preview }) => [preview.as, preview.text]),
    bodies.map(([, as, text]) => [as, text]),
  );
  const forced = await console.get<EntriesPage>('topics/mixed/entries?decode=json');
  const { as, text, error } = forced.entries[1]!.preview;
  assert.deepEqual([as, text], ['hex', Buffer.from('plain text').toString('hex')]);
  assert.match(error ?? '', /JSON/);
  const [first] = page.entries;
  const detail = await console.get<EntryDetail>(`topics/mixed/entries/${first!.id}`);
  assert.equal(detail.previousId, null);
  assert.equal(detail.nextId, page.entries[1]!.id);
  const body = await console.ask(`topics/mixed/entries/${page.entries[5]!.id}/body`);
  assert.equal(body.text, '<img src=x onerror=alert(1)>');
  assert.equal(body.headers['content-type'], 'application/octet-stream');
  assert.match(body.headers['content-disposition'] ?? '', /^attachment; filename="[\d-]+\.bin"$/);
  assert.equal(body.headers['x-content-type-options'], 'nosniff');
});

test('hostile names, headers and bodies are shown as text and break nothing', async () => {
  await using console = await openConsole();
  const names = [
    Buffer.from('<img src=x onerror=alert(1)>'),
    Buffer.from('a\0b'),
    Buffer.from('\u202Egnp.exe'),
    Buffer.from([0xff, 0xfe, 0x2f]),
    Buffer.from('~tilde'),
    Buffer.from('..'),
    Buffer.from('a/b?c#d%2f'),
    Buffer.from('__proto__'),
    Buffer.from('x'.repeat(5000)),
  ];
  const headers = '{"__proto__":"p","constructor":"c","<b>":"\\ud800"}';
  for (const name of names) {
    await add(console, name, 'headers', headers, 'body', '"\\ud800 \\u0000"');
    await console.client.call('XGROUP', 'CREATE', name, name, '0');
    await console.client.call('XREADGROUP', 'GROUP', name, name, 'STREAMS', name, '>');
  }
  const { topics } = await console.get<TopicsPage>('topics');
  assert.equal(topics.length, names.length);
  for (const { name } of topics) {
    const path = `topics/${encodeURIComponent(name)}`;
    const page = await console.get<EntriesPage>(`${path}/entries?where=header.__proto__=="p"`);
    assert.equal(page.entries.length, 1, name);
    assert.deepEqual(page.entries[0]!.headers[0], ['__proto__', 'p']);
    const detail = await console.get<TopicDetail>(path);
    const group = `${path}/groups/${encodeURIComponent(detail.groupRows[0]!.name)}`;
    const pending = await console.get<PendingPage>(`${group}/pending`);
    assert.equal(pending.entries.length, 1);
    assert.equal(pending.entries[0]!.consumer, name);
  }
  assert.equal((await console.ask('topics/%ff%fe')).status, 404);
  assert.equal((await console.ask('topics/~!!')).status, 400);
});

test('large and deep bodies cost a preview, and above 1 MiB a download', async () => {
  await using console = await openConsole();
  const large = `{"a":"${'x'.repeat(10 * 1024 * 1024)}"}`;
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  await add(console, 'big', 'body', large);
  await add(console, 'big', 'body', deep);
  const page = await console.get<EntriesPage>('topics/big/entries');
  assert.deepEqual(
    page.entries.map(({ preview }) => [preview.text.length, preview.cut]),
    [
      [256, true],
      [256, true],
    ],
  );
  const [first, second] = page.entries as [EntryRow, EntryRow];
  const whole = await console.get<EntryDetail>(`topics/big/entries/${first.id}`);
  assert.equal(whole.body, null);
  const nested = await console.get<EntryDetail>(`topics/big/entries/${second.id}`);
  assert.ok(nested.body?.text.startsWith('[[['));
  const where = encodeURIComponent('json[0][0] != 1');
  const filtered = await console.get<EntriesPage>(`topics/big/entries?where=${where}`);
  assert.equal(filtered.entries.length, 2);
});

test('a body above 1 MiB is decoded by no preview, no filter and no decoder', async () => {
  const users = [
    ['ann', 'on', '>pw', '~*', '+@read'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  const mask = { 'console-mask': 'json.card' };
  await using console = await openConsole(mask, users, { password: 'root' });
  const body = JSON.stringify({ card: '4111', pad: 'x'.repeat(1024 * 1024) });
  await add(console, 'big', 'body', body, 'headers', '{"content-type":"application/json"}');
  await add(
    console,
    'big',
    'body',
    Buffer.concat([Buffer.from([0x92, 0xc4]), Buffer.alloc(2 ** 21)]),
  );
  const as = (who: string) => ({ headers: { authorization: `Bearer ${who}` } });
  const page = async (query: string, who = 'default:root') =>
    (await console.get<EntriesPage>(`topics/big/entries${query}`, as(who))).entries;
  const [text, bytes] = (await page('')) as [EntryRow, EntryRow];
  assert.deepEqual([text.preview.as, text.preview.text], ['text', body.slice(0, 256)]);
  assert.deepEqual([bytes.preview.as, bytes.preview.cut], ['hex', true]);
  for (const decoder of ['json', 'msgpack']) {
    for (const { preview } of await page(`?decode=${decoder}`)) {
      assert.match(preview.error ?? '', /not decoded/);
    }
  }
  assert.equal((await page(`?where=${encodeURIComponent('json.card != 5')}`)).length, 2);
  assert.equal((await page(`?where=${encodeURIComponent('json.card == "4111"')}`)).length, 0);
  assert.equal((await page(`?where=${encodeURIComponent('text *= "4111"')}`)).length, 1);
  for (const query of ['', '?decode=hex', '?decode=text', '?decode=json', '?decode=msgpack']) {
    assert.doesNotMatch(JSON.stringify(await page(query, 'ann:pw')), /4111|34313131/);
  }
});

test('line breaks are left out where they would be most of a body', () => {
  const setup = { masks: new Masks([]), protos: null };
  const wish = { topic: Buffer.from('t'), contentType: null, decoder: 'auto' as const };
  const shown = (text: string) =>
    decode(Buffer.from(text), { ...wish, limit: 1024 * 1024, isPretty: true }, setup);
  assert.equal(shown('{"a":["],[\\"",1]}').text, '{\n  "a": [\n    "],[\\"",\n    1\n  ]\n}');
  // 100 000 lines with 600 spaces before each would be 60 MB.
  const wide = `${'['.repeat(300)}${'1,'.repeat(100_000)}1${']'.repeat(300)}`;
  assert.equal(shown(wide).text, wide);
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  assert.equal(shown(deep).text, deep);
});

test('masked values reach admins only, by no decoder, filter or download', async () => {
  const users = [
    ['ann', 'on', '>pw', '~*', '+@read'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  const mask = 'json.card,json.items.pin,header.Authorization';
  await using console = await openConsole({ 'console-mask': mask }, users, { password: 'root' });
  const body = JSON.stringify({ card: '4111', items: [{ pin: '9876' }, { pin: '9876' }], ok: 1 });
  const headers = JSON.stringify({ authorization: 'Bearer abcdef', tenant: 'a' });
  await add(console, 'pay', 'headers', headers, 'body', body);
  await add(console, 'pay', 'body', `4111 9876 ${'{'.repeat(3)}`);
  await add(console, 'pay.dead', 'headers', headers, 'body', body, 'rivulet-dead-topic', 'pay');
  const as = (who: string) => ({ headers: { authorization: `Bearer ${who}` } });
  const { entries } = await console.get<EntriesPage>('topics/pay/entries', as('default:root'));
  const id = entries[0]!.id;
  assert.match(JSON.stringify(entries), /4111.*9876|9876.*4111/);
  const paths = [
    'topics/pay/entries',
    'topics/pay/entries?decode=hex',
    'topics/pay/entries?decode=text',
    'topics/pay/entries?decode=msgpack',
    'topics/pay/entries?decode=json',
    `topics/pay/entries/${id}`,
    `topics/pay/entries/${id}?decode=text`,
    'dead',
  ];
  const secrets = ['4111', '9876', 'abcdef'].flatMap((s) => [s, Buffer.from(s).toString('hex')]);
  for (const path of paths) {
    const { text } = await console.ask(path, as('ann:pw'));
    for (const secret of secrets) assert.ok(!text.includes(secret), `${path} shows ${secret}`);
  }
  assert.equal((await console.ask(`topics/pay/entries/${id}/body`, as('ann:pw'))).status, 403);
  for (const where of ['json.card ^= "4"', 'text *= "4111"', 'header.authorization *= "abc"']) {
    const page = await console.get<EntriesPage>(
      `topics/pay/entries?where=${encodeURIComponent(where)}`,
      as('ann:pw'),
    );
    assert.equal(page.entries.length, 0, where);
  }
  const root = await console.get('', as('ann:pw'));
  assert.deepEqual(root.masked, mask.split(','));
});

test('groups show consumers, lag and pending messages by holder, idle time and attempt', async () => {
  await using console = await openConsole();
  for (let i = 0; i < 250; i++) await add(console, 'orders', 'body', String(i));
  await console.client.call('XGROUP', 'CREATE', 'orders', 'billing', '0');
  const policy = ['ACKWAIT', 30_000, 'MAXDELIVERIES', 3, 'DEADLETTER', 'orders.dead'];
  await console.client.call('XGROUP', 'SETPOLICY', 'orders', 'billing', ...policy);
  const read = ['XREADGROUP', 'GROUP', 'billing', 'ann', 'COUNT', 150, 'STREAMS', 'orders', '>'];
  await console.client.call(...(read as [string]));
  const [group] = await console.get('topics/orders/groups');
  assert.deepEqual(
    [group.name, group.consumers, group.pending, group.lag, group.policy],
    [
      'billing',
      1,
      150,
      100,
      { ackWaitMs: 30_000, maxDeliveries: 3, deadLetter: 'orders.dead', backoffMs: [] },
    ],
  );
  const path = 'topics/orders/groups/billing';
  const detail = await console.get(path);
  assert.equal(detail.consumerRows[0].name, 'ann');
  const first = await console.get<PendingPage>(`${path}/pending`);
  assert.deepEqual([first.entries.length, first.total], [100, 150]);
  const second = await console.get<PendingPage>(`${path}/pending?after=${first.next}`);
  assert.deepEqual([second.entries.length, second.next], [50, null]);
  const [row] = first.entries;
  assert.deepEqual([row!.consumer, row!.attempts], ['ann', 1]);
  assert.ok(row!.dueInMs !== null && row!.dueInMs > 0 && row!.dueInMs <= 30_000);
  const none = await console.get<PendingPage>(`${path}/pending?consumer=bob`);
  assert.equal(none.entries.length, 0);
});

test('dead letters of all topics are one list, paged without loss, with reasons', async () => {
  await using console = await openConsole();
  const pipeline = [];
  for (let i = 0; i < 150; i++) {
    for (const topic of ['a', 'b']) {
      const dead = [
        'rivulet-dead-topic',
        topic,
        'rivulet-dead-group',
        'g',
        'rivulet-dead-id',
        `${i}-1`,
      ];
      const why = ['rivulet-dead-reason', i % 3 === 0 ? 'timeout' : 'declined'];
      pipeline.push(['XADD', `${topic}.dead`, `${i + 1}-0`, 'body', 'x', ...dead, ...why]);
    }
  }
  await console.client.pipeline(pipeline);
  const seen: string[] = [];
  let after = '';
  let page: DeadPage;
  do {
    page = await console.get<DeadPage>(`dead?after=${encodeURIComponent(after)}`);
    seen.push(...page.entries.map(({ topic, id }) => `${id}@${topic}`));
    after = page.next ?? '';
  } while (page.next !== null);
  const all = pipeline.map(([, topic, id]) => `${id}@${topic}`);
  assert.equal(new Set(seen).size, 300);
  assert.deepEqual([...seen].sort(), all.sort());
  assert.equal(seen[0], '150-0@a.dead');
  const one = await console.get<DeadPage>('dead?topic=a');
  assert.ok(one.entries.every(({ origin }) => origin.topic === 'a'));
  assert.deepEqual(
    one.reasons.map(({ reason, count }) => [reason, count]),
    [
      ['declined', 100],
      ['timeout', 50],
    ],
  );
  assert.equal((await console.ask('dead?after=rubbish')).status, 400);
});

test('a search for the letters of one group has a bound, and goes on without loss', async () => {
  await using console = await openConsole();
  const of = (group: string, topic: string) => [
    ...['XADD', `${topic}.dead`, '*', 'rivulet-dead-topic', topic, 'rivulet-dead-group', group],
    ...['body', group],
  ];
  await console.client.call(...of('rare', 'b'));
  await console.client.call(...of('rare', 'a'));
  for (let i = 0; i < 25; i++) {
    const batch = Array.from({ length: 1000 }, (_, n) => of('often', n % 2 === 0 ? 'a' : 'b'));
    await console.client.pipeline(batch);
  }
  const found: string[] = [];
  let after = '';
  for (let pages = 0; after !== null && pages < 100; pages++) {
    const page = await console.get(`dead?group=rare&after=${encodeURIComponent(after)}`);
    assert.ok(page.scanned <= 20_000, `${page.scanned} letters at once`);
    found.push(...page.entries.map((each: { topic: string }) => each.topic));
    after = page.next;
  }
  assert.deepEqual(found, ['a.dead', 'b.dead']);
});

test('a live stream sends a snapshot, then changes; a tail sends each message once', async () => {
  await using console = await openConsole();
  await add(console, 'orders', 'body', '0');
  const seen: string[] = [];
  let snapshots = 0;
  let sent = 0;
  for await (const frame of live(
    console.port,
    'topic:orders,tail:orders',
  ) as AsyncGenerator<LiveFrame>) {
    if (frame.snapshot) snapshots++;
    const tail = frame.parts['tail:orders'];
    if (tail?.kind === 'append') seen.push(...tail.entries.map(({ preview }) => preview.text));
    const topic = frame.parts['topic:orders'];
    if (topic?.kind === 'value') assert.equal((topic.value as TopicDetail).name, 'orders');
    if (seen.length >= 6) break;
    if (sent < 6) {
      for (let i = 0; i < 3; i++) await add(console, 'orders', 'body', String(++sent));
    }
  }
  assert.deepEqual(seen, ['1', '2', '3', '4', '5', '6']);
  assert.equal(snapshots, 1);
  assert.equal((await console.ask('live?watch=nothing')).status, 404);
  assert.equal((await console.ask('live')).status, 400);
});

/**
 * Dead letters by actions: redriven, edited, deleted; what is refused, and what a copy keeps.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActionOutcome, ActionPlan, EntriesPage } from '../../../src/console/api-types.ts';
import { openConsole } from '../fixture.ts';
import { act, plan, post, ROOT, withPending } from './action-steps.ts';

test('dead letters are redriven with their origin, edited, deleted', async () => {
  await using console = await openConsole();
  await withPending(console, 3);
  for (const id of ['1-0', '2-0', '3-0']) {
    await console.client.call('XNACK', 'orders', 'g', 'DEADLETTER', 'IDS', 1, id, 'REASON', 'bad');
  }
  const ids = (await console.get<EntriesPage>('topics/orders.dead/entries')).entries.map(
    (e) => e.id,
  );
  const target = (id: string) => ({ target: { topic: 'orders.dead', ids: [id] } });
  const redriven = await act(console, 'dead.redrive', target(ids[0]!));
  assert.equal(redriven.done, 1);
  const edited = await act(console, 'dead.edit', {
    ...target(ids[1]!),
    options: { body: '{"n":22}', headers: { tenant: 'a' } },
  });
  const entryOf = (id: string) => console.get(`topics/orders/entries/${id}`);
  const copy = await entryOf(redriven.made[0]!);
  assert.equal(copy.redrivenFrom, `${ids[0]}@orders.dead`);
  assert.equal(copy.body.text, JSON.stringify({ n: 1 }, null, 2));
  assert.ok(!copy.headers.some(([name]: [string]) => name.startsWith('rivulet-dead-')));
  const written = await entryOf(edited.made[0]!);
  assert.equal(written.editedFrom, `${ids[1]}@orders.dead`);
  assert.equal(written.preview.text, '{"n":22}');
  const unconfirmed = await plan(console, 'dead.delete', target(ids[2]!));
  assert.equal(unconfirmed.confirm, 'orders.dead');
  const refused = await post(console, 'dead.delete', {
    token: unconfirmed.token,
    confirm: 'orders',
  });
  assert.equal(refused.status, 412);
  await act(console, 'dead.delete', target(ids[2]!));
  assert.equal(await console.client.call('XLEN', 'orders.dead'), 0);
  const forged = {
    ...target(ids[0]!),
    options: { body: 'x', headers: { 'rivulet-dead-topic': 'x' } },
  };
  assert.equal((await post(console, 'dead.edit', { ...forged, dryRun: true })).status, 400);
});

test('a dead letter whose copy is refused stays, whatever refuses it', async () => {
  await using console = await openConsole();
  const { client } = console;
  const last = '18446744073709551615-18446744073709551615';
  await client.call('XADD', 'full', last, 'body', 'x');
  await client.call('SET', 'text', 'x');
  for (const origin of ['full', 'text', '_rivulet.audit']) {
    await client.call('XADD', 'a.dead', '*', 'rivulet-dead-topic', origin, 'body', origin);
  }
  const [entries] = [await console.get<EntriesPage>('topics/a.dead/entries')];
  for (const { id } of entries.entries) {
    const target = { topic: 'a.dead', ids: [id] };
    const planned = await post(console, 'dead.redrive', { dryRun: true, target });
    if (planned.status !== 200) continue;
    const { token } = planned.json<ActionPlan>();
    const outcome = (await post(console, 'dead.redrive', { token })).json<ActionOutcome>();
    assert.deepEqual([outcome.done, outcome.failed.length], [0, 1]);
  }
  const left = await console.get<EntriesPage>('topics/a.dead/entries');
  assert.deepEqual(
    left.entries.map(({ id, preview }) => [id, preview.text]),
    entries.entries.map(({ id, preview }) => [id, preview.text]),
  );
});

test('a redrive keeps every byte, and finds a topic whose name is no text', async () => {
  await using console = await openConsole();
  const { client } = console;
  const topic = Buffer.from([0x61, 0xff, 0xfe]);
  const dead = Buffer.concat([topic, Buffer.from('.dead')]);
  const fields = ['key', Buffer.from([0xfd]), 'bin', Buffer.from([0xfc]), 'headers', 'no JSON'];
  await client.call('XADD', topic, '1-0', ...fields, 'body', Buffer.from([0xfb, 0]));
  await client.call('XGROUP', 'CREATE', topic, 'g', '0');
  const policy = ['ACKWAIT', 30_000, 'DEADLETTER', dead];
  await client.call('XGROUP', 'SETPOLICY', topic, 'g', ...policy);
  await client.call('XREADGROUP', 'GROUP', 'g', 'ann', 'STREAMS', topic, '>');
  await client.call('XNACK', topic, 'g', 'DEADLETTER', 'IDS', 1, '1-0', 'REASON', 'r');
  const name = `~${dead.toString('base64url')}`;
  const { entries } = await console.get('dead');
  assert.equal(entries[0].origin.topic, `~${topic.toString('base64url')}`);
  await act(console, 'dead.redrive', { target: { topic: name, all: true } });
  assert.equal(await client.call('XLEN', dead), 0);
  const [, copy] = (await client.call('XRANGE', topic, '-', '+')) as [unknown, [unknown, Buffer[]]];
  const bytes = copy[1].map((each) => each.toString('latin1'));
  assert.deepEqual(bytes.slice(2), [
    ...['key', '\xfd', 'bin', '\xfc', 'headers', 'no JSON', 'body', '\xfb\0'],
  ]);
  assert.equal(JSON.parse(bytes[1]!)['rivulet-only-group'], 'g');
});

test('an edit keeps headers and key that are not given, and is refused where bodies are masked', async () => {
  const users = [
    ['ann', 'on', '>ann', '~*', '&*', '+@all', '-@admin', '-@dangerous'],
    ['default', 'on', '>root', '~*', '&*', '+@all'],
  ];
  const mask = { 'console-mask': 'json.card' };
  await using console = await openConsole(mask, users, { password: 'root' });
  const { client } = console;
  const letter = ['headers', '{"tenant":"a"}', 'key', Buffer.from([0xff]), 'raw', 'r', 'body', '1'];
  for (const id of ['1-0', '2-0']) {
    await client.call('XADD', 'a.dead', id, 'rivulet-dead-topic', 'a', ...letter);
  }
  const edit = (id: string, options: object) => ({
    target: { topic: 'a.dead', ids: [id] },
    options,
  });
  const ann = { headers: { authorization: 'Bearer ann:ann' } };
  const body = { ...edit('1-0', { body: '2' }), dryRun: true };
  assert.equal((await post(console, 'dead.edit', body, ann)).status, 403);
  await act(console, 'dead.edit', edit('1-0', { body: '2' }), ROOT);
  const given = { body: '3', headers: { other: 'b' }, key: 'k' };
  await act(console, 'dead.edit', edit('2-0', given), ROOT);
  const copies = (await client.call('XRANGE', 'a', '-', '+')) as [unknown, Buffer[]][];
  const fields = copies.map(([, each]) => each.map((value) => value.toString('latin1')));
  const headers = (id: string, own: object) =>
    JSON.stringify({ ...own, 'rivulet-edited-from': `${id}@a.dead` });
  assert.deepEqual(fields, [
    ['headers', headers('1-0', { tenant: 'a' }), 'key', '\xff', 'raw', 'r', 'body', '2'],
    ['headers', headers('2-0', { other: 'b' }), 'key', 'k', 'body', '3'],
  ]);
  assert.equal(await client.call('XLEN', 'a.dead'), 0);
});

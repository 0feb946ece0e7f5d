/** Workflows over HTTP: started once per key, signalled, waited for; hidden ones are not there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StandardSchema } from '../../src/codec/standard-schema.ts';
import { RivuletError } from '../../src/errors.ts';
import { startGateway } from '../../src/gateway/gateway.ts';
import { signal, workflow } from '../../src/workflow/workflow.ts';
import { workflows } from '../../src/workflow/workflows.ts';
import { gatewayFixture } from './fixture.ts';

const approved = signal<{ by: string }>('approved');
const order = workflow({ name: 'order' }, async (wf, input: { id: string }) => {
  await wf.state({ waitsFor: 'approval' });
  const { by } = await wf.wait(approved);
  return { id: input.id, by };
});
const failing = workflow({ name: 'refund.card' }, async () => {
  throw new Error('the card is gone');
});
const missing = workflow({ name: 'refund.late' }, async (_wf, input: { code: 'NOT_FOUND' }) => {
  throw new RivuletError(input.code, 'the order is not there');
});
const hidden = workflow({ name: 'payroll' }, async () => 'secret');

const JSON_TYPE = { 'content-type': 'application/json' };

async function fixture(shown: readonly (string | typeof order)[]) {
  const gateway = await gatewayFixture({ workflows: shown as string[], topics: ['news'] });
  const flows = await workflows(gateway.broker, { definitions: [order, failing, missing, hidden] });
  const send = async (method: string, path: string, body?: unknown, headers = {}) => {
    const reply = await fetch(`${gateway.url}/_/workflows/${path}`, {
      method,
      headers: { ...(body === undefined ? {} : JSON_TYPE), ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await reply.text();
    return { status: reply.status, headers: reply.headers, json: JSON.parse(text) };
  };
  return {
    gateway,
    flows,
    send,
    async [Symbol.asyncDispose]() {
      await flows.close();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

test('a workflow is started, waits for its signal, and its result is at its place', async () => {
  await using world = await fixture(['order', 'refund.*']);
  const key = { 'idempotency-key': 'order-17' };
  const started = await world.send('POST', 'order', { id: 'A' }, key);
  assert.equal(started.status, 202);
  assert.equal(started.headers.get('location'), '/_/workflows/order/order-17');
  const again = await world.send('POST', 'order', { id: 'A' }, key);
  assert.equal(again.json.id, 'order-17');
  const signalled = await world.send('POST', 'order/order-17/signals/approved', { by: 'ada' });
  assert.equal(signalled.status, 202);
  const ended = await world.send('GET', 'order/order-17', undefined, { prefer: 'wait=20' });
  assert.equal(ended.status, 200);
  assert.equal(ended.json.status, 'completed');
  assert.deepEqual(ended.json.state, { waitsFor: 'approval' });
  assert.deepEqual(ended.json.result, { id: 'A', by: 'ada' });
});

test('a start that waits answers with the result, also of a workflow that fails', async () => {
  await using world = await fixture(['refund.*']);
  const reply = await world.send('POST', 'refund.card', {}, { prefer: 'respond-async, wait=20' });
  assert.equal(reply.status, 200);
  assert.equal(reply.json.status, 'failed');
  assert.match(reply.json.reason, /the card is gone/);
});

test('an error that the workflow threw is its status, whatever its code', async () => {
  await using world = await fixture(['refund.*']);
  for (const code of ['NOT_FOUND', 'TIMEOUT', 'ABORTED']) {
    const reply = await world.send('POST', 'refund.late', { code }, { prefer: 'wait=20' });
    assert.equal(reply.status, 200, code);
    assert.equal(reply.json.status, 'failed', code);
  }
});

test('what is not shown, not there or malformed is refused, each with its own status', async () => {
  await using world = await fixture(['order', 'never.*']);
  assert.equal((await world.send('POST', 'payroll', {})).status, 404);
  assert.equal((await world.send('POST', 'never.started', {})).status, 404);
  assert.equal((await world.send('GET', 'order/unknown')).status, 404);
  assert.equal(
    (await world.send('GET', 'order/unknown', undefined, { prefer: 'wait=1' })).status,
    404,
  );
  assert.equal((await world.send('POST', 'order/unknown/signals/approved', {})).status, 404);
  assert.equal((await world.send('GET', 'order')).status, 405);
  assert.equal((await world.send('POST', 'order/a/b', {})).status, 404);
  assert.equal((await world.send('POST', 'order%2Fx', {})).status, 400);
  const form = await fetch(`${world.gateway.url}/_/workflows/order`, {
    method: 'POST',
    body: new URLSearchParams({ id: 'A' }),
  });
  assert.equal(form.status, 415, 'a form of another page starts nothing');
  const broken = await fetch(`${world.gateway.url}/_/workflows/order`, {
    method: 'POST',
    headers: JSON_TYPE,
    body: '{"id":',
  });
  assert.equal(broken.status, 400);
  assert.equal((await world.flows.counts('order'))[0]?.running, 0);
});

test('the input of a definition is validated before it is stored', async () => {
  const schema: StandardSchema<{ id: string }, { id: string }> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) =>
        typeof (value as { id?: unknown })?.id === 'string'
          ? { value: value as { id: string } }
          : { issues: [{ message: 'id must be text', path: ['id'] }] },
    },
  };
  const checked = workflow({ name: 'order', input: schema }, async () => 'done');
  await using world = await fixture([checked as never]);
  const reply = await world.send('POST', 'order', { id: 7 });
  assert.equal(reply.status, 422);
  assert.match(reply.json.detail, /id must be text/);
});

test('a rule of a path protects its workflows, however the path is written', async () => {
  const gateway = await gatewayFixture({
    workflows: ['order'],
    auth: { keys: [{ key: 'k'.repeat(32), name: 'ops' }] },
    rules: [{ path: '/_/workflows/order', auth: 'required' }],
  });
  await using _ = gateway;
  await using flows = await workflows(gateway.broker, { definitions: [order] });
  for (const path of ['order', '%6frder', 'order/x/signals/approved']) {
    const reply = await fetch(`${gateway.url}/_/workflows/${path}`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: '{}',
    });
    assert.equal(reply.status, 401, path);
  }
  assert.equal((await flows.counts('order'))[0]?.running, 0);
});

test('a start of a key that was used answers with where its instance is now', async () => {
  await using world = await fixture(['refund.*']);
  const key = { 'idempotency-key': 'once' };
  await world.send('POST', 'refund.card', {}, { ...key, prefer: 'wait=20' });
  const again = await world.send('POST', 'refund.card', {}, key);
  assert.deepEqual([again.status, again.json.id, again.json.status], [202, 'once', 'failed']);
});

test('a key that was used with another body is refused, at another gateway too', async () => {
  await using world = await fixture(['order']);
  const key = { 'idempotency-key': 'one-order' };
  const [first, same] = [
    await world.send('POST', 'order', { sku: 'a' }, key),
    await world.send('POST', 'order', { sku: 'a' }, key),
  ];
  assert.deepEqual([first.status, same.status], [202, 202]);
  const other = await startGateway({
    address: ':0',
    broker: world.gateway.broker,
    registry: world.gateway.registry,
    workflows: ['order'],
  });
  for (const url of [world.gateway.url, other.url]) {
    const init = { method: 'POST', body: '{"sku":"b"}', headers: { ...JSON_TYPE, ...key } };
    const { status } = await fetch(`${url}/_/workflows/order`, init);
    assert.equal(status, 422);
  }
  await other.stop();
  const signals = 'order/one-order/signals/noted';
  const click = { 'idempotency-key': 'click' };
  for (const [by, status] of [
    ['ann', 202],
    ['ann', 202],
    ['bob', 422],
  ] as const) {
    assert.equal((await world.send('POST', signals, { by }, click)).status, status);
  }
});

test('a key that could not be part of a path is refused, and so is a body that is no text', async () => {
  await using world = await fixture(['order']);
  for (const key of ['a/b', '..', '.', 'a\\b']) {
    const reply = await world.send('POST', 'order', { id: 'A' }, { 'idempotency-key': key });
    assert.equal(reply.status, 400, key);
    assert.match(reply.json.detail, /Idempotency-Key may not contain/, key);
  }
  const key = { 'idempotency-key': 'ä b%2F' };
  const started = await world.send('POST', 'order', { id: 'A' }, key);
  assert.equal(started.status, 202);
  const page = await fetch(`${world.gateway.url}${started.headers.get('location')}`);
  assert.equal(((await page.json()) as { id: string }).id, started.json.id);
  const bytes = await fetch(`${world.gateway.url}/_/workflows/order`, {
    method: 'POST',
    headers: JSON_TYPE,
    body: Buffer.concat([Buffer.from('{"id":"'), Buffer.from([0xff]), Buffer.from('"}')]),
  });
  assert.equal(bytes.status, 415);
});

test('a signal that no workflow can wait for is refused', async () => {
  await using world = await fixture(['order']);
  await world.send('POST', 'order', { id: 'A' }, { 'idempotency-key': 'one' });
  const reply = await world.send('POST', 'order/one/signals/not%20a%20name', { by: 'ada' });
  assert.equal(reply.status, 400);
  assert.match(reply.json.detail, /the name of a signal/);
});

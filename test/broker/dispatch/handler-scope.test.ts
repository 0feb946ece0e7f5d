/** What a handler inherits from the code in whose turn it was subscribed, or its message was published. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Broker } from '../../../src/broker/broker.ts';
import { currentScope, runInScope, type Scope } from '../../../src/broker/dispatch/scope.ts';
import { openBroker } from '../../../src/broker/open-broker.ts';
import { Seen } from '../../../src/conformance/case-context.ts';

/** The scope of a served call that has ended. */
function ended(): Scope {
  const signal = AbortSignal.abort(new Error('the call has ended'));
  const trace = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
  return { deadline: 0, signal: () => signal, trace, handler: null };
}

const body = Buffer.from('x');

const forms: Readonly<Record<string, (broker: Broker, seen: Seen<Scope | undefined>) => unknown>> =
  {
    'a handler': (broker, seen) => broker.subscribe('t', () => seen.add(currentScope())),
    'a handler of batches': (broker, seen) =>
      broker.subscribe('t', () => seen.add(currentScope()), { batch: { size: 2, waitMs: 1 } }),
  };

for (const [name, subscribe] of Object.entries(forms)) {
  for (const when of ['subscribed', 'published'] as const) {
    test(`${name} has no deadline and no end of the call in which it was ${when}`, async () => {
      await using broker = await openBroker('memory:');
      const seen = new Seen<Scope | undefined>();
      const [first, second] = when === 'subscribed' ? [ended(), null] : [null, ended()];
      const inScope = (scope: Scope | null, work: () => unknown) =>
        scope === null ? work() : runInScope(scope, work);
      await inScope(first, () => subscribe(broker, seen));
      await inScope(second, () => broker.publish('t', { headers: {}, body }));
      const [scope] = await seen.count(1);
      assert.equal(scope?.deadline, Number.POSITIVE_INFINITY);
      assert.equal(scope?.signal(), null);
    });
  }
}

test('a handler has the trace of its message, and none where that has none', async () => {
  await using broker = await openBroker('memory:');
  const traces = new Seen<string | undefined>();
  await runInScope(ended(), () =>
    broker.subscribe('t', () => traces.add(currentScope()?.trace?.traceparent)),
  );
  const traceparent = '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  await broker.publish('t', { headers: { traceparent }, body });
  await broker.publish('t', { headers: {}, body });
  assert.deepEqual([...(await traces.count(2))], [traceparent, undefined]);
});

test('promises of the process cost no hook but while a handler that returned a promise runs', async () => {
  const program = fileURLToPath(new URL('handler-scope-child.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program], { timeout: 60_000 });
  const hasHooks = Number(process.versions.node.split('.')[0]) < 24;
  assert.deepEqual(stdout.trim().split('\n'), [
    'before: false',
    'after handlers without promises: false',
    `while a handler waits: ${hasHooks}`,
    'after it: false',
  ]);
});

test('a handler keeps its scope while the store is switched off and on for others', async () => {
  await using broker = await openBroker('memory:');
  const frames = new Seen<boolean>();
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  await broker.subscribe('plain', () =>
    frames.add(currentScope()?.handler?.work.inHandler === true),
  );
  await broker.subscribe('slow', async () => {
    await released;
    frames.add(currentScope()?.handler?.work.inHandler === true);
  });
  await broker.publish('plain', { headers: {}, body });
  await frames.count(1);
  await broker.publish('slow', { headers: {}, body });
  await broker.publish('plain', { headers: {}, body });
  await frames.count(2);
  release();
  assert.deepEqual([...(await frames.count(3))], [true, true, true]);
});

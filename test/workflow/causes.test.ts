/** What led to an instance or a signal is in its record without the program's doing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contract, createService, openBroker, unary } from '../../src/index.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';

const go = signal<number>('go');
const flow = workflow({ name: 'flow' }, async (wf, _: string) => wf.wait(go));

test('an instance and a signal name the message whose handler made them, and a batch none', async () => {
  await using broker = await openBroker('memory:');
  await using flows = await workflows(broker, { definitions: [flow] });
  let done = () => {};
  const both = new Promise<void>((resolve) => {
    let left = 2;
    done = () => --left === 0 && resolve();
  });
  await broker.subscribe('orders', async ({ id }) => {
    const handle = await flows.start(flow, id, { id: 'one' });
    await Promise.resolve();
    await handle.signal(go, 1);
    done();
  });
  await broker.subscribe(
    'orders',
    async () => {
      await flows.start(flow, '', { id: 'batch' });
      done();
    },
    { group: 'g', batch: { size: 10, waitMs: 1 } },
  );
  const { id } = await broker.publish('orders', { body: 'x' });
  await both;
  const causes = async (instance: string) => {
    const events = await flows.get(flow, instance).history();
    return events
      .filter(({ kind }) => kind === 'start' || kind === 'signal')
      .map(({ detail }) => detail.cause);
  };
  assert.deepEqual(await causes('one'), [
    { topic: 'orders', id },
    { topic: 'orders', id },
  ]);
  assert.deepEqual(await causes('batch'), [undefined]);
  await flows.start(flow, '', { id: 'given', cause: { topic: 'other', id: '1-0' } });
  assert.deepEqual(await causes('given'), [{ topic: 'other', id: '1-0' }]);
  await flows.start(flow, '', { id: 'outside' });
  assert.deepEqual(await causes('outside'), [undefined]);
});

test('an instance that a call started carries the trace of the call', async () => {
  await using broker = await openBroker('memory:');
  const Orders = contract('test.orders', { Orders: { Place: unary<{ id: string }, object>() } });
  const service = createService({ name: 'test.orders', broker, environment: false, args: false });
  service.workflow(flow).handle(Orders, {
    Orders: {
      Place: async ({ id }) => {
        await service.workflows.start(flow, '', { id });
        return {};
      },
    },
  });
  await service.start();
  await service.client(Orders).Orders.Place({ id: 'called' });
  const [start] = await service.workflows.get(flow, 'called').history();
  const { traceparent } = (start?.detail.cause ?? {}) as { traceparent?: string };
  assert.match(traceparent ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/);
  await service.stop();
});

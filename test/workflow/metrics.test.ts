/** The metrics of workflows as Prometheus scrapes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { createService } from '../../src/index.ts';
import { signal, Terminal, workflow } from '../../src/workflow/index.ts';
import { createTestWorkflows } from '../../src/workflow/testing.ts';

const HOUR = 3_600_000;
const go = signal<number>('go');

function valuesOf(text: string, name: string): Record<string, number> {
  const values: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const [, found, labels = '', value] = /^(\w+)(\{.*\})? (\S+)$/.exec(line) ?? [];
    if (found === name) values[labels] = Number(value);
  }
  return values;
}

test('running, parked and waiting instances, steps, replays and wake-ups are counted', async () => {
  const order = workflow({ name: 'order' }, async (wf, fails: boolean) => {
    await wf.step('hold', () => 1, {
      compensate: () => {
        throw new Error('closed');
      },
    });
    if (fails) throw new Terminal('no');
    await wf.wait(go);
  });
  const later = workflow({ name: 'order', version: 2 }, async () => {});
  await using t = await createTestWorkflows({ definitions: [order] });
  await t.start(order, true, { id: 'parked' });
  const handle = await t.start(order, false, { id: 'waits' });
  await t.start(order, false, { id: 'waits-too' });
  await t.start(later, undefined, { id: 'no-worker' });
  await t.advance(2 * HOUR);
  await handle.signal(go, 1);
  await t.advance(1000);
  assert.equal(
    valuesOf(t.flows.metricsText(), 'micro_workflow_running')['{workflow="order"}'],
    undefined,
  );
  await t.flows.refreshMetrics();
  const text = t.flows.metricsText({ node: 'a' });
  const of = (name: string, more: string) =>
    valuesOf(text, `micro_workflow_${name}`)[`{node="a"${more}}`];
  assert.equal(of('running', ',workflow="order"'), 2);
  assert.equal(of('parked', ',workflow="order"'), 1);
  assert.equal(of('waiting_tasks', ',workflow="order",version="2"'), 1);
  const parkedFor = of('oldest_parked_seconds', ',workflow="order"') as number;
  assert.ok(parkedFor > 3000 && parkedFor < 7200, `${parkedFor}`);
  assert.equal(of('awake', ''), 0);
  assert.equal(of('stopped_total', ',as="ended"'), 1);
  assert.equal(of('stopped_total', ',as="parked"'), 1);
  assert.equal(of('failed_steps_total', ''), 10);
  assert.equal(of('step_seconds_count', ''), 3 + 10);
  assert.ok((of('wake_lag_seconds_count', '') as number) >= 1);
  assert.equal(
    of('wake_lag_seconds_bucket', ',le="600"'),
    of('wake_lag_seconds_count', ''),
    'a timer is not late because it was set early',
  );
  assert.ok((of('replay_seconds_count', '') as number) >= 3);
  await t.advance(2 * 60_000);
  assert.doesNotMatch(t.flows.metricsText(), /micro_workflow_running/, 'old counts are not shown');
});

test('a service shows its workflows at /metrics', async () => {
  await using broker = await openBroker('memory:');
  const flow = workflow({ name: 'flow' }, async (wf) => wf.wait(go));
  const service = createService({
    ...{ name: 'flows', broker, debugAddress: '127.0.0.1:0' },
    ...{ environment: false, args: false },
  });
  service.workflow(flow);
  await service.start();
  await service.workflows.start(flow, undefined, { id: 'x' });
  const text = await (await fetch(`http://${service.debugAddress}/metrics`)).text();
  const [[labels, running] = []] = Object.entries(valuesOf(text, 'micro_workflow_running'));
  assert.equal(running, 1);
  assert.match(labels ?? '', /micro_name="flows".*workflow="flow"/);
  await service.stop();
});

/**
 * A worker as a process of its own, to be killed: `node worker-child.js URL EFFECTS [STARTS]`.
 *
 * EFFECTS is a file to which every run of a step adds a line, before the step ends. With STARTS it starts so
 * many instances itself and prints each id that was acknowledged. It prints `ready` when it works.
 */
import { appendFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { openBroker } from '../../src/broker/open-broker.ts';
import { signal, workflow } from '../../src/workflow/workflow.ts';
import { workflows } from '../../src/workflow/workflows.ts';

export const ACK_WAIT_MS = 1000;
export const approved = signal<{ by: string }>('approved');

export function definition(effects: string) {
  const effect = (key: string) => appendFileSync(effects, `${key}\n`);
  return workflow({ name: 'order', version: 1 }, async (wf, input: { pauseMs: number }) => {
    const first = await wf.step('first', async ({ key }) => {
      effect(key);
      await pause(input.pauseMs);
      return 1;
    });
    const [second, third] = await Promise.all([
      wf.step('second', ({ key }) => {
        effect(key);
        return 2;
      }),
      wf.step('third', ({ key }) => {
        effect(key);
        return 3;
      }),
    ]);
    await wf.publish('order.done', { body: wf.id });
    await wf.sleep(1100);
    const decision = await wf.wait(approved, { timeoutMs: 60_000 });
    return { sum: first + second + third, by: decision?.by };
  });
}

if (process.argv[1]?.endsWith('worker-child.js')) {
  const [, , url = '', effects = '', starts = '0'] = process.argv;
  const broker = await openBroker(url, {
    reconnect: { minMs: 20, maxMs: 200, factor: 2, jitter: true },
    publishTimeoutMs: 120_000,
  });
  const order = definition(effects);
  const flows = await workflows(broker, { definitions: [order], ackWaitMs: ACK_WAIT_MS });
  console.log('ready');
  for (let i = 0; i < Number(starts); i++) {
    const id = `${process.pid}-${i}`;
    const handle = await flows.start(order, { pauseMs: 5 }, { id });
    await handle.signal(approved, { by: id }, { id: 'click' });
    console.log(`started ${id}`);
  }
}

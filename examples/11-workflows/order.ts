/** An order as one async function: payment, approval over days, shipping; in two versions. */
import { signal, Terminal, workflow } from 'rivulet/workflow';

const DAY = 86_400_000;

/** What the bank was asked to do. */
export const bank: string[] = [];
export const approved = signal<{ by: string; ok: boolean }>('approved');

export const shipping = workflow({ name: 'shipping' }, async (wf, { id }: { id: string }) => {
  return wf.step('label', () => `label for ${id}`);
});

export const orderV1 = workflow(
  { name: 'order', version: 1 },
  async (wf, _input: { id: string; cents: number }) => {
    await wf.step('charge', () => undefined);
    await wf.wait(approved, { timeoutMs: 3 * DAY });
    return { payment: '', label: '' };
  },
);

export const order = workflow(
  { name: 'order', version: 2, older: [orderV1] },
  async (wf, input: { id: string; cents: number }) => {
    const payment = await wf.step(
      'charge',
      ({ key }) => {
        bank.push(`charge ${input.cents} (${key})`);
        return { id: `p-${input.id}` };
      },
      { compensate: (paid) => bank.push(`refund ${paid.id}`) },
    );
    wf.state({ stage: 'waits for approval' });
    const decision = await wf.wait(approved, { timeoutMs: 3 * DAY });
    if (decision === undefined) throw new Terminal('not approved within three days');
    if (!decision.ok) throw new Terminal(`${decision.by} said no`);
    await wf.publish('orders.shipped', { body: input.id });
    const label = await wf.child(shipping, { id: input.id });
    wf.state({ stage: 'shipped' });
    return { payment: payment.id, label };
  },
);

/**
 * Workflows on a virtual clock, so that days pass at once: approvals, a worker that dies, compensation, a
 * nightly report that fans out. With openBroker('file:./data') or a server the workflows are the same.
 */
import { createTestWorkflows } from 'rivulet/testing';
import { workflow } from 'rivulet/workflow';
import { approved, bank, order, shipping } from './order.ts';

const DAY = 86_400_000;

const part = workflow({ name: 'part' }, async (wf, n: number) => wf.step('count', () => n));
const report = workflow({ name: 'report' }, async (wf) => {
  const numbers = Array.from({ length: 20 }, (_, i) => i);
  const parts = await Promise.all(numbers.map((n) => wf.child(part, n)));
  return parts.reduce((sum, each) => sum + each, 0);
});

const t = await createTestWorkflows({ definitions: [order, shipping, report, part] });

const first = await t.start(order, { id: 'A', cents: 100 }, { id: 'order-A' });
const second = await t.start(order, { id: 'B', cents: 200 }, { id: 'order-B' });
const third = await t.start(order, { id: 'C', cents: 300 }, { id: 'order-C' });
await t.schedule('nightly', report, { cron: '0 3 * * *', timeZone: 'Europe/Berlin' });
await t.advance(DAY);
console.log('after a day:', await first.state());

// The worker dies, and another one takes its place.
await t.restart();
await first.signal(approved, { by: 'ann', ok: true }, { id: 'click-1' });
await second.signal(approved, { by: 'bob', ok: false });
await t.advance(60_000);
console.log('A:', await first.result());
console.log('B:', (await second.result().catch((error) => error)).message);
await t.advance(3 * DAY);
console.log('C:', (await third.result().catch((error) => error)).message);
console.log(bank.join('\n'));
for await (const run of t.list({ name: 'report', status: 'completed' })) {
  console.log(run.id, await t.get(report, run.id).result());
}
console.log((await second.history()).map(({ kind, name }) => name ?? kind).join(', '));
await t[Symbol.asyncDispose]();

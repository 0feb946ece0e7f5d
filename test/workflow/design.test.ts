/**
 * The public API as its design writes it, name by name: programs of a user, over the package's own names
 * (`rivulet`, `rivulet/workflow`, `rivulet/testing`), which must compile and do what the names say.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  contract,
  createService,
  openBroker,
  type StandardSchema,
  topic,
  unary,
  workflow as workflowOfTheRoot,
} from 'rivulet';
import { createTestWorkflows } from 'rivulet/testing';
import {
  Cancelled,
  type InputOfWorkflow,
  type OutputOfWorkflow,
  signal,
  Terminal,
  workflow,
  workflows,
} from 'rivulet/workflow';

const DAY = 86_400_000;
const HOUR = 3_600_000;

interface OrderIn {
  readonly id: string;
  readonly sku: string;
  readonly card: string;
}

interface ReceiptOut {
  readonly paid: { readonly id: string };
  readonly label: string;
}

/** As zod and its like make them. */
function schema<Input, Output = Input>(
  check: (value: Input) => Output,
): StandardSchema<Input, Output> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate(value) {
        try {
          return { value: check(value as Input) };
        } catch (error) {
          return { issues: [{ message: (error as Error).message }] };
        }
      },
    },
  };
}

const OrderInput = schema<OrderIn>((value) => {
  assert.equal(typeof value.id, 'string');
  return value;
});
const Receipt = schema<ReceiptOut>((value) => value);
const inventory = contract('test.inventory', {
  Stock: { Reserve: unary<{ sku: string }, { reservation: string }>({ idempotent: true }) },
});
const shipped = topic<{ id: string }>('orders.shipped');
const approved = signal<{ by: string; ok: boolean }>('approved');
const note = signal(
  'note',
  schema<{ text: string }>((value) => {
    assert.equal(typeof value.text, 'string');
    return value;
  }),
);
const nudge = signal('nudge');
class Rejected extends Error {}

const bank: string[] = [];
const psp = {
  charge: async (card: string, { idempotencyKey }: { idempotencyKey: string }) => {
    bank.push(`charge ${card} ${idempotencyKey}`);
    return { id: `p-${card}` };
  },
  refund: async (id: string, key: string) => void bank.push(`refund ${id} ${key}`),
};
const taxOf = ({ sku }: OrderIn) => sku.length;

const shipping = workflow({ name: 'shipping' }, async (wf, { id }: { id: string }) =>
  wf.step('label', () => `label ${id}`),
);
const orderV2 = workflow(
  { name: 'order', version: 2, input: OrderInput },
  async (): Promise<ReceiptOut> => ({ paid: { id: '' }, label: 'v2' }),
);
const order = workflow(
  {
    name: 'order',
    version: 3,
    input: OrderInput,
    output: Receipt,
    older: [orderV2],
    retry: { attempts: 10, backoff: { minMs: 500, maxMs: 60_000 } },
    timeoutMs: 7 * DAY,
    retentionMs: 30 * DAY,
    concurrency: 100,
  },
  async (wf, input) => {
    const paid = await wf.step(
      'charge',
      ({ key, signal, attempt }) => {
        assert.ok(!signal.aborted && attempt >= 1);
        return psp.charge(input.card, { idempotencyKey: key });
      },
      { timeoutMs: 10_000, compensate: (payment, { key }) => psp.refund(payment.id, key) },
    );
    const [stock, tax] = await Promise.all([
      wf.call(inventory.Stock.Reserve, { sku: input.sku }),
      wf.step('tax', () => taxOf(input)),
    ]);
    const reservation: string = stock.reservation;
    const number: number = tax;
    assert.ok(reservation !== '' && number > 0);
    const decision = await wf.wait(approved, { timeoutMs: DAY });
    if (!decision?.ok) throw new Rejected('not approved');
    await wf.sleep(2 * DAY);
    await wf.publish(shipped, { id: input.id });
    const label = await wf.child(shipping, { id: input.id }, { id: `ship-${input.id}` });
    wf.state({ stage: 'labelled' });
    return { paid, label };
  },
);
const report = workflow({ name: 'report' }, async (wf) => wf.now());

function stockService(broker: Parameters<typeof workflows>[0]) {
  return createService({ name: 'test.inventory', broker, environment: false, args: false }).handle(
    inventory,
    { Stock: { Reserve: async ({ sku }) => ({ reservation: `r-${sku}` }) } },
  );
}

test('the order of the design, on a virtual clock, with its handle', async () => {
  assert.equal(workflowOfTheRoot, workflow, 'one function under both names');
  bank.length = 0;
  // Calls of services take real time: here one function answers them.
  const Reserve = async ({ sku }: { sku: string }) => ({ reservation: `r-${sku}` });
  const service = { client: () => ({ Stock: { Reserve } }) as never };
  await using t = await createTestWorkflows({ seed: 7, service });
  await t.flows.register(shipping);
  const input: InputOfWorkflow<typeof order> = { id: 'A', sku: 'ab', card: 'c' };
  const startAt = new Date(t.now().getTime() + HOUR);
  const flows = t.flows;
  await flows.register(order);
  const handle = await flows.start(order, input, { id: 'order-A', startAt, onExisting: 'attach' });
  await assert.rejects(flows.start(order, input, { id: 'order-A', onExisting: 'reject' }), {
    code: 'ALREADY_EXISTS',
  });
  await t.advance(HOUR + 1000);
  await handle.signal(approved, { by: 'ann', ok: true }, { id: 'click-1' });
  await t.advance(3 * DAY);
  const result: OutputOfWorkflow<typeof order> = await handle.result();
  assert.deepEqual(result, { paid: { id: 'p-c' }, label: 'label A' });
  assert.deepEqual(await handle.state(), { stage: 'labelled' });
  assert.deepEqual(bank, ['charge c order/order-A/1']);
  const kinds = (await handle.history()).map(({ kind }) => kind);
  assert.deepEqual([kinds[0], kinds.at(-1)], ['start', 'end']);
  const other = await flows.start(order, { ...input, id: 'B' }, { id: 'order-B' });
  await t.advance(2 * DAY);
  await assert.rejects(other.result(), { name: 'Error', message: 'not approved' });
  assert.deepEqual(bank.slice(1), ['charge c order/order-B/1', 'refund p-c order/order-B/-1']);
  const since = new Date(0);
  const failed: string[] = [];
  for await (const run of flows.list({ name: 'order', status: 'failed', since }))
    failed.push(run.id);
  assert.deepEqual(failed, ['order-B']);
  await other.retry({ from: 'charge' });
  await t.advance(1000);
  await other.pause();
  await other.signal(approved, { by: 'bob', ok: true });
  await t.advance(HOUR);
  assert.equal(await other.status(), 'paused');
  await other.resume();
  await t.advance(3 * DAY);
  assert.equal((await other.result()).label, 'label B');
  const fork = await other.fork({ from: 8, version: 3 });
  await t.advance(HOUR);
  assert.equal((await fork.result()).label, 'label B');
  const third = await flows.start(order, { ...input, id: 'C' }, { id: 'order-C' });
  await t.advance(1000);
  await third.cancel('changed my mind');
  await t.advance(1000);
  const error = await third.result().catch((error) => error);
  assert.ok(error instanceof Cancelled);
  assert.equal(error.message, 'changed my mind');
  const timeZone = 'Europe/Berlin';
  await t.schedule('nightly', report, { cron: '0 3 * * *', timeZone, overlap: 'skip', catchUp: 1 });
  await t.advance(DAY);
  const nights: string[] = [];
  for await (const { id } of t.list({ name: 'report' })) nights.push(id);
  assert.equal(nights.length, 1);
});

test('what else wf has: start, sleepUntil, now, random, uuid, changed, continueAsNew, options of steps', async () => {
  const runs: string[] = [];
  const all = workflow({ name: 'all' }, async (wf, round: number) => {
    const at = wf.now();
    await wf.sleepUntil(new Date(at + HOUR));
    await wf.sleepUntil(at + 2 * HOUR);
    const started = await wf.start(shipping, { id: 'loose' }, { id: `loose-${round}` });
    const random: number = wf.random();
    const uuid: string = wf.uuid();
    const isNew: boolean = wf.changed('patch-id');
    const lazy = await wf.step('lazy', () => 1, { lazy: true });
    const careful = await wf.step('careful', async () => runs.push('careful'), {
      // After a crash that is another outcome.
      interrupted: round > 2 ? 'throw' : 'again',
      retry: { attempts: 2, backoff: { minMs: 10, maxMs: 20 } },
    });
    const { text } = await wf.wait(note);
    await wf.wait(nudge);
    await wf.publish('plain', { body: text, headers: { a: 'b' } }, { delayMs: 10, key: 'k' });
    if (round === 1) return wf.continueAsNew(2);
    return { started, random, uuid, isNew, lazy, careful, name: wf.name, id: wf.id, v: wf.version };
  });
  const terminal = workflow({ name: 'terminal' }, async (wf) => {
    await wf.step('once', () => {
      runs.push('once');
      throw new Terminal('no', { code: 'NO', data: { n: 1 } });
    });
  });
  await using t = await createTestWorkflows({
    definitions: [all, shipping, terminal],
    verify: 'always',
  });
  const { outcome, positions } = await t.crashAtEvery(async (world) => {
    const handle = await world.start(all, 1, { id: 'x' });
    for (let round = 0; round < 2; round++) {
      await world.advance(DAY);
      await handle.signal(note, { text: 'hi' });
      await handle.signal(nudge);
    }
    await world.advance(DAY);
    const { random, uuid, careful, ...rest } = await handle.result();
    assert.ok(random >= 0 && random < 1 && /^[0-9a-f-]{36}$/.test(uuid) && careful > 0);
    return rest;
  });
  assert.deepEqual([outcome.started.id, outcome.isNew, outcome.lazy], ['loose-2', true, 1]);
  assert.ok(positions > 10);
  const handle = await t.start(all, 3, { id: 'y' });
  await t.advance(DAY);
  await assert.rejects(handle.signal(note, { text: 7 as never }), { code: 'VALIDATION_FAILED' });
  await handle.signal(note, { text: 'hi' });
  await handle.signal(nudge);
  await t.advance(DAY);
  const { started, isNew, v } = await handle.result();
  assert.deepEqual([started, isNew, v], [{ name: 'shipping', id: 'loose-3' }, true, 1]);
  runs.length = 0;
  const once = await t.start(terminal);
  await t.advance(HOUR);
  const error = await once.result().catch((error) => error);
  assert.ok(error instanceof Terminal);
  assert.deepEqual([error.code, error.data, runs], ['NO', { n: 1 }, ['once']]);
});

test('a worker of its own, and a service with the same workflow', async () => {
  bank.length = 0;
  await using broker = await openBroker('memory:');
  const stock = stockService(broker);
  const orders = createService({ name: 'test.orders', broker, environment: false, args: false });
  orders.workflow(order).workflow(shipping);
  await Promise.all([stock.start(), orders.start()]);
  const quick = workflow({ name: 'quick' }, async (wf, n: number) => wf.step('n', () => n + 1));
  await using flows = await workflows(broker, { definitions: [quick] });
  const handle = await flows.start(quick, 1, { id: 'one' });
  const result: number = await handle.result();
  assert.equal(result, 2);
  const served = await orders.workflows.start(order, { id: 'S', sku: 's', card: 'c' });
  await served.signal(approved, { by: 'ann', ok: false });
  await assert.rejects(served.result(), { message: 'not approved' });
  assert.equal((await flows.get(order, served.id).info()).status, 'failed');
  await flows.schedule('nightly', quick, { cron: '0 3 * * *', input: 1 });
  await flows[Symbol.asyncDispose]();
  await Promise.all([stock.stop(), orders.stop()]);
});

/**
 * A shop that uses a server in every way that the console shows: topics, groups that are done, late, stuck
 * or failing, dead letters, scheduled messages, services, workflows.
 *
 * Invariant: `startDemo` resolves when all of it can be seen; the same every time but for ids and times.
 * Cost: about 1500 messages.
 */
import type { Broker } from '../../src/index.ts';
import {
  contract,
  createService,
  errorType,
  openBroker,
  type Service,
  serverStream,
  unary,
} from '../../src/index.ts';
import { signal, Terminal, type Workflows, workflow, workflows } from '../../src/workflow/index.ts';

const DAY = 86_400_000;
const CITIES = ['Kyoto', 'Lagos', 'Lima', 'Oslo', 'Graz', 'Hanoi', 'Turin', 'Porto'];
const TENANTS = ['eu', 'us', 'apac'];
const REASONS = ['card declined', 'the bank does not answer', 'amount above the limit'];

export interface Demo extends AsyncDisposable {
  readonly broker: Broker;
  /** Publishes to the busy topics until the demo ends, about this many a second. */
  keepBusy(perSecond: number): void;
}

export const Payments = contract('payments', {
  Cards: {
    Charge: unary<
      { card: string; cents: number; currency: string; retry?: boolean },
      { id: string; cents: number },
      { Declined: typeof Declined }
    >({ errors: { Declined: errorType({ status: 402, detail: 'card declined' }) } }),
    Watch: serverStream<{ count: number }, { number: number; state: string }>(),
  },
});
const Declined = errorType({ status: 402, detail: 'card declined' });
const Stock = contract('stock', {
  Shelf: { Reserve: unary<{ sku: string; count: number }, { left: number }>() },
});

const BUSY = ['orders.created', 'page.viewed', 'emails', 'page.viewed'];

/** Messages of `stock.reserved` that its group cannot handle. */
const isHopeless = ({ total }: { total: number }) => total % 6 === 0;
const DEAD = Array.from({ length: 80 }, (_, number) => bodyOf(number)).filter(isHopeless).length;

const approved = signal<{ by: string; ok: boolean }>('approved');

const order = workflow(
  { name: 'order', version: 2 },
  async (wf, input: { id: string; cents: number; fails?: boolean }) => {
    const payment = await wf.step('charge', () => ({ id: `p-${input.id}`, cents: input.cents }));
    await wf.step('reserve stock', () => {
      if (input.fails) throw new Terminal('the shelf is empty', { code: 'OUT_OF_STOCK' });
      return { left: 41 };
    });
    wf.state({ stage: 'waits for approval' });
    const decision = await wf.wait(approved, { timeoutMs: 3 * DAY });
    await wf.publish('orders.approved', {
      body: JSON.stringify({ id: input.id, by: decision?.by }),
    });
    return { payment: payment.id, approved: decision?.ok ?? false };
  },
);

const parcel = workflow(
  { name: 'parcel', retry: { attempts: 2, backoff: { minMs: 5, maxMs: 5 } } },
  async (wf, id: string) => {
    await wf.step('label', () => `label for ${id}`, {
      compensate: () => {
        throw new Terminal('the label is printed already');
      },
    });
    await wf.step('hand over', () => {
      throw new Terminal('the carrier is closed');
    });
  },
);

export async function startDemo(url: string): Promise<Demo> {
  const broker = await openBroker(url, { clientName: 'shop-1' });
  await publishAll(broker);
  await subscribeAll(broker);
  const services = await startServices(url);
  const flows = await startWorkflows(broker);
  let traffic: NodeJS.Timeout | undefined;
  return {
    broker,
    keepBusy(perSecond) {
      let number = 0;
      let ticks = 0;
      traffic = setInterval(() => {
        ticks += 1;
        // It comes in waves, as people do.
        const wave = 1 + 0.45 * Math.sin(ticks / 60) + 0.2 * Math.sin(ticks / 7);
        for (let left = Math.round((perSecond / 10) * wave); left > 0; left -= 1) {
          number += 1;
          broker.publish(BUSY[number % BUSY.length]!, orderMessage(number)).catch(() => {});
        }
      }, 100);
    },
    async [Symbol.asyncDispose]() {
      clearInterval(traffic);
      await flows[Symbol.asyncDispose]();
      for (const service of services) await service.stop();
      await broker.disconnect();
    },
  };
}

function bodyOf(number: number) {
  return {
    order: `o-${1000 + number}`,
    customer: { id: number * 7, city: CITIES[number % CITIES.length] },
    items: [{ sku: `sku-${number % 40}`, count: 1 + (number % 3) }],
    total: 500 + ((number * 377) % 9000),
    express: number % 4 === 0,
  };
}

function orderMessage(number: number) {
  return {
    body: JSON.stringify(bodyOf(number)),
    key: `customer-${number % 20}`,
    headers: { 'content-type': 'application/json', tenant: TENANTS[number % 3]! },
  };
}

async function publishAll(broker: Broker): Promise<void> {
  const all: Promise<unknown>[] = [];
  const sizes = { 'orders.created': 400, 'page.viewed': 600, emails: 120, 'stock.reserved': 80 };
  for (const [topic, size] of Object.entries(sizes)) {
    for (let number = 0; number < size; number += 1) {
      all.push(broker.publish(topic, orderMessage(number)));
    }
  }
  for (let number = 0; number < 24; number += 1) {
    const topic = `sensors.${String(number + 1).padStart(2, '0')}`;
    all.push(broker.publish(topic, { body: Buffer.from([0xff, 0x00, number, 0x80, 0xfe]) }));
  }
  for (let number = 1; number <= 3; number += 1) {
    const options = { delayMs: number * 3_600_000 };
    all.push(broker.publish('emails', { body: `Reminder ${number}: your cart` }, options));
  }
  await Promise.all(all);
}

async function subscribeAll(broker: Broker): Promise<void> {
  const from = 'earliest' as const;
  let shipped = 0;
  let tellShipped!: () => void;
  const allShipped = new Promise<void>((resolve) => {
    tellShipped = resolve;
  });
  await broker.subscribe(
    'orders.created',
    () => {
      shipped += 1;
      if (shipped === 400) tellShipped();
    },
    { group: 'shipping', from, concurrency: 20 },
  );
  let dead = 0;
  let tellDead!: () => void;
  const allDead = new Promise<void>((resolve) => {
    tellDead = resolve;
  });
  broker.on('deadLettered', () => {
    dead += 1;
    if (dead === DEAD) tellDead();
  });
  await broker.subscribe(
    'stock.reserved',
    (delivery) => {
      const body = JSON.parse(delivery.text()) as { total: number };
      if (isHopeless(body)) throw new Error(REASONS[(body.total / 6) % REASONS.length]);
    },
    {
      group: 'billing',
      from,
      retry: { attempts: 3, backoff: { minMs: 1, maxMs: 5, factor: 2, jitter: false } },
      concurrency: 20,
    },
  );
  // Handlers that never return: what they hold is pending.
  await broker.subscribe('emails', () => new Promise<void>(() => {}), {
    group: 'mailer',
    from,
    concurrency: 12,
    maxInFlight: 12,
    ackWaitMs: 15 * 60_000,
    retry: { attempts: 5, backoff: { minMs: 1000, maxMs: 60_000 } },
  });
  await broker.subscribe('orders.created', () => new Promise<void>(() => {}), {
    group: 'statistics',
    from,
    concurrency: 3,
    maxInFlight: 3,
    ackWaitMs: 15 * 60_000,
  });
  await Promise.all([allShipped, Promise.race([allDead, after(5000)])]);
}

async function startServices(url: string): Promise<Service[]> {
  const shared = { broker: url, registry: `broker:${url}` };
  const payments = createService({ name: 'payments', version: '1.4.0', ...shared });
  payments.handle(Payments, {
    Cards: {
      Charge: ({ card, cents }) => {
        if (card.startsWith('4000')) throw new Payments.Cards.Charge.errors.Declined();
        return { id: `p-${cents}`, cents };
      },
      async *Watch({ count }) {
        for (let number = 1; number <= count; number += 1) yield { number, state: 'open' };
      },
    },
  });
  const stock = createService({ name: 'stock', version: '0.9.2', ...shared });
  stock.handle(Stock, {
    Shelf: {
      Reserve: ({ count }) => {
        if (count > 40) throw new RangeError('not so many are left');
        return { left: 40 - count };
      },
    },
  });
  await payments.start();
  await stock.start();
  return [payments, stock];
}

async function startWorkflows(broker: Broker): Promise<Workflows> {
  const flows = await workflows(broker, { definitions: [order, parcel] });
  for (let number = 1; number <= 6; number += 1) {
    const handle = await flows.start(
      order,
      { id: `o-${number}`, cents: number * 1250, fails: number === 5 },
      { id: `order-${number}` },
    );
    if (number <= 2) {
      await handle.signal(approved, { by: 'ann', ok: true });
      await handle.result();
    }
    if (number === 5) await handle.result().catch(() => {});
  }
  const parked = await flows.start(parcel, 'o-1', { id: 'parcel-1' });
  await Promise.race([parked.result().catch(() => {}), after(3000)]);
  return flows;
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/**
 * A broker on a virtual clock, for tests: a day of backoff passes in a millisecond.
 *
 *   const t = await createTestBroker({ seed: 7 });
 *   await t.broker.subscribe('orders', handler, { group: 'billing', retry: { attempts: 5 } });
 *   await t.broker.publish('orders', message);
 *   await t.advance(24 * 3600_000);
 *
 * Time stands still but for `advance`, which runs everything that falls due on the way, in order, and
 * waits for what each thing sets in motion. Equal seeds give equal runs: jitter and the choice among
 * equals come from the seed.
 * Limit: what handlers await must need no real time, as promises of other brokers, of `t.pause` and of
 * plain values do not; a handler that waits for a socket is not waited for.
 */
import type { Broker } from './broker.ts';
import { EmbeddedBroker } from './embedded-broker.ts';
import type { BrokerOptions } from './options.ts';
import { pause, type Scheduler } from './scheduler.ts';
import { VirtualScheduler } from './virtual-scheduler.ts';

export interface TestBrokerOptions {
  /** @default 1 */
  readonly seed?: number;
  /** The time at which the clock begins. @default 14 November 2023, 22:13:20 UTC */
  readonly now?: Date;
  /** For every broker that is opened. */
  readonly options?: Partial<Omit<BrokerOptions, 'addresses' | 'scheduler'>>;
}

export interface TestBroker extends AsyncDisposable {
  /** Connected, with a memory of its own. */
  readonly broker: Broker;
  /** The clock and the dice, for code of your own that is to run on them. */
  readonly scheduler: Scheduler;
  /** Another broker with the same memory, as another service would have. */
  open(options?: Partial<Omit<BrokerOptions, 'addresses' | 'scheduler'>>): Promise<Broker>;
  /** The time by the virtual clock. */
  now(): Date;
  /** Lets so many milliseconds pass, and does what is due meanwhile. */
  advance(ms: number): Promise<void>;
  /** Lets what is under way come to rest without time passing. */
  settle(): Promise<void>;
  /** Resolves after so many virtual milliseconds: for handlers that take their time. */
  pause(ms: number): Promise<void>;
  /** Disconnects every broker; handlers that are waiting for time get it. */
  [Symbol.asyncDispose](): Promise<void>;
}

let memories = 0;

export async function createTestBroker(setup: TestBrokerOptions = {}): Promise<TestBroker> {
  const scheduler = new VirtualScheduler(setup.seed ?? 1, setup.now?.getTime());
  const address = `memory:test-${memories++}`;
  const brokers: Broker[] = [];
  const open: TestBroker['open'] = async (options = {}) => {
    const clientName = `test-${brokers.length}`;
    const broker = new EmbeddedBroker([address], {
      clientName,
      ...setup.options,
      ...options,
      scheduler,
    });
    brokers.push(broker);
    await broker.connect();
    return broker;
  };
  const broker = await open();
  return {
    broker,
    scheduler,
    open,
    now: () => new Date(scheduler.now()),
    advance: (ms) => scheduler.advance(ms),
    settle: () => scheduler.settle(),
    pause: (ms) => pause(scheduler, ms),
    async [Symbol.asyncDispose]() {
      let done = false;
      const closing = Promise.all(brokers.map((each) => each.disconnect())).finally(() => {
        done = true;
      });
      await scheduler.settle();
      while (!done && (await scheduler.step()));
      await closing;
    },
  };
}

/**
 * A broker on a virtual clock, for tests: a day of backoff passes in a millisecond.
 *
 *   const t = await createTestBroker({ seed: 7 });
 *   await t.broker.subscribe('orders', handler, { group: 'billing', retry: { attempts: 5 } });
 *   await t.broker.publish('orders', message);
 *   await t.advance(24 * 3600_000);
 *
 * Time passes only in `advance`, which runs every timer that becomes due, in order, and waits for the
 * promises that each one starts. Equal seeds give equal runs: jitter and the choice among equals come
 * from the seed.
 * Limit: handlers may await only promises that need no real time, such as those of other test brokers,
 * of `t.pause` and of plain values. `advance` does not wait for a handler that awaits a socket.
 */

import { pause, type Scheduler } from '../util/time/scheduler.ts';
import { VirtualScheduler } from '../util/time/virtual-scheduler.ts';
import type { Broker } from './broker.ts';
import { EmbeddedBroker } from './embedded/embedded-broker.ts';
import type { BrokerOptions } from './options/options.ts';

export interface TestBrokerOptions {
  /** @default 1 */
  readonly seed?: number;
  /** The time at which the clock begins. @default 14 November 2023, 22:13:20 UTC */
  readonly now?: Date;
  /** For every broker that is opened. */
  readonly options?: Partial<Omit<BrokerOptions, 'addresses' | 'scheduler'>>;
}

export interface TestBroker extends AsyncDisposable {
  /** Connected, with its own memory. */
  readonly broker: Broker;
  /** The clock and the random numbers, for your own code. */
  readonly scheduler: Scheduler;
  /** Another broker with the same memory, as another service would have. */
  open(options?: Partial<Omit<BrokerOptions, 'addresses' | 'scheduler'>>): Promise<Broker>;
  /** The time by the virtual clock. */
  now(): Date;
  /** Advances the clock by `ms` and runs every timer that becomes due. */
  advance(ms: number): Promise<void>;
  /** Waits until all running work has ended or waits for time. No time passes. */
  settle(): Promise<void>;
  /** Resolves after `ms` virtual milliseconds: for handlers that take time. */
  pause(ms: number): Promise<void>;
  /** Disconnects every broker. Time passes until handlers that wait for it have ended. */
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

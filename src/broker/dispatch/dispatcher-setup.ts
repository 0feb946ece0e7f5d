/**
 * What a source of deliveries tells its dispatcher: how they are settled, and how far it may fetch ahead.
 */
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { BrokerEvents } from '../broker.ts';
import type { Events } from '../events.ts';
import type { ResolvedSubscribeOptions } from '../options/options.ts';
import type { Tracing } from '../trace.ts';
import type { RawDelivery, Settler } from './delivery.ts';
import type { DeliveryHandler } from './delivery-handler.ts';

export interface DispatcherSetup<Raw extends RawDelivery> {
  readonly options: ResolvedSubscribeOptions;
  readonly consume: DeliveryHandler;
  readonly settler: Settler<Raw>;
  readonly scheduler: Scheduler;
  readonly events: Events<BrokerEvents>;
  readonly tracing: Tracing;
  /**
   * When the source may fetch more than the handlers take at once. `when trusted` (the default): after
   * some deliveries are settled. `always`: where the messages end with the process.
   */
  readonly fetchAhead?: 'always' | 'when trusted';
  /**
   * The source counts what it reads, before a handler has it. Then, until it fetches ahead, it reads
   * one call's worth at a time: a message that ends the process has no others counted beside it.
   */
  readonly countsReads?: boolean;
  /**
   * A trusted consumer counts a hand-over when it happens (`Settler.storeAttemptNow`) only this long
   * after the last one that it counted, ms. @default 1
   */
  readonly countEveryMs?: number;
  /**
   * A trusted consumer counts each hand-over that is this long after the one before it, and with
   * `countEveryMs` only what is handed over beside running handlers, ms.
   */
  readonly countAfterQuietMs?: number;
  /**
   * What waits behind handlers that do not return is not given back: no other consumer takes an ordered group
   * over meanwhile, and it would come again behind later messages.
   */
  readonly keepsWaiting?: boolean;
  /** Called whenever `free` has grown. */
  readonly onFree?: () => void;
}

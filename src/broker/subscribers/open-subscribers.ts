/**
 * The subscribers and responders that a broker has open.
 *
 * Invariants: a subscriber is here from the moment it is made until it has closed, so `closeAll` misses
 * none; a close takes at most `drainTimeoutMs` and LEAVE_MS, whether the server answers or not.
 */
import type { AnySubscribeOptions, BrokerOptions } from '../options/options.ts';
import { isInHandler } from './handler-context.ts';
import {
  OwnSubscriber,
  type OwnSubscriberSetup,
  type SubscriptionHandle,
} from './own-subscriber.ts';

/** Beyond `drainTimeoutMs`: how long the commands of a consumer that leaves may take, ms. */
const LEAVE_MS = 2000;

export type MakeSubscriber = (setup: OwnSubscriberSetup) => OwnSubscriber;

export interface NewSubscriber {
  readonly topic: string;
  readonly options: AnySubscribeOptions;
  readonly subscription: SubscriptionHandle;
  /** The key under which its handlers run (handler-context.ts). */
  readonly owner: object;
  readonly make?: MakeSubscriber;
}

export class OpenSubscribers {
  readonly #options: () => BrokerOptions;
  readonly #open = new Set<OwnSubscriber>();
  readonly #owners = new WeakSet<object>();

  constructor(options: () => BrokerOptions) {
    this.#options = options;
  }

  add({ topic, options, subscription, owner, make = plain }: NewSubscriber): OwnSubscriber {
    this.#owners.add(owner);
    const subscriber = make({
      topic,
      options,
      subscription,
      owner,
      close: () => this.#closeWithin(subscription),
      onClosed: (closed) => this.#open.delete(closed),
    });
    this.#open.add(subscriber);
    return subscriber;
  }

  /** Whether the running code is part of a handler of one of them. */
  get isInHandler(): boolean {
    return isInHandler((owner) => this.#owners.has(owner));
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#open].map((subscriber) => subscriber.close()));
  }

  async #closeWithin(subscription: SubscriptionHandle): Promise<void> {
    const { drainTimeoutMs, scheduler } = this.#options();
    let cancel = () => {};
    const late = new Promise<void>((resolve) => {
      cancel = scheduler.after(drainTimeoutMs + LEAVE_MS, resolve);
    });
    const closing = subscription.close(drainTimeoutMs);
    closing.catch(() => {});
    try {
      await Promise.race([closing, late]);
    } finally {
      cancel();
    }
  }
}

const plain: MakeSubscriber = (setup) => new OwnSubscriber(setup);

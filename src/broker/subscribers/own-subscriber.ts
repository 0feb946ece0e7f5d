/**
 * The caller's Subscriber, around an implementation's subscription or responder.
 *
 * Invariant: it closes once. `unsubscribe` inside its own handler starts the close and resolves at
 * once, because the close waits for that handler. It continues when the handler has returned, and the
 * handler's outcome settles the message.
 */
import type { Subscriber } from '../broker.ts';
import { isInHandler } from './handler-context.ts';

/** An implementation's subscription or responder. */
export interface SubscriptionHandle {
  readonly inFlight: number;
  /** Fetches nothing more, waits for handlers (at most `timeoutMs`), frees everything. */
  close(timeoutMs: number): Promise<void>;
}

export interface OwnSubscriberSetup {
  readonly topic: string;
  readonly options: Subscriber['options'];
  readonly subscription: SubscriptionHandle;
  /** The key under which its handlers run (handler-context.ts). */
  readonly owner: object;
  close(): Promise<void>;
  onClosed(handle: OwnSubscriber): void;
}

export class OwnSubscriber implements Subscriber {
  readonly #setup: OwnSubscriberSetup;
  #closing: Promise<void> | null = null;
  #unwatch = () => {};

  constructor(setup: OwnSubscriberSetup) {
    this.#setup = setup;
  }

  get topic(): string {
    return this.#setup.topic;
  }

  get options(): Subscriber['options'] {
    return this.#setup.options;
  }

  get inFlight(): number {
    return this.#setup.subscription.inFlight;
  }

  watch(signal: AbortSignal | null): void {
    if (signal === null) return;
    const stop = () => void this.close().catch(() => {});
    signal.addEventListener('abort', stop, { once: true });
    this.#unwatch = () => signal.removeEventListener('abort', stop);
  }

  unsubscribe(): Promise<void> {
    const closing = this.close();
    const { owner } = this.#setup;
    if (!isInHandler((each) => each === owner)) return closing;
    closing.catch(() => {});
    return Promise.resolve();
  }

  /** Closes completely, also where a handler calls it. */
  close(): Promise<void> {
    this.#unwatch();
    this.#closing ??= this.#setup.close().finally(() => this.#setup.onClosed(this));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }
}

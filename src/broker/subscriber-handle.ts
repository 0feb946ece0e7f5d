/**
 * A subscription or responder as its caller has it.
 *
 * Invariant: it closes once. `unsubscribe` inside its own handler begins the close and resolves at
 * once, because it cannot wait for the handler that waits for it; the rest follows when the handler
 * has returned, and the handler's message is settled by the handler's outcome.
 */
import type { Subscriber } from './broker.ts';
import { isInHandler } from './handler-context.ts';
import type { SubscribeOptions } from './options.ts';

/** A subscription or responder of an implementation. */
export interface Attachment {
  readonly inFlight: number;
  /** Stops taking, lets handlers finish (at most `timeoutMs`), frees everything. */
  close(timeoutMs: number): Promise<void>;
}

export interface HandleSetup {
  readonly topic: string;
  readonly options: Readonly<SubscribeOptions>;
  readonly attachment: Attachment;
  /** What its handlers run for. */
  readonly owner: object;
  close(): Promise<void>;
  gone(handle: SubscriberHandle): void;
}

export class SubscriberHandle implements Subscriber {
  readonly #setup: HandleSetup;
  #closing: Promise<void> | null = null;
  #unwatch = () => {};

  constructor(setup: HandleSetup) {
    this.#setup = setup;
  }

  get topic(): string {
    return this.#setup.topic;
  }

  get options(): Readonly<SubscribeOptions> {
    return this.#setup.options;
  }

  get inFlight(): number {
    return this.#setup.attachment.inFlight;
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

  /** All of it, whoever calls. */
  close(): Promise<void> {
    this.#unwatch();
    this.#closing ??= this.#setup.close().finally(() => this.#setup.gone(this));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }
}

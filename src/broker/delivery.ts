/**
 * One delivery in a handler's hands.
 *
 * Invariant: it is settled at most once. A second settlement is ALREADY_SETTLED; one after its
 * deadline, or after the broker said that it is another's, is DELIVERY_LOST and changes nothing. A
 * settlement that failed on the way (broker not reached) may be tried again until the deadline.
 * Cost: one object; the AbortController is made when somebody looks at `signal`.
 */
import { RivuletError } from '../errors.ts';
import type { Delivery } from './broker.ts';
import type { Message } from './message.ts';

/** What an implementation hands in. It may carry fields of its own; settling gets it back as it is. */
export interface RawDelivery {
  readonly topic: string;
  readonly id: string;
  readonly message: Message;
  /** 1 for the first. */
  readonly attempt: number;
  /** Unix time in milliseconds. */
  readonly publishedAt: number;
}

/**
 * What an implementation can do with a delivery it handed in. Each rejects with DELIVERY_LOST when
 * the broker knows that the delivery is no longer this consumer's.
 */
export interface Settler<Raw extends RawDelivery = RawDelivery> {
  ack(raw: Raw): Promise<void>;
  /**
   * Many of one topic at once: of handlers that have succeeded. Rejects when none of them could be
   * acknowledged. Where it is missing, `ack` is called for each.
   */
  ackMany?(raws: readonly Raw[]): Promise<void>;
  /** It comes again no sooner than in `delayMs`, to anyone of the group. */
  nack(raw: Raw, delayMs: number, reason: string): Promise<void>;
  /** To the dead-letter topic, together with its acknowledgement. */
  deadLetter(raw: Raw, topic: string, reason: string): Promise<void>;
  /** Moves the acknowledgement deadline to `ms` from now. */
  extend(raw: Raw, ms: number): Promise<void>;
  /** Gives back what no handler saw, for others at once, uncounted where the broker can. */
  release(raw: Raw): Promise<void>;
  /** Counts one more attempt of a delivery that is retried in place, to keep order. */
  recount(raw: Raw): Promise<void>;
}

export type Outcome =
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack'; readonly delayMs: number | undefined; readonly reason: string }
  | { readonly kind: 'dead letter'; readonly reason: string }
  | { readonly kind: 'extend'; readonly ms: number };

/** Carries an outcome out; the dispatcher, which alone knows options and order. */
export interface DeliveryKeeper<Raw extends RawDelivery> {
  carryOut(delivery: HeldDelivery<Raw>, outcome: Outcome): Promise<void>;
  /** Milliseconds, monotonic. */
  now(): number;
  /** It left this consumer's hands: settled or lost. */
  left(delivery: HeldDelivery<Raw>): void;
}

export class HeldDelivery<Raw extends RawDelivery = RawDelivery> implements Delivery {
  readonly raw: Raw;
  /** In which order it came; a retry in place keeps it. */
  readonly sequence: number;
  /** Monotonic time after which the broker may give it to another. */
  deadline: number;
  /** `waiting`: for its turn. `handed`: the handler has it. */
  state: 'waiting' | 'handed' | 'settling' | 'settled' | 'lost' = 'waiting';
  /** Its handler has been called and has not returned; kept by the dispatcher, as are the next two. */
  inHandler = false;
  /** It was taken from its lane and is not yet done there. */
  taken = false;
  /** Its handler runs although its deadline has passed. */
  overdue = false;
  readonly #keeper: DeliveryKeeper<Raw>;
  #controller: AbortController | null = null;
  #lostFor: RivuletError | null = null;

  constructor(raw: Raw, keeper: DeliveryKeeper<Raw>, deadline: number, sequence: number) {
    this.raw = raw;
    this.sequence = sequence;
    this.#keeper = keeper;
    this.deadline = deadline;
  }

  get topic(): string {
    return this.raw.topic;
  }

  get id(): string {
    return this.raw.id;
  }

  get message(): Message {
    return this.raw.message;
  }

  get attempt(): number {
    return this.raw.attempt;
  }

  get publishedAt(): Date {
    return new Date(this.raw.publishedAt);
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#lostFor !== null) this.#controller.abort(this.#lostFor);
    }
    return this.#controller.signal;
  }

  get open(): boolean {
    return this.state === 'waiting' || this.state === 'handed';
  }

  ack(): Promise<void> {
    return this.#settle({ kind: 'ack' });
  }

  nack(options: { delayMs?: number; reason?: string } = {}): Promise<void> {
    const { delayMs, reason = 'given back by the handler' } = options;
    if (delayMs !== undefined && !(delayMs >= 0)) {
      return Promise.reject(new RivuletError('INVALID_ARGUMENT', 'delayMs may not be negative'));
    }
    return this.#settle({ kind: 'nack', delayMs, reason });
  }

  deadLetter(reason: string): Promise<void> {
    return this.#settle({ kind: 'dead letter', reason });
  }

  async extend(ms: number): Promise<void> {
    if (!(ms > 0)) throw new RivuletError('INVALID_ARGUMENT', 'extend needs milliseconds above 0');
    this.#mustBeOpen();
    try {
      await this.#keeper.carryOut(this, { kind: 'extend', ms });
    } catch (error) {
      if (isLost(error)) this.lose(error);
      throw error;
    }
  }

  /** It is no longer ours; whoever works on it hears so through `signal`. */
  lose(reason: RivuletError): void {
    if (this.state === 'settled' || this.state === 'lost') return;
    this.state = 'lost';
    this.#lostFor = reason;
    this.#controller?.abort(reason);
    this.#keeper.left(this);
  }

  async #settle(outcome: Outcome): Promise<void> {
    this.#mustBeOpen();
    this.state = 'settling';
    try {
      await this.#keeper.carryOut(this, outcome);
    } catch (error) {
      // Lost meanwhile: `lose` has said so already.
      if ((this.state as string) !== 'lost') {
        this.state = 'handed';
        if (isLost(error)) this.lose(error);
      }
      throw error;
    }
    if ((this.state as string) === 'lost') return;
    this.state = 'settled';
    this.#keeper.left(this);
  }

  #mustBeOpen(): void {
    if (this.state === 'settled' || this.state === 'settling') {
      throw new RivuletError(
        'ALREADY_SETTLED',
        `message ${this.id} of ${this.topic} was settled before`,
      );
    }
    if (this.state !== 'lost' && this.#keeper.now() >= this.deadline) this.lose(overdue(this.raw));
    if (this.state === 'lost') {
      throw this.#lostFor ?? overdue(this.raw);
    }
  }
}

export function overdue(raw: RawDelivery): RivuletError {
  return new RivuletError(
    'DELIVERY_LOST',
    `message ${raw.id} of ${raw.topic} was neither settled nor extended by its deadline: it is delivered again`,
  );
}

function isLost(error: unknown): error is RivuletError {
  return error instanceof RivuletError && error.code === 'DELIVERY_LOST';
}

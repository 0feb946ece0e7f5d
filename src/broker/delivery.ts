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
import { checkExtension, checkNackOptions } from './option-rows.ts';
import { reasonOf } from './reason.ts';

/** What an implementation hands in. It may carry fields of its own; settling gets it back as it is. */
export interface RawDelivery {
  readonly topic: string;
  readonly id: string;
  readonly message: Message;
  /** Hand-overs to a handler, this one included: 1 for the first. */
  readonly attempt: number;
  /** Unix time in milliseconds. */
  readonly publishedAt: number;
  /**
   * False when the broker has not counted this delivery as a hand-over yet: it was fetched ahead of
   * its handler. Absent = it has.
   */
  readonly counted?: boolean;
  /**
   * True when its last consumer neither settled it nor gave it back: it may end the process. It is
   * handed over alone, after `Settler.recount` has counted the hand-over.
   */
  readonly suspect?: boolean;
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
  /**
   * It comes again no sooner than in `delayMs`, to any consumer of the group. The broker's count of
   * hand-overs is `raw.attempt` then. Also called when a handler has missed its deadline.
   */
  nack(raw: Raw, delayMs: number, reason: string): Promise<void>;
  /** To the dead-letter topic, together with its acknowledgement. */
  deadLetter(raw: Raw, topic: string, reason: string): Promise<void>;
  /** Moves the acknowledgement deadline to `ms` from now. */
  extend(raw: Raw, ms: number): Promise<void>;
  /** Gives back what no handler got, for others at once: the count is `raw.attempt - 1` then. */
  release(raw: Raw): Promise<void>;
  /**
   * Makes the broker's count of hand-overs `raw.attempt`: before a suspect is handed over, before a
   * delivery is retried in place, and for one that was fetched ahead and is lost in its handler.
   */
  recount(raw: Raw): Promise<void>;
  /**
   * As `recount`, for one that is handed over in this turn: it is with the system when this returns, so
   * it arrives even where the handler ends the process at once, and it is never sent for a delivery
   * that no handler gets. Where it is missing, `recount` is waited for before the hand-over.
   */
  countNow?(raw: Raw): Promise<void>;
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
  /** Its deadline has passed while its handler had it: gives it back, and loses it. */
  expire(delivery: HeldDelivery<Raw>): void;
  /** A settlement that the handler asked for has failed; the handler may not be waiting for it. */
  settlementFailed(delivery: HeldDelivery<Raw>, error: unknown): void;
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
  /** The broker's count of hand-overs includes this one. */
  counted: boolean;
  /** The broker has to count it before a handler gets it. */
  countFirst = false;
  /** A handler has got it. */
  handedOver = false;
  readonly #keeper: DeliveryKeeper<Raw>;
  #controller: AbortController | null = null;
  #lostFor: RivuletError | null = null;

  constructor(raw: Raw, keeper: DeliveryKeeper<Raw>, deadline: number, sequence: number) {
    this.raw = raw;
    this.sequence = sequence;
    this.#keeper = keeper;
    this.deadline = deadline;
    this.counted = raw.counted !== false && raw.suspect !== true;
  }

  get suspect(): boolean {
    return this.raw.suspect === true;
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
    try {
      checkNackOptions(options);
    } catch (error) {
      return this.#watched(Promise.reject(error));
    }
    const { delayMs, reason = 'given back by the handler' } = options;
    return this.#settle({ kind: 'nack', delayMs, reason: reasonOf(reason) });
  }

  deadLetter(reason: string): Promise<void> {
    return this.#settle({ kind: 'dead letter', reason: reasonOf(reason) });
  }

  extend(ms: number): Promise<void> {
    return this.#watched(this.#extend(ms));
  }

  async #extend(ms: number): Promise<void> {
    checkExtension(ms);
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

  #settle(outcome: Outcome): Promise<void> {
    return this.#watched(this.settle(outcome));
  }

  /** A handler need not wait for a settlement: one that fails is reported and never unhandled. */
  #watched(settlement: Promise<void>): Promise<void> {
    settlement.catch((error) => this.#keeper.settlementFailed(this, error));
    return settlement;
  }

  /** As the handler's own settlements, for the dispatcher, which sees to failures. */
  async settle(outcome: Outcome): Promise<void> {
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
    if (this.state !== 'lost' && this.#keeper.now() >= this.deadline) this.#keeper.expire(this);
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

export function isLost(error: unknown): error is RivuletError {
  return error instanceof RivuletError && error.code === 'DELIVERY_LOST';
}

/**
 * One delivery, from the source to its settlement.
 *
 * Invariant: it is settled at most once. A second settlement is ALREADY_SETTLED; one after its
 * deadline, or after another consumer got the message, is DELIVERY_LOST and changes nothing. A
 * settlement that could not reach the broker may be tried again until the deadline.
 * What a handler writes into `message` or `bytes()` changes neither a retry nor a dead letter.
 * Cost: one object; `message` and the AbortController of `signal` are created when they are first read.
 * Where a retry or dead letter is made of the message here, reading `message` or `bytes()` copies it;
 * `text()` and `json()` never do.
 */
import { RivuletError } from '../../errors.ts';
import type { Delivery } from '../broker.ts';
import type { RawMessage } from '../message/message.ts';
import { reasonOf } from '../message/reason.ts';
import { jsonOf, Received, type ReceivedMessage, textOf } from '../message/received-message.ts';
import { checkExtension, checkNackOptions } from '../options/option-rows.ts';

/** What an implementation pushes. It may have more fields; the Settler gets the same object. */
export interface RawDelivery {
  readonly topic: string;
  readonly id: string;
  readonly message: RawMessage;
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
   * True when its last consumer neither settled nor returned it: it may end the process. It is
   * handed over alone, after `Settler.storeAttempt` has counted the hand-over.
   */
  readonly suspect?: boolean;
  /** Set by the dispatcher: it had no attempt left, so no handler has had this delivery. */
  readonly spent?: boolean;
}

/**
 * How an implementation settles the deliveries that it pushed. Each method rejects with DELIVERY_LOST
 * where the broker knows that the delivery is no longer this consumer's.
 */
export interface Settler<Raw extends RawDelivery = RawDelivery> {
  /** The broker has the message itself: no retry and no dead letter is made of the bytes of `raw`. */
  readonly sendsNoBytes?: boolean;
  ack(raw: Raw): Promise<void>;
  /**
   * Acknowledges many deliveries of one topic, whose handlers have succeeded. Rejects where none of
   * them could be acknowledged. Without it, `ack` is called for each.
   */
  ackMany?(raws: readonly Raw[]): Promise<void>;
  /**
   * Redelivers it in `delayMs` or later, to any consumer of the group. The broker's count of hand-overs
   * becomes `raw.attempt`. Also called when a handler has missed its deadline.
   */
  nack(raw: Raw, delayMs: number, reason: string): Promise<void>;
  /** Moves it to the dead-letter topic, together with its acknowledgement. */
  deadLetter(raw: Raw, topic: string, reason: string): Promise<void>;
  /** Moves the acknowledgement deadline to `ms` from now. */
  extend(raw: Raw, ms: number): Promise<void>;
  /** Returns what no handler got, for redelivery at once. The count becomes `raw.attempt - 1`. */
  release(raw: Raw): Promise<void>;
  /**
   * Makes the broker's count of hand-overs `raw.attempt`: before a suspect is handed over, before a
   * delivery is retried in place, and for one that was fetched ahead and is lost in its handler.
   */
  storeAttempt(raw: Raw): Promise<void>;
  /**
   * As `storeAttempt`, for a delivery that is handed over in this turn. When it returns, the command has
   * been written to the socket: it arrives even where the handler ends the process at once. Without it,
   * `storeAttempt` is awaited before the hand-over.
   */
  storeAttemptNow?(raw: Raw): Promise<void>;
  /** As `storeAttemptNow` for each, in one write. */
  storeAttemptsNow?(raws: readonly Raw[]): readonly Promise<void>[];
}

export type Outcome =
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack'; readonly delayMs: number | undefined; readonly reason: string }
  | { readonly kind: 'dead letter'; readonly reason: string }
  | { readonly kind: 'extend'; readonly ms: number };

/** The dispatcher, which knows options and order. */
export interface DeliveryOwner<Raw extends RawDelivery> {
  /** Handlers get copies of messages, because retries and dead letters are made of the originals. */
  readonly handsCopies: boolean;
  settle(delivery: HeldDelivery<Raw>, outcome: Outcome): Promise<void>;
  /** Milliseconds, monotonic. */
  now(): number;
  /** It is settled or lost. */
  onSettled(delivery: HeldDelivery<Raw>): void;
  /** Its deadline has passed while its handler had it: returns the message and revokes the delivery. */
  expire(delivery: HeldDelivery<Raw>): void;
  /** A settlement by the handler has failed; the handler may not await it. */
  settlementFailed(delivery: HeldDelivery<Raw>, error: unknown): void;
}

export class HeldDelivery<Raw extends RawDelivery = RawDelivery> implements Delivery {
  readonly raw: Raw;
  /** Its place in the order of arrival; a retry in place keeps it. */
  readonly sequence: number;
  /** Monotonic time after which the broker may redeliver the message. */
  deadline: number;
  /** `waiting`: for a handler. `handed`: the handler has it. */
  state: 'waiting' | 'handed' | 'settling' | 'settled' | 'lost' = 'waiting';
  /** Its handler has been called and has not returned; kept by the dispatcher, as are the next two. */
  inHandler = false;
  /** See CalledWork in scope.ts. */
  whenOut: (() => void) | null = null;
  /** It was taken from the queue, and its key is busy with it. */
  taken = false;
  /** Its handler runs although its deadline has passed. */
  overdue = false;
  /** The broker's count of hand-overs includes this one. */
  counted: boolean;
  /** The broker has to count it before a handler gets it. */
  countFirst = false;
  /** A handler has got it. */
  handedOver = false;
  /** How it was settled; of one that was acknowledged with others, null. */
  settledBy: Exclude<Outcome['kind'], 'extend'> | null = null;
  /** Called once, when it is settled or lost. */
  onEnd: (() => void) | null = null;
  readonly #owner: DeliveryOwner<Raw>;
  #message: ReceivedMessage | null = null;
  #controller: AbortController | null = null;
  #revokedFor: RivuletError | null = null;

  constructor(raw: Raw, keeper: DeliveryOwner<Raw>, deadline: number, sequence: number) {
    this.raw = raw;
    this.sequence = sequence;
    this.#owner = keeper;
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

  get message(): ReceivedMessage {
    const { message } = this.raw;
    this.#message ??= new Received(this.#owner.handsCopies ? copyOf(message) : message, this.raw);
    return this.#message;
  }

  text(): string {
    return textOf(this.raw.message.body, this.raw);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse
  json<Value = any>(): Value {
    return jsonOf(this.raw.message, this.raw) as Value;
  }

  bytes(): Uint8Array {
    return this.message.body;
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
      if (this.#revokedFor !== null) this.#controller.abort(this.#revokedFor);
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
      await this.#owner.settle(this, { kind: 'extend', ms });
    } catch (error) {
      if (isLost(error)) this.revoke(error);
      throw error;
    }
  }

  /** It is no longer this consumer's: aborts `signal`. */
  revoke(reason: RivuletError): void {
    if (this.state === 'settled' || this.state === 'lost') return;
    this.state = 'lost';
    this.#revokedFor = reason;
    this.#controller?.abort(reason);
    this.#owner.onSettled(this);
  }

  #settle(outcome: Outcome): Promise<void> {
    return this.#watched(this.settle(outcome));
  }

  /** A handler need not await a settlement: a failure is reported, and is no unhandled rejection. */
  #watched(settlement: Promise<void>): Promise<void> {
    settlement.catch((error) => this.#owner.settlementFailed(this, error));
    return settlement;
  }

  /** A commit has acknowledged it (journal.ts): nothing is sent, and its place is free. */
  settledByCommit(): void {
    if (!this.open) return;
    this.state = 'settled';
    this.#owner.onSettled(this);
  }

  /** As the handler's settlements, for the dispatcher, which handles failures itself. */
  async settle(outcome: Outcome): Promise<void> {
    this.#mustBeOpen();
    this.state = 'settling';
    if (outcome.kind !== 'extend') this.settledBy = outcome.kind;
    try {
      await this.#owner.settle(this, outcome);
    } catch (error) {
      // Lost meanwhile: `revoke` has reported it.
      if ((this.state as string) !== 'lost') {
        this.state = 'handed';
        if (isLost(error)) this.revoke(error);
      }
      throw error;
    }
    if ((this.state as string) === 'lost') return;
    this.state = 'settled';
    this.#owner.onSettled(this);
  }

  #mustBeOpen(): void {
    if (this.state === 'settled' || this.state === 'settling') {
      throw new RivuletError(
        'ALREADY_SETTLED',
        `message ${this.id} of ${this.topic} was settled before`,
      );
    }
    if (this.state !== 'lost' && this.#owner.now() >= this.deadline) this.#owner.expire(this);
    if (this.state === 'lost') {
      throw this.#revokedFor ?? overdue(this.raw);
    }
  }
}

export type DeliveryEnd = 'ack' | 'nack' | 'dead letter' | 'lost';

/** Calls back when a delivery is settled or lost. False where its broker does not say when. */
export function onDeliveryEnd(delivery: Delivery, ended: (as: DeliveryEnd) => void): boolean {
  if (!(delivery instanceof HeldDelivery)) return false;
  delivery.onEnd = () => {
    ended(delivery.state === 'lost' ? 'lost' : (delivery.settledBy ?? 'ack'));
  };
  return true;
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

function copyOf({ headers, body, ...more }: RawMessage): RawMessage {
  return { ...more, headers: { ...headers }, body: Buffer.from(body) };
}

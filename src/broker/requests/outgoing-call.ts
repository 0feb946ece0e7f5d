/**
 * The caller's side of a call: when it ends, and with which result. A carrier moves its frames.
 *
 * Invariants: a call ends once: by its last reply, an end, an error, its deadline, its signal, or when
 * its caller leaves; where it ends early the carrier notifies the responder; after the end nothing is
 * sent. Cost: one object, and one entry among the deadlines.
 */
import { RivuletError } from '../../errors.ts';
import { onAbort } from '../../util/time/on-abort.ts';
import type { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';

/** Moves the frames of calls to their responders. */
export interface CallerCarrier {
  /** The caller has cancelled the call. */
  cancel(call: OutgoingCall): void;
  /** One of the caller's messages; `number` counts them from 0. */
  more(call: OutgoingCall, message: RawMessage, number: number): void;
  /** The caller sends no more; `number` of them were sent. */
  end(call: OutgoingCall, number: number): void;
  /** Grants `bytes` more bytes of replies; 0 is a sign of life. */
  grant(call: OutgoingCall, bytes: number): void;
  /** The call has ended. */
  forget(call: OutgoingCall): void;
}

export interface Limits {
  /** Null: none. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal | undefined;
}

export abstract class OutgoingCall {
  readonly topic: string;
  /** The carrier's id of the call; null until it has one. */
  id: number | string | null = null;
  over = false;
  protected readonly carrier: CallerCarrier;
  #stopTimer: (() => void) | null = null;
  #unwatch: (() => void) | null = null;
  #whenOver: (() => void) | null = null;

  constructor(carrier: CallerCarrier, topic: string) {
    this.carrier = carrier;
    this.topic = topic;
  }

  /** A reply; `last` where none follows. `cost`: how many bytes of the window it uses. */
  abstract receive(message: RawMessage, cost: number, last: boolean): void;
  /** The responder has ended, after any number of replies. */
  abstract finished(trailers: Readonly<Record<string, string>>): void;
  protected abstract failed(error: RivuletError): void;

  /** Starts the deadline and listens to the signal. */
  watch(timeouts: Timeouts, { timeoutMs, signal }: Limits): void {
    if (timeoutMs !== null) {
      this.#stopTimer = timeouts.add(timeoutMs, () =>
        this.giveUp(
          new RivuletError('TIMEOUT', `no reply on ${this.topic} within ${timeoutMs} ms`),
        ),
      );
    }
    if (signal === undefined || this.over) return;
    const stop = onAbort(signal, () => {
      const text = `request on ${this.topic} was aborted`;
      this.giveUp(new RivuletError('ABORTED', text, { cause: signal.reason }));
    });
    if (this.over) stop();
    else this.#unwatch = stop;
  }

  /** Calls back once when the call has ended; at once if it has. */
  onEnd(callback: () => void): void {
    if (this.over) callback();
    else this.#whenOver = callback;
  }

  /** The carrier or the responder has failed it. */
  fail(error: RivuletError): void {
    if (this.over) return;
    this.finish();
    this.failed(error);
  }

  /** The caller ends it: its time is up, it was aborted, or (null) it needs no more replies. */
  giveUp(error: RivuletError | null): void {
    if (this.over) return;
    this.over = true;
    this.carrier.cancel(this);
    this.finish();
    if (error !== null) this.failed(error);
  }

  protected finish(): void {
    this.over = true;
    this.#stopTimer?.();
    this.#unwatch?.();
    this.carrier.forget(this);
    this.#whenOver?.();
    this.#whenOver = null;
  }
}

/** A request with one reply. */
export class OneReply extends OutgoingCall {
  readonly #resolve: (message: RawMessage) => void;
  protected readonly failed: (error: RivuletError) => void;

  constructor(
    carrier: CallerCarrier,
    topic: string,
    resolve: (message: RawMessage) => void,
    reject: (error: RivuletError) => void,
  ) {
    super(carrier, topic);
    this.#resolve = resolve;
    this.failed = reject;
  }

  receive(message: RawMessage, _cost: number, last: boolean): void {
    // The first of several replies is the result, and the responder can stop.
    if (last) this.finish();
    else this.giveUp(null);
    this.#resolve(message);
  }

  finished(): void {
    const text = `the responder on ${this.topic} ended without a reply`;
    this.fail(new RivuletError('RESPONDER_FAILED', text));
  }
}

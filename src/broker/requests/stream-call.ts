/**
 * A call whose replies are a stream, and whose caller may send a stream too.
 *
 * Invariants: replies are read in order; when its caller does not read, the responder stops after a
 * window of bytes and one message; the caller sends no more than it was granted; leaving the loop over
 * the replies cancels the call; a peer that is silent for `SILENT_FOR_MS` is lost, even where its
 * connection carries other traffic; a violation of the protocol fails this call and no other.
 * Cost: a promise per message, and one entry among the timers per ten seconds.
 */
import { RivuletError } from '../../errors.ts';
import { ReceiveQueue } from '../../flow/receive-queue.ts';
import { SendWindow } from '../../flow/send-window.ts';
import { Deferred } from '../../util/time/deferred.ts';
import type { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';
import { costOf, DEFAULT_WINDOW, PING_EVERY_MS, SILENT_FOR_MS } from './call-costs.ts';
import { type CallerCarrier, OutgoingCall } from './outgoing-call.ts';

/** How many replies may be unread where the responder does not support credit. */
const MOST_UNREAD = 10_000;

type Headers = Readonly<Record<string, string>>;

/** The caller's side of a stream. */
export interface RawCall {
  readonly messages: AsyncIterableIterator<RawMessage>;
  readonly trailers: Promise<Headers>;
  send(message: RawMessage): Promise<void>;
  end(): void;
  cancel(reason?: RivuletError): void;
}

export interface StreamCallOptions {
  /** Bytes of replies that may be unread; null where the responder does not support credit. */
  readonly windowBytes?: number | null;
  /** Whether the caller has messages to send after the first one. */
  readonly sends?: boolean;
}

export class StreamCall extends OutgoingCall implements RawCall {
  readonly messages: ReceiveQueue<RawMessage>;
  #windowBytes: number | null;
  readonly #window: SendWindow<RawMessage>;
  /** Whether the caller sends messages after the first one. */
  readonly sends: boolean;
  #number = 0;
  /** The responder has the call: an end or a grant can be sent. */
  #isOpen = false;
  #isEndDue = false;
  #hasEnded: boolean;
  #toGrant = 0;
  #trailers: Headers | null = null;
  #error: RivuletError | null = null;
  #promise: Deferred<Headers> | null = null;
  /** For how many pings nothing came, in ms. */
  #silentMs = 0;
  #stopPing: (() => void) | null = null;
  #hasSpoken = false;

  constructor(carrier: CallerCarrier, topic: string, options: StreamCallOptions = {}) {
    super(carrier, topic);
    const { windowBytes = DEFAULT_WINDOW, sends = false } = options;
    this.#windowBytes = windowBytes;
    this.sends = sends;
    this.#hasEnded = !sends;
    this.messages = new ReceiveQueue({
      limit: windowBytes ?? Number.POSITIVE_INFINITY,
      onConsumed: (bytes) => this.#consumed(bytes),
      onLeave: () => this.giveUp(null),
    });
    this.#window = new SendWindow(0, (message) => {
      this.#hasSpoken = true;
      this.carrier.more(this, message, this.#number++);
    });
  }

  get trailers(): Promise<Headers> {
    if (this.#promise === null) {
      this.#promise = new Deferred();
      this.#settle();
    }
    return this.#promise.promise;
  }

  /** Bytes of replies that may be unread; null where the responder does not support credit. */
  get windowBytes(): number | null {
    return this.#windowBytes;
  }

  /** The responder does not support credit. */
  withoutCredit(): void {
    this.#windowBytes = null;
    this.messages.limit = Number.POSITIVE_INFINITY;
  }

  send(message: RawMessage): Promise<void> {
    if (this.#hasEnded || this.over) {
      const text = `the caller's messages on ${this.topic} have ended`;
      return Promise.reject(this.#error ?? new RivuletError('CLOSED', text));
    }
    return this.#window.send(message, costOf(message), () => tooManyUnsent(this.topic));
  }

  end(): void {
    if (this.#hasEnded || this.over) return;
    this.#hasEnded = true;
    this.#window.whenEmpty(() => this.#sayEnd());
  }

  cancel(reason?: RivuletError): void {
    this.giveUp(reason ?? new RivuletError('ABORTED', `the caller on ${this.topic} left`));
  }

  /** The responder has accepted the call: from now on it must send signs of life. */
  opened(timeouts: Timeouts): void {
    if (this.#isOpen || this.over) return;
    this.#isOpen = true;
    this.#silentMs = 0;
    if (this.windowBytes !== null) this.#ping(timeouts);
    if (this.#isEndDue) this.#sayEnd();
    // Grants for what was read before grants could be sent.
    this.#consumed(0);
  }

  /** A frame of any kind has arrived. */
  heard(): void {
    this.#silentMs = 0;
  }

  /** The responder grants `bytes` more bytes. */
  granted(bytes: number): void {
    if (!this.over && bytes > 0) this.#window.grant(bytes);
  }

  receive(message: RawMessage, cost: number, last: boolean): void {
    if (this.over) return;
    try {
      this.messages.push(message, cost);
    } catch (error) {
      this.giveUp(error as RivuletError);
      return;
    }
    if (last) this.#close({});
    else if (this.windowBytes === null && this.messages.size > MOST_UNREAD) {
      const text = `${MOST_UNREAD} replies are waiting unread`;
      this.giveUp(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
  }

  finished(trailers: Headers): void {
    if (this.over) return;
    // A responder that has ended receives nothing more: the carrier has forgotten the call.
    const isCallerOpen = !this.#hasEnded;
    this.#hasEnded = true;
    if (isCallerOpen && this.#isOpen) this.carrier.end(this, this.#number);
    this.#close(trailers);
  }

  #close(trailers: Headers): void {
    this.#hasEnded = true;
    this.finish();
    this.#trailers = trailers;
    this.#settle();
    this.messages.end();
    this.#window.fail(new RivuletError('CLOSED', `the responder on ${this.topic} has ended`));
  }

  override giveUp(error: RivuletError | null): void {
    if (this.over) return;
    super.giveUp(error);
    // The reader left and needs nothing more; pending `next` calls must still resolve.
    if (error !== null) return;
    const text = `the caller on ${this.topic} left`;
    this.#error = new RivuletError('ABORTED', text);
    this.#window.fail(this.#error);
    this.#settle();
  }

  protected failed(error: RivuletError): void {
    this.#error = error;
    this.messages.fail(error);
    this.#window.fail(error);
    this.#settle();
  }

  protected override finish(): void {
    super.finish();
    this.#stopPing?.();
  }

  #sayEnd(): void {
    if (this.over) return;
    this.#isEndDue = !this.#isOpen;
    if (this.#isOpen) this.carrier.end(this, this.#number);
  }

  /** Half a window at a time: a grant per message would double the frames. */
  #consumed(bytes: number): void {
    const { windowBytes } = this;
    if (windowBytes === null || this.over) return;
    this.#toGrant += bytes;
    if (this.#toGrant < windowBytes / 2 || !this.#isOpen) return;
    const granted = this.#toGrant;
    this.#toGrant = 0;
    this.#hasSpoken = true;
    this.carrier.grant(this, granted);
  }

  #ping(timeouts: Timeouts): void {
    this.#stopPing = timeouts.add(PING_EVERY_MS, () => {
      if (this.over) return;
      // Counted in pings: after a turn of the loop that took long, frames may wait to be read.
      this.#silentMs += PING_EVERY_MS;
      if (this.#silentMs > SILENT_FOR_MS) {
        const text = `the responder on ${this.topic} has been silent for ${SILENT_FOR_MS} ms`;
        this.giveUp(new RivuletError('RESPONDER_LOST', text));
        return;
      }
      if (!this.#hasSpoken) this.carrier.grant(this, 0);
      this.#hasSpoken = false;
      this.#ping(timeouts);
    });
  }

  #settle(): void {
    if (this.#promise === null) return;
    if (this.#trailers !== null) this.#promise.resolve(this.#trailers);
    else if (this.#error !== null) this.#promise.reject(this.#error);
  }
}

export function tooManyUnsent(topic: string): RivuletError {
  const text = `${topic}: too many messages wait to be sent; await send() before the next one`;
  return new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' });
}

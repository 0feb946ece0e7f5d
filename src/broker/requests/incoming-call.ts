/**
 * The responder's side of a call: runs the handler, sends its replies, receives its caller's messages.
 *
 * Invariants: the handler runs once, and its signal aborts when the caller is gone; replies leave in
 * order, and only while the caller has granted credit; what the caller sends is bounded by the window
 * plus one message; after the end nothing is sent, and an iterator that has not ended is returned.
 * Cost: one object; the signal is created when it is first read, the queue when a stream is opened.
 */
import { RivuletError } from '../../errors.ts';
import { ReceiveQueue } from '../../flow/receive-queue.ts';
import { SendWindow } from '../../flow/send-window.ts';
import type { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';
import type { Tracing } from '../trace.ts';
import { costOf, DEFAULT_WINDOW, PING_EVERY_MS, SILENT_FOR_MS } from './call-costs.ts';
import { tooManyUnsent } from './stream-call.ts';

type Headers = Readonly<Record<string, string>>;

/** The responder that implementations call: it takes and returns RawMessages. */
export type RawResponder = (
  request: RawMessage,
  context: RawContext,
) => Promise<RawMessage | AsyncIterable<RawMessage>> | AsyncIterable<RawMessage>;

export interface RawContext {
  readonly signal: AbortSignal;
  /** As a listener of `signal`, which costs no signal. One listener. */
  onAbort(listener: (reason: RivuletError) => void): void;
  readonly topic: string;
  /** The messages that the caller sends after the request; none for a plain request. */
  readonly messages: AsyncIterableIterator<RawMessage>;
}

/** Moves the frames of calls to their callers. A method that returns false reports that the caller is gone. */
export interface ResponderCarrier {
  reply(call: IncomingCall, message: RawMessage): Promise<boolean> | boolean;
  more(call: IncomingCall, message: RawMessage, number: number): Promise<boolean> | boolean;
  end(call: IncomingCall, trailers: Headers, number: number): void;
  fail(call: IncomingCall, error: unknown): void;
  grant(call: IncomingCall, bytes: number): void;
}

export interface IncomingSetup {
  readonly id: number | string;
  readonly request: RawMessage;
  /** Bytes of replies that may be unread at the caller; null where it does not support credit. */
  readonly callerWindow: number | null;
  /** Whether the caller may send more messages. */
  readonly isStream: boolean;
}

export class IncomingCall implements RawContext {
  readonly id: number | string;
  readonly request: RawMessage;
  readonly topic: string;
  readonly isStream: boolean;
  /** It has ended: nothing more is sent. */
  over = false;
  readonly #carrier: ResponderCarrier;
  readonly #queue: ReceiveQueue<RawMessage> | null;
  readonly #window: SendWindow<RawMessage> | null;
  #controller: AbortController | null = null;
  #whenAborted: ((reason: RivuletError) => void) | null = null;
  #reason: RivuletError | null = null;
  #number = 0;
  #isAnswered = false;
  #toGrant = 0;
  /** The last write: resolves to whether the caller is still there. */
  #written: Promise<boolean> | boolean = true;
  /** For how many pings nothing came, in ms. */
  #silentMs = 0;
  #hasSpoken = false;
  #stopPing: (() => void) | null = null;

  constructor(carrier: ResponderCarrier, topic: string, setup: IncomingSetup) {
    const { id, request, callerWindow, isStream } = setup;
    this.#carrier = carrier;
    this.topic = topic;
    this.id = id;
    this.request = request;
    this.isStream = isStream;
    this.#queue = isStream
      ? new ReceiveQueue({
          limit: DEFAULT_WINDOW,
          onConsumed: (bytes) => this.#consumed(bytes),
          onLeave: () => {},
        })
      : null;
    this.#window =
      callerWindow === null
        ? null
        : new SendWindow(callerWindow, (message) => {
            this.#hasSpoken = true;
            this.#written = carrier.more(this, message, this.#number++);
          });
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      // A signal that is read later is aborted too.
      if (this.#reason !== null) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  onAbort(listener: (reason: RivuletError) => void): void {
    if (this.#reason !== null) listener(this.#reason);
    else this.#whenAborted = listener;
  }

  get messages(): AsyncIterableIterator<RawMessage> {
    return this.#queue ?? NOTHING;
  }

  /** Runs the handler to its end; never rejects. */
  async run(handler: RawResponder, tracing: Tracing): Promise<void> {
    const { request } = this;
    try {
      const result = tracing.run(request.headers, () => handler(request, this));
      // Iteration starts in the turn in which the handler returned the iterable.
      const replies = Symbol.asyncIterator in result ? result : await result;
      if (Symbol.asyncIterator in replies) await this.#sendAll(replies);
      else {
        if (this.over) return;
        this.#finish();
        await this.#carrier.reply(this, replies);
        this.#isAnswered = true;
      }
    } catch (error) {
      // A cancelled call sends nothing; a reply that could not be sent becomes an error.
      if (this.#reason !== null || this.#isAnswered) return;
      this.#finish();
      this.#carrier.fail(this, error);
    }
  }

  /** Ends it early: the caller has cancelled or is gone, or the responder closes. */
  abort(reason: RivuletError): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#finish();
    this.#notifyAborted(reason);
  }

  /** Ends it with this error, which the caller receives. */
  refuse(error: RivuletError): void {
    if (this.over) return;
    this.#finish();
    this.#carrier.fail(this, error);
    this.#reason = error;
    this.#notifyAborted(error);
  }

  #notifyAborted(reason: RivuletError): void {
    this.#controller?.abort(reason);
    this.#whenAborted?.(reason);
    this.#whenAborted = null;
  }

  // ---- From the caller

  received(message: RawMessage, cost: number): void {
    if (this.over) return;
    try {
      if (this.#queue === null) throw unopened(this.topic);
      this.#queue.push(message, cost);
    } catch (error) {
      this.refuse(error as RivuletError);
    }
  }

  callerEnded(): void {
    this.#queue?.end();
  }

  granted(bytes: number): void {
    if (bytes > 0) this.#window?.grant(bytes);
  }

  heard(): void {
    this.#silentMs = 0;
  }

  /** Starts to send signs of life, and to expect them from the caller. */
  watch(timeouts: Timeouts): void {
    this.#silentMs = 0;
    this.#ping(timeouts);
  }

  // ---- Sending

  async #sendAll(replies: AsyncIterable<RawMessage>): Promise<void> {
    // Cancelled before it began: a generator that starts now would never see the signal abort.
    if (this.over) return;
    const iterator = replies[Symbol.asyncIterator]();
    let isDone = false;
    try {
      for (;;) {
        const { done, value } = await iterator.next();
        isDone = done === true;
        if (this.over) return;
        if (isDone) {
          this.#finish();
          this.#carrier.end(this, headersOf(value), this.#number);
          this.#isAnswered = true;
          return;
        }
        if (!(await this.#sendOne(value)) && !this.over) {
          this.abort(new RivuletError('ABORTED', 'the caller is gone'));
        }
      }
    } catch (error) {
      // An iterator that threw has ended; after a failed send it is still running.
      isDone = this.#reason === null && !this.over;
      throw error;
    } finally {
      if (!isDone) await iterator.return?.();
    }
  }

  async #sendOne(message: RawMessage): Promise<boolean> {
    if (this.#window === null) return this.#carrier.more(this, message, this.#number++);
    await this.#window.send(message, costOf(message), () => tooManyUnsent(this.topic));
    return this.#written;
  }

  #consumed(bytes: number): void {
    if (this.over) return;
    this.#toGrant += bytes;
    if (this.#toGrant < DEFAULT_WINDOW / 2) return;
    const granted = this.#toGrant;
    this.#toGrant = 0;
    this.#hasSpoken = true;
    this.#carrier.grant(this, granted);
  }

  #ping(timeouts: Timeouts): void {
    this.#stopPing = timeouts.add(PING_EVERY_MS, () => {
      if (this.over) return;
      // Counted in pings: after a turn of the loop that took long, frames may wait to be read.
      this.#silentMs += PING_EVERY_MS;
      if (this.#silentMs > SILENT_FOR_MS) {
        const text = `the caller on ${this.topic} has been silent for ${SILENT_FOR_MS} ms`;
        this.abort(new RivuletError('ABORTED', text));
        return;
      }
      if (!this.#hasSpoken) this.#carrier.grant(this, 0);
      this.#hasSpoken = false;
      this.#ping(timeouts);
    });
  }

  #finish(): void {
    this.over = true;
    this.#stopPing?.();
    // A plain request has neither, and an error with its stack costs more than all else here.
    if (this.#window === null && this.#queue === null) return;
    const ended = this.#reason ?? new RivuletError('CLOSED', `the call on ${this.topic} has ended`);
    this.#window?.fail(ended);
    this.#queue?.abort(ended);
  }
}

/** What a generator returned, where it has headers: the call's trailers. */
function headersOf(value: unknown): Headers {
  if (typeof value !== 'object' || value === null) return NO_HEADERS;
  const { headers } = value as { headers?: unknown };
  if (typeof headers !== 'object' || headers === null) return NO_HEADERS;
  return headers as Headers;
}

function unopened(topic: string): RivuletError {
  return new RivuletError('PROTOCOL', `the caller on ${topic} sends to a request, not to a stream`);
}

const NO_HEADERS: Headers = Object.freeze({});

/** The messages of a plain request. */
const NOTHING: AsyncIterableIterator<RawMessage> = {
  next: async () => ({ done: true, value: undefined }),
  return: async () => ({ done: true, value: undefined }),
  [Symbol.asyncIterator]() {
    return this;
  },
};

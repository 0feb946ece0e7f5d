/**
 * The caller's side of request and reply on brokers that carry frames as messages.
 *
 * Holds: the calls in flight, each with the address of its responder once it is known. The
 * implementation moves the frames (`CallerWire`); the state of a call is in outgoing-call.ts and
 * stream-call.ts. Invariants: at most `maxInFlight` calls wait; frames of one direction are numbered and
 * processed in order, each once; a responder that has been silent for `LOST_AFTER_MS` is RESPONDER_LOST
 * (one that works longer sends a sign of life every `ALIVE_EVERY_MS`). Silence is counted in looks: time for
 * which this process was held up is no silence of others.
 * Cost: one map entry for each call; calls share timers.
 */
import { type ErrorCode, errorTable, RivuletError } from '../../errors.ts';
import { errorText } from '../../util/error-text.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';
import type { StreamOptions } from '../options/options.ts';
import { costOf, DEFAULT_WINDOW } from './call-costs.ts';
import { FrameOrder } from './frame-order.ts';
import type { CallerCarrier, OutgoingCall } from './outgoing-call.ts';
import { StreamCall } from './stream-call.ts';

/** How often a responder that has not ended sends a sign of life. */
export const ALIVE_EVERY_MS = 1000;
const LOST_AFTER_MS = 3000;
const LOOK_EVERY_MS = 1000;
const DEFAULT_TIMEOUT_MS = 10_000;

/** Control frames are headers, so that any broker can carry them. */
export const replyHeaders = {
  /** The request that it belongs to. */
  request: 'rivulet-request',
  /** The address for answers to this frame. */
  replyTo: 'rivulet-reply-to',
  /**
   * From the responder: `reply`, `end` (after any number of replies), `error`, `alive`, `grant`; absent
   * in a single reply. From the caller: `open` (a request that more messages follow), `more`, `end`,
   * `grant`, `cancel`; absent in a request.
   */
  kind: 'rivulet-reply-kind',
  /** Number of the reply or message, from 0; at an end their count. */
  number: 'rivulet-reply-number',
  /** How many bytes may be unread at the sender of this frame. */
  window: 'rivulet-window',
  /** How many more bytes it grants. */
  grant: 'rivulet-grant',
  code: 'rivulet-error-code',
  text: 'rivulet-error-text',
  /** `no` where no handler ran. */
  sent: 'rivulet-error-sent',
} as const;

/** Carries frames to responders. */
export interface CallerWire {
  /** Notifies the responder, or all where it is unknown, that the caller has cancelled the call. */
  cancel(id: string): void;
  /** Sends a frame to the responder with this address. False, or a promise of false: it is gone. */
  send(address: string, frame: RawMessage): boolean | undefined | Promise<boolean>;
}

export type CallForm =
  /** One reply is wanted. */
  | 'one'
  /** Many replies, with credit. */
  | 'many'
  /** Many replies, and messages of the caller. */
  | 'stream';

export interface StartedCall {
  readonly id: string;
  /** Headers to add to the request. */
  readonly headers: Readonly<Record<string, string>>;
  readonly call: StreamCall;
  /** The request was sent: from now on a silent responder is lost. */
  readonly departed: () => void;
  readonly fail: (error: RivuletError) => void;
}

export class Requests implements CallerCarrier {
  readonly #timeouts: Timeouts;
  readonly #maxInFlight: number;
  readonly #waiting = new Map<string, Waiting>();
  #number = 0;

  constructor(scheduler: Scheduler, maxInFlight = 10_000) {
    this.#timeouts = new Timeouts(scheduler);
    this.#maxInFlight = maxInFlight;
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Starts a call. Where it throws, nothing was sent. */
  start(topic: string, options: StreamOptions, wire: CallerWire, form: CallForm): StartedCall {
    const { timeoutMs = form === 'stream' ? null : DEFAULT_TIMEOUT_MS, signal } = options;
    if (timeoutMs !== null && !(timeoutMs > 0)) {
      const text = `timeoutMs must be above 0, not ${timeoutMs}`;
      throw new RivuletError('INVALID_ARGUMENT', text, { sent: 'no' });
    }
    if (this.#waiting.size >= this.#maxInFlight) {
      throw new RivuletError('LIMIT_EXCEEDED', `${this.#maxInFlight} requests are in flight`);
    }
    const id = (this.#number++).toString(36);
    const windowBytes = form === 'one' ? null : (options.windowBytes ?? DEFAULT_WINDOW);
    const call = new StreamCall(this, topic, { windowBytes, sends: form === 'stream' });
    call.id = id;
    const waiting = new Waiting(call, wire);
    this.#waiting.set(id, waiting);
    call.watch(this.#timeouts, { timeoutMs, signal });
    const headers: Record<string, string> = { [replyHeaders.request]: id };
    if (windowBytes !== null) headers[replyHeaders.window] = String(windowBytes);
    if (form === 'stream') headers[replyHeaders.kind] = 'open';
    const departed = () => {
      if (call.over) return;
      waiting.silentMs = 0;
      waiting.stopWatch();
      this.#watchSilence(waiting);
    };
    return { id, headers, call, departed, fail: (error) => call.fail(error) };
  }

  /** A frame that arrived in the inbox. A frame of an ended call is dropped. */
  receive(frame: RawMessage): void {
    const waiting = this.#waiting.get(frame.headers[replyHeaders.request] ?? '');
    if (waiting === undefined) return;
    waiting.silentMs = 0;
    waiting.call.heard();
    const address = frame.headers[replyHeaders.replyTo];
    if (waiting.address === null && address !== undefined) {
      waiting.address = address;
      waiting.call.opened(this.#timeouts);
    }
    try {
      waiting.receive(frame);
    } catch (error) {
      waiting.call.giveUp(error as RivuletError);
    }
  }

  /** Fails all calls: the connection is lost, or the broker closes. */
  failAll(error: RivuletError): void {
    for (const { call } of [...this.#waiting.values()]) call.fail(error);
  }

  // ---- For calls

  cancel(call: OutgoingCall): void {
    const id = call.id as string;
    const waiting = this.#waiting.get(id);
    // A cancel reaches the responder at the address where it receives frames of its calls.
    if (waiting?.address != null) this.#send(call, { kind: 'cancel' });
    else waiting?.wire.cancel(id);
  }

  more(call: OutgoingCall, message: RawMessage, number: number): void {
    this.#send(call, { kind: 'more', number: String(number) }, message);
  }

  end(call: OutgoingCall, number: number): void {
    this.#send(call, { kind: 'end', number: String(number) });
  }

  grant(call: OutgoingCall, bytes: number): void {
    this.#send(call, { kind: 'grant', grant: String(bytes) });
  }

  forget(call: OutgoingCall): void {
    const waiting = this.#waiting.get(call.id as string);
    if (waiting === undefined) return;
    this.#waiting.delete(call.id as string);
    waiting.stopWatch();
  }

  #send(
    call: OutgoingCall,
    control: Partial<Record<keyof typeof replyHeaders, string>>,
    message: RawMessage = NOTHING,
  ): void {
    const waiting = this.#waiting.get(call.id as string);
    if (waiting === undefined || waiting.address === null) return;
    const headers: Record<string, string> = { ...message.headers };
    for (const [name, value] of Object.entries(control)) {
      headers[replyHeaders[name as keyof typeof replyHeaders]] = value;
    }
    headers[replyHeaders.request] = call.id as string;
    const sent = waiting.wire.send(waiting.address, { ...message, headers });
    if (sent === true || sent === undefined) return;
    const gone = (isThere: boolean) => {
      if (isThere) return;
      call.fail(new RivuletError('RESPONDER_LOST', `the responder on ${call.topic} is gone`));
    };
    // A lost connection fails the calls itself.
    if (sent === false) gone(false);
    else sent.then(gone, () => {});
  }

  #watchSilence(waiting: Waiting): void {
    waiting.stopWatch = this.#timeouts.add(LOOK_EVERY_MS, () => {
      if (waiting.silentMs < LOST_AFTER_MS) {
        waiting.silentMs += LOOK_EVERY_MS;
        this.#watchSilence(waiting);
        return;
      }
      const { call } = waiting;
      const text = `the responder on ${call.topic} has been silent for ${LOST_AFTER_MS} ms`;
      call.giveUp(new RivuletError('RESPONDER_LOST', text));
    });
  }
}

/** The first of the replies, as `request` wants it. */
export async function onlyReply(
  replies: AsyncIterable<RawMessage>,
  topic: string,
): Promise<RawMessage> {
  for await (const reply of replies) return reply;
  throw new RivuletError('RESPONDER_FAILED', `the responder on ${topic} ended without a reply`);
}

class Waiting {
  /** For how many looks nothing came, in ms. */
  silentMs = 0;
  address: string | null = null;
  stopWatch = () => {};
  readonly call: StreamCall;
  readonly wire: CallerWire;
  readonly #order: FrameOrder<RawMessage>;
  #trailers: Readonly<Record<string, string>> = {};

  constructor(call: StreamCall, wire: CallerWire) {
    this.call = call;
    this.wire = wire;
    this.#order = new FrameOrder(call.windowBytes ?? MOST_EARLY_BYTES, (frame, cost) => {
      call.receive(frame, cost, false);
    });
  }

  receive(frame: RawMessage): void {
    const { call } = this;
    const { headers } = frame;
    const number = Number(headers[replyHeaders.number] ?? 0);
    switch (headers[replyHeaders.kind]) {
      case 'alive':
        return;
      case 'grant':
        call.granted(bytesOf(headers[replyHeaders.grant]));
        return;
      case 'error':
        call.fail(errorOf(frame));
        return;
      case undefined: {
        const message = withoutFrame(frame);
        call.receive(message, costOf(message), true);
        return;
      }
      case 'end':
        this.#order.end(number);
        this.#trailers = withoutFrame(frame).headers;
        break;
      default: {
        const message = withoutFrame(frame);
        this.#order.push(number, message, costOf(message));
      }
    }
    if (this.#order.isComplete) call.finished(this.#trailers);
  }
}

/** Bytes of replies that may wait for one of a lower number, where the responder does not support credit. */
const MOST_EARLY_BYTES = 64 * 1024 * 1024;
const NOTHING: RawMessage = { headers: {}, body: new Uint8Array(0) };

/** The bytes that a frame grants; throws PROTOCOL for what is no number. */
export function bytesOf(text: string | undefined): number {
  const bytes = Number(text);
  if (Number.isSafeInteger(bytes) && bytes >= 0 && bytes < 2 ** 31) return bytes;
  throw new RivuletError('PROTOCOL', `a grant of ${text} bytes`);
}

/** The error frame of what a responder threw: its code when it is one of ours, and its text. */
export function errorFrame(error: unknown, sent: 'no' | 'maybe' = 'maybe'): Record<string, string> {
  const code = error instanceof RivuletError ? error.code : 'RESPONDER_FAILED';
  const text = errorText(error);
  return {
    [replyHeaders.kind]: 'error',
    [replyHeaders.code]: code,
    [replyHeaders.text]: text.slice(0, 1000),
    ...(sent === 'no' ? { [replyHeaders.sent]: 'no' } : {}),
  };
}

function errorOf(frame: RawMessage): RivuletError {
  const code = frame.headers[replyHeaders.code] ?? '';
  const known = Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'RESPONDER_FAILED';
  const text = frame.headers[replyHeaders.text] ?? 'the responder failed';
  // Some codes prove that nothing ran; but this one may come from a call that the handler made.
  const sent = frame.headers[replyHeaders.sent] === 'no' ? 'no' : 'maybe';
  return new RivuletError(known, text, { sent });
}

const FRAME_HEADERS = new Set<string>(Object.values(replyHeaders));

/** Without the headers of frames. */
export function withoutFrame(frame: RawMessage): RawMessage {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(frame.headers)) {
    if (!FRAME_HEADERS.has(name)) headers[name] = value;
  }
  return { ...frame, headers };
}

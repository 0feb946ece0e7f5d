/**
 * The caller's side of request and reply: who waits for what.
 *
 * Holds: the requests in flight, each with its deadline, and the frames that have come for it. What
 * carries the frames is the implementation's. Invariants: at most `maxInFlight` requests wait;
 * replies of one request come in order (frames are numbered), each once; a responder that has been
 * silent for `lostAfterMs` while its reply is awaited is RESPONDER_LOST (responders that work longer
 * say so every `ALIVE_EVERY_MS`). Cost: one map entry and no timer of its own per request.
 */
import { type ErrorCode, errorTable, RivuletError } from '../errors.ts';
import type { Message } from './message.ts';
import type { RequestOptions } from './options.ts';
import type { Scheduler } from './scheduler.ts';
import { Timeouts } from './timeouts.ts';

/** How often a responder that has not ended shows that it lives. */
export const ALIVE_EVERY_MS = 1000;
export const LOST_AFTER_MS = 3000;
const DEFAULT_TIMEOUT_MS = 10_000;
/** Replies that nobody has read yet, per request. A caller that reads slower is told so. */
const MOST_UNREAD = 10_000;

/** Control frames travel in headers, so that any broker can carry them. */
export const replyHeaders = {
  /** The request that it belongs to. */
  request: 'rivulet-request',
  /** Where replies go. */
  replyTo: 'rivulet-reply-to',
  /** `reply`, `end` (after any number of replies), `error`, `alive`; absent in a single reply. */
  kind: 'rivulet-reply-kind',
  /** Number of the reply, from 0. */
  number: 'rivulet-reply-number',
  code: 'rivulet-error-code',
  text: 'rivulet-error-text',
} as const;

export class Requests {
  readonly #scheduler: Scheduler;
  readonly #timeouts: Timeouts;
  readonly #maxInFlight: number;
  readonly #waiting = new Map<string, Waiting>();
  #number = 0;

  constructor(scheduler: Scheduler, maxInFlight = 10_000) {
    this.#scheduler = scheduler;
    this.#timeouts = new Timeouts(scheduler);
    this.#maxInFlight = maxInFlight;
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Begins a request. `cancelled` is called when the caller gives up before the end. */
  start(topic: string, options: RequestOptions = {}, cancelled: (id: string) => void = () => {}) {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    if (!(timeoutMs > 0)) throw new RivuletError('INVALID_ARGUMENT', 'timeoutMs must be above 0');
    if (this.#waiting.size >= this.#maxInFlight) {
      throw new RivuletError('LIMIT_EXCEEDED', `${this.#maxInFlight} requests are in flight`);
    }
    const id = (this.#number++).toString(36);
    const waiting = new Waiting(this.#scheduler.monotonic());
    const giveUp = (error: RivuletError) => {
      if (waiting.fail(error)) cancelled(id);
    };
    const stopTimer = this.#timeouts.add(timeoutMs, () =>
      giveUp(new RivuletError('TIMEOUT', `no reply on ${topic} within ${timeoutMs} ms`)),
    );
    const watch = () => {
      const silent = this.#scheduler.monotonic() - waiting.heardAt;
      if (silent >= LOST_AFTER_MS) {
        const text = `the responder on ${topic} has been silent for ${Math.round(silent)} ms`;
        giveUp(new RivuletError('RESPONDER_LOST', text));
      } else {
        stopWatch = this.#timeouts.add(LOST_AFTER_MS, watch);
      }
    };
    let stopWatch = this.#timeouts.add(LOST_AFTER_MS, watch);
    const abort = () =>
      giveUp(
        new RivuletError('ABORTED', `request on ${topic} was aborted`, { cause: signal?.reason }),
      );
    waiting.ended = () => {
      this.#waiting.delete(id);
      stopTimer();
      stopWatch();
      signal?.removeEventListener('abort', abort);
    };
    this.#waiting.set(id, waiting);
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    return { id, replies: waiting.replies(() => cancelled(id)), fail: giveUp };
  }

  /** A frame that came to the inbox. One for a request that has ended is dropped. */
  receive(frame: Message): void {
    const waiting = this.#waiting.get(frame.headers[replyHeaders.request] ?? '');
    waiting?.receive(frame, this.#scheduler.monotonic());
  }

  /** Ends all: the connection is gone, or the broker is closing. */
  failAll(error: RivuletError): void {
    for (const waiting of [...this.#waiting.values()]) waiting.fail(error);
  }
}

/** The first of the replies, as `request` wants it. */
export async function onlyReply(replies: AsyncIterable<Message>, topic: string): Promise<Message> {
  for await (const reply of replies) return reply;
  throw new RivuletError('RESPONDER_FAILED', `the responder on ${topic} ended without a reply`);
}

class Waiting {
  heardAt: number;
  ended = () => {};
  /** Frames by number that came too early. */
  readonly #early = new Map<number, Message>();
  readonly #ready: Message[] = [];
  #nextNumber = 0;
  #total = Number.POSITIVE_INFINITY;
  #error: RivuletError | null = null;
  #over = false;
  #wake: (() => void) | null = null;

  constructor(now: number) {
    this.heardAt = now;
  }

  receive(frame: Message, now: number): void {
    this.heardAt = now;
    const kind = frame.headers[replyHeaders.kind];
    if (kind === 'alive' || this.#over) return;
    if (kind === 'error') {
      this.fail(errorOf(frame));
      return;
    }
    const number = Number(frame.headers[replyHeaders.number] ?? 0);
    if (kind === 'end') this.#total = number;
    else this.#early.set(number, frame);
    if (kind === undefined) this.#total = 1;
    for (let next = this.#early.get(this.#nextNumber); next !== undefined; ) {
      this.#early.delete(this.#nextNumber++);
      this.#ready.push(withoutFrame(next));
      next = this.#early.get(this.#nextNumber);
    }
    if (this.#nextNumber >= this.#total) this.#finish();
    else if (this.#ready.length + this.#early.size > MOST_UNREAD) {
      const text = `${MOST_UNREAD} replies are waiting unread`;
      this.fail(new RivuletError('LIMIT_EXCEEDED', text, { sent: 'maybe' }));
    }
    this.#wake?.();
  }

  fail(error: RivuletError): boolean {
    if (this.#over) return false;
    this.#error = error;
    this.#finish();
    this.#wake?.();
    return true;
  }

  async *replies(left: () => void): AsyncGenerator<Message, void, void> {
    try {
      for (;;) {
        const next = this.#ready.shift();
        if (next !== undefined) yield next;
        else if (this.#error !== null) throw this.#error;
        else if (this.#over) return;
        else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = null;
        }
      }
    } finally {
      if (!this.#over) {
        this.#finish();
        left();
      }
    }
  }

  #finish(): void {
    this.#over = true;
    this.ended();
  }
}

/** The error frame of what a responder threw: its code when it is one of ours, and its text. */
export function errorFrame(error: unknown): Record<string, string> {
  const code = error instanceof RivuletError ? error.code : 'RESPONDER_FAILED';
  const text = error instanceof Error ? error.message : String(error);
  return {
    [replyHeaders.kind]: 'error',
    [replyHeaders.code]: code,
    [replyHeaders.text]: text.slice(0, 1000),
  };
}

function errorOf(frame: Message): RivuletError {
  const code = frame.headers[replyHeaders.code] ?? '';
  const known = code in errorTable ? (code as ErrorCode) : 'RESPONDER_FAILED';
  return new RivuletError(known, frame.headers[replyHeaders.text] ?? 'the responder failed');
}

const FRAME_HEADERS = new Set<string>(Object.values(replyHeaders));

/** As the application wrote it. */
export function withoutFrame(frame: Message): Message {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(frame.headers)) {
    if (!FRAME_HEADERS.has(name)) headers[name] = value;
  }
  return { ...frame, headers };
}

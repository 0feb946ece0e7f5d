/**
 * The responder's side of request and reply on brokers that carry frames as messages: accepts calls,
 * runs them, sends signs of life.
 *
 * Invariants: at most `concurrency` calls run at once and at most `MOST_WAITING` wait; more are refused
 * with LIMIT_EXCEEDED. A caller that uses credit receives the address for the frames of its call
 * (`address`) when the call starts. The state of a call is in incoming-call.ts.
 * Cost: a request that is answered within a second needs no timer.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import { Timeouts } from '../../util/time/timeouts.ts';
import type { RawMessage } from '../message/message.ts';
import type { Tracing } from '../trace.ts';
import { costOf, DEFAULT_WINDOW } from './call-costs.ts';
import { FrameOrder } from './frame-order.ts';
import { IncomingCall, type RawResponder, type ResponderCarrier } from './incoming-call.ts';
import { ALIVE_EVERY_MS, bytesOf, errorFrame, replyHeaders, withoutFrame } from './requests.ts';

export type { RawContext, RawResponder } from './incoming-call.ts';

const MOST_WAITING = 10_000;

export interface ResponsesSetup {
  readonly topic: string;
  readonly handler: RawResponder;
  readonly concurrency: number;
  readonly scheduler: Scheduler;
  readonly tracing: Tracing;
  /** Carries a frame to a caller's inbox; resolves to false where the inbox is gone. */
  readonly send: (replyTo: string, frame: RawMessage) => Promise<boolean>;
  /** Where callers send frames for this responder's calls, so that they reach `receive`. */
  readonly address: () => string;
}

export class Responses implements ResponderCarrier {
  readonly #setup: ResponsesSetup;
  readonly #timeouts: Timeouts;
  /** Every call that was accepted and not answered. */
  readonly #jobs = new Map<string, Job>();
  readonly #waiting: Job[] = [];
  #running = 0;
  #closed = false;
  #whenIdle: (() => void) | null = null;

  constructor(setup: ResponsesSetup) {
    this.#setup = setup;
    this.#timeouts = new Timeouts(setup.scheduler);
  }

  get inFlight(): number {
    return this.#jobs.size;
  }

  /** Any frame from a caller: a call, or one that belongs to a call. */
  receive(frame: RawMessage): void {
    const kind = frame.headers[replyHeaders.kind];
    if (kind === undefined || kind === 'open') this.#begin(frame, kind === 'open');
    else this.#continue(kind, frame);
  }

  /** The caller has cancelled the call. */
  cancel(replyTo: string, id: string): void {
    const job = this.#jobs.get(`${replyTo} ${id}`);
    if (job === undefined) return;
    job.call.abort(new RivuletError('ABORTED', 'the caller has given up'));
    const at = this.#waiting.indexOf(job);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    this.#forget(job);
  }

  /** Refuses what waits, lets handlers finish, aborts them after `timeoutMs`. */
  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    for (const job of this.#waiting.splice(0)) {
      this.#forget(job);
      this.#refuse(job.frame);
    }
    if (this.#jobs.size === 0) return;
    await new Promise<void>((resolve) => {
      const stop = this.#timeouts.add(Math.max(1, timeoutMs), () => this.#whenIdle?.());
      this.#whenIdle = () => {
        stop();
        resolve();
      };
    });
    for (const job of this.#jobs.values()) {
      job.call.abort(new RivuletError('CLOSED', 'the responder is closed'));
      job.stopAlive();
    }
  }

  // ---- For calls

  reply(call: IncomingCall, message: RawMessage): Promise<boolean> {
    return this.#send(call.id, {}, message);
  }

  more(call: IncomingCall, message: RawMessage, number: number): Promise<boolean> {
    const frame = { [replyHeaders.kind]: 'reply', [replyHeaders.number]: String(number) };
    return this.#send(call.id, frame, message);
  }

  end(call: IncomingCall, trailers: Readonly<Record<string, string>>, number: number): void {
    const frame = { [replyHeaders.kind]: 'end', [replyHeaders.number]: String(number) };
    void this.#send(call.id, frame, { headers: trailers, body: EMPTY });
  }

  fail(call: IncomingCall, error: unknown): void {
    void this.#send(call.id, errorFrame(error));
  }

  grant(call: IncomingCall, bytes: number): void {
    const frame = { [replyHeaders.kind]: 'grant', [replyHeaders.grant]: String(bytes) };
    void this.#sendOrAbort(call, frame);
  }

  #begin(frame: RawMessage, isStream: boolean): void {
    if (this.#closed || this.#waiting.length >= MOST_WAITING) {
      this.#refuse(frame);
      return;
    }
    const id = keyOf(frame);
    if (this.#jobs.has(id)) return;
    const window = frame.headers[replyHeaders.window];
    const call = new IncomingCall(this, this.#setup.topic, {
      id,
      request: withoutFrame(frame),
      callerWindow: window === undefined ? null : bytesOfWindow(window),
      isStream,
    });
    const order = new FrameOrder<RawMessage>(DEFAULT_WINDOW, (message, cost) =>
      call.received(message, cost),
    );
    const job: Job = { call, frame, order, stopAlive: () => {} };
    this.#jobs.set(id, job);
    this.#showLife(job);
    this.#waiting.push(job);
    this.#pump();
  }

  #continue(kind: string, frame: RawMessage): void {
    const { headers } = frame;
    const job = this.#jobs.get(keyOf(frame));
    if (job === undefined) return;
    const { call, order } = job;
    call.heard();
    try {
      if (kind === 'grant') call.granted(bytesOf(headers[replyHeaders.grant]));
      else if (kind === 'cancel') {
        this.cancel(headers[replyHeaders.replyTo] ?? '', headers[replyHeaders.request] ?? '');
      } else if (kind === 'end') order.end(Number(headers[replyHeaders.number]));
      else {
        const message = withoutFrame(frame);
        order.push(Number(headers[replyHeaders.number]), message, costOf(message));
      }
      if (order.isComplete) call.callerEnded();
    } catch (error) {
      call.refuse(error as RivuletError);
    }
  }

  #refuse(frame: RawMessage): void {
    const error = this.#closed
      ? new RivuletError('RESPONDER_LOST', 'the responder is closing')
      : new RivuletError('LIMIT_EXCEEDED', 'too many requests wait for this responder');
    void this.#send(keyOf(frame), errorFrame(error, 'no'));
  }

  #pump(): void {
    while (this.#running < this.#setup.concurrency) {
      const job = this.#waiting.shift();
      if (job === undefined) return;
      void this.#run(job);
    }
  }

  async #run(job: Job): Promise<void> {
    const { handler, tracing } = this.#setup;
    const { call, frame } = job;
    this.#running++;
    try {
      if (frame.headers[replyHeaders.window] !== undefined) {
        // Granted when the call starts, not when it arrives: waiting calls must not fill the memory.
        const grant = call.isStream ? DEFAULT_WINDOW : 0;
        void this.#sendOrAbort(call, {
          [replyHeaders.kind]: 'grant',
          [replyHeaders.grant]: String(grant),
          [replyHeaders.replyTo]: this.#setup.address(),
        });
        call.watch(this.#timeouts);
      }
      await call.run(handler, tracing);
    } finally {
      this.#running--;
      this.#forget(job);
      this.#pump();
    }
  }

  #showLife(job: Job): void {
    job.stopAlive = this.#timeouts.add(ALIVE_EVERY_MS, () => {
      void this.#sendOrAbort(job.call, { [replyHeaders.kind]: 'alive' });
      this.#showLife(job);
    });
  }

  #forget(job: Job): void {
    job.stopAlive();
    this.#jobs.delete(job.call.id as string);
    if (this.#jobs.size === 0) this.#whenIdle?.();
  }

  async #sendOrAbort(call: IncomingCall, frame: Record<string, string>): Promise<void> {
    if (await this.#send(call.id, frame)) return;
    call.abort(new RivuletError('ABORTED', 'the caller is gone'));
  }

  /** A frame that cannot be sent means that the caller is gone. */
  async #send(
    key: number | string,
    frame: Record<string, string>,
    reply?: RawMessage,
  ): Promise<boolean> {
    const text = String(key);
    // Names of inboxes may contain spaces, ids do not.
    const at = text.lastIndexOf(' ');
    const [replyTo, id] = [text.slice(0, at), text.slice(at + 1)];
    if (replyTo === '' || id === '') return false;
    const headers = { ...reply?.headers, ...frame, [replyHeaders.request]: id };
    try {
      return await this.#setup.send(replyTo, { ...reply, headers, body: reply?.body ?? EMPTY });
    } catch {
      return false;
    }
  }
}

interface Job {
  readonly call: IncomingCall;
  readonly frame: RawMessage;
  readonly order: FrameOrder<RawMessage>;
  stopAlive: () => void;
}

const EMPTY = new Uint8Array(0);

function keyOf({ headers }: RawMessage): string {
  return `${headers[replyHeaders.replyTo] ?? ''} ${headers[replyHeaders.request] ?? ''}`;
}

function bytesOfWindow(text: string): number {
  const bytes = Number(text);
  return Number.isSafeInteger(bytes) && bytes >= 0 && bytes < 2 ** 31 ? bytes : 0;
}

/**
 * The answer of an HTTP server behind the gateway, passed on as it comes.
 *
 * Invariants: what the client does not take holds the server back, for `stalledMs` at most; a server that
 * ends early is an error, never a short answer that looks whole; an answer that has no body by its status
 * (204, 304) is whole with its head, whatever length it names; the head is with the client as soon as it
 * is here; `ended` is called once. Cost: no copy, and one write for an answer that came in one piece.
 */
import type { ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { systemScheduler } from '../../util/time/system-scheduler.ts';
import { type Timeout, Timeouts } from '../../util/time/timeouts.ts';
import { endWith } from '../answer.ts';
import { endToEndOf } from '../forwarding.ts';
import { HttpError } from '../http-error.ts';
import { type Forwarded, filtered } from './forwarded.ts';

/** One timer for the answers of all requests. */
const timeouts = new Timeouts(systemScheduler);

export interface Passage {
  readonly exchange: Forwarded;
  readonly service: string;
  readonly stalledMs: number;
  /** The head of the answer is here. */
  readonly answered: () => void;
  /** Null where the answer has come whole. */
  readonly ended: (error: Error | null) => void;
}

export class BackendAnswer implements Dispatcher.DispatchHandler {
  readonly #passage: Passage;
  readonly #raw: ServerResponse;
  readonly #late: Timeout;
  #controller: Dispatcher.DispatchController | null = null;
  /** Why the request is given up. */
  #reason: Error | null = null;
  #isOver = false;
  #length: number | null = null;

  constructor(passage: Passage) {
    this.#passage = passage;
    this.#raw = passage.exchange.reply.raw;
    const expire = () => {
      this.abort(new HttpError(504, `${passage.service} did not answer in time`));
    };
    this.#late = timeouts.start(passage.exchange.rule.timeoutMs, { expire });
  }

  /** Gives the request up, wherever it is: one that waits for a connection too. */
  abort(reason: Error): void {
    if (this.#isOver) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
    this.#end(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#reason !== null) controller.abort(this.#reason);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // Of what comes before the answer (RFC 9110, 15.2) nothing is passed on.
    if (this.#isOver || status < 200) return;
    this.#late.cancel();
    this.#passage.answered();
    const { reply, toClient } = this.#passage.exchange;
    const kept = Object.fromEntries(filtered(endToEndOf(headers), toClient));
    // RFC 9110, 8.6: it has none.
    if (status === 204) delete kept['content-length'];
    const length = kept['content-length']?.[0];
    this.#length = length === undefined ? null : Number(length);
    const own = reply.getHeaders();
    // The answer depends on what either of them says.
    if (own.vary !== undefined && kept.vary !== undefined) {
      kept.vary = [own.vary, kept.vary].flat();
    }
    this.#raw.writeHead(status, { ...own, ...kept } as Record<string, string[]>);
    reply.hijack();
    if (status === 204 || status === 304) this.onResponseEnd();
    // An answer without a length may have its first part much later.
    else if (this.#length === null) process.nextTick(() => this.#flushHead());
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isOver) return;
    // Nothing more can come: head and body leave in one write.
    if (chunk.length === this.#length) endWith(this.#raw, chunk);
    else if (!this.#raw.write(chunk)) {
      controller.pause();
      this.#resumeWhenDrained(controller);
    }
  }

  onResponseEnd(): void {
    if (this.#isOver) return;
    this.#raw.end();
    this.#end(null);
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#end(this.#reason ?? error);
  }

  #flushHead(): void {
    if (!this.#isOver && !this.#raw.destroyed) this.#raw.flushHeaders();
  }

  #resumeWhenDrained(controller: Dispatcher.DispatchController): void {
    const raw = this.#raw;
    const { stalledMs } = this.#passage;
    const timer = timeouts.start(stalledMs, { expire: () => raw.destroy() });
    const resume = () => {
      timer.cancel();
      raw.off('drain', resume).off('close', resume);
      controller.resume();
    };
    raw.on('drain', resume).on('close', resume);
  }

  #end(error: Error | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#late.cancel();
    this.#passage.ended(error);
  }
}

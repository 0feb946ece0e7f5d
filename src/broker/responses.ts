/**
 * The responder's side of request and reply: runs handlers, numbers their replies, shows life.
 *
 * Invariants: at most `concurrency` requests are answered at once and at most `MOST_WAITING` wait;
 * more are refused with LIMIT_EXCEEDED. A handler hears through its signal that the caller has given
 * up. Cost: a request that is answered within a second costs no timer.
 */
import { RivuletError } from '../errors.ts';
import type { Responder } from './broker.ts';
import type { Message } from './message.ts';
import { ALIVE_EVERY_MS, errorFrame, replyHeaders, withoutFrame } from './requests.ts';
import type { Scheduler } from './scheduler.ts';
import { Timeouts } from './timeouts.ts';
import type { Tracing } from './trace.ts';

const MOST_WAITING = 10_000;

export interface ResponsesSetup {
  readonly topic: string;
  readonly handler: Responder;
  readonly concurrency: number;
  readonly scheduler: Scheduler;
  readonly tracing: Tracing;
  /** Carries a frame to a caller's inbox; resolves to false when nobody is there any more. */
  readonly send: (replyTo: string, frame: Message) => Promise<boolean>;
}

interface Job {
  readonly request: Message;
  readonly controller: AbortController;
  stopAlive: () => void;
}

export class Responses {
  readonly #setup: ResponsesSetup;
  readonly #timeouts: Timeouts;
  /** Every request taken and not yet answered. */
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

  receive(request: Message): void {
    if (this.#closed || this.#waiting.length >= MOST_WAITING) {
      const error = this.#closed
        ? new RivuletError('RESPONDER_LOST', 'the responder is closing')
        : new RivuletError('LIMIT_EXCEEDED', 'too many requests wait for this responder');
      void this.#send(request, errorFrame(error));
      return;
    }
    const job: Job = { request, controller: new AbortController(), stopAlive: () => {} };
    this.#jobs.set(keyOf(request), job);
    this.#showLife(job);
    this.#waiting.push(job);
    this.#pump();
  }

  /** The caller has given up. */
  cancel(replyTo: string, id: string): void {
    const job = this.#jobs.get(`${replyTo} ${id}`);
    if (job === undefined) return;
    job.controller.abort(new RivuletError('ABORTED', 'the caller has given up'));
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
      this.receive(job.request);
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
      job.controller.abort(new RivuletError('CLOSED', 'the responder is closed'));
      job.stopAlive();
    }
  }

  #pump(): void {
    while (this.#running < this.#setup.concurrency) {
      const job = this.#waiting.shift();
      if (job === undefined) return;
      void this.#answer(job);
    }
  }

  #showLife(job: Job): void {
    job.stopAlive = this.#timeouts.add(ALIVE_EVERY_MS, () => {
      void this.#send(job.request, { [replyHeaders.kind]: 'alive' }).then((there) => {
        if (!there) job.controller.abort(new RivuletError('ABORTED', 'the caller is gone'));
      });
      this.#showLife(job);
    });
  }

  #forget(job: Job): void {
    job.stopAlive();
    this.#jobs.delete(keyOf(job.request));
    if (this.#jobs.size === 0) this.#whenIdle?.();
  }

  async #answer(job: Job): Promise<void> {
    this.#running++;
    try {
      await this.#reply(job);
    } catch (error) {
      if (!job.controller.signal.aborted) await this.#send(job.request, errorFrame(error));
    } finally {
      this.#running--;
      this.#forget(job);
      this.#pump();
    }
  }

  async #reply({ request, controller }: Job): Promise<void> {
    const { handler, topic, tracing } = this.#setup;
    const context = { signal: controller.signal, topic };
    const visible = withoutFrame(request);
    const result = await tracing.run(visible.headers, () => handler(visible, context));
    if (!isMany(result)) {
      await this.#send(request, {}, result);
      return;
    }
    let number = 0;
    for await (const reply of result) {
      if (controller.signal.aborted) return;
      const frame = { [replyHeaders.kind]: 'reply', [replyHeaders.number]: String(number++) };
      if (!(await this.#send(request, frame, reply))) {
        controller.abort(new RivuletError('ABORTED', 'the caller is gone'));
        return;
      }
    }
    await this.#send(request, {
      [replyHeaders.kind]: 'end',
      [replyHeaders.number]: String(number),
    });
  }

  /** A frame that cannot be sent is as good as a caller who is gone. */
  async #send(request: Message, frame: Record<string, string>, reply?: Message): Promise<boolean> {
    const { [replyHeaders.replyTo]: replyTo, [replyHeaders.request]: id } = request.headers;
    if (replyTo === undefined || id === undefined) return false;
    const headers = { ...reply?.headers, ...frame, [replyHeaders.request]: id };
    try {
      return await this.#setup.send(replyTo, { ...reply, headers, body: reply?.body ?? EMPTY });
    } catch {
      return false;
    }
  }
}

const EMPTY = new Uint8Array(0);

function keyOf(request: Message): string {
  return `${request.headers[replyHeaders.replyTo]} ${request.headers[replyHeaders.request]}`;
}

function isMany(result: Message | AsyncIterable<Message>): result is AsyncIterable<Message> {
  return Symbol.asyncIterator in result;
}

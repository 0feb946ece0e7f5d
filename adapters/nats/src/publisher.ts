/**
 * Publishing into JetStream: a message asks for its stream's acknowledgement, on one inbox for all.
 *
 * Invariants: a publish resolves when its stream has stored it, or fails within `ANSWER_MS`; when
 * the connection goes, everything unanswered fails with a retryable error, and its id makes the next
 * try harmless. Cost: one promise and one entry per message in flight and one timer for all;
 * nats.js's own request makes three errors with their stacks for each.
 */
import { createInbox, type Msg, type MsgHdrs, type Subscription } from '@nats-io/transport-node';
import { type Receipt, RivuletError, type Scheduler } from 'rivulet';
import { refusal, toRivulet } from './failures.ts';
import type { Link } from './link.ts';

const ANSWER_MS = 4000;
const NO_RESPONDERS = 503;

interface Unanswered {
  readonly subject: string;
  readonly since: number;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: RivuletError) => void;
}

export class Publisher {
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  readonly #inbox = `${createInbox()}.`;
  /** In the order they were sent, which is the order of their deadlines. */
  readonly #unanswered = new Map<string, Unanswered>();
  readonly #unwatch: readonly (() => void)[];
  #subscription: Subscription | null = null;
  #number = 0;
  #cancelSweep: (() => void) | null = null;

  constructor(link: Link, scheduler: Scheduler) {
    this.#link = link;
    this.#scheduler = scheduler;
    this.#unwatch = [
      link.onLost((error) => this.#failAll(error)),
      link.onRefused((subject, error) => this.#failAll(error, subject)),
    ];
  }

  send(subject: string, payload: Uint8Array, headers: MsgHdrs): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const { nc } = this.#link;
      this.#listen();
      const token = (this.#number++).toString(36);
      const since = this.#scheduler.monotonic();
      this.#unanswered.set(token, { subject, since, resolve, reject });
      try {
        nc.publish(subject, payload, { headers, reply: `${this.#inbox}${token}` });
      } catch (error) {
        this.#unanswered.delete(token);
        throw toRivulet(error);
      }
      this.#cancelSweep ??= this.#scheduler.after(ANSWER_MS, () => this.#sweep());
    });
  }

  close(): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#failAll(new RivuletError('CLOSED', 'the nats broker is disconnected'));
    try {
      this.#subscription?.unsubscribe();
    } catch {
      // Closed already.
    }
  }

  #listen(): void {
    if (this.#subscription !== null && !this.#subscription.isClosed()) return;
    this.#subscription = this.#link.nc.subscribe(`${this.#inbox}*`, {
      callback: (error, message) => {
        if (error === null) this.#receive(message);
      },
    });
  }

  #receive(message: Msg): void {
    const token = message.subject.slice(this.#inbox.length);
    const asked = this.#unanswered.get(token);
    if (asked === undefined) return;
    this.#unanswered.delete(token);
    if (message.data.length === 0 && message.headers?.code === NO_RESPONDERS) {
      asked.reject(new RivuletError('NOT_CONNECTED', `no stream takes ${asked.subject}`));
      return;
    }
    const { seq, duplicate = false, error } = readAnswer(message);
    if (error !== undefined) asked.reject(refusal(error.err_code, error.description));
    else if (seq !== undefined) asked.resolve({ id: String(seq), duplicate });
    else {
      // A program that listens to the topic's subject has answered before its stream did.
      const text = `something that is no stream has answered the publish to ${asked.subject}`;
      asked.reject(new RivuletError('NOT_CONNECTED', text));
    }
  }

  #failAll(error: RivuletError, subject?: string): void {
    for (const [token, asked] of this.#unanswered) {
      if (subject !== undefined && asked.subject !== subject) continue;
      this.#unanswered.delete(token);
      asked.reject(error);
    }
    if (this.#unanswered.size > 0) return;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
  }

  #sweep(): void {
    this.#cancelSweep = null;
    const now = this.#scheduler.monotonic();
    for (const [token, { subject, since, reject }] of this.#unanswered) {
      const left = since + ANSWER_MS - now;
      if (left > 0) {
        this.#cancelSweep = this.#scheduler.after(Math.ceil(left), () => this.#sweep());
        return;
      }
      this.#unanswered.delete(token);
      const text = `the stream of ${subject} did not answer within ${ANSWER_MS} ms`;
      reject(new RivuletError('NOT_CONNECTED', text));
    }
  }
}

interface Answer {
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly err_code: number; readonly description: string };
}

/** What a stream says of a publish; nothing where it is not a stream that speaks. */
function readAnswer(message: Msg): Answer {
  try {
    const answer = JSON.parse(message.string());
    return typeof answer === 'object' && answer !== null ? answer : {};
  } catch {
    return {};
  }
}

/**
 * Publishing into JetStream: a stream acknowledges each message, on one inbox for all.
 *
 * Invariants: a publish resolves once its stream has stored it, or fails within `ACK_MS`. When the
 * connection is lost, every unacknowledged publish fails with a retryable error; its id prevents that
 * the next try stores it twice. Cost: one promise and one map entry per message in flight, and one timer
 * for all. The request of nats.js creates three errors with their stacks for each.
 */
import { createInbox, type Msg, type MsgHdrs, type Subscription } from '@nats-io/transport-node';
import { type Receipt, RivuletError, type Scheduler } from 'rivulet/adapter';
import { refusal, toRivulet } from './errors.ts';
import type { Link } from './link.ts';

const ACK_MS = 4000;
const NO_RESPONDERS = 503;

interface Unacknowledged {
  readonly subject: string;
  readonly since: number;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: RivuletError) => void;
}

export class Publisher {
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  readonly #inbox = `${createInbox()}.`;
  /** In the order in which they were sent, which is the order of their deadlines. */
  readonly #unacknowledged = new Map<string, Unacknowledged>();
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
      this.#unacknowledged.set(token, { subject, since, resolve, reject });
      try {
        nc.publish(subject, payload, { headers, reply: `${this.#inbox}${token}` });
      } catch (error) {
        this.#unacknowledged.delete(token);
        throw toRivulet(error);
      }
      this.#cancelSweep ??= this.#scheduler.after(ACK_MS, () => this.#sweep());
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
    const asked = this.#unacknowledged.get(token);
    if (asked === undefined) return;
    this.#unacknowledged.delete(token);
    if (message.data.length === 0 && message.headers?.code === NO_RESPONDERS) {
      asked.reject(new RivuletError('NOT_CONNECTED', `no stream stores ${asked.subject}`));
      return;
    }
    const { seq, duplicate = false, error } = readReply(message);
    if (error !== undefined) asked.reject(refusal(error.err_code, error.description));
    else if (seq !== undefined) asked.resolve({ id: String(seq), duplicate });
    else {
      // A program that subscribes to the topic's subject has replied before its stream did.
      const text = `another program replied to the publish to ${asked.subject} before its stream did`;
      asked.reject(new RivuletError('NOT_CONNECTED', text));
    }
  }

  #failAll(error: RivuletError, subject?: string): void {
    for (const [token, asked] of this.#unacknowledged) {
      if (subject !== undefined && asked.subject !== subject) continue;
      this.#unacknowledged.delete(token);
      asked.reject(error);
    }
    if (this.#unacknowledged.size > 0) return;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
  }

  #sweep(): void {
    this.#cancelSweep = null;
    const now = this.#scheduler.monotonic();
    for (const [token, { subject, since, reject }] of this.#unacknowledged) {
      const left = since + ACK_MS - now;
      if (left > 0) {
        this.#cancelSweep = this.#scheduler.after(Math.ceil(left), () => this.#sweep());
        return;
      }
      this.#unacknowledged.delete(token);
      const text = `the stream of ${subject} did not acknowledge within ${ACK_MS} ms`;
      reject(new RivuletError('NOT_CONNECTED', text));
    }
  }
}

interface StreamReply {
  readonly seq?: number;
  readonly duplicate?: boolean;
  readonly error?: { readonly err_code: number; readonly description: string };
}

/** Parses a stream's reply to a publish. Empty if another program sent it. */
function readReply(message: Msg): StreamReply {
  try {
    const answer = JSON.parse(message.string());
    return typeof answer === 'object' && answer !== null ? answer : {};
  } catch {
    return {};
  }
}

/**
 * Publishing into JetStream: a stream acknowledges each message, on one inbox for all.
 *
 * Invariants: a publish resolves once its stream has stored it, or fails within `ACK_MS`. When the
 * connection is lost, every unacknowledged publish fails with a retryable error; its id prevents that
 * the next try stores it twice. In a cluster, publishes that a leader may have lost hold up the later ones
 * of their subject (send-order.ts). Cost: one promise and one map entry per message in flight, and one timer
 * for all. The request of nats.js creates three errors with their stacks for each.
 */
import { createInbox, type Msg, type MsgHdrs, type Subscription } from '@nats-io/transport-node';
import { type Receipt, RivuletError, type Scheduler } from 'rivulet/adapter';
import { refusal, toRivulet } from '../errors.ts';
import type { Link } from '../link.ts';
import type { Outgoing } from '../outgoing.ts';
import { SendOrder, type Sent } from './send-order.ts';

const ACK_MS = 4000;
const NO_RESPONDERS = 503;

interface Unacknowledged extends Sent {
  readonly subject: string;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: RivuletError) => void;
}

export class Publisher {
  readonly #link: Link;
  readonly #scheduler: Scheduler;
  readonly #outgoing: Outgoing | null;
  readonly #inbox = `${createInbox()}.`;
  /** In the order in which they were sent, which is the order of their deadlines. */
  readonly #unacknowledged = new Map<string, Unacknowledged>();
  readonly #order = new SendOrder<Unacknowledged>();
  readonly #unwatch: readonly (() => void)[];
  #subscription: Subscription | null = null;
  #number = 0;
  #cancelSweep: (() => void) | null = null;

  /** `outgoing`: writes to another connection, and holds nothing up. Acknowledgements come on this one. */
  constructor(link: Link, scheduler: Scheduler, outgoing: Outgoing | null = null) {
    this.#link = link;
    this.#scheduler = scheduler;
    this.#outgoing = outgoing;
    this.#unwatch = [
      link.onLost((error) => this.#failAll(error)),
      link.onRefused((subject, error) => this.#failAll(error, subject)),
    ];
  }

  send(subject: string, payload: Uint8Array | string, headers?: MsgHdrs): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const send = () => this.#sendNow(subject, payload, headers, resolve, reject);
      if (!this.#isHeldUp) send();
      else this.#order.send(subject, this.#scheduler.monotonic(), { send, fail: reject });
    });
  }

  /** Calls `resolve` or `reject` once. */
  #sendNow(
    subject: string,
    payload: Uint8Array | string,
    headers: MsgHdrs | undefined,
    resolve: (receipt: Receipt) => void,
    reject: (error: RivuletError) => void,
  ): void {
    const token = (this.#number++).toString(36);
    try {
      const to = this.#outgoing ?? this.#link.nc;
      this.#listen();
      const reply = `${this.#inbox}${token}`;
      to.publish(subject, payload, headers === undefined ? { reply } : { headers, reply });
    } catch (error) {
      reject(toRivulet(error));
      return;
    }
    const asked = { token, subject, since: this.#scheduler.monotonic(), resolve, reject };
    this.#unacknowledged.set(token, asked);
    if (this.#isHeldUp) this.#order.sent(asked);
    this.#cancelSweep ??= this.#scheduler.after(ACK_MS, () => this.#sweep());
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

  /** Whether publishes wait for earlier ones of their subject. */
  get #isHeldUp(): boolean {
    return this.#outgoing === null && this.#link.clustered;
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
    const { subject } = asked;
    if (message.data.length === 0 && message.headers?.code === NO_RESPONDERS) {
      this.#fail(asked, new RivuletError('NOT_CONNECTED', `no stream stores ${subject}`));
      return;
    }
    const { seq, duplicate = false, error } = readReply(message);
    if (error !== undefined) this.#fail(asked, refusal(error.err_code, error.description));
    else if (seq !== undefined) this.#acknowledge(asked, { id: String(seq), duplicate });
    else {
      // A program that subscribes to the topic's subject has replied before its stream did.
      const text = `another program replied to the publish to ${subject} before its stream did`;
      this.#fail(asked, new RivuletError('NOT_CONNECTED', text));
    }
  }

  #acknowledge(asked: Unacknowledged, receipt: Receipt): void {
    this.#unacknowledged.delete(asked.token);
    asked.resolve(receipt);
    if (!this.#isHeldUp) return;
    // A stream says at once that it has a message already, whatever it is about to store.
    const lost = receipt.duplicate ? [] : this.#order.before(asked);
    for (const each of lost) {
      const text = `the stream of ${asked.subject} has stored a later message and not this one`;
      this.#fail(each, new RivuletError('NOT_CONNECTED', text));
    }
    this.#order.acknowledged(asked, this.#scheduler.monotonic());
  }

  #fail(asked: Unacknowledged, error: RivuletError): void {
    this.#unacknowledged.delete(asked.token);
    asked.reject(error);
    this.#order.failed(asked, error, this.#scheduler.monotonic());
  }

  #failAll(error: RivuletError, subject?: string): void {
    for (const asked of this.#unacknowledged.values()) {
      if (subject === undefined || asked.subject === subject) this.#fail(asked, error);
    }
    if (this.#unacknowledged.size > 0) return;
    this.#cancelSweep?.();
    this.#cancelSweep = null;
  }

  #sweep(): void {
    this.#cancelSweep = null;
    const now = this.#scheduler.monotonic();
    for (const asked of this.#unacknowledged.values()) {
      const left = asked.since + ACK_MS - now;
      if (left > 0) {
        this.#cancelSweep = this.#scheduler.after(Math.ceil(left), () => this.#sweep());
        return;
      }
      const text = `the stream of ${asked.subject} did not acknowledge within ${ACK_MS} ms`;
      this.#fail(asked, new RivuletError('NOT_CONNECTED', text));
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
